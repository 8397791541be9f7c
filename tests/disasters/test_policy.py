"""What a host allows, whoever asks: its policy file stands above profiles, brokers and people in a hurry."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aquiline.changes.kinds import Change, MakeHardlink, MakeSymlink, Move, Remove, SetMetadata
from tests.cli.conftest import Host, shell, write

from .conftest import Ask

PLACE = "/etc/aquiline/policy.toml"


@pytest.fixture
def forbidding(host: Host) -> Host:
    """A host that forbids to change /etc/secret.d and what is in it."""
    host.write("/etc/secret.d/key", "old\n")
    host.path("/etc/link").symlink_to("secret.d")
    host.write(PLACE, 'forbidden_paths = ["/etc/secret.d"]\n')
    return host


FORBIDDEN: list[Change] = [
    write("/etc/secret.d/key", "new\n"),
    write("/etc/secret.d/other", "new\n"),
    write("/etc/link/key", "new\n"),
    Remove(path="/etc/secret.d/key"),
    Remove(path="/etc/link/key"),
    SetMetadata(path="/etc/secret.d", mode=0o777),
    Move(source="/etc/secret.d", destination="/etc/elsewhere"),
    Move(source="/etc", destination="/etc2"),
    MakeSymlink(path="/etc/secret.d/key", target="/dev/null"),
    MakeHardlink(path="/etc/key", existing="/etc/secret.d/key"),
]


@pytest.mark.parametrize("change", FORBIDDEN, ids=lambda change: repr(change)[:50])
def test_forbidden_paths(forbidding: Host, ask: Ask, change: Change) -> None:
    """No change of any kind reaches a forbidden path, by whatever name: the plan says so and nothing is done."""
    profile = forbidding.profile(change)

    status, _, _ = ask("apply", profile, "--allow-irreversible")

    assert 15 == status
    assert "forbidden_paths" in ask("plan", profile)[1]
    assert ["key"] == os.listdir(forbidding.path("/etc/secret.d"))
    assert ("old\n", 0o755) == (
        forbidding.text("/etc/secret.d/key"), forbidding.path("/etc/secret.d").stat().st_mode & 0o777
    )  # fmt: skip


def test_what_only_looks_alike(forbidding: Host, ask: Ask) -> None:
    """A path that merely begins with the same letters may be changed."""
    assert 0 == ask("apply", forbidding.profile(write("/etc/secret.day", "x\n")))[0]


def test_the_policy_is_no_components_business(host: Host, ask: Ask) -> None:
    """No profile makes, replaces or moves the policy file: who controls the profiles would control the policy."""
    host.write("/etc/aquiline/other", "x\n")
    for change in (write(PLACE, "runs_per_hour = 0\n"), Move(source="/etc/aquiline", destination="/etc/a")):
        assert 15 == ask("apply", host.profile(change))[0]
    host.write(PLACE, 'irreversible = "refuse"\n')

    assert 15 == ask("apply", host.profile(Remove(path=PLACE)))[0]
    assert 'irreversible = "refuse"\n' == host.text(PLACE)


def test_never_undo(host: Host, ask: Ask) -> None:
    """Undo leaves what the policy names as it is, says so, in the preview too, and takes the rest back."""
    host.write("/etc/keytab", "old\n")
    profile = host.profile(write("/etc/keytab", "rotated\n"), write("/etc/motd", "hello\n"))
    assert 0 == ask("apply", profile)[0]
    host.write(PLACE, 'never_undo = ["/etc/keytab"]\n')

    looked, undone = ask("undo", "--dry-run"), ask("undo")

    assert [0, 0] == [looked[0], undone[0]]
    assert [] == [said for said in (looked[1], undone[2]) if "/etc/keytab" not in said or "policy" not in said]
    assert ("rotated\n", None) == (host.text("/etc/keytab"), host.text("/etc/motd"))


def test_irreversible(host: Host, ask: Ask) -> None:
    """Without an undo a step needs leave, given each time or by the policy."""
    profile = host.profile(shell("true", undo=None))

    refused = ask("apply", profile)[0]
    host.write(PLACE, 'irreversible = "allow"\n')

    assert [13, 0] == [refused, ask("apply", profile)[0]]


def test_runs_per_hour(host: Host, ask: Ask) -> None:
    """One run too many in an hour is 21; looking and taking back are never too many."""
    host.write(PLACE, "runs_per_hour = 2\n")
    found = [ask("apply", host.profile(write("/etc/motd", f"{number}\n"))) for number in range(3)]

    assert [0, 0, 21] == [status for status, _, _ in found]
    assert "2 runs in the last hour; this host's policy allows 2" in found[2][2]
    assert "1\n" == host.text("/etc/motd")
    assert [0, 0, 0] == [ask(*command)[0] for command in (("plan", host.profile()), ("undo",), ("undo", "--last", "1"))]


def test_freeze(host: Host, ask: Ask) -> None:
    """A policy that says freeze stops every run, with the reason; dry-runs go on."""
    assert 0 == ask("apply", host.profile(write("/etc/motd", "hello\n")))[0]
    host.write(PLACE, 'freeze = "disk being replaced, ask Ada"\n')
    other = host.profile(write("/etc/motd", "other\n"))

    found = [ask(*command) for command in (("apply", other), ("undo",))]

    assert [21, 21] == [status for status, _, _ in found]
    assert [] == [said for _, _, said in found if "disk being replaced, ask Ada" not in said]
    assert (0, "hello\n") == (ask("plan", other)[0], host.text("/etc/motd"))


def others_may_write(place: Path) -> None:
    place.chmod(0o666)


def group_may_write(place: Path) -> None:
    place.chmod(0o664)


def somebody_elses(place: Path) -> None:
    os.chown(place, 1234, 0)


def a_link(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))
    place.symlink_to("elsewhere")


def a_directory(place: Path) -> None:
    place.unlink()
    place.mkdir()


def a_misspelt_key(place: Path) -> None:
    place.write_text('forbiden_paths = ["/etc"]\n')


def a_wrong_type(place: Path) -> None:
    place.write_text('runs_per_hour = "many"\n')


def no_toml(place: Path) -> None:
    place.write_text("[[[\n")


def a_relative_path(place: Path) -> None:
    place.write_text('forbidden_paths = ["etc/shadow"]\n')


def a_folder_of_others(place: Path) -> None:
    place.parent.chmod(0o777)


DAMAGES = (
    others_may_write, group_may_write, somebody_elses, a_link, a_directory, a_misspelt_key, a_wrong_type, no_toml,
    a_relative_path, a_folder_of_others,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_policy_that_cannot_be_trusted(host: Host, ask: Ask, damage: object) -> None:
    """What is not root's alone, or makes no sense, stops every run: nobody can say what it would have forbidden."""
    profile = host.profile(write("/etc/motd", "hello\n"))
    host.write(PLACE, "runs_per_hour = 100\n")
    assert callable(damage)
    damage(host.path(PLACE))

    status, _, said = ask("apply", profile)

    assert (1, None) == (status, host.text("/etc/motd"))
    assert str(host.path(PLACE).parent) in said
    assert [] == json.loads(ask("--json", "log")[1])
