from typing import Any

import pytest

from aquiline.changes.kinds import Change, CommandUndo, Inline, ReactUnit, RunCommand, Validate, WriteFile
from aquiline.changes.steps import Plan
from aquiline.components.metaconfig import Metaconfig
from aquiline.errors import ProfileError
from aquiline.host.protocol import Completed
from aquiline.host.simulated import SimulatedHost
from aquiline.planning.planner import plan
from aquiline.profile import Profile
from tests.components.driving import Yielded, run

HERE = "/software/components/metaconfig"
ACTIONS = "restart, reload, condrestart, stop_sleep_start"
COMMANDS = {"check": "/usr/bin/check --strict 'two words'", "hook": "-/usr/bin/hook"}


def kind_of(change: Change) -> object:
    return change.__struct_config__.tag


def services(services: dict[str, Any], templates: dict[str, str] | None = None, **component: Any) -> Yielded:
    return run(Metaconfig, {"services": services, **component}, templates=templates)


def text_of(service: dict[str, Any], **templates: str) -> str:
    found = services({"/f": service}, {f"metaconfig/{name}.j2": text for name, text in templates.items()})
    (content,) = [change.content for change in found.changes if isinstance(change, WriteFile)]
    assert isinstance(content, Inline)
    return content.data.decode()


def test_a_file_is_rendered_and_one_line_end_added() -> None:
    """The text is what Quattor writes: the form's own, and one more line end."""

    assert '{"a":"é"}\n' == text_of({"module": "json", "contents": {"a": "é"}})
    assert "a=1\n\n" == text_of({"module": "tiny", "contents": {"a": 1}})


def test_a_preamble_comes_first() -> None:
    """A preamble is put on top as it is."""

    assert "# mine\n{}\n" == text_of({"module": "json", "contents": {}, "preamble": "# mine"})


def test_any_other_module_is_a_template_of_the_site() -> None:
    """A module that is no form is a Jinja2 template of that name, a folder's too."""

    assert "port 80\n" == text_of({"module": "web", "contents": {"port": 80}}, web="port {{ port }}")


def test_a_missing_template_says_where_it_was_looked_for() -> None:
    """A module that is neither form nor template names the template that would have done."""

    with pytest.raises(ProfileError) as raised:
        text_of({"module": "none"})

    assert (
        "/software/components/metaconfig/services/{/f}/contents: cannot render none: "
        "no template metaconfig/none.j2 among the site's templates"
    ) == str(raised.value)


def test_conversions_come_before_rendering() -> None:
    """`convert` changes values as Quattor's schema names it."""
    service = {"module": "tiny", "contents": {"a": True, "l": [1, 2]}, "convert": {"YESNO": True, "joincomma": True}}

    assert "a=YES\nl=1,2\n\n" == text_of(service)


@pytest.mark.parametrize(
    ("service", "mode", "owner", "group"),
    [
        ({}, 0o644, None, None),
        ({"mode": 384, "owner": "root", "group": "adm"}, 0o600, 0, "adm"),
        ({"mode": "0750"}, 0o750, None, None),
    ],
)
def test_mode_is_a_number_or_octal_text(service: dict[str, Any], mode: int, owner: Any, group: Any) -> None:
    """A mode is a number, as Pan has it, or octal text, as people write it; owners that are not said stay."""
    (change,) = services({"/f": {"module": "json", **service}}).changes

    assert WriteFile(path="/f", content=Inline(b"{}\n"), mode=mode, owner=owner, group=group) == change


def test_a_file_of_nobody_is_left_out_and_said() -> None:
    """A file whose group the host does not have is not made with another; a line says so."""
    found = services({"/f": {"module": "json", "group": "slurm"}})

    assert ([], ["/f: left out: no group slurm on this host"]) == (found.changes, found.notes)


def test_inactive_files_are_not_made() -> None:
    """An entry that is not active is nothing to do."""

    assert [] == services({"/f": {"module": "json", "active": False}}).tasks


def test_daemons_are_reactions() -> None:
    """Each daemon is a reaction of its unit; names are unescaped, and get .service unless they are a unit's."""
    daemons = {"foo": "restart", "bar_2etimer": "reload", "c": "condrestart", "s": "stop_sleep_start"}

    assert [
        ReactUnit(unit="bar.timer", action="reload"),
        ReactUnit(unit="c.service", action="try-restart"),
        ReactUnit(unit="foo.service", action="restart"),
        ReactUnit(unit="s.service", action="stop-sleep-start"),
    ] == services({"/f": {"module": "json", "daemons": daemons}}).reactions


