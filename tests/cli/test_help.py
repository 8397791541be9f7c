"""Help texts, reference, completion: all from the same parsers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aquiline.cli.command import EXIT_STATUS
from aquiline.cli.parsing import Parser, commands
from aquiline.cli.reference import manual_page, markdown
from aquiline.cli.shells import completion
from aquiline.errors import AquilineError
from tests.cli.conftest import PROGRAM, Host

REFERENCE = Path(__file__).parent.parent.parent / "docs" / "reference" / "cli.md"
NAMES = sorted(commands())


@pytest.mark.parametrize("name", NAMES)
def test_help(name: str) -> None:
    """Help begins with what the command does, imperative and without full stop, and ends with its exit statuses."""
    first, *_ = text = Parser(commands()[name]).format_help().splitlines()

    assert re.fullmatch(r"[A-Z][a-z]+,? .*[^.]", first)
    rows = text[text.index("EXIT STATUS") + 1 :]
    statuses = {0, 1, 2, 130, *commands()[name].statuses}
    assert [f"  {status:>3}  {EXIT_STATUS[status]}" for status in sorted(statuses)] == rows


def test_every_error_has_an_exit_status_of_the_contract() -> None:
    """Whatever is raised ends in a status that the table explains."""

    def below(kind: type[AquilineError]) -> set[int]:
        return {kind.exit_status}.union(*map(below, kind.__subclasses__()))

    assert set() == below(AquilineError) - set(EXIT_STATUS)


def test_reference() -> None:
    """The reference is what the parsers say; `python -m aquiline.cli.reference docs/reference/cli.md` makes it."""
    assert REFERENCE.read_text() == markdown()


def test_manual_page() -> None:
    """Every command has its section in the manual page."""
    assert [name.upper() for name in commands()] == re.findall(r'^\.SH "AQUILINE (\S+)"$', manual_page(), re.MULTILINE)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """Completion names every command, and is a program that its shell can read, where there is that shell."""
    text = completion(shell)

    assert [] == [name for name in NAMES if name not in text]
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


def test_completion_completes() -> None:
    """Bash completes commands, options of a command, and the values of an option."""
    program = completion("bash") + 'COMP_WORDS=(aquiline --root / "$@"); COMP_CWORD=$(($# + 2)); _aquiline\n'
    program += 'echo "${COMPREPLY[@]}"\n'

    def completed(*words: str) -> list[str]:
        found = subprocess.run(["bash", "-c", program, "bash", *words], check=True, capture_output=True, text=True)
        return found.stdout.split()

    assert ["redo", "recover", "report"] == completed("re")
    assert ["--on-failure"] == completed("apply", "--on")


def test_overview(host: Host) -> None:
    """`aquiline --help` lists every command; without a command the same is said on stderr, and is 2."""
    asked, bare = host.run("--help"), host.run()

    assert [0, 2] == [asked.returncode, bare.returncode]
    assert asked.stdout == bare.stderr
    assert [] == [name for name in NAMES if f"\n  {name} " not in asked.stdout]


def test_version_needs_nothing() -> None:
    """Saying the version imports neither the engine nor a library: scripts ask it all the time."""
    program = "import sys; from aquiline.cli import main; main(['--version']); print(sorted(sys.modules))"

    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert [] == [name for name in ("argparse", "msgspec", "yaml", "aquiline.agent") if f"'{name}'" in found]


def test_plan_imports_what_it_needs(host: Host) -> None:
    """A plan of a JSON profile without templates waits for no parser of YAML and no template engine."""
    program = (
        "import sys; from aquiline.cli import main; main(sys.argv[1:]); print(sorted(sys.modules), file=sys.stderr)"
    )
    arguments = ["--root", str(host.root), "plan", host.profile()]

    found = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)

    assert [] == [name for name in ("yaml", "jinja2", "tomli_w", "asyncio") if f"'{name}'" in found.stderr]


def test_version_with_options() -> None:
    """--version is heard among other options too."""
    found = subprocess.run([*PROGRAM, "--json", "--version"], check=True, capture_output=True, text=True)

    assert found.stdout.startswith("aquiline ")
