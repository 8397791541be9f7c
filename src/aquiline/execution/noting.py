"""What undo scripts are told of commands that were taken back, or done again, by other means than theirs.

Nothing on the host shows whether a command ran, so its number stands beside the script (`aquiline.journal.takenback`),
durable before the journal says that its undo is done: whoever comes between finds a script that does not repeat it.
"""

from __future__ import annotations

from collections.abc import Iterable

from aquiline.changes.perform import OPAQUE_KINDS
from aquiline.changes.steps import Step
from aquiline.errors import JournalError, UsageError
from aquiline.execution.recovery import taken_back_by
from aquiline.journal.records import StepName
from aquiline.journal.state import StateDirectory
from aquiline.journal.store import Journal
from aquiline.journal.takenback import TakenBack


def completing(steps: Iterable[Step]) -> dict[int, StepName]:
    """Return the steps after which a command has been taken back whole, by number, with what they take back."""
    last: dict[StepName, int] = {}
    commands = set()
    for step in steps:
        name = taken_back_by(step)
        if name is not None:
            last[name] = step.number
            if isinstance(step.change, OPAQUE_KINDS):
                commands.add(name)
    return {number: name for name, number in last.items() if name in commands}


def note_taken_back(journal: Journal, state: StateDirectory, name: StepName) -> None:
    """Let the undo scripts know that the command `name` was taken back; what that one had taken back stands again.

    Raises `HostError` where it cannot be written.
    """
    is_taken_back = True
    found: StepName | None = name
    while found is not None:
        taken_back = TakenBack(state, found.run)
        taken_back.add(found.step) if is_taken_back else taken_back.drop(found.step)
        is_taken_back = not is_taken_back
        try:
            step = journal.step(found.run, found.step).step
        except (JournalError, UsageError):
            return  # of a journal that is gone
        found = taken_back_by(step) if step is not None else None
