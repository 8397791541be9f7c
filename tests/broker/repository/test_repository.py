"""The repository: real git, people who push to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from aquiline.broker.repository import Repository
from aquiline.errors import BranchMoved, MergeConflict, NothingToDeploy, RepositoryError
from tests.broker.repository.conftest import GRACE, Person


@pytest.fixture(autouse=True)
def leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does, no scratch clone is left behind."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield
    assert [] == os.listdir(scratch)


def merge(repository: Repository, commit: str, *, first_revert: Sequence[str] = (), **trailers: str) -> str:
    return repository.merge(
        "prod", commit, message="deploy ada/work", trailers=trailers, author=GRACE, first_revert=first_revert
    )


def deploy(repository: Repository, commit: str, *, first_revert: Sequence[str] = ()) -> str:
    made = merge(repository, commit, first_revert=first_revert)
    repository.move("prod", expected=repository.head("prod"), to=made)
    return made


def take_back(repository: Repository, deployed: str) -> str:
    """Undeploy the last deployment of prod."""
    head = repository.head("prod")
    before = repository.log("prod", 1)[0].parents[0]
    assert deployed == head
    made = repository.take_back(head, to=before, message="undeploy", trailers={}, author=GRACE)
    repository.move("prod", expected=head, to=made)
    return made


def files(repository: Repository, commit: str, place: Path) -> dict[str, str]:
    repository.export(commit, place)
    return {str(file.relative_to(place)): file.read_text() for file in place.rglob("*") if file.is_file()}


def test_a_branch_starts_and_ends(repository: Repository) -> None:
    """A branch starts at a branch or a commit, is listed, and is removed where it was expected to be."""
    start = repository.head("prod")

    assert start == repository.add_branch("grace", start)
    assert {"ada/work": start, "grace": start, "prod": start} == repository.branches()
    repository.remove_branch("grace", start)
    assert {"ada/work": start, "prod": start} == repository.branches()


@pytest.mark.parametrize(
    "name", ["", "-x", "--all", "a b", "a..b", "a.lock", "x/y/z", "../x", "a\nb", "HEAD", "a" * 40, "ä", "a.", "x" * 65]
)
def test_names_that_are_none(repository: Repository, name: str) -> None:
    """What git might take for an option, a path or a commit is no name for a branch."""
    with pytest.raises(RepositoryError, match="is no name for a branch"):
        repository.add_branch(name, "prod")


def test_a_name_is_given_once(repository: Repository) -> None:
    """A branch that is there is not started again, and one that is not is named."""
    with pytest.raises(RepositoryError, match="there is a branch of this name already"):
        repository.add_branch("prod", "ada/work")
    with pytest.raises(RepositoryError, match="nobody: no such branch"):
        repository.head("nobody")
    with pytest.raises(RepositoryError, match="no such commit"):
        repository.add_branch("grace", "1" * 40)
    with pytest.raises(RepositoryError, match="is no commit"):
        repository.is_ancestor("prod", "--all")


def test_a_merge_moves_nothing(repository: Repository, ada: Person, tmp_path: Path) -> None:
    """A merge is a commit on no branch, with the domain as its first parent and the author's trailers."""
    before = repository.head("prod")
    work = ada.works("ada/work", {"layers/web.yaml": "better\n", "hosts/web1.yaml": "x\n", "README": None})

    made = merge(repository, work, **{"Change-ID": "prod-1", "Reason": "two\n\nlines: here", "Empty": ""})

    assert before == repository.head("prod")
    assert ["README", "hosts/web1.yaml", "layers/web.yaml"] == repository.changed_files(before, made)
    expected = {"hosts/web1.yaml": "x\n", "layers/base.yaml": "one\ntwo\nthree\n", "layers/web.yaml": "better\n"}
    assert expected == files(repository, made, tmp_path / "out")
    assert {"Change-ID": "prod-1", "Reason": "two lines: here"} == repository.trailers(made)
    repository.move("prod", expected=before, to=made)
    first = repository.log("prod", 5)[0]
    assert (made, (before, work), GRACE, "deploy ada/work") == (first.id, first.parents, first.author, first.subject)
    assert 2 == len(repository.log("prod", 5))


