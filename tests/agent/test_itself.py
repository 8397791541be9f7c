"""What a plan says of the program that makes it, and where a run ends that replaces it (D16)."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from aquiline.agent import itself as own
from aquiline.changes.itself import Itself
from aquiline.changes.kinds import Change, Inline, MakeSymlink, RunCommand, SetPackages, Touches, WriteFile
from aquiline.host.packages import dpkg
from aquiline.host.simulated import Offered, SimulatedHost
from aquiline.planning.known import Known
from aquiline.planning.planner import plan
from aquiline.profile import Profile
from tests.engine.site import component

ITSELF = Itself(
    places=("/opt/1/lib/aquiline", "/opt/aquiline/lib/aquiline", "/usr/lib/python3.11"),
    besides=("/usr/lib/python3.11/site-packages",),
    files=("/opt/aquiline/lib/aquiline/__init__.py", "/usr/bin/python3.11"),
)


def changed(*changes: Change) -> tuple[str, ...]:
    """Return what a plan of `changes` says of the program itself."""
    host = SimulatedHost.drawn("""
        /opt/
            aquiline -> 1
            1/
                lib/
                    aquiline/
        /usr/
            lib/
                python3.11/
                    site-packages/
    """)
    host.packages.offered["aquiline"] = (Offered("1", files=(("/opt/aquiline/lib/aquiline/__init__.py", b""),)),)
    host.packages.offered["curl"] = (Offered("1"),)
    host.packages.transact({name: host.packages.simulate({name: ""}, ())[name] for name in ("aquiline", "curl")})
    made = plan(
        Profile({"software": {"components": {"one": {}}}}, "host.example.org"),
        host,
        {"one": component("one", changes)},
        Known(itself=ITSELF),
    )
    assert all(report.state == "planned" for report in made.components.values()), made.components
    assert bool(made.itself) == any(note.startswith("changes aquiline itself (") for note in made.notes)
    return made.itself


def written(path: str) -> WriteFile:
    return WriteFile(path=path, content=Inline(b"x"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (written("/opt/aquiline/lib/aquiline/new.py"), ("/opt/aquiline/lib/aquiline/new.py",)),
        (written("/opt/1/lib/aquiline/new.py"), ("/opt/1/lib/aquiline/new.py",)),
        (MakeSymlink(path="/opt/aquiline", target="2"), ("/opt/aquiline",)),
        (written("/opt/aquiline/lib/other"), ()),
        (written("/usr/lib/python3.11/os.py"), ("/usr/lib/python3.11/os.py",)),
        (written("/usr/lib/python3.11/site-packages/other.py"), ()),
        (written("/etc/motd"), ()),
        (SetPackages(remove=("aquiline", "curl")), ("package aquiline",)),
        (SetPackages(remove=("curl",)), ()),
        (
            RunCommand(argv=("true",), always=True, touches=Touches(packages=("aquiline",))),
            ("package aquiline",),
        ),
        (
            RunCommand(argv=("true",), always=True, touches=Touches(paths=("/usr/lib/python3.11",))),
            ("/usr/lib/python3.11",),
        ),
    ],
)
def test_what_is_its_own(change: Change, said: tuple[str, ...]) -> None:
    """Its files, links on the way to them, packages that own them, what a command says it touches; nothing else."""
    assert said == changed(change)


def test_no_plan_for_another_root_changes_the_program() -> None:
    """Below an offline root there is no code of the program that runs."""
    assert () == Itself().changed_by((), SimulatedHost(), str)


def test_all_that_it_is_made_of_is_known() -> None:
    """The packages that it depends on, this interpreter, its library; all that is loaded is below one of the places."""
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    named = {one.split(">")[0].lower().replace("-", "_") for one in pyproject["project"]["dependencies"]}
    found = packages_distributions().items()
    distributions = {name: {one.lower().replace("-", "_") for one in of} for name, of in found}

    parts = own.itself(with_components=True)

    assert set() == named - {one for name in own.LIBRARIES for one in distributions.get(name, ())}
    assert sys.executable in parts.places
    for module in ("aquiline", "sqlite3", "msgspec"):
        file = str(sys.modules[module].__file__)
        assert any(file.startswith(f"{place}/") for place in parts.places), file


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module that is loaded."""
    file = tmp_path / "loaded_for_a_test.py"
    file.write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    __import__(file.stem)
    yield file
    del sys.modules[file.stem]


def test_replaced_code_is_seen(module: Path) -> None:
    """Code that was replaced since it was loaded is another, also where no step said that it would be."""
    before = own.loaded_code()
    assert before == own.loaded_code()

    (module.parent / "new").write_text("")
    (module.parent / "new").rename(module)
    replaced = own.loaded_code()
    module.unlink()

    assert before != replaced
    assert before != own.loaded_code() != replaced


def test_owners_as_dpkg_prints_them() -> None:
    """Several packages of a directory, foreign architectures and diversions."""
    text = (
        "diversion by dash from: /bin/sh\npython3.11, lib:amd64, lib:i386: /usr/lib/python3.11\ntool: /usr/bin/tool\n"
    )

    assert ("lib", "lib:i386", "python3.11", "tool") == dpkg.owners(text, "amd64")
