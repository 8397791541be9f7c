"""Everything that can go wrong, as one tree; each class has an exit status.

::

    AquilineError                 1
    ├── UsageError                2   a command line that makes no sense
    ├── ProfileError              1   a profile that cannot be read or does not fit its schema
    ├── HostError                 1   the machine refused a read or an effect
    │   ├── NotPossibleHere       1   the root lacks the means altogether
    │   │   └── NoCopyHere        1   there is no place for the private copy that a checker wants
    │   └── UnsafePath            1   a parent link that nobody trustworthy owns
    ├── UnknownUntilRun           1   a read of what a pending command would change
    ├── JournalError              1   the journal is damaged, or newer than this program
    ├── RepositoryError           1   git refused, or a name is no branch
    │   ├── BranchMoved           1   somebody moved a branch meanwhile
    │   ├── NothingToDeploy       1   a branch holds already what is to be merged into it
    │   └── MergeConflict        12   two people changed the same lines
    ├── CompilerMissing           1   the compiler cannot be run at all, for no host
    ├── HostLocked               10   somebody else is changing this host
    ├── RunInterrupted           11   an earlier run did not end, or a step is in doubt
    ├── UndoConflict             12   somebody changed what undo would restore
    ├── IrreversibleRefused      13   a step has no undo and that was not allowed
    ├── PlanStale                14   the host is not what the plan was made for
    ├── StepFailed               15   a step did not do what it says
    ├── HostFrozen               21   held, or frozen by a person
    └── Interrupted             130   a person pressed Ctrl-C

A message says what happened, to which thing, what was found and what was expected; ``hint`` says what to run next.
Errors keep their parts as attributes; the command line makes the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class AquilineError(Exception):
    """Something that stops a command and that its user can act upon."""

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        #: What to run or look at next; empty where there is nothing useful to say.
        self.hint = hint


class UsageError(AquilineError):
    """The command line makes no sense."""

    exit_status = 2


class ProfileError(AquilineError):
    """A profile cannot be read, or a value in it does not fit its schema."""

    def __init__(self, message: str, *, path: str = "/", hint: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message, hint=hint)
        #: Where in the profile, as an absolute profile path.
        self.path = path


class HostError(AquilineError):
    """The machine refused a read or an effect."""

    def __init__(self, message: str, *, path: str = "", hint: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message, hint=hint)
        #: The object on the host, if it is about one.
        self.path = path


class NotPossibleHere(HostError):
    """The root lacks the means altogether: no systemd, no package manager, no such program."""


class NoCopyHere(NotPossibleHere):
    """No private copy of would-be content can be made below the root for a checker."""


class UnsafePath(HostError):
    """A parent directory is a link that neither root nor the owner of its directory owns."""


class UnknownUntilRun(AquilineError):
    """A read of something that a pending command may change: known only once that command ran."""

    def __init__(self, what: str, *, because: str) -> None:
        super().__init__(f"{what} is unknown until run: {because}")
        #: The path, unit or package that was read.
        self.what = what
        #: The description of the pending command.
        self.because = because


class JournalError(AquilineError):
    """The journal is damaged, or written by a newer major version."""


class RepositoryError(AquilineError):
    """Git refused, or there is no such branch or commit."""


class BranchMoved(RepositoryError):
    """A branch is not where it was expected: somebody moved it meanwhile. Nothing was changed."""

    def __init__(self, branch: str, *, expected: str, found: str) -> None:
        super().__init__(
            f"branch {branch} was moved meanwhile: found {found or 'no such branch'}, expected {expected}",
            hint="look at what was deployed since, and start again",
        )
        self.branch = branch
        #: The commit it was to be at.
        self.expected = expected
        #: The commit it is at; empty where it is gone.
        self.found = found


class NothingToDeploy(RepositoryError):
    """What is to be merged is there already."""


class MergeConflict(RepositoryError):
    """Two branches changed the same lines."""

    exit_status = 12

    def __init__(self, message: str, *, conflicts: Mapping[str, tuple[str, ...]], hint: str = "") -> None:
        super().__init__(f"{message}: {', '.join(sorted(conflicts))}", hint=hint)
        #: For each file in conflict its hunks, with git's markers; no hunk where one side removed the file.
        self.conflicts = conflicts


class CompilerMissing(AquilineError):
    """The compiler cannot be run at all, so no host can be compiled."""


class HostLocked(AquilineError):
    """Somebody else is changing this host."""

    exit_status = 10


class RunInterrupted(AquilineError):
    """An earlier run did not end, or a step of it is in doubt."""

    exit_status = 11


class UndoConflict(AquilineError):
    """Somebody changed what undo would restore, since the run left it."""

    exit_status = 12


class IrreversibleRefused(AquilineError):
    """A step has no undo, and nobody allowed that."""

    exit_status = 13


class PlanStale(AquilineError):
    """The host is not what the plan was made for, or the plan is not the approved one."""

    exit_status = 14


class StepFailed(AquilineError):
    """A step did not do what it says."""

    exit_status = 15


class HostFrozen(AquilineError):
    """The host is held or frozen: no run starts."""

    exit_status = 21


class Interrupted(AquilineError):
    """A person pressed Ctrl-C."""

    exit_status = 130