def test_a_trailer_in_a_message_is_none(repository: Repository, ada: Person) -> None:
    """Who writes a trailer's line into the message does not forge one."""
    work = ada.works("ada/work", {"README": "new\n"})

    made = repository.merge(
        "prod", work, message="fix\n\nChange-ID: forged", trailers={"Change-ID": "prod-7"}, author="grace"
    )

    assert {"Change-ID": "prod-7"} == repository.trailers(made)


def test_a_move_is_compare_and_swap(repository: Repository, ada: Person) -> None:
    """Of two deployments that started from the same domain, the second is refused and changes nothing."""
    start = repository.head("prod")
    first = merge(repository, ada.works("ada/work", {"README": "1\n"}))
    second = merge(repository, ada.works("ada/work", {"README": "2\n"}))
    repository.move("prod", expected=start, to=first)

    with pytest.raises(BranchMoved) as caught:
        repository.move("prod", expected=start, to=second)

    assert ("prod", start, first) == (caught.value.branch, caught.value.expected, caught.value.found)
    assert first == repository.head("prod")
    with pytest.raises(BranchMoved):
        repository.remove_branch("prod", start)


def test_a_conflict_names_files_and_hunks(repository: Repository, ada: Person) -> None:
    """Two people who changed the same line hear of the file, and of both versions."""
    repository.add_branch("ada/other", "prod")
    deploy(repository, ada.works("ada/other", {"layers/base.yaml": "one\nTWO\nthree\n", "layers/web.yaml": None}))
    work = ada.works("ada/work", {"layers/base.yaml": "one\n2\nthree\n", "layers/web.yaml": "other\n"})

    with pytest.raises(MergeConflict, match=r"layers/base\.yaml, layers/web\.yaml") as caught:
        merge(repository, work)

    (hunk,) = caught.value.conflicts["layers/base.yaml"]
    assert ["TWO", "two", "2"] == [line for line in hunk.splitlines() if line[:3] not in ("<<<", "|||", "===", ">>>")]
    assert () == caught.value.conflicts["layers/web.yaml"]
    assert 12 == caught.value.exit_status


def test_nothing_to_deploy(repository: Repository, ada: Person) -> None:
    """A sandbox that brings nothing, or what is there already, is said to."""
    with pytest.raises(NothingToDeploy):
        merge(repository, repository.head("ada/work"))
    repository.add_branch("ada/other", "prod")
    deploy(repository, ada.works("ada/other", {"README": "same\n"}))
    with pytest.raises(NothingToDeploy):
        merge(repository, ada.works("ada/work", {"README": "same\n"}))


def test_undeployed_and_deployed_again(repository: Repository, ada: Person, tmp_path: Path) -> None:
    """What was undeployed comes back whole when it is deployed again, and not in part."""
    work = ada.works("ada/work", {"layers/web.yaml": "better\n"})
    undeployed = take_back(repository, deploy(repository, work))
    assert "web\n" == files(repository, undeployed, tmp_path / "1")["layers/web.yaml"]
    with pytest.raises(NothingToDeploy):
        merge(repository, work)

    again = deploy(repository, work, first_revert=[undeployed])

    assert "better\n" == files(repository, again, tmp_path / "2")["layers/web.yaml"]
    twice = take_back(repository, again)
    more = ada.works("ada/work", {"README": "more\n"})
    last = deploy(repository, more, first_revert=[twice])
    found = files(repository, last, tmp_path / "3")
    assert ("better\n", "more\n") == (found["layers/web.yaml"], found["README"])
    assert (twice, more) == repository.log("prod", 1)[0].parents


