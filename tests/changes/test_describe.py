"""Every kind in words: exact, on one line, safe to show."""

from __future__ import annotations

import pytest
from hypothesis import given

from aquiline.changes.describe import describe, describe_undo
from aquiline.changes.kinds import (
    Change,
    EditFile,
    Inline,
    MakeDirectory,
    MakeHardlink,
    MakeSpecial,
    MakeSymlink,
    Move,
    ReactCommand,
    ReactDaemonReload,
    ReactSignal,
    ReactUnit,
    Remove,
    Restore,
    RunCommand,
    RunScript,
    SetMetadata,
    SetPackages,
    SetUnit,
    Validate,
    WriteFile,
)
from aquiline.host.objects import ABSENT, Directory, Metadata, Object, RegularFile, Special, Symlink, sha256
from tests.changes.drawing import changes

META = Metadata(0o644, 0, 33)
FILE = RegularFile(META, 12, sha256(b""))
LINK = Symlink(Metadata(0o777, 0, 0), "motd.new")
DIRECTORY = Directory(Metadata(0o755, 0, 0))
DEVICE = Special(Metadata(0o600, 0, 0), "character-device", 0x103)
TEXT = Inline(b"hello\n")


@pytest.mark.parametrize(
    ("change", "before", "expected"),
    [
        (WriteFile(path="/etc/motd", content=TEXT), ABSENT, "write /etc/motd (mode 0644, root:root)"),
        (WriteFile(path="/etc/motd", content=TEXT), FILE, "write /etc/motd"),
        (
            WriteFile(path="/etc/motd", content=TEXT, mode=0o640, owner=0, group="adm"),
            FILE,
            "write /etc/motd (mode 0640, root:adm)",
        ),
        (
            WriteFile(path="/etc/motd", content=TEXT, mode=0o600, secret=True),
            LINK,
            "write /etc/motd (mode 0600, secret), replacing a symbolic link",
        ),
        (
            WriteFile(path="/etc/resolv.conf", content=TEXT, in_place=True),
            FILE,
            "write /etc/resolv.conf (in place, not atomic)",
        ),
        (EditFile(path="/etc/fstab", content=TEXT, edited_sha256=""), FILE, "edit /etc/fstab"),
        (Remove(path="/etc/motd"), FILE, "remove /etc/motd"),
        (Remove(path="/etc/motd"), LINK, "remove symbolic link /etc/motd -> motd.new"),
        (Remove(path="/etc/x.d"), DIRECTORY, "remove directory /etc/x.d"),
        (Remove(path="/dev/null"), DEVICE, "remove character device 1:3 /dev/null"),
        (MakeDirectory(path="/srv/a"), ABSENT, "make directory /srv/a (mode 0755, root:root)"),
        (MakeDirectory(path="/srv/a", mode=0o700), DIRECTORY, "set directory /srv/a (mode 0700)"),
        (
            MakeDirectory(path="/srv/a"),
            FILE,
            "make directory /srv/a, replacing a file",
        ),
        (MakeSymlink(path="/a", target="b c"), ABSENT, 'make symbolic link /a -> "b c" (root:root)'),
        (MakeHardlink(path="/a", existing="/b"), None, "make /a a hard link to /b"),
        (MakeSpecial(path="/p", special="fifo", mode=0o622), None, "make FIFO /p (mode 0622)"),
        (
            MakeSpecial(path="/n", special="character-device", device=0x103),
            ABSENT,
            "make character device 1:3 /n (mode 0600, root:root)",
        ),
        (Move(source="/a", destination="/b"), None, "move /a to /b"),
        (
            SetMetadata(path="/a", mode=0o600, owner="root", group="root"),
            FILE,
            "set mode 0600 (was 0644), root:root (was root:33) of /a",
        ),
        (SetMetadata(path="/a", xattrs=(("user.x", b""),)), FILE, "set attributes user.x of /a"),
        (SetMetadata(path="/a", mtime_ns=1_500_000_000), FILE, "set time 1.500000000 of /a"),
        (Restore(path="/a", object=ABSENT), None, "remove /a"),
        (Restore(path="/a", object=FILE), None, "restore /a (12 bytes, mode 0644, root:33)"),
        (Restore(path="/a", object=LINK), None, "restore symbolic link /a -> motd.new (mode 0777, root:root)"),
        (SetUnit(unit="ntpd.service", enabled="enabled", active=True), None, "enable and start ntpd.service"),
        (SetUnit(unit="ntpd.service", enabled="masked"), None, "mask ntpd.service"),
        (SetPackages(install=(("a", "1-2"),), remove=("b", "c")), None, "install a 1-2; remove b, c"),
        (RunCommand(argv=("systemctl", "restart", "a b")), None, "run \"systemctl restart 'a b'\""),
        (RunCommand(argv=("x",), description="do it"), None, "do it"),
        (RunCommand(argv=("login", "hunter2"), secret=True), None, 'run "login …" (secret arguments)'),
        (RunScript(language="shell", text="a\nb\n"), None, "run a shell script of 2 lines"),
        (ReactUnit(unit="httpd.service", action="try-restart"), None, "restart, if it runs, httpd.service"),
        (ReactSignal(process="sshd", signal="HUP"), None, "send HUP to every process named sshd"),
        (ReactDaemonReload(), None, "make the service manager read its unit files again"),
        (ReactCommand(argv=("newaliases",)), None, 'run "newaliases"'),
        (
            Validate(path="/etc/sudoers", content=TEXT, argv=("visudo", "-cf", "{}")),
            None,
            "check the new /etc/sudoers by \"visudo -cf '{}'\"",
        ),
    ],
)
def test_words(change: Change, before: Object | None, expected: str) -> None:
    """Each kind says what it does to what, with what it states and what that replaces."""
    assert expected == describe(change, before)


@given(changes)
def test_one_safe_line(change: Change) -> None:
    """Whatever is in a change, its description is one printable line that UTF-8 can carry."""
    found = describe(change, ABSENT)

    assert found
    assert found.isprintable()
    assert found.encode()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("echo", "a\nb"), "run \"echo $'a\\nb'\""),
        (("rm", "/srv/caf\udce9"), "run \"rm $'/srv/caf\\xe9'\""),
        (("sed", r"s/\d//"), r"""run "sed 's/\d//'" """.strip()),
        (("echo", "it's\x1b[31m"), "run \"echo $'it\\'s\\x1b[31m'\""),
    ],
)
def test_a_command_is_exact(argv: tuple[str, ...], expected: str) -> None:
    """A command is shown as a shell would take it, with what a terminal would obey escaped."""
    assert expected == describe(RunCommand(argv=argv))


def test_an_undo_of_several_changes() -> None:
    """The changes of an undo are told in order."""
    undo = (Remove(path="/a"), Restore(path="/b", object=FILE))

    assert "remove /a, then restore /b (12 bytes, mode 0644, root:33)" == describe_undo(undo)
    assert "nothing to do" == describe_undo(())
