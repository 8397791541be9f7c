"""``aquiline demo``: a broker and real agents on this machine, and what they are for."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation
from aquiline.errors import AquilineError

if TYPE_CHECKING:
    from aquiline.cli.touring import Fleet

_WORKERS = ("workers: 4", "workers: 8")
_SERVERS = ("[ntp1.example.org, ntp2.example.org]", "[ntp1.example.org, ntp2.example.org, ntp3.example.org]")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-wait", action="store_true", help="end by itself on a terminal too")


def _run(invocation: Invocation) -> int:
    from aquiline.cli.touring import Fleet

    _refuse_without_means()
    terminal = invocation.terminal
    with Fleet(terminal, agents=6) as fleet:
        _begin(fleet)
        change = _change(fleet)
        _take_back(fleet, change)
        fleet.say("All as promised.")
        if sys.stdin.isatty() and sys.stdout.isatty() and not invocation.arguments.no_wait:
            _let_play(fleet)
    return 0


def _refuse_without_means() -> None:
    try:
        import aquiline.broker.serving  # noqa: F401
    except ImportError as error:
        raise AquilineError(
            f"the demo needs libraries that are not here: {error.name}", hint="pip install 'aquiline[broker]'"
        ) from None
    if shutil.which("git") is None:
        raise AquilineError("the demo needs git, which is not here", hint="install it with your package manager")


def _begin(fleet: Fleet) -> None:
    fleet.say(
        "A broker is started: it keeps the site in a git repository, compiles one profile for each host, tells\n"
        "agents what to be and collects what they report. All of it is in a temporary directory of this machine."
    )
    fleet.start_broker()
    fleet.say("A domain is a branch that hosts run. It moves by deployments only; people push to sandboxes.")
    fleet.run("domain", "add", "prod")
    fleet.run("sandbox", "add", "first", "--start", "prod")
    fleet.work.mkdir()
    fleet.git("clone", "--quiet", str(fleet.data / "repository.git"), ".")
    fleet.git("checkout", "--quiet", "first")
    shutil.copytree(fleet.site, fleet.work, dirs_exist_ok=True)
    fleet.git("add", "--all")
    fleet.git("commit", "--quiet", "--message", "The example site")
    fleet.show("git push origin first        # four web servers and two databases, as layers of YAML")
    fleet.git("push", "--quiet", "origin", "first")
    fleet.run("deploy", "first", "--domain", "prod", "--reason", "the site begins")
    fleet.say("Six hosts join: each is a root below the temporary directory, with an agent in a process of its own.")
    token = fleet.place / "join-token"
    token.touch(0o600)
    made = fleet.asked("host", "join-token", "--count", str(len(fleet.hosts)))
    token.write_text(made["token"])
    for host in fleet.hosts:
        fleet.quietly(["host", "add", host, "--domain", "prod"])
    for host in fleet.hosts:
        fleet.start_host(host, token)
    fleet.wait_for("six hosts that are what they are to be", fleet.have_arrived)
    fleet.run("host", "list")


def _change(fleet: Fleet) -> str:
    fleet.say("Alice wants another time server everywhere, and more workers on web servers. She works in a sandbox.")
    fleet.run("sandbox", "add", "alice-ntp", "--start", "prod")
    fleet.git("fetch", "--quiet")
    fleet.git("checkout", "--quiet", "alice-ntp")
    for name, (old, new) in (("base", _SERVERS), ("web", _WORKERS)):
        path = fleet.work / "layers" / f"{name}.yaml"
        text = path.read_text("utf-8")
        path.write_text(text.replace(old, new), "utf-8")
    fleet.git("commit", "--quiet", "--all", "--message", "A third time server, more workers")
    fleet.show("git push origin alice-ntp")
    fleet.git("push", "--quiet", "origin", "alice-ntp")
    fleet.say("Before: what would it do, on every host? Hosts that do the same are shown once. Nothing changes.")
    before = fleet.trees()
    fleet.run("deploy", "alice-ntp", "--domain", "prod", "--test", "--show", "all")
    _expect(before == fleet.trees(), "the test changed a host")
    fleet.say("She deploys it. The change ID that this prints is all that is needed to take it back.")
    report = fleet.run("deploy", "alice-ntp", "--domain", "prod", "--reason", "more time servers")
    change = report.split(maxsplit=1)[0]
    fleet.wait_for("the deployment", fleet.have_arrived)
    fleet.say("What each host did is what it had said it would do:")
    report = fleet.run("report", change)
    _expect(f"as predicted: {len(fleet.hosts)} of {len(fleet.hosts)}" in report, "a host did not do as predicted")
    fleet.say("On a host, anything can be traced to the change that made it, without a network:")
    root = ["--root", str(fleet.root("web001"))]
    blamed = fleet.run(*root, "blame", "/etc/chrony.d/site.json")
    _expect(change in blamed, "blame does not name the change")
    fleet.run(*root, "verify")
    return change


def _take_back(fleet: Fleet, change: str) -> None:
    fleet.say("And back. What would undoing do, on every host?")
    fleet.run("undeploy", change, "--test")
    fleet.run("undeploy", change, "--reason", "the third server is not ready")
    fleet.wait_for("the undeployment", fleet.have_arrived)
    texts = [(fleet.root(host) / "etc/chrony.d/site.json").read_text("utf-8") for host in fleet.hosts]
    _expect(not any("ntp3" in text for text in texts), "something of the change is left")
    fleet.say("Every host took back what it had done, by what it had recorded; git says the same again:")
    fleet.run("changes")


def _expect(is_so: bool, otherwise: str) -> None:
    from aquiline.cli.touring import NotAsPromised

    if not is_so:
        raise NotAsPromised(otherwise)


def _let_play(fleet: Fleet) -> None:
    exports = "\n".join(f"  export {name}={value}" for name, value in fleet.environment.items())
    fleet.say(
        f"The fleet runs until you press Enter. In another terminal:\n\n{exports}\n\n"
        "  aquiline host list\n"
        "  aquiline deploy alice-ntp --domain prod --test    # what was undeployed can be deployed again\n"
        "  aquiline host hold web001 --reason 'disk being replaced'\n"
        f"  aquiline --root {fleet.root('web001')} log\n"
        f"  cd {fleet.work}                                   # a clone of the site\n"
    )
    sys.stdin.readline()


COMMANDS = (
    Command(
        name="demo",
        summary="Show a fleet on this machine: a broker, six hosts, a change and its way back",
        explanation="""
            Starts a broker, a git repository with an example site and six real agents on temporary roots; tests a
            change, deploys it, verifies it, undeploys it, and says what each command is for. On a terminal it then
            waits until Enter, so that you can play; otherwise it ends by itself. It cleans up. Exit status 0 means that
            everything was as promised.
        """,
        examples=(Example("aquiline demo", "see what it is about"),),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
