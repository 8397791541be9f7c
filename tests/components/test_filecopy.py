from typing import Any

import pytest

from aquiline.changes.kinds import CommandUndo, CopyOf, Inline, ReactCommand, RunCommand, Touches, WriteFile
from aquiline.components.filecopy import FileCopy
from aquiline.errors import AquilineError
from aquiline.host.objects import sha256
from aquiline.host.simulated import SimulatedHost
from tests.components.driving import Yielded, run

SERVICES = "/software/components/filecopy/services"
RESTART = ReactCommand(argv=("/bin/sh", "-c", "systemctl restart x"), description="systemctl restart x")


def files(services: dict[str, Any], host: SimulatedHost | None = None, **component: Any) -> Yielded:
    return run(FileCopy, {"services": services, **component}, host)


def test_content_comes_from_the_profile() -> None:
    """A file has the content, mode, owner and group that its entry says."""
    found = files({"_2fetc_2fmotd": {"config": "hé\n", "perms": "0640", "owner": "www-data:adm"}})

    assert [
        WriteFile(path="/etc/motd", content=Inline("hé\n".encode()), mode=0o640, owner="www-data", group="adm")
    ] == found.changes


def test_what_is_left_open_stays() -> None:
    """Without perms, owner and group the file keeps its own."""

    assert [WriteFile(path="/etc/motd", content=Inline(b""))] == files({"/etc/motd": {"config": ""}}).changes


@pytest.mark.parametrize(
    ("entry", "owner", "group"),
    [
        ({"owner": "www-data"}, "www-data", None),
        ({"owner": "www-data:adm", "group": "daemon"}, "www-data", "daemon"),
        ({"owner": "root:root"}, 0, 0),
        ({"owner": "12:34"}, 12, 34),
        ({"owner": ":adm"}, None, "adm"),
        ({"group": "adm"}, None, "adm"),
    ],
)
def test_owner_may_hold_a_group(entry: dict[str, str], owner: Any, group: Any) -> None:
    """An owner may be user:group; a group of its own wins; numbers and root need no account file."""
    (change,) = files({"/f": {"config": "", **entry}}).changes

    assert isinstance(change, WriteFile)
    assert (owner, group) == (change.owner, change.group)


@pytest.mark.parametrize(
    ("entry", "missing"),
    [({"owner": "glexec"}, "no user glexec"), ({"owner": "root:glexec"}, "no group glexec")],
)
def test_a_file_of_nobody_is_left_out_and_said(entry: dict[str, str], missing: str) -> None:
    """A file whose owner the host does not have is not made with another; a line says so."""
    found = files({"/a": {"config": "", **entry}, "/b": {"config": ""}})

    assert ["/b"] == [change.path for change in found.changes if isinstance(change, WriteFile)]
    assert [f"/a: left out: {missing} on this host"] == found.notes


def test_a_source_is_copied() -> None:
    """A file may be a copy of another of the host, found through links."""
    host = SimulatedHost.drawn("/opt/\n    new: text\n    current -> new\n    link -> /opt/current")

    found = files({"/etc/x": {"source": "/opt/link"}}, host)

    assert [WriteFile(path="/etc/x", content=CopyOf(path="/opt/new", sha256=sha256(b"text"), size=4))] == found.changes


@pytest.mark.parametrize("source", ["/none", "/directory", "/dangling", "/loop"])
def test_a_missing_source_leaves_the_file_out_and_is_named(source: str) -> None:
    """A source that is no file is a line that names source and file; the other files are made."""
    host = SimulatedHost.drawn("/directory/\n/dangling -> nowhere\n/loop -> loop")
    found = files({"/etc/x": {"source": source}, "/etc/y": {"config": ""}}, host)

    assert [f"/etc/x: left out: no file {source} to copy on this host"] == found.notes
    assert ["/etc/y"] == [change.path for change in found.changes if isinstance(change, WriteFile)]


@pytest.mark.parametrize(
    ("services", "message"),
    [
        ({"/f": {}}, "/{/f}: found neither, expected either config or source"),
        (
            {"/f": {"config": "", "source": "/g"}},
            "/{/f}: found both, expected either config or source",
        ),
        (
            {"etc": {"config": ""}},
            ": found 'etc', expected the absolute path of a file",
        ),
        (
            {"/a/../b": {"config": ""}},
            ": found '/a/../b', expected the absolute path of a file",
        ),
        (
            {"/a": {"config": ""}, "_2fa": {"config": ""}},
            ": /a is there twice, escaped and plain",
        ),
        (
            {"/f": {"config": "", "perms": "rw"}},
            "/{/f}/perms: found string 'rw', expected string matching ^[0-7]{3,4}$",
        ),
        (
            {"/f": {"config": "€", "no_utf8": True}},
            "/{/f}: found '€', which is no single byte: no_utf8 does not fit",
        ),
    ],
)
def test_faults_say_where_and_what(services: dict[str, Any], message: str) -> None:
    """An entry that contradicts itself or the schema is named by its profile path."""

    with pytest.raises(AquilineError) as raised:
        files(services)

    assert f"{SERVICES}{message}" == str(raised.value)


def test_no_utf8_writes_single_bytes() -> None:
    """Without UTF-8 each character is a byte."""
    (change,) = files({"/f": {"config": "é", "no_utf8": True}}).changes

    assert isinstance(change, WriteFile)
    assert Inline(b"\xe9") == change.content


def test_a_restart_is_a_reaction_once() -> None:
    """Files with the same command call for it once; it may hold shell syntax."""
    restart = {"config": "", "restart": "systemctl restart x"}

    assert [RESTART] == files({"/a": restart, "/b": restart}).reactions


def test_restarts_may_be_allowed_to_fail() -> None:
    """With ignore_restart_failure a failure does not fail the run."""
    found = files({"/a": {"config": "", "restart": "false"}}, ignore_restart_failure=True)

    assert [True] == [reaction.may_fail for reaction in found.reactions if isinstance(reaction, ReactCommand)]


@pytest.mark.parametrize(
    ("service", "component"), [({"forceRestart": True}, {}), ({}, {"forceRestart": True})], ids=["file", "component"]
)
def test_forced_restarts_run_whatever_changed(service: dict[str, Any], component: dict[str, Any]) -> None:
    """A forced command is run in every run, once, after all files; it is no reaction then."""
    found = files(
        {
            "/a": {"config": "", "restart": "systemctl restart x", **service},
            "/b": {"config": "", "restart": "systemctl restart x"},
        },
        **component,
    )
    forced = RunCommand(
        argv=("/bin/sh", "-c", "systemctl restart x"),
        description="systemctl restart x",
        always=True,
        touches=Touches(),
        undo=CommandUndo(itself=True),
        undo_order="after",
    )

    assert ([], forced) == (found.reactions, found.changes[-1])


def test_files_are_in_the_order_of_their_paths() -> None:
    """The order does not depend on how keys are written."""
    services = {"/b": {"config": ""}, "_2fa": {"config": ""}, "_2fc": {"config": ""}}

    assert ["/a", "/b", "/c"] == [change.path for change in files(services).changes if isinstance(change, WriteFile)]


def test_each_task_names_its_profile_path() -> None:
    """A step can be traced to the entry it comes from."""

    assert [f"{SERVICES}/{{/a}}"] == [task.cause for task in files({"_2fa": {"config": ""}}).tasks]
