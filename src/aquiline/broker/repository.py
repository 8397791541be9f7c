"""The source of truth: one bare git repository, whose branches are domains and sandboxes.

A *domain* is a branch that hosts run; it moves by deployments only, never by a push. A *sandbox* is a branch that its
author pushes to. A deployment is one commit on its domain, made apart from every branch by `merge`, `take_back` or
`lay_again`; it is nobody's until `move` lays the domain on it, which happens only if the domain is still where it was.

Commits that are on no branch yet are kept by a ref below ``refs/aquiline/commits``, which nobody can push or fetch.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from aquiline.broker.export import export
from aquiline.broker.git import TIMEOUT, Git, refused
from aquiline.broker.scratch import scratch_folder
from aquiline.errors import BranchMoved, MergeConflict, NothingToDeploy, RepositoryError

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_NAME = re.compile(rf"{_PART}(/{_PART})?")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_KEPT = "refs/aquiline/commits"
_COMMITTER = {"GIT_COMMITTER_NAME": "aquiline broker", "GIT_COMMITTER_EMAIL": "aquiline@localhost"}
_PERSON = re.compile(r"\s*([^<>]*[^<>\s])\s*(?:<([^<>\s]*)>)?\s*")
_TRAILER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_TRAILERS = "%(trailers:only=true,unfold=true,separator=%x1e,key_value_separator=%x1f)"
_MAX_SUBJECT = 500
_MAX_HUNK = 2000
_MAX_HUNKS = 20
_PROTECTED = "aquiline/protected"
_SETTINGS = {
    # Power may fail between a move and what the database says of it.
    "core.fsync": "all",
    "core.logAllRefUpdates": "true",
    "core.filesRefLockTimeout": "5000",
    "receive.denyDeletes": "true",
    "receive.fsckObjects": "true",
    "transfer.hideRefs": "refs/aquiline",
}
_HOOK = r"""#!/bin/sh
# Written by aquiline: a push moves sandboxes, and nothing else. Domains move by deployments.
refuse() {
    echo "aquiline: $1" >&2
    exit 1
}
case $1 in
refs/heads/*) branch=${1#refs/heads/} ;;
*) refuse "$1: only branches can be pushed" ;;
esac
LC_ALL=C
case $branch in
*[!A-Za-z0-9._/-]* | [!A-Za-z0-9]* | */[!A-Za-z0-9]* | */*/*) refuse "$branch: not a name for a sandbox" ;;
esac
[ -r "${GIT_DIR:-.}/aquiline/protected" ] || refuse "the list of domains is missing, so nothing can be pushed"
while IFS= read -r domain; do
    case $domain in
    "$branch" | "$branch"/*) ;;
    *) case $branch in "$domain"/*) ;; *) continue ;; esac ;;
    esac
    refuse "$domain is a domain: it moves by \`aquiline deploy\` only"
done <"${GIT_DIR:-.}/aquiline/protected"
exit 0
"""


class Commit(msgspec.Struct, frozen=True):
    """What is known of one commit."""

    id: str
    #: For a deployment: the domain before it, then what was merged.
    parents: tuple[str, ...]
    #: ``Name <address>``.
    author: str
    #: When it was made, in seconds since 1970.
    time: int
    #: The first line of its message.
    subject: str
    trailers: dict[str, str]


class Repository:
    """One bare repository. Every method raises `RepositoryError` where git refuses or there is no such thing."""

    def __init__(self, path: Path | str, *, timeout: float = TIMEOUT) -> None:
        self.path = Path(path).absolute()
        self._timeout = timeout
        if not (self.path / "objects").is_dir():
            raise RepositoryError(f"{self.path}: no git repository", hint="create one with Repository.create")
        self._git = Git(self.path, timeout=timeout, started=time.time())
        self._git.unlock()

    @classmethod
    def create(cls, path: Path | str) -> Repository:
        """Make an empty repository at `path`, which must not be there yet or be empty; domains are protected."""
        folder = Path(path).absolute()
        if "\n" in str(folder) or (folder.exists() and any(folder.iterdir())):
            raise RepositoryError(f"{folder}: cannot be made a repository: it is not empty, or has a line break")
        folder.mkdir(parents=True, exist_ok=True)
        Git(folder)("init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--", ".")
        repository = cls(folder)
        for key, value in _SETTINGS.items():
            repository._git("config", key, value)
        (folder / "aquiline").mkdir()
        (folder / "hooks").mkdir(exist_ok=True)
        repository.protect(())
        hook = folder / "hooks" / "update"
        hook.write_text(_HOOK)
        hook.chmod(0o755)
        return repository

    def protect(self, domains: Sequence[str]) -> None:
        """From now on no push moves any of `domains`; all other branches can be pushed to.

        The first of them is what a clone has checked out.
        """
        refs = [self._ref(name) for name in domains]
        if refs:
            self._git("symbolic-ref", "HEAD", refs[0])
        new = self.path / f"{_PROTECTED}.new"
        with new.open("w") as file:
            file.write("".join(f"{name}\n" for name in domains))
            file.flush()
            # An empty list, after power was lost, would let everybody push to every domain.
            os.fsync(file.fileno())
        new.replace(self.path / _PROTECTED)

    # Branches

    def branches(self) -> dict[str, str]:
        """Return the commit of every branch, sorted by name."""
        lines = self._git("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads/").splitlines()
        return dict(sorted((name, commit) for name, _, commit in (line.partition(" ") for line in lines)))

    def head(self, name: str) -> str:
        """Return the commit that branch `name` is at."""
        found = self._where(name)
        if not found:
            raise RepositoryError(f"{name}: no such branch", hint="`aquiline domain list`, `aquiline sandbox list`")
        return found

    def add_branch(self, name: str, start: str) -> str:
        """Start branch `name` at `start`, a branch or a commit; return the commit."""
        commit = self._commit(start) if _COMMIT.fullmatch(start) else self.head(start)
        found = self._git.run("update-ref", self._ref(name), commit, "0" * len(commit))
        if found.returncode != 0:
            if self._where(name):
                raise RepositoryError(f"{name}: there is a branch of this name already")
            raise refused(("update-ref",), found)
        return commit

    def remove_branch(self, name: str, expected: str) -> None:
        """Remove branch `name`, which must be at `expected`; raise `BranchMoved` if it is not."""
        self._compare_and_swap(name, ("update-ref", "-d", self._ref(name), _id(expected)), expected)

    def move(self, name: str, *, expected: str, to: str) -> None:
        """Lay branch `name` on commit `to` if it is at `expected`; raise `BranchMoved`, and change nothing, if not."""
        commit = self._commit(to)
        self._compare_and_swap(name, ("update-ref", self._ref(name), commit, _id(expected)), expected)

    # Making commits

    def commit(self, folder: Path, *, message: str, author: str) -> str:
        """Return a commit without parents that holds the files below `folder`: how a repository begins."""
        with scratch_folder("commit") as scratch:
            environment = {
                "GIT_DIR": str(self.path),
                "GIT_WORK_TREE": str(folder.absolute()),
                "GIT_INDEX_FILE": f"{scratch}/index",
            }
            work = Git(folder, timeout=self._timeout)
            work("add", "--all", "--force", "--", ".", environment=environment)
            tree = work("write-tree", environment=environment)
        return self._kept(self._commit_tree(self._git, tree, (), _message(message, {}), author))

    def merge(
        self,
        into: str,
        commit: str,
        *,
        message: str,
        trailers: Mapping[str, str],
        author: str,
        first_revert: Sequence[str] = (),
    ) -> str:
        """Return a new commit: branch `into` with `commit` merged. No branch moves.

        The undeploy commits in `first_revert`, newest first, are reverted before: without that git would leave out,
        without a word, what was deployed once and undeployed since. All is one commit, whose first parent is the branch
        as it was. Raise `MergeConflict` with files and hunks, and `NothingToDeploy` where nothing would change.
        """
        head, commit = self.head(into), self._commit(commit)
        text = _message(message, trailers)
        if not first_revert and self.is_ancestor(commit, head):
            raise NothingToDeploy(f"{into} has all of {commit[:12]} already")
        reverts = [self._commit(one) for one in first_revert]
        with self._scratch(head) as scratch:
            for revert in reverts:
                self._revert(scratch, revert)
            self._merge(scratch, into, commit)
            tree = scratch("write-tree")
            if tree == self._git("rev-parse", "--verify", f"{head}^{{tree}}"):
                raise NothingToDeploy(f"{into} holds already what {commit[:12]} would bring")
            parents = (head,) if self.is_ancestor(commit, head) else (head, commit)
            made = self._commit_tree(scratch, tree, parents, text, author)
            self._fetch(scratch, made)
        return made

    def take_back(self, head: str, *, to: str, message: str, trailers: Mapping[str, str], author: str) -> str:
        """Return a new commit on `head` that holds exactly what commit `to` held. No branch moves.

        Changes are taken back last in, first out, one commit for each, so that each can be reverted by itself when its
        change is deployed again.
        """
        tree = self._git("rev-parse", "--verify", f"{self._commit(to)}^{{tree}}")
        return self._kept(
            self._commit_tree(self._git, tree, (self._commit(head),), _message(message, trailers), author)
        )

    def lay_again(self, head: str, taken_back: str, *, message: str, trailers: Mapping[str, str], author: str) -> str:
        """Return a new commit on `head` that brings what commit `taken_back` took back, and nothing else.

        It may hold the same files as `head`. No branch moves. Raise `MergeConflict` with files and hunks.
        """
        head, text = self._commit(head), _message(message, trailers)
        with self._scratch(head) as scratch:
            self._revert(scratch, self._commit(taken_back))
            made = self._commit_tree(scratch, scratch("write-tree"), (head,), text, author)
            self._fetch(scratch, made)
        return made

    def forget(self, commit: str) -> None:
        """Stop keeping a commit for its own sake: one on no branch is collected by git some weeks later."""
        self._git("update-ref", "-d", f"{_KEPT}/{_id(commit)}")

    # Looking

    def is_ancestor(self, a: str, b: str) -> bool:
        """Tell whether commit `a` is `b` or before it."""
        arguments = ("merge-base", "--is-ancestor", self._commit(a), self._commit(b))
        found = self._git.run(*arguments)
        if found.returncode not in (0, 1):
            raise refused(arguments, found)
        return found.returncode == 0

    def export(self, commit: str, folder: Path) -> None:
        """Write the files of `commit` below `folder`, which must be empty or not be there.

        What is written is what was committed, byte by byte. A link that could lead out of `folder`, a submodule
        or more than the limits allow is refused.
        """
        export(self._git, self._commit(commit), folder, timeout=self._timeout)

    def trailers(self, commit: str) -> dict[str, str]:
        """Return the trailers of a commit's message."""
        return self._commits(self._commit(commit), 1)[0].trailers

    def change_ids(self) -> set[str]:
        """Return the change IDs of all commits that the broker keeps, whatever a database knows of them."""
        form = "--format=%(trailers:key=Change-Id,valueonly)"
        return set(filter(None, map(str.strip, self._git("for-each-ref", form, _KEPT).splitlines())))

    def log(self, branch: str, limit: int) -> list[Commit]:
        """Return the last `limit` commits of a branch, newest first; what was merged is not gone into."""
        return self._commits(self.head(branch), limit)

    def changed_files(self, a: str, b: str) -> list[str]:
        """Return the files that differ between two commits, sorted."""
        out = self._git("diff-tree", "-r", "-z", "--name-only", "--no-renames", self._commit(a), self._commit(b))
        return sorted(_shown(name) for name in out.split("\0") if name)

    def _commits(self, start: str, limit: int) -> list[Commit]:
        # A message may hold any character but NUL.
        fields = ("%H", "%P", "%an <%ae>", "%ct", "%s", _TRAILERS)
        form = f"--format=tformat:{'%x00'.join(fields)}%x00"
        words = self._git("log", "--first-parent", f"--max-count={limit}", form, start, "--").split("\0")
        return [_parsed(*words[at : at + len(fields)]) for at in range(0, len(words) - 1, len(fields))]

    def _ref(self, name: str) -> str:
        ref = f"refs/heads/{name}"
        is_safe = _NAME.fullmatch(name) and not _COMMIT.fullmatch(name) and name != "HEAD"
        if not is_safe or self._git.run("check-ref-format", ref).returncode != 0:
            raise RepositoryError(
                f"{name!r} is no name for a branch",
                hint="letters, digits, dots, dashes and underscores, with at most one slash",
            )
        return ref

    def _where(self, name: str) -> str:
        found = self._git.run("rev-parse", "--verify", "--quiet", f"{self._ref(name)}^{{commit}}")
        return found.stdout.decode().strip()

    def _commit(self, commit: str) -> str:
        found = self._git.run("rev-parse", "--verify", "--quiet", f"{_id(commit)}^{{commit}}")
        if found.returncode != 0:
            raise RepositoryError(f"{commit}: no such commit")
        return found.stdout.decode().strip()

    def _compare_and_swap(self, name: str, arguments: tuple[str, ...], expected: str) -> None:
        found = self._git.run(*arguments)
        if found.returncode == 0:
            return
        if (now := self._where(name)) != expected:
            raise BranchMoved(name, expected=expected, found=now)
        raise refused(arguments, found)

    def _kept(self, commit: str) -> str:
        self._git("update-ref", f"{_KEPT}/{commit}", commit)
        return commit

    def _fetch(self, scratch: Git, commit: str) -> None:
        """Take a commit over from a scratch clone, and keep it."""
        scratch("update-ref", "refs/heads/result", commit)
        self._git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", str(scratch.folder),
                  f"refs/heads/result:{_KEPT}/{commit}")  # fmt: skip

    @staticmethod
    def _commit_tree(git: Git, tree: str, parents: Sequence[str], text: str, author: str) -> str:
        words = [word for parent in parents for word in ("-p", parent)]
        return git("commit-tree", *words, tree, given=text.encode(), environment=_identity(author))

    @contextlib.contextmanager
    def _scratch(self, head: str) -> Iterator[Git]:
        """Give a clone that borrows the objects of this repository, checked out at `head`; it is gone afterwards."""
        with _own_errors(), scratch_folder("merge") as folder:
            scratch = Git(Path(folder), timeout=self._timeout)
            scratch("init", "--quiet", "--template=", "--", ".")
            alternates = Path(folder) / ".git" / "objects" / "info" / "alternates"
            alternates.parent.mkdir(exist_ok=True)
            alternates.write_text(f"{self.path / 'objects'}\n")
            scratch("checkout", "--quiet", "--detach", head, "--")
            yield scratch

    def _revert(self, scratch: Git, commit: str) -> None:
        """Revert `commit` in the work tree and index, and commit that, so that a merge can follow."""
        words = ("-m", "1") if " " in scratch("show", "--no-patch", "--format=%P", commit, "--") else ()
        found = scratch.run("revert", "--no-commit", *words, commit, environment=_identity("aquiline"))
        if found.returncode != 0:
            subject = self._commits(commit, 1)[0].subject
            raise _conflict(scratch, f"{commit[:12]} ({subject}) cannot be reverted", found)
        made = self._commit_tree(scratch, scratch("write-tree"), ("HEAD",), "revert\n", "aquiline")
        scratch("reset", "--quiet", "--hard", made, "--")

    def _merge(self, scratch: Git, into: str, commit: str) -> None:
        """Merge `commit` in the work tree and index."""
        found = scratch.run(
            "-c", "merge.conflictStyle=diff3", "merge", "--quiet", "--no-ff", "--no-commit", "--no-verify", commit,
            environment=_identity("aquiline"),
        )  # fmt: skip
        if found.returncode != 0:
            raise _conflict(scratch, f"{commit[:12]} cannot be merged into {into}", found)


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Say as an error of ours what the file system refuses: no space left, say."""
    try:
        yield
    except OSError as error:
        raise RepositoryError(f"{error.filename or 'the scratch clone'}: {error.strerror}") from None


def _conflict(scratch: Git, what: str, found: object) -> RepositoryError:
    files = sorted(set(filter(None, scratch("diff", "--name-only", "--diff-filter=U", "-z").split("\0"))))
    if not files:
        out = getattr(found, "stderr", b"") or getattr(found, "stdout", b"")
        return RepositoryError(f"{what}: {out.decode(errors='replace').strip()}")
    conflicts = {
        _shown(file): _hunks(scratch.folder / os.fsdecode(file.encode(errors="surrogateescape"))) for file in files
    }
    return MergeConflict(what, conflicts=conflicts, hint="merge the domain into the sandbox, push, and deploy again")


def _hunks(file: Path) -> tuple[str, ...]:
    """Return the conflicts in a file, with git's markers; none where it is no text that both sides have."""
    if file.is_symlink() or not file.is_file():
        return ()
    text = file.read_bytes().decode(errors="replace")
    found = re.finditer(r"^<<<<<<< .*?^>>>>>>> [^\n]*$", text, re.MULTILINE | re.DOTALL)
    return tuple(hunk[0][:_MAX_HUNK] for hunk, _ in zip(found, range(_MAX_HUNKS), strict=False))


def _identity(author: str) -> dict[str, str]:
    found = _PERSON.fullmatch(author)
    if not found or not author.isprintable():
        raise RepositoryError(f"{author!r} is no author", hint="write it as: Grace Hopper <grace@example.org>")
    return {"GIT_AUTHOR_NAME": found[1], "GIT_AUTHOR_EMAIL": found[2] or "", **_COMMITTER}


def _message(message: str, trailers: Mapping[str, str]) -> str:
    """Return the text of a commit: the message, and its trailers as a paragraph of their own that nothing joins."""
    if not message.strip() or "\0" in message:
        raise RepositoryError("a commit needs a message, and one without NUL")
    lines = [f"{_key(key)}: {' '.join(value.replace(chr(0), ' ').split())}" for key, value in trailers.items()]
    # An empty trailer would be dropped by git; one of white space is none.
    return "\n".join([message.strip(), "", *(line for line in lines if not line.endswith(": ")), ""])


def _key(key: str) -> str:
    if not _TRAILER.fullmatch(key):
        raise RepositoryError(f"{key!r} is no name of a trailer", hint="letters, digits and dashes")
    return key


def _id(commit: str) -> str:
    if not _COMMIT.fullmatch(commit) or not commit.strip("0"):
        raise RepositoryError(f"{commit!r} is no commit, expected its whole name in hexadecimal")
    return commit


def _parsed(commit: str, parents: str, author: str, time: str, subject: str, trailers: str) -> Commit:
    pairs = (pair.partition("\x1f") for pair in _shown(trailers).split("\x1e") if pair)
    return Commit(
        id=commit.strip(),
        parents=tuple(parents.split()),
        author=_shown(author),
        time=int(time),
        subject=_shown(subject)[:_MAX_SUBJECT],
        trailers={key: value for key, _, value in pairs},
    )


def _shown(text: str) -> str:
    """Return text of git's as it can be shown and sent: what is no UTF-8 in it is replaced."""
    return text.encode(errors="surrogateescape").decode(errors="replace")
