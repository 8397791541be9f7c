"""The executor of a run, with all of this host that it works on, and the host's policy of the day."""

from __future__ import annotations

from collections.abc import Callable

from aquiline.agent.session import Session
from aquiline.changes.perform import Performed
from aquiline.changes.steps import Step
from aquiline.execution.executor import Executor, IsStopped
from aquiline.journal.store import Journal

OnStep = Callable[[Step, Performed], None]


def executor_of(
    session: Session,
    journal: Journal,
    run: str,
    *,
    on_step: OnStep = lambda _step, _performed: None,
    is_stopped: IsStopped = lambda: False,
) -> Executor:
    """Return what performs the steps of `run`; the policy is read now, and holds until the run ends (D25)."""
    return Executor(
        session.host, journal, session.state, session.preimages, run,
        refuse=session.forbidden().refuse, on_step=on_step, is_stopped=is_stopped,
    )  # fmt: skip
