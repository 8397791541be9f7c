import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from aquiline.components.accounts import Accounts
from aquiline.components.ccm import Ccm
from aquiline.components.cdp import Cdp
from aquiline.components.cron import Cron
from aquiline.components.filecopy import FileCopy
from aquiline.components.metaconfig import Metaconfig
from aquiline.components.spma import Spma
from aquiline.host.protocol import Completed
from aquiline.host.simulated import SimulatedHost
from tests.components import cases

COMPONENTS = {component.name: component for component in (Accounts, Ccm, Cdp, Cron, FileCopy, Metaconfig, Spma)}
#: What the reference leaves to chance: the minute of a smeared job, below ten here.
BY_CHANCE: dict[str, Callable[[str], str]] = {
    "cron_linux": lambda text: re.sub(r"^[0-9] 23 31 12 6", "N 23 31 12 6", text, flags=re.MULTILINE)
}
#: Files that the reference makes in a copy of the tree, where its cases do not see them, and what reads them.
BESIDE = {"spma": r"dnf --quiet makecache|/etc/(yum|dnf/dnf)\.conf|(/etc/yum\.repos\.d|/etc/nefarious\.d)/.*"}
USERS = {"root": 0, "bin": 1, "lp": 7, "nobody": 65534, "irods": 500}
GROUPS = {**USERS, "sys": 3, "elasticsearch": 501}


def host() -> SimulatedHost:
    """A host that has the users of the cases, with groups of the same names, and little else."""
    passwd = "".join(f"{name}:x:{number}:{number}::/:/bin/sh\\n" for name, number in USERS.items())
    group = "".join(f"{name}:x:{number}:\\n" for name, number in GROUPS.items())
    return SimulatedHost.drawn(
        f"/bin/\n    logger: #!\n/etc/\n    passwd: {passwd}\n    group: {group}\n",
        commands={("/cmd",): Completed(0, b"", b"")},
    )


def without_copy(case: cases.Case) -> cases.Case:
    """Return `case` without the copy below /tmp that the reference has checked: ours is in memory."""
    copy = re.compile(r"/tmp/ncm-ccm-\w+/.*")
    files = {path: file for path, file in case.files.items() if not copy.fullmatch(path)}
    return msgspec.structs.replace(case, files=files, commands=[copy.sub("{}", one) for one in case.commands])


PATHS = [path for name in sorted(COMPONENTS) for path in cases.paths(name)]


@pytest.mark.skipif(not cases.CASES.is_dir(), reason=f"the cases of the reference are not at {cases.CASES}")
@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_profile_gives_what_quattor_gives(path: Path) -> None:
    """For each case the files are equal by bytes, with owners and modes, and the commands are the same."""
    case = without_copy(cases.load(path))

    same = BY_CHANCE.get(path.stem, str)

    before = SimulatedHost.drawn("/etc/\n") if case.component == "accounts" else host()
    beside = BESIDE.get(case.component, "")

    assert cases.expected(case, same) == cases.actual(case, COMPONENTS[case.component], before, same, beside)
