"""The Pan compiler, with a stand-in for panc that checks how it is called."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from aquiline.broker.compiling import Compiled, CompileFailed, Pan
from aquiline.broker.compiling import pan as module
from aquiline.errors import CompilerMissing
from aquiline.profile import Profile

STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, sys, time

def must(holds, what):
    if not holds:
        print("stand-in: called wrongly:", what)
        sys.exit(9)

arguments = sys.argv[1:]
must(arguments[0::2][:3] == ["--formats", "--include-path", "--output-dir"], arguments)
formats, include, output = arguments[1:6:2]
templates = [pathlib.Path(one) for one in arguments[6:]]
must(formats == "json", formats)
must(templates, "no templates")
must(all(os.path.isabs(one) and os.path.isdir(one) for one in include.split(":")), include)
must(os.path.isdir(output) and not os.listdir(output), output)
must(set(os.environ) <= {{"PATH", "LC_ALL", "HOME", "JAVA_HOME", "LC_CTYPE"}}, sorted(os.environ))
must(sys.stdin.read() == "", "stdin")
status = 0
for template in templates:
    must(template.is_absolute() and template.is_file(), template)
    name, text = template.stem, template.read_text()
    if "sleep" in text:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        time.sleep(60)
    if "chatter" in text:
        print("x" * 10_000_000)
    if "broken" in text:
        print(f"{{template}}:3: syntax error near 'broken'")
        status = 1
    elif "garbage" in text:
        (pathlib.Path(output) / f"{{name}}.json").write_text("{{")
    else:
        host = text.split()[1] if text.startswith("host") else name
        tree = {{"system": {{"network": {{"hostname": host, "domainname": "example.org"}}}}, "include": include}}
        (pathlib.Path(output) / f"{{name}}.json").write_text(json.dumps(tree))
sys.exit(status)
"""


@pytest.fixture
def panc(tmp_path: Path) -> Path:
    program = tmp_path / "panc"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return program


def templates(folder: Path, **texts: str) -> Path:
    (folder / "hosts").mkdir(parents=True)
    (folder / "library").mkdir()
    for name, text in texts.items():
        (folder / "hosts" / f"{name}.pan").write_text(text)
    return folder


def test_a_profile_for_each_host(panc: Path, tmp_path: Path) -> None:
    """Panc is called as it expects, its profile is read, and its digest is the profile's."""
    source = templates(tmp_path / "site", web1="", web2="")
    compiler = Pan(panc, include=["hosts", "library"])

    found = compiler.compile(source, compiler.hosts(source))

    assert ["web1", "web2"] == list(found)
    one = found["web1"]
    assert isinstance(one, Compiled), one
    assert f"{source}/hosts:{source}/library" == one.profile["include"]
    assert Profile(one.profile).digest == one.digest


def test_one_host_does_not_stop_another(panc: Path, tmp_path: Path) -> None:
    """Each host that does not compile says why by itself, in few words; the others have their profiles."""
    source = templates(
        tmp_path / "site", good="", worse="broken", bad="broken chatter", odd="garbage", copied="host web9"
    )

    found = Pan(panc).compile(source, ["good", "worse", "bad", "odd", "copied", "none", "--x"])

    assert isinstance(found["good"], Compiled)
    failures = {host: one.message for host, one in found.items() if isinstance(one, CompileFailed)}
    assert "worse: hosts/worse.pan: panc says: hosts/worse.pan:3: syntax error near 'broken'" == failures["worse"]
    assert failures["odd"].startswith("odd: hosts/odd.pan: found what panc wrote is no profile: line 1")
    assert "the name web9.example.org, expected copied" in failures["copied"]
    assert "none: hosts/none.pan: found no such file, expected an object template for each host" == failures["none"]
    assert "a host's name" in failures["--x"]
    assert {"bad", "worse", "odd", "copied", "none", "--x"} == set(failures)
    assert len(failures["bad"]) < 3000


def test_many_hosts_are_several_calls(panc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More hosts than fit a command line are compiled in several calls."""
    monkeypatch.setattr(module, "BATCH", 2)
    source = templates(tmp_path / "site", **{f"web{n}": "" for n in range(5)})

    found = Pan(panc).compile(source, Pan(panc).hosts(source))

    assert {Compiled} == {type(one) for one in found.values()}


def test_a_compiler_that_does_not_end(panc: Path, tmp_path: Path) -> None:
    """Panc is stopped when its time is over, with what it started, and its hosts say so."""
    source = templates(tmp_path / "site", web1="sleep")
    begun = time.monotonic()

    found = Pan(panc, timeout=1).compile(source, ["web1"])["web1"]

    assert isinstance(found, CompileFailed)
    assert "web1: hosts/web1.pan: panc says: it took more than 1 seconds for 1 hosts" == found.message
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("program", ["panc", "/nonexistent/panc", "/tmp", "/etc/passwd"])
def test_no_panc(program: str, tmp_path: Path) -> None:
    """Without panc no host compiles, and one error says what is missing."""
    with pytest.raises(CompilerMissing, match="no panc there") as caught:
        Pan(program).compile(templates(tmp_path / "site", web1=""), ["web1"])

    assert "install panc" in caught.value.hint