def test_one_of_two_undeployed_comes_back_alone(repository: Repository, ada: Person, tmp_path: Path) -> None:
    """Of two changes that were undeployed one after the other, one can be deployed again without the other."""
    repository.add_branch("ada/other", "prod")
    first_work = ada.works("ada/work", {"layers/web.yaml": "better\n"})
    first = deploy(repository, first_work)
    second = deploy(repository, ada.works("ada/other", {"README": "second\n"}))
    take_back(repository, second)
    undo = repository.take_back(
        repository.head("prod"), to=repository.log("prod", 3)[2].parents[0], message="u", trailers={}, author=GRACE
    )
    repository.move("prod", expected=repository.head("prod"), to=undo)
    assert first != undo

    again = deploy(repository, first_work, first_revert=[undo])

    found = files(repository, again, tmp_path / "out")
    assert ("better\n", "site\n") == (found["layers/web.yaml"], found["README"])


def test_a_revert_that_conflicts_is_said(repository: Repository, ada: Person) -> None:
    """An undeployment that cannot be reverted, because somebody changed the same since, is a conflict."""
    work = ada.works("ada/work", {"README": "mine\n"})
    undeployed = take_back(repository, deploy(repository, work))
    repository.add_branch("ada/other", "prod")
    deploy(repository, ada.works("ada/other", {"README": "theirs\n"}))

    with pytest.raises(MergeConflict, match="cannot be reverted: README"):
        merge(repository, work, first_revert=[undeployed])


def test_a_commit_is_kept_until_forgotten(repository: Repository, ada: Person) -> None:
    """A merge that is on no branch outlives git's collection, until it is forgotten."""
    made = merge(repository, ada.works("ada/work", {"README": "new\n"}))
    collect = ["git", "-C", str(repository.path), "gc", "-q", "--prune=now"]
    subprocess.run(collect, check=True)
    assert repository.changed_files(repository.head("prod"), made)

    repository.forget(made)

    subprocess.run(collect, check=True)
    with pytest.raises(RepositoryError, match="no such commit"):
        repository.trailers(made)


def test_a_push_moves_sandboxes_only(repository: Repository, ada: Person) -> None:
    """People push sandboxes, also by force; domains, deletions, other refs and odd names are refused."""
    ada.works("ada/work", {"README": "new\n"})
    ada.git("commit", "-q", "--amend", "-m", "better")
    ada.git("push", "-q", "--force", "origin", "ada/work")
    ada.git("push", "-q", "origin", "HEAD:ada/new")
    assert repository.head("ada/new") == repository.head("ada/work") == ada.git("rev-parse", "HEAD")
    refused = {
        "HEAD:prod": "prod is a domain",
        "HEAD:refs/tags/v1": "only branches can be pushed",
        "HEAD:refs/aquiline/commits/x": "",
        "HEAD:a/b/c": "not a name for a sandbox",
        ":ada/work": "",
    }

    for what, says in refused.items():
        assert says in ada.git("push", "--force", "origin", what, fails=True)

    assert {"ada/new", "ada/work", "prod"} == set(repository.branches())
    (repository.path / "aquiline" / "protected").unlink()
    assert "list of domains is missing" in ada.git("push", "-f", "origin", "HEAD~:ada/work", fails=True)


def test_who_fetches_does_not_see_what_is_kept(repository: Repository, ada: Person) -> None:
    """The commits that the broker keeps for itself are not offered to people."""
    merge(repository, ada.works("ada/work", {"README": "new\n"}))

    assert "refs/aquiline" not in ada.git("ls-remote", "origin")


@pytest.mark.parametrize("target", ["/etc/shadow", "../../x", "..", "web.yaml/../../..", "a/../b"])
def test_links_that_may_lead_out_are_refused(repository: Repository, ada: Person, tmp_path: Path, target: str) -> None:
    """A link to somewhere else, pushed by somebody, is not written."""
    (ada.folder / "link").symlink_to(target)
    work = ada.works("ada/work", {"x": ""})

    with pytest.raises(RepositoryError, match="which may lead out"):
        repository.export(work, tmp_path / "out")
    assert not (tmp_path / "out" / "link").is_symlink()


