"""What no profile may change: what policy forbids, the policy itself, aquiline's own state (D25)."""

from __future__ import annotations

from pathlib import Path

import pytest

from aquiline.agent import applying
from aquiline.agent.session import Session
from aquiline.changes.kinds import (
    Change,
    Inline,
    MakeDirectory,
    MakeHardlink,
    MakeSymlink,
    Move,
    Remove,
    SetMetadata,
    SetRecord,
    WriteFile,
)
from aquiline.errors import HostError

from .site import Site

POLICY = 'forbidden_paths = ["/boot"]\n'


def write(path: str) -> WriteFile:
    """Return a change that writes a small file."""
    return WriteFile(path=path, content=Inline(b"x\n"))


def has_policy(site: Site, text: str = POLICY) -> None:
    """Give the host a policy."""
    site.path("/etc/aquiline").mkdir(parents=True, exist_ok=True)
    site.path("/etc/aquiline/policy.toml").write_text(text)


def refused(site: Site) -> str:
    """Apply; return why the component failed. Nothing of it may have been done."""
    ended = site.apply()
    assert (15, 0) == (ended.exit_status, len(ended.plan.steps if ended.plan else ()))
    assert ended.plan is not None
    return ended.plan.components["one"].detail


@pytest.mark.parametrize(
    "changes",
    [
        (write("/boot/grub"),),
        (MakeDirectory(path="/boot", mode=0o700),),
        (SetMetadata(path="/boot/kernel", mode=0o600),),
        (Remove(path="/boot/kernel"),),
        (Move(source="/boot/kernel", destination="/kernel"),),
        (Move(source="/kernel", destination="/boot/other"),),
        (MakeHardlink(path="/boot/other", existing="/kernel"),),
        (write("/also-boot/grub"),),
        (write("/also-boot/new/grub"),),
        (MakeSymlink(path="/b", target="boot"), write("/b/grub")),
    ],
    ids=lambda changes: " ".join(type(change).__name__ for change in changes),
)
def test_forbidden_paths_stay(site: Site, changes: tuple[Change, ...]) -> None:
    """Nothing at or below a forbidden path is changed by any kind, on whichever way it is reached."""
    site.path("/boot").mkdir()
    site.path("/boot/kernel").write_text("kernel")
    site.path("/kernel").write_text("kernel")
    site.path("/also-boot").symlink_to("boot")
    has_policy(site)
    before = site.tree()
    site.wants(*changes)

    assert "this host's policy forbids to change it: /boot is in forbidden_paths" in refused(site)
    assert before == site.tree()


def test_a_forbidden_path_may_be_a_way_round(site: Site) -> None:
    """A path that policy forbids by another of its names is forbidden."""
    site.path("/usr/lib").mkdir(parents=True)
    site.path("/lib").symlink_to("usr/lib")
    has_policy(site, 'forbidden_paths = ["/lib/modules"]\n')
    site.wants(write("/usr/lib/modules/one"))

    assert "/lib/modules is in forbidden_paths" in refused(site)


def test_what_is_above_a_forbidden_path_is_not_moved(site: Site) -> None:
    """What is forbidden does not leave its place with a directory above it; that may be changed otherwise."""
    site.path("/srv/keys").mkdir(parents=True)
    has_policy(site, 'forbidden_paths = ["/srv/keys"]\n')
    site.wants(Move(source="/srv", destination="/gone"))
    assert "/srv/keys is in forbidden_paths" in refused(site)

    site.wants(SetMetadata(path="/srv", mode=0o711), write("/srv/other"))

    assert 0 == site.apply().exit_status


def test_an_entry_of_a_forbidden_database_stays(site: Site) -> None:
    """An account entry is part of a file, and forbidden with it."""
    site.path("/etc").mkdir()
    site.path("/etc/group").write_text("root:x:0:\n")
    has_policy(site, 'forbidden_paths = ["/etc/group"]\n')
    site.wants(SetRecord(database="group", name="wheel", line="wheel:x:10:"))

    assert "/etc/group is in forbidden_paths" in refused(site)


