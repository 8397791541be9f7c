"""What an agent is told by its administrator, and by nobody else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from aquiline.agent.daemon.configuration import Configuration, load_configuration, write_configuration
from aquiline.errors import AquilineError

MANUAL = (Path(__file__).parents[3] / "docs/reference/agent.md").read_text()
URL = "https://broker.example.org"


def written(root: Path, text: str, mode: int = 0o644) -> Path:
    place = root / "etc/aquiline/agent.toml"
    place.parent.mkdir(parents=True)
    place.write_text(text)
    place.chmod(mode)
    return place


def test_every_key_is_in_the_manual() -> None:
    """The reference has a line for each key, and its example is a configuration."""
    example = tomllib.loads(MANUAL.split("```toml\n")[1].split("```")[0])

    table = MANUAL.split("## agent.toml")[1].split("## ")[0]
    assert Configuration.__struct_fields__ == tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert set(Configuration.__struct_fields__) == set(example)
    msgspec.convert(example, Configuration)


def test_every_file_is_in_the_manual() -> None:
    """The reference has a line for each file in which the agent remembers something."""
    source = (Path(__file__).parents[3] / "src/aquiline/agent/daemon/memory.py").read_text()

    named = set(re.findall(r'"(\w+\.json)"', source))
    assert set() == {name for name in named if f"`agent/{name}`" not in MANUAL}


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (f'broker = ["{URL}"]', 0o666, "only root can write"),
        ("broker = []", 0o644, "names no broker"),
        ('broker = ["http://broker.example.org"]', 0o644, "plain http"),
        (f'broker = ["{URL}"]\nreport_url = "http://other.example.org"', 0o644, "plain http"),
        (f'broker = ["{URL}"]\nbrokker = 1', 0o644, "brokker"),
        ("broker = [", 0o644, "makes no sense"),
    ],
)
def test_refused(tmp_path: Path, text: str, mode: int, why: str) -> None:
    """A configuration that others can write, or that makes no sense, is refused with the reason."""
    written(tmp_path, text, mode)

    with pytest.raises(AquilineError, match=why):
        load_configuration(str(tmp_path))


def test_there_is_none(tmp_path: Path) -> None:
    """Without one the agent says how to get one."""
    with pytest.raises(AquilineError) as refused:
        load_configuration(str(tmp_path))

    assert "aquiline enrol" in refused.value.hint


def test_enrolment_writes_one(tmp_path: Path) -> None:
    """What enrolment writes says no more than it must, is read back the same, and is not replaced by another broker."""
    wanted = Configuration(broker=(URL,), name="h1")
    place = Path(write_configuration(str(tmp_path), wanted))

    assert (f'broker = [\n    "{URL}",\n]\nname = "h1"\n', 0o644) == (place.read_text(), place.stat().st_mode & 0o777)
    assert wanted == load_configuration(str(tmp_path))
    assert str(place) == write_configuration(str(tmp_path), wanted)
    with pytest.raises(AquilineError, match="and not"):
        write_configuration(str(tmp_path), Configuration(broker=("https://other.example.org",)))
