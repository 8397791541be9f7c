"""``aquiline broker``: the fleet's server."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.parsing import positive, refuse_unfit
from aquiline.errors import AquilineError, UsageError

if TYPE_CHECKING:
    from aquiline.broker.compiling import Compiler

_PORT = 7443


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="/var/lib/aquiline-broker", metavar="DIR", help="where it keeps everything")
    parser.add_argument("--listen", default=f"127.0.0.1:{_PORT}", metavar="ADDRESS:PORT", help="where it listens")
    parser.add_argument("--database", default="", metavar="URL", help="another database than SQLite in DIR")
    parser.add_argument(
        "--compiler", choices=("layers", "pan"), default="layers",
        help="what makes profiles of the repository's files: YAML that is merged, or Pan templates (default layers)",
    )  # fmt: skip
    parser.add_argument("--panc", metavar="FILE", help="the Pan compiler (default: the panc in the path)")
    parser.add_argument(
        "--pan-include", action="append", metavar="FOLDER",
        help="where templates are looked for, in the repository; may be repeated, the first wins (default: its top)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-days", type=positive, default=400, metavar="N",
        help="forget reports of changes that are older and that no host can take back any more (default 400)",
    )  # fmt: skip
    parser.add_argument(
        "--host-budget", type=positive, default=64, metavar="MIB",
        help="keep no more than so many MiB a day of what one host sends (default 64)",
    )  # fmt: skip
    parser.add_argument(
        "--reports-per-second", type=positive, default=100, metavar="N",
        help="let no more than N hosts that finish together report in a second (default 100)",
    )  # fmt: skip
    parser.add_argument("--certificate", metavar="FILE", help="its certificate, in PEM (default: one made in DIR)")
    parser.add_argument("--key", metavar="FILE", help="the certificate's key, in PEM")
    parser.add_argument(
        "--name", action="append", default=[], metavar="NAME",
        help="a name or address it is reached by, for the certificate that it makes; may be repeated",
    )  # fmt: skip
    parser.add_argument("--plain-http", action="store_true", help="no TLS: only on the loopback interface")


def _run(invocation: Invocation) -> int:
    try:
        from aquiline.broker import serving
    except ImportError as error:
        raise AquilineError(
            f"the broker needs libraries that are not here: {error.name}", hint="pip install 'aquiline[broker]'"
        ) from None
    arguments, data = invocation.arguments, Path(invocation.arguments.data)
    address, number = _listening(arguments.listen)
    if bool(arguments.certificate) != bool(arguments.key):
        raise UsageError("a certificate is of no use without its key", hint="give --certificate and --key together")
    if arguments.plain_http:
        refuse_unfit(
            {"--certificate": arguments.certificate, "--name": arguments.name},
            because="there is no certificate with --plain-http",
            hint="leave one of them out",
        )
    if arguments.certificate:
        refuse_unfit(
            {"--name": arguments.name}, because="it is for a certificate that is made here", hint="leave it out"
        )
    broker = serving.open_broker(
        data,
        database=arguments.database,
        compiler=_compiler(arguments),
        host_budget=arguments.host_budget << 20,
        reports_per_second=arguments.reports_per_second,
    )
    if arguments.plain_http:
        listening = serving.Listening(address=address, port=number)
    elif arguments.certificate and arguments.key:
        listening = serving.Listening(
            address=address, port=number, certificate=arguments.certificate, key=arguments.key
        )
    else:
        listening = serving.certified(data, address, number, arguments.name)
    _introduce(invocation, data.absolute(), listening.url(), is_own=not (arguments.plain_http or arguments.certificate))
    serving.serve(broker, listening, keep_days=arguments.keep_days)
    return 0


def _introduce(invocation: Invocation, data: Path, url: str, *, is_own: bool) -> None:
    """Say where the broker is, and how the first admin asks it."""
    say = invocation.terminal.say
    say(f"broker on {url}, data in {data}")
    if (data / "admin.token").exists():
        say("\nto ask it as its first admin:")
        say(f"export AQUILINE_BROKER={url} AQUILINE_TOKEN_FILE={data / 'admin.token'}")
        if is_own:
            say(f"export AQUILINE_CA_FILE={data / 'certificate.pem'}")


def _listening(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    bare = address.removeprefix("[").removesuffix("]")
    if not bare or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"{text!r} is no place to listen", hint=f"--listen 0.0.0.0:{_PORT}, or --listen [::]:{_PORT}")
    return bare, int(port)


def _compiler(arguments: argparse.Namespace) -> Compiler:
    from aquiline.broker.compiling import Layers, Pan

    if arguments.compiler == "layers":
        if arguments.panc or arguments.pan_include:
            raise UsageError("--panc and --pan-include are for Pan templates", hint="give --compiler pan too")
        return Layers()
    program = arguments.panc or shutil.which("panc")
    if not program:
        raise UsageError("there is no panc in the path", hint="name it: --panc /opt/panc/bin/panc")
    made = Pan(Path(program).absolute(), include=arguments.pan_include or (".",))
    made.refuse_missing()
    return made


COMMANDS = (
    Command(
        name="broker",
        summary="Serve a fleet: its source of truth, its deployments, its reports",
        explanation="""
            Keeps a git repository that people push sandboxes to, compiles one profile for each host, tells agents what
            to be and collects what they report. Everything is in one directory, made at the first start, with a token
            for the first admin in admin.token. Needs the extra: pip install 'aquiline[broker]'.

            Where no certificate is given it makes one of its own; give certificate.pem to agents and people as their
            CA file.

            Profiles are made by the compiler *layers*, or with --compiler pan by the panc that is installed.
        """,
        examples=(
            Example("aquiline broker --data /srv/aquiline --listen 0.0.0.0:7443", "serve a fleet"),
            Example("aquiline broker --data ./try --plain-http", "try it on this machine"),
            Example("aquiline broker --compiler pan --panc /opt/panc/bin/panc", "for a site that has Pan templates"),
        ),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
