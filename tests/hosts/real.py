"""Real hosts' profiles, and roots for them that are empty or that hold older versions of what they want."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aquiline.agent.applying import dry_run
from aquiline.agent.session import Session
from aquiline.changes.steps import Plan
from aquiline.profile import Profile
from tests.engine.site import DATABASES

SHARED = Path(os.environ.get("AQUILINE_SHARED", Path(__file__).parents[3] / "shared"))
HOSTS = SHARED / "quattor" / "hosts"
#: Every real host; those with pools of accounts have thousands of steps.
each_host = pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if "poolSize" in path.read_text() else [])
        for path in sorted(HOSTS.glob("*.json"))
    ],
)
where_they_are = pytest.mark.skipif(not HOSTS.is_dir(), reason=f"the profiles of the hosts are not at {HOSTS}")


def with_accounts(root: Path, profile: Profile) -> None:
    """Make `root` with nothing but the accounts that the profile names as owners.

    No component makes accounts yet: a root without them could not hold the files of theirs.
    """
    names = sorted(set(_owners(profile.tree)) - {"root"})
    (root / "etc").mkdir(parents=True)
    users = [f"{name}:x:{900 + number}:{900 + number}::/:/bin/sh\n" for number, name in enumerate(names)]
    groups = [f"{name}:x:{900 + number}:\n" for number, name in enumerate(names)]
    (root / "etc/passwd").write_text("".join(["root:x:0:0::/root:/bin/sh\n", *users]))
    (root / "etc/group").write_text("".join(["root:x:0:\n", *groups]))


def _owners(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for key, one in value.items():
                if key in ("owner", "group", "user") and isinstance(one, str):
                    yield one.partition(":")[0]
                    yield from one.split(":")[1:]
                else:
                    yield from _owners(one)
        case list():
            for one in value:
                yield from _owners(one)


def with_older_versions(root: Path, profile: Profile, state: Path) -> None:
    """Fill a root with older versions of every second file that the profile wants.

    Other contents, modes and owners; some are links, some empty, some have several names.
    """
    with Session(str(root), str(state)) as session:
        wanted = list(_files(dry_run(session, profile)))
    for number, path in enumerate(wanted[::2]):
        _put(root, path, number % 6)


def _files(plan: Plan) -> Iterable[str]:
    # An account database that is a link, or full of what is no entry, is refused: that has its own tests.
    paths = (step.after[0].path for step in plan.steps if step.change.__struct_config__.tag == "write_file")
    return (path for path in paths if path not in DATABASES)


def _put(root: Path, path: str, number: int) -> None:
    file = Path(f"{root}{path}")
    file.parent.mkdir(parents=True, exist_ok=True)
    if number == 0:
        file.symlink_to("no/where")
        return
    file.write_text(f"older content of {path}\n" * number)
    os.chown(file, 7 * (number % 2), 9)
    file.chmod((0o600, 0o644, 0o4755)[number % 3])
    os.utime(file, ns=(1, 1_234_567_890_123_456_789 + number))
    if number == 5:
        os.link(file, f"{file}.same")
