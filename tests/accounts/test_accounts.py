"""Quattor's accounts on a root of its own: what is set, what stays, what undo leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aquiline.agent import applying
from aquiline.components.accounts import Accounts
from aquiline.host.protocol import Completed
from aquiline.host.simulated import SimulatedHost
from aquiline.planning.planner import plan
from aquiline.profile import Profile
from tests.engine.site import Site

PASSWD = """root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
# people
carol:x:1500:1500:Carol:/home/carol:/bin/zsh
+@netgroup::::::
"""
GROUP = "root:x:0:root\nadm:x:4:carol,syslog\ncarol:x:1500:\n"
SHADOW = "root:*:19000:0:99999:7:::\ncarol:$6$CAROL:19001:1:90:14:30:20000:\n"
GSHADOW = "root:*::root\nadm:*:boss:carol,syslog\ncarol:!::\n"


class Host(Site):
    """A host with some accounts, and a profile of others."""

    def profile_is(self, **configuration: Any) -> None:
        """Let the profile's accounts be these."""
        self.configuration = {"kept_users": {}, "kept_groups": {}, **configuration}

    def profile(self) -> Profile:
        return Profile({"software": {"components": {"accounts": self.configuration}}}, "host.example.org")

    def text(self, name: str) -> str:
        """Return the content of a database."""
        return self.path(f"/etc/{name}").read_text()

    def databases(self) -> dict[str, str]:
        """Return the content of all databases."""
        return {name: self.text(name) for name in ("passwd", "group", "shadow", "gshadow")}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with Host(tmp_path, monkeypatch) as host:
        monkeypatch.setattr(applying, "registry_for", lambda _profile: {"accounts": Accounts})
        host.path("/etc/skel/.config").mkdir(parents=True)
        host.path("/etc/skel/.profile").write_text("umask 022\n")
        host.path("/etc/skel/.config/it").write_text("x")
        host.path("/home").mkdir()
        for name, content in {"passwd": PASSWD, "group": GROUP, "shadow": SHADOW, "gshadow": GSHADOW}.items():
            host.path(f"/etc/{name}").write_text(content)
        host.path("/etc/shadow").chmod(0o640)
        yield host


ALICE = {"uid": 2001, "groups": ["staff", "adm"], "comment": "Alice", "homeDir": "/home/alice", "createHome": True}


def test_an_account_with_its_group_and_home(host: Host) -> None:
    """Entries are added in all databases, others stay by bytes; the home is a copy of the skeleton; undo is exact."""
    before, tree = host.databases(), set(host.tree())
    host.profile_is(users={"alice": {**ALICE, "password": "$6$ALICE"}}, groups={"staff": {"gid": 2000}})

    assert 0 == host.apply().exit_status
    assert PASSWD.replace("+@", "alice:x:2001:2000:Alice:/home/alice:/bin/bash\n+@") == host.text("passwd")
    assert SHADOW + "alice:$6$ALICE:15034:0:99999:7:::\n" == host.text("shadow")
    assert "root:x:0:root\nadm:x:4:alice,carol,syslog\ncarol:x:1500:\nstaff:x:2000:alice\n" == host.text("group")
    assert "root:*::root\nadm:*:boss:alice,carol,syslog\ncarol:!::\nstaff:!::alice\n" == host.text("gshadow")
    made = [host.path(f"/home/alice{path}") for path in ("", "/.profile", "/.config", "/.config/it")]
    assert [(2001, 2000)] * 4 == [(path.stat().st_uid, path.stat().st_gid) for path in made]
    assert (0o700, "umask 022\n") == (made[0].stat().st_mode & 0o777, made[1].read_text())
    assert 0o640 == host.path("/etc/shadow").stat().st_mode & 0o777
    assert () == host.plan().steps
    assert 0 == host.undo().exit_status
    assert (before, tree) == (host.databases(), set(host.tree()))


@pytest.mark.parametrize("used", ["more", "edited", "removed", "owner"])
def test_a_home_that_was_used_stays_whole(host: Host, used: str) -> None:
    """Whatever somebody did in the home, undo leaves all of it, says so, and is complete."""
    host.profile_is(users={"alice": ALICE}, groups={"staff": {"gid": 2000}})
    host.apply()
    home = host.path("/home/alice")
    match used:
        case "more":
            (home / ".config" / "mail").write_text("dear")
        case "edited":
            (home / ".profile").write_text("umask 077\n")
        case "removed":
            (home / ".profile").unlink()
        case "owner":
            (home / ".config").chmod(0o755)
    before = sorted(home.rglob("*"))
    undone = host.undo()

    assert 0 == undone.exit_status
    assert before == sorted(home.rglob("*"))
    assert undone.undo is not None
    assert {"others have used it, or what is in it, since it was made"} == {one.reason for one in undone.undo.stays}
    assert PASSWD == host.text("passwd")


