"""``aquiline agent`` and ``aquiline enrol``: a host that belongs to a fleet."""

from __future__ import annotations

import argparse

from aquiline.changes.text import visible
from aquiline.cli.command import Command, Example, Invocation


def _add_agent_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="ask the broker once, do all there is to do, report, end")
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration (default /etc/aquiline/agent.toml below the root)"
    )


def _agent(invocation: Invocation) -> int:
    from pathlib import Path

    from aquiline.agent.daemon import running
    from aquiline.agent.daemon.configuration import load_configuration
    from aquiline.agent.daemon.credential import credential
    from aquiline.agent.daemon.web import WebLink
    from aquiline.agent.daemon.workshop import Workshop

    arguments, session = invocation.arguments, invocation.session
    configuration = load_configuration(session.root, arguments.config)
    shown = credential(session)
    places = ["--root", session.root, "--state", str(session.state.path)]
    if arguments.config is not None:
        places += ["--config", str(Path(arguments.config).absolute())]
    workshop = Workshop(session.state, arguments=tuple(places))
    if arguments.once:
        done = running.once(session, WebLink(configuration, shown), configuration, workshop)
        if done.error:
            invocation.terminal.say(f"error: {visible(done.error)}")
        if invocation.terminal.is_json:
            invocation.terminal.answer_json(done)
        return done.exit_status
    daemon = running.Daemon(session, lambda: WebLink(configuration, shown), configuration, workshop)
    daemon.stop_on_signals()
    daemon.run()
    return 0


def _add_enrol_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", required=True, metavar="URL", help="where the broker is")
    parser.add_argument(
        "--join-token-file", required=True, metavar="FILE", help="holds the token that lets hosts join; - is stdin"
    )
    parser.add_argument("--name", default="", help="this host's name in the fleet (default: its own)")
    parser.add_argument("--ca-file", default="", metavar="FILE", help="the authority of the broker's certificate")
    parser.add_argument("--insecure", action="store_true", help="allow plain http to another machine, for a trial")


def _enrol(invocation: Invocation) -> int:
    import sys
    from pathlib import Path

    from aquiline.agent.daemon.configuration import Configuration, load_configuration, write_configuration
    from aquiline.agent.daemon.credential import enrol

    arguments, session = invocation.arguments, invocation.session
    wanted = Configuration(
        broker=(arguments.broker,),
        ca_file=str(Path(arguments.ca_file).absolute()) if arguments.ca_file else "",
        name=arguments.name,
        insecure=arguments.insecure,
    )
    place = write_configuration(session.root, wanted)
    configuration = load_configuration(session.root)
    source = arguments.join_token_file
    enrol(session, configuration, sys.stdin.read() if source == "-" else Path(source).read_text("utf-8"))
    if invocation.terminal.is_json:
        invocation.terminal.answer_json({"name": configuration.name, "configuration": place})
    else:
        invocation.terminal.answer(f"{configuration.name} belongs to the fleet of {arguments.broker}; see {place}")
    return 0


COMMANDS = (
    Command(
        name="agent",
        summary="Bring this host to what its broker says, and go on doing so",
        explanation="""
            Polls the broker, brings this host to its target, answers its orders, and reports every run of this host,
            whoever began it. It converges by itself to nothing: without a new target nothing is changed.

            Runs have processes of their own, which go on when the agent is stopped or upgraded; the next agent takes
            them up. A target that failed is not tried again until the broker sets another one.

            The configuration is explained in the manual, agent.toml; `aquiline enrol` writes it.
        """,
        examples=(
            Example("aquiline agent", "what the systemd unit runs"),
            Example("aquiline agent --once", "for a cron job, or to see what happens; ends with the last run's status"),
        ),
        statuses=(10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21),
        add_arguments=_add_agent_arguments,
        run=_agent,
    ),
    Command(
        name="enrol",
        summary="Let this host join a fleet",
        explanation="""
            Shows the broker a join token, and keeps the credential that it is given in return: for root's eyes only,
            and good for this machine alone. Writes the agent's configuration where there is none.

            Enrolling again, after a re-installation say, replaces the credential.
        """,
        examples=(
            Example(
                "aquiline enrol --broker https://broker.example.org:8443 --join-token-file token",
                "join, under the host's own name",
            ),
        ),
        add_arguments=_add_enrol_arguments,
        run=_enrol,
    ),
)