def test_actions_are_commands_around_the_file() -> None:
    """Commands run before the check, as the check, after the write and last; undo runs the notifications again."""
    actions = {"pre": "hook", "test": "check", "changed": "hook", "post": "check"}
    argv = ("/usr/bin/check", "--strict", "two words")
    anything = tuple(range(256))
    itself = CommandUndo(itself=True)
    content = Inline(b"{}\n")

    assert [
        RunCommand(argv=("/usr/bin/hook",), accepts=anything, with_task=True, undo=itself),
        Validate(path="/f", content=content, argv=argv, stdin=True),
        WriteFile(path="/f", content=content, mode=0o644),
        RunCommand(argv=("/usr/bin/hook",), accepts=anything, with_task=True, undo=itself, undo_order="after"),
        RunCommand(argv=argv, with_task=True, undo=itself, undo_order="after"),
    ] == services({"/f": {"module": "json", "actions": actions}}, commands=COMMANDS).changes


@pytest.mark.parametrize(
    ("service", "commands", "message"),
    [
        (
            {"actions": {"pre": "none"}},
            {},
            f"services/{{/f}}/actions/pre: found 'none', expected the name of one of {HERE}/commands",
        ),
        ({"actions": {"pre": "bad"}}, {"bad": "/x 'open"}, 'commands/bad: found "/x \'open": No closing quotation'),
        ({}, {"bad": "relative"}, "commands/bad: found string 'relative', expected string matching ^-?/"),
        (
            {"daemons": {"x": "start"}},
            {},
            "services/{/f}/daemons/x: found string 'start', expected one of " + ACTIONS,
        ),
        (
            {"mode": "rw"},
            {},
            "services/{/f}/mode: found string 'rw', expected int from 0 up to 4095 or string matching ^[0-7]{3,4}$",
        ),
        (
            {"module": "tiny", "contents": {"a": [1]}},
            {},
            "services/{/f}/contents: cannot render tiny: found a list, expected a mapping",
        ),
    ],
)
def test_faults_say_where_and_what(service: dict[str, Any], commands: dict[str, str], message: str) -> None:
    """An entry that does not fit is named by its profile path."""

    with pytest.raises(ProfileError) as raised:
        services({"_2ff": {"module": "json", **service}}, commands=commands)

    assert f"{HERE}/{message}" == str(raised.value)


CHECKED = {"services": {"/f": {"module": "json", "actions": {"test": "check"}}}, "commands": {"check": "/bin/check"}}


def planned(configuration: dict[str, Any], host: SimulatedHost) -> Plan:
    tree = {"software": {"components": {"metaconfig": configuration}}}
    return plan(Profile(tree=tree, given_name="web01"), host, {"metaconfig": Metaconfig})


def test_the_check_reads_the_would_be_content() -> None:
    """While planning already, the test command finds on its standard input what the file will hold."""
    host = SimulatedHost(commands={("/bin/check",): Completed(0, b"", b"")})

    assert ["validate", "write_file"] == [kind_of(step.change) for step in planned(CHECKED, host).steps]
    assert [b"{}\n"] == [command.stdin for command in host.ran]


def test_a_failed_check_stops_everything() -> None:
    """A test command that says no fails the component in the dry-run, and nothing of it is planned."""
    host = SimulatedHost(commands={("/bin/check",): Completed(1, b"", b"line 7 is wrong")})

    found = planned(CHECKED, host)

    assert ("failed", ()) == (found.components["metaconfig"].state, found.steps)
    assert "line 7 is wrong" in found.components["metaconfig"].detail


def test_a_check_that_is_not_there_is_said() -> None:
    """Where the root lacks the test command the file is planned, and the plan says that nobody checked it."""
    found = planned(CHECKED, SimulatedHost())

    assert "planned" == found.components["metaconfig"].state
    assert ("/f: not validated here: /bin/check is not there",) == found.coverage.reduced_by


def test_a_file_that_is_right_calls_for_nothing() -> None:
    """Nothing runs around a file that need not change: a second plan is empty."""
    actions = {"pre": "x", "test": "x", "changed": "x", "post": "x"}
    service = {"module": "json", "actions": actions, "daemons": {"d": "restart"}}
    host = SimulatedHost.drawn("/f: {}\\n")

    found = planned({"services": {"/f": service}, "commands": {"x": "/bin/x"}}, host)

    assert ("unchanged", ()) == (found.components["metaconfig"].state, found.steps)
    assert [] == host.ran
