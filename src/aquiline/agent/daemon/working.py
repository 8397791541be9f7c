"""The process that works for an agent: ``python -m aquiline.agent.daemon.working``, started by `workshop`.

It is told where the host is, does the one job that it finds, writes down how that ended, and is gone. Killed at any
instant, it leaves what any killed command leaves: a journal from which whoever comes next goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from aquiline.agent import supervising
from aquiline.agent.daemon.agent import do_job
from aquiline.agent.daemon.configuration import load_configuration
from aquiline.agent.daemon.credential import credential
from aquiline.agent.daemon.jobs import Job, Outcome, Reach
from aquiline.agent.daemon.logging import say
from aquiline.agent.daemon.moving import Surroundings
from aquiline.agent.daemon.web import WebLink
from aquiline.agent.daemon.workshop import Workshop
from aquiline.agent.ownscope import leave_service
from aquiline.agent.preloading import preload
from aquiline.agent.session import Session
from aquiline.agent.supervising import Supervisor
from aquiline.changes.steps import Plan
from aquiline.errors import AquilineError


def main(argv: Sequence[str]) -> int:
    """Do the job that waits; return the exit status of the process."""
    parser = argparse.ArgumentParser(prog="aquiline agent (work)")
    parser.add_argument("--lock", type=int, required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--state")
    parser.add_argument("--config")
    arguments = parser.parse_args(argv)
    # Commands of a run, which may outlive it, are not to hold it.
    os.set_inheritable(arguments.lock, False)
    with Session(arguments.root, arguments.state) as session:
        workshop = Workshop(session.state)
        ticket = workshop.taken()
    if ticket is None:
        return 0
    leave_service(arguments.root)
    supervisor = _supervisor(ticket.job, arguments.root, arguments.state)
    try:
        with Session(arguments.root, arguments.state) as session:
            outcome = _work(session, ticket.job, arguments.config, supervisor)
            workshop.finish(ticket, outcome)
    finally:
        if supervisor is not None:
            supervisor.dismiss()
    return outcome.exit_status


def _supervisor(job: Job, root: str, state: str | None) -> Supervisor | None:
    """Start what takes a run back that is not confirmed in time, before anything of the host is open."""
    is_needed = isinstance(job, Reach) and job.target.confirm_within > 0
    return supervising.start(root, state) if is_needed else None


def _work(session: Session, job: Job, config: str | None, supervisor: Supervisor | None) -> Outcome:
    try:
        configuration = load_configuration(session.root, config)
        link = WebLink(configuration, credential(session))
    except AquilineError as error:
        say(f"error: {error.message}")
        return Outcome("away", error.exit_status, error.message)

    def on_plan(plan: Plan) -> None:
        preload(later_stages=any(one.state == "deferred" for one in plan.components.values()))

    def watch(run: str) -> None:
        if supervisor is not None and isinstance(job, Reach):
            supervisor.watch(run)
            supervising.start_timer(run, job.target.confirm_within, session.root, str(session.state.path))

    return do_job(session, link, job, Surroundings(name=configuration.name, on_plan=on_plan, watch=watch))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