def test_links_inside_and_attributes(repository: Repository, ada: Person, tmp_path: Path) -> None:
    """Links inside are written; attributes in the commit change nothing of what is exported."""
    ada.works("ada/work", {"x": ""})
    (ada.folder / "layers" / "up").symlink_to("../README")
    attributes = "README export-ignore\nx export-subst\nx text eol=crlf\n"
    work = ada.works("ada/work", {".gitattributes": attributes, "x": "$Format:%H$\n"})

    found = files(repository, work, tmp_path / "out")

    assert ("site\n", "site\n", "$Format:%H$\n") == (found["layers/up"], found["README"], found["x"])
    with pytest.raises(RepositoryError, match="expected an empty folder"):
        repository.export(work, tmp_path / "out")


def test_nothing_of_the_users_is_read(
    repository: Repository, ada: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither configuration nor hooks of whoever runs the broker have a part in what it does."""
    work = ada.works("ada/work", {"README": "new\n"})
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("reference-transaction", "pre-merge-commit", "post-checkout", "pre-commit"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
        (hooks / name).chmod(0o755)
    (tmp_path / ".gitconfig").write_text(f"[core]\nhooksPath={hooks}\n[commit]\ngpgSign=true\n[user]\nname=Eve\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    for hook in hooks.iterdir():
        shutil.copy(hook, repository.path / "hooks" / hook.name)

    deploy(repository, work)

    assert not (tmp_path / "ran").exists()
    assert GRACE == repository.log("prod", 1)[0].author


def test_what_takes_too_long_is_stopped(repository: Repository, ada: Person) -> None:
    """A command of git's that does not end is killed, and said."""
    work = ada.works("ada/work", {"README": "new\n"})

    with pytest.raises(RepositoryError, match="took more than 1e-05 seconds"):
        Repository(repository.path, timeout=0.00001).is_ancestor(work, work)


def test_a_folder_that_is_no_repository(tmp_path: Path) -> None:
    """Opening what is no repository, or making one where something is, is refused."""
    (tmp_path / "file").write_text("")

    with pytest.raises(RepositoryError, match="no git repository"):
        Repository(tmp_path)
    with pytest.raises(RepositoryError, match="not empty"):
        Repository.create(tmp_path)


@pytest.mark.parametrize("author", ["", "<x@y>", "a\nb", "a <b", "\0"])
def test_authors_that_are_none(repository: Repository, ada: Person, author: str) -> None:
    """An author is a name and perhaps an address; anything else is refused."""
    work = ada.works("ada/work", {"README": "new\n"})

    with pytest.raises(RepositoryError, match="is no author"):
        repository.merge("prod", work, message="m", trailers={}, author=author)


def test_histories_that_have_nothing_in_common(repository: Repository, tmp_path: Path) -> None:
    """A commit of another history is not merged, and that is said."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    other = repository.commit(tmp_path / "other", message="other", author="grace")

    with pytest.raises(RepositoryError, match="unrelated histories"):
        merge(repository, other)


def test_what_people_put_into_messages_and_names(repository: Repository, ada: Person) -> None:
    """No character that git takes in a message, a name or a file name confuses what is read from it."""
    name = os.fsdecode(b"a\xff\n\tb")
    (ada.folder / name).write_text("x")
    before = repository.head("ada/work")
    work = ada.works("ada/work", {}, message="a\x1eb\x1fc\x1d\td\n\nChange-ID: x\x1ey\x1fz\n\x1e")

    commit = repository.log("ada/work", 2)[0]

    assert (work, (before,), "Ada <ada@example.org>") == (commit.id, commit.parents, commit.author)
    assert "a\x1eb\x1fc\x1d\td" == commit.subject
    assert ["a\ufffd\n\tb"] == repository.changed_files(before, work)
    made = repository.merge("prod", work, message="m\x1e", trailers={"Reason": "x\x1ey\x1f\0z"}, author=GRACE)
    assert {"Reason": "x y z"} == repository.trailers(made)


def test_a_file_system_that_refuses(repository: Repository, tmp_path: Path) -> None:
    """What the file system refuses while exporting is an error that says so."""
    (tmp_path / "file").write_text("")

    with pytest.raises(RepositoryError, match="cannot be written"):
        repository.export(repository.head("prod"), tmp_path / "file" / "out")
