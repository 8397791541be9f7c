"""What people type.

stdout is data, stderr is talk. An error is ``error: …``, a blank line and ``hint: …`` on stderr; with ``--json`` it is
besides a JSON object ``{"error", "hint", "exit_status"}`` on stdout, where the answer would have been.

How a command is added:

1. A module ``aquiline/cli/commands/NAME.py`` with ``COMMANDS = (Command(…),)`` (`aquiline.cli.command.Command`): name,
   summary (imperative, no full stop: the first line of ``--help``), what is hard about it, examples, its exit statuses,
   a function that adds its arguments and one that runs it and returns the exit status. It gets an `Invocation`:
   the parsed arguments, the terminal, and a session with the host that is opened on demand.
2. A line in `aquiline.cli.listing.MODULES`, which says in what order ``aquiline --help`` lists the commands.
3. ``python -m aquiline.cli.reference docs/reference/cli.md``: help, manual page and completion come from one parser.

Command modules import nothing of the engine at their top: they are all read to print a help text, and whatever a
command does not need would be paid for by everybody who runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` says and return its exit status; nothing is ever raised."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments == ["--version"]:
        from aquiline import __version__

        sys.stdout.write(f"aquiline {__version__}\n")
        return 0
    import gc

    from aquiline.cli.running import run

    # A plan is many small values that stay and refer to each other in no circle: to look for circles each time some
    # hundreds more are there takes a tenth of a run.
    gc.set_threshold(50_000, 20, 50)
    return run(arguments)
