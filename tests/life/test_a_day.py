"""A day in the life of one host: many runs, edits by hand between them, undone in blocks and one by one."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from typing import Any

import pytest

from tests.bed.host import BedHost
from tests.bed.repository import AptRepository, Deb
from tests.bed.snapshot import Difference, diff
from tests.life.history import History, Run, Value
from tests.packages.hosts import ACCOUNT_FILES, aquiline, escaped, give, may_differ, profile

RUNS = 30
FILES = {f"/etc/life/{name}": ("one\n", "two\n", "three\n") for name in ("a", "b", "c")}
PACKAGES = {"tool": ("1.0", "2.0"), "daemon": ("1.0", "2.0")}
UNITS = {"cron.service": ("enabled active", "disabled inactive", "masked inactive")}
USERS = {"alice": ("/bin/bash", "/bin/sh"), "bob": ("/bin/bash", "/bin/sh")}
#: What each thing may become, by what it is called among all objects.
CHOICES: dict[str, tuple[str, ...]] = {
    **FILES,
    **{f"package:{name}": versions for name, versions in PACKAGES.items()},
    **{f"unit:{name}": states for name, states in UNITS.items()},
    **{f"passwd:{name}": shells for name, shells in USERS.items()},
}
#: What is changed by hand: a file, or a unit, of ours.
BY_HAND = (*FILES, *(f"unit:{name}" for name in UNITS))


def values(host: BedHost) -> dict[str, Value]:
    """Return what each thing is on the host, looked at by other means than ours."""
    found: dict[str, Value] = dict.fromkeys(CHOICES)
    found |= {path: (host.root / path[1:]).read_text() for path in FILES if (host.root / path[1:]).exists()}
    asked = ["dpkg-query", "--show", "--showformat=${Package} ${Version} ${db:Status-Status}\n", *PACKAGES]
    for line in host.run(asked, check=False).stdout.splitlines():
        name, version, status = (line + " ").split(" ")[:3]
        found |= {f"package:{name}": version} if status == "installed" else {}
    for unit in UNITS:
        said = [host.run(["systemctl", verb, unit], check=False).stdout.strip() for verb in ("is-enabled", "is-active")]
        found[f"unit:{unit}"] = " ".join(said)
    for line in (host.root / "etc/passwd").read_text().splitlines():
        name, *_, shell = line.split(":")
        found |= {f"passwd:{name}": shell} if name in USERS else {}
    return found


def user(name: str, shell: str) -> dict[str, Any]:
    uid = 3000 + sorted(USERS).index(name)
    return {"uid": uid, "groups": [name], "homeDir": f"/home/{name}", "createHome": True, "shell": shell}


def tree(wanted: Mapping[str, Value]) -> dict[str, Any]:
    """Return a profile that wants these values, and nothing else."""

    def of(kind: str) -> dict[str, str]:
        return {name.removeprefix(kind): value or "" for name, value in wanted.items() if name.startswith(kind)}

    made = profile(of("package:"))
    made["software"]["components"] |= {
        "filecopy": {"services": {escaped(f"/{path}"): {"config": content} for path, content in of("/").items()}},
        "systemd": {"unit": {name: {"state": state.split()[0]} for name, state in of("unit:").items()}},
        # each has a group of its own: in one that they share a run would build on another's entry
        "accounts": {
            "groups": {name: {"gid": user(name, shell)["uid"]} for name, shell in of("passwd:").items()},
            "users": {name: user(name, shell) for name, shell in of("passwd:").items()},
        },
    }
    if not of("package:"):
        del made["software"]["components"]["spma"]
    return made


class Day:
    """A host, its model, and dice."""

    def __init__(self, host: BedHost, dice: random.Random) -> None:
        self.host = host
        self.dice = dice
        self.history = History(values(host))
        self.strangers = 0

    def run(self) -> None:
        """Bring a few things to values that chance picks."""
        things = self.dice.sample(sorted(CHOICES), self.dice.randint(1, 4))
        wanted = {thing: self.dice.choice(CHOICES[thing]) for thing in things}
        done = json.loads(aquiline(self.host, "apply", "--json", give(self.host, tree(wanted))).stdout)
        if done["run"]:
            self.history.ran(done["run"], wanted)
        self.check(f"after {wanted}")

    def edit(self) -> None:
        """Change something of ours by hand, or something that is none of ours."""
        thing = self.dice.choice((*BY_HAND, "stranger"))
        if thing == "stranger":
            self.strangers += 1
            self.host.run(["useradd", "--no-create-home", f"stranger{self.strangers}"])
        elif thing in FILES and self.history.now[thing] is not None:
            text = f"by hand {self.dice.random()}\n"
            (self.host.root / thing[1:]).write_text(text)
            self.history.now[thing] = text
        elif thing.startswith("unit:") and self.history.now[thing] == "enabled active":
            self.host.run(["systemctl", "stop", thing.removeprefix("unit:")])
            self.history.now[thing] = "enabled inactive"
        self.check(f"after an edit of {thing}")

    def undo(self) -> None:
        """Take back a block of the last runs, or one in the middle; conflicts are met, and decided by chance."""
        runs = self.history.runs
        if not runs:
            return
        if self.dice.random() < 0.6:
            going = runs[: -1 - self.dice.randint(1, min(4, len(runs))) : -1]
            self.take_back(going, "--last", str(len(going)))
        else:
            one = self.dice.choice(runs)
            self.take_back([one], one.id)

    def take_back(self, going: list[Run], *words: str, keeps: float = 0.5) -> None:
        conflicts = self.history.conflicts(going)
        choices: list[str] = []
        kept: set[str] = set()
        if conflicts:
            refused = aquiline(self.host, "undo", *words, check=False)
            assert 12 == refused.returncode, (conflicts, going, refused.stdout + refused.stderr)
            self.check(f"after the refused undo of {going}")
            kept = {thing for thing in sorted(conflicts) if self.dice.random() < keeps}
            for thing in sorted(conflicts):
                choices += ["--skip" if thing in kept else "--force", thing]
        aquiline(self.host, "undo", *words, *choices)
        self.history.took_back(going, kept)
        self.check(f"after the undo of {going} with {choices}")

    def check(self, when: str) -> None:
        """The host is what its history says."""
        assert self.history.now == values(self.host), when


@pytest.fixture
def host(apt_host: AptRepository) -> BedHost:
    apt_host.add(
        *(Deb("tool", version, files={"/usr/bin/tool": f"{version}\n"}) for version in PACKAGES["tool"]),
        *(Deb("daemon", version).with_service() for version in PACKAGES["daemon"]),
    )
    apt_host.host.install_aquiline()
    (apt_host.host.root / "etc/life").mkdir()
    aquiline(apt_host.host, "apply", give(apt_host.host, {}))
    return apt_host.host


def is_of_a_stranger(one: Difference) -> bool:
    """Whether it is an account that somebody added, or a file in which such accounts are, with its backup."""
    return "stranger" in str(one) or (one.part == "tree" and one.name.removesuffix("-") in ACCOUNT_FILES)


def test_a_day_in_the_life(host: BedHost) -> None:
    """After every run, edit and undo the host is as its history says; with all runs taken back it is as it was."""
    seed = int(os.environ.get("AQUILINE_SEED", "7"))
    before = host.snapshot()
    day = Day(host, random.Random(seed))
    first = dict(day.history.now)
    for _ in range(RUNS):
        day.run()
        if day.dice.random() < 0.3:
            day.edit()
        if day.dice.random() < 0.35:
            day.undo()

    runs = day.history.runs[::-1]
    day.take_back(runs, "--last", str(len(runs)), keeps=0)

    stays = {thing.rpartition(":")[2] for thing, value in day.history.now.items() if value != first[thing]}
    assert [] == [
        str(one)
        for one in diff(before, host.snapshot())
        if not may_differ(one, before) and not is_of_a_stranger(one) and one.name not in stays
        # times of directories are put back as well as can be: others, and runs that stay in part, change them too
        if not (one.part == "tree" and one.what == "mtime_ns" and before.tree[one.name].type == "directory")
    ], seed