def test_no_profile_changes_the_policy(site: Site) -> None:
    """The policy is the host's own: a profile neither replaces it nor brings one."""
    site.wants(write("/etc/aquiline/policy.toml"))
    assert "no profile may change the host's own policy" in refused(site)

    has_policy(site)

    assert "no profile may change the host's own policy" in refused(site)


def test_no_profile_changes_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file below the state directory is refused, however the root is spelled: undo lives there."""
    with Site(tmp_path, monkeypatch) as site:
        (tmp_path / "link").symlink_to("root")
        site.wants(write("/var/lib/aquiline/journal.db"))
        for root in (site.root, tmp_path / "link", tmp_path / "link" / ".." / "root"):
            for state in (None, str(site.root / "var/lib/aquiline")):
                site.session.host.close()
                site.session = Session(str(root), state)

                assert "no profile may change aquiline's own state" in refused(site)


def test_a_saved_plan_is_held_to_the_policy_of_the_day(site: Site) -> None:
    """What policy forbids since the plan was made is not done."""
    site.path("/boot").mkdir()
    site.wants(write("/etc-first"), write("/boot/grub"))
    saved = applying.plan_to_save(site.session, site.profile())
    has_policy(site)
    before = site.tree()

    with pytest.raises(HostError, match="/boot is in forbidden_paths"):
        site.apply(saved=saved)
    assert before == site.tree()


def test_undo_leaves_what_is_forbidden_by_now(site: Site) -> None:
    """What policy forbids since is not taken back, by whichever link: the step is refused, the rest is undone."""
    site.path("/boot").mkdir()
    site.path("/boot/kernel").write_text("old")
    site.path("/also-boot").symlink_to("boot")
    site.wants(write("/motd"), write("/also-boot/kernel"))
    run = site.apply().run
    has_policy(site)

    undone = site.undo()

    assert 17 == undone.exit_status
    assert undone.undo is not None
    reasons = [one.reason for one in undone.undo.stays]
    assert ["/also-boot/kernel: this host's policy forbids to change it: /boot is in forbidden_paths"] == reasons
    assert (False, "x\n") == (site.path("/motd").exists(), site.path("/boot/kernel").read_text())
    has_policy(site, "")
    assert 0 == site.undo(run).exit_status
    assert "old" == site.path("/boot/kernel").read_text()


def test_redo_leaves_what_is_forbidden_by_now(site: Site) -> None:
    """What an undo took back is not laid again where policy forbids it since."""
    site.path("/boot").mkdir()
    site.wants(write("/motd"), write("/boot/grub"))
    run = site.apply().run
    site.undo()
    has_policy(site)

    assert 17 == site.redo(run).exit_status
    assert (True, False) == (site.path("/motd").exists(), site.path("/boot/grub").exists())


def test_what_is_as_it_was_needs_no_leave(site: Site) -> None:
    """Where somebody has taken the change back by hand undo has nothing to touch there, and refuses nothing."""
    site.path("/boot").mkdir()
    site.wants(write("/boot/grub"))
    site.apply()
    has_policy(site)
    site.path("/boot/grub").unlink()

    assert 0 == site.undo().exit_status


@pytest.mark.parametrize("is_undo", [False, True])
def test_a_link_that_leads_there_since_the_plan(site: Site, is_undo: bool) -> None:
    """The executor asks again before each step: what leads to a forbidden path by then is refused, nothing is done."""
    site.path("/boot").mkdir()
    site.path("/elsewhere").mkdir()
    has_policy(site)
    site.wants(write("/first"), write("/elsewhere/grub"))
    if is_undo:
        site.apply()

    def swap(_plan: object) -> None:
        site.path("/elsewhere").rename(site.path("/kept"))
        for kept in site.path("/kept").iterdir():
            kept.rename(site.path("/boot") / kept.name)
        site.path("/elsewhere").symlink_to("boot")

    ended = site.undo(on_plan=swap) if is_undo else site.apply(on_plan=swap)

    assert (17 if is_undo else 15) == ended.exit_status
    assert ended.error is not None
    assert "/elsewhere/grub: this host's policy forbids to change it: /boot is in" in ended.error.message
    assert ["grub"] * is_undo == [path.name for path in site.path("/boot").iterdir()]