def test_what_is_there_is_inherited(host: Host) -> None:
    """What the profile leaves open stays: hash and its day, ageing, comment, home; an empty shell too."""
    host.profile_is(users={"carol": {"uid": 1500, "groups": ["carol"], "shell": ""}})
    changed = host.apply()

    assert 0 == changed.exit_status
    assert (PASSWD, SHADOW) == (host.text("passwd"), host.text("shadow"))
    assert "adm:x:4:syslog\n" in host.text("group")


def test_a_new_hash_keeps_the_day(host: Host) -> None:
    """There is no clock in a plan: the day of the last change stays."""
    host.profile_is(users={"carol": {"uid": 1500, "groups": ["carol"], "password": "$6$NEW"}}, rootpwd="$6$ROOT")
    host.apply()

    assert SHADOW.replace("*:19000", "$6$ROOT:19000").replace("CAROL", "NEW") == host.text("shadow")


def test_unknown_accounts_go_and_their_homes_stay(host: Host) -> None:
    """Only what is neither in the profile, nor kept, nor preserved goes; undo puts each where it was."""
    host.path("/home/carol").mkdir()
    before = host.databases()
    host.profile_is(remove_unknown=True, preserved_accounts="system", login_defs={"uid_min": 1000, "gid_min": 1000})
    planned = host.plan()
    host.apply()

    assert ["accounts: account carol is removed, its home /home/carol stays as it is"] == list(planned.notes)
    assert "carol" not in host.text("passwd") + host.text("shadow") + host.text("group") + host.text("gshadow")
    assert host.path("/home/carol").is_dir()
    assert "UID_MIN\t1000\nGID_MIN\t1000\n" == host.text("login.defs")
    assert 0 == host.undo().exit_status
    assert before == host.databases()


@pytest.mark.parametrize("kept", [{"kept_users": {"carol": ""}, "kept_groups": {"carol": ""}}, {}])
def test_kept_and_preserved_accounts_stay(host: Host, kept: dict[str, Any]) -> None:
    """By name, or by number up to UID_MAX of login.defs, which is 65535 where it does not say."""
    preserved = "none" if kept else "dyn_user_group"
    if kept:
        kept["kept_users"]["daemon"] = kept["kept_groups"]["adm"] = kept["kept_groups"]["root"] = ""
    host.profile_is(remove_unknown=True, preserved_accounts=preserved, **kept)
    host.apply()

    assert (PASSWD, SHADOW) == (host.text("passwd"), host.text("shadow"))


def test_a_pool_is_many_accounts(host: Host) -> None:
    """Each has the next number in its name, its home and its uid."""
    pool = {"uid": 3000, "groups": ["adm"], "homeDir": "/home/p", "poolStart": 9, "poolDigits": 3, "poolSize": 2}
    host.profile_is(users={"pool": pool})
    host.apply()

    expected = "pool009:x:3000:4::/home/p009:/bin/bash\npool010:x:3001:4::/home/p010:/bin/bash\n"
    assert PASSWD.replace("+@", f"{expected}+@") == host.text("passwd")


def test_a_required_member_stays_one(host: Host) -> None:
    """Also one whose own account does not name the group, on every run; replaceMembers drops the others."""
    host.profile_is(
        users={"carol": {"uid": 1500, "groups": ["carol"]}},
        groups={"adm": {"gid": 4, "requiredMembers": ["carol", "ghost"], "replaceMembers": True}},
    )
    host.apply()

    assert "adm:x:4:carol,ghost\n" in host.text("group")
    assert () == host.plan().steps


@pytest.mark.parametrize(
    ("users", "groups"),
    [
        ({"alice": {"uid": 1500, "groups": ["adm"]}}, {}),
        ({}, {"staff": {"gid": 1500}}),
        ({"a": {"uid": 7, "groups": ["adm"], "poolSize": 1}}, {}),
        ({"a": {"uid": 7, "groups": ["adm"], "comment": "a:b"}}, {}),
        ({"a:b": {"uid": 7, "groups": ["adm"]}}, {}),
    ],
)
def test_what_cannot_be_is_refused_whole(host: Host, users: dict[str, Any], groups: dict[str, Any]) -> None:
    """A number that another has, half a pool, a value with a colon: nothing at all is done."""
    before = host.databases()
    host.profile_is(users=users, groups=groups)

    assert "failed" == host.plan().components["accounts"].state
    assert 15 == host.apply().exit_status
    assert before == host.databases()


def test_the_name_service_cache_is_told() -> None:
    """Where there is nscd it forgets, once for each database that changed, and may fail."""
    host = SimulatedHost.drawn(
        "/etc/\n    passwd: root:x:0:0::/:\\n\n    group: root:x:0:\\nadm:x:4:\\n\n    shadow: \n"
        "/usr/\n    sbin/\n        nscd: #!\n",
        commands={("/usr/sbin/nscd",): Completed(1, b"", b"not running")},
    )
    users = {"alice": {"uid": 1, "groups": ["adm"]}}
    profile = Profile({"software": {"components": {"accounts": {"users": users}}}}, "host.example.org")
    steps = plan(profile, host, {"accounts": Accounts}).steps

    assert [f"let nscd, where it runs, forget what it knows of {one}" for one in ("group", "passwd")] == [
        step.description for step in steps[-2:]
    ]
