"""One plan, apply or undo in a process of its own, without the command line: what the engine alone takes.

python benchmarks/engine.py plan|apply|undo ROOT PROFILE
"""

import json
import sys
import time

from aquiline.agent import applying, undoing
from aquiline.agent.session import Session
from aquiline.profile.loading import load


def main() -> None:
    """Run it, and print seconds and steps as JSON."""
    verb, root, path = sys.argv[1:4]
    begun = time.perf_counter()
    with Session(root) as session:
        match verb:
            case "plan":
                steps = len(applying.dry_run(session, load(path)).steps)
            case "apply":
                ended = applying.apply(session, load(path))
                assert ended.exit_status == 0, ended
                steps = len(ended.plan.steps) if ended.plan is not None else 0
            case _:
                with session.reading() as journal:
                    runs = undoing.select(session, journal)
                undone = undoing.undo(session, runs)
                assert undone.exit_status == 0, undone
                steps = len(undone.undo.plan.steps) if undone.undo is not None else 0
    print(json.dumps({"seconds": time.perf_counter() - begun, "steps": steps}))


if __name__ == "__main__":
    main()
