"""dpkg's and apt's own files, as they are read; the texts are of real runs."""

from __future__ import annotations

from aquiline.host.objects import Package
from aquiline.host.packages import dpkg

STATUS = """Package: dpkg
Essential: yes
Status: install ok installed
Priority: required
Architecture: amd64
Version: 1.21.22
Depends: tar (>= 1.28-1)

Package: tool
Status: install ok installed
Architecture: all
Version: 1.0
Depends: lib | other
Conffiles:
 /etc/tool.conf 5bbf5a52328e7439ae6e719dfe712200
 /etc/tool.old 5bbf5a52328e7439ae6e719dfe712200 obsolete
Description: tool of the tests

Package: lib
Status: hold ok installed
Architecture: all
Version: 1.0

Package: tar
Status: install ok installed
Architecture: amd64
Version: 1.34

Package: left
Status: deinstall ok config-files
Architecture: all
Version: 3

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.36
"""
EXTENDED = """Package: lib
Architecture: amd64
Auto-Installed: 1

"""
SIMULATED = """Reading package lists...
The following packages will be REMOVED:
  friend
Remv friend [1]
Inst moody [2] (1 localhost [all])
Inst libc6:i386 [2.36] (2.37 Debian:12.5/stable [i386]) []
Inst lib (1.0 Debian:12.5/stable, local-deb [all])
Conf moody (1 localhost [all])
Conf fails (1 localhost [all])
"""


def test_what_is_installed() -> None:
    """States, marks and holds are told; a foreign architecture is in the name, and what is left has no version."""
    known = dpkg.records(STATUS, ())

    assert {
        "dpkg": Package("1.21.22"),
        "left": Package("", "config-files"),
        "lib": Package("1.0", auto=True, hold=True),
        "libc6:i386": Package("2.36"),
        "tar": Package("1.34"),
        "tool": Package("1.0"),
    } == dpkg.packages(known, dpkg.automatic(EXTENDED), "amd64")


def test_the_journal_of_dpkg_is_newer() -> None:
    """After a crash the records in updates count."""
    known = dpkg.records(
        STATUS, ["Package: tool\nStatus: install ok half-configured\nArchitecture: all\nVersion: 2.0\n"]
    )

    assert Package("2.0", "half-configured") == dpkg.packages(known, frozenset(), "amd64")["tool"]


def test_conffiles() -> None:
    """Obsolete ones are among them."""
    known = dpkg.records(STATUS, ())

    assert ["/etc/tool.conf", "/etc/tool.old"] == dpkg.conffiles(known["tool", "all"])


def test_a_simulation() -> None:
    """What comes has its version, what goes an empty one; what is only configured is not touched."""
    expected = {"friend": "", "moody": "1", "libc6:i386": "2.37", "lib": "1.0"}

    assert expected == dpkg.simulated(SIMULATED, "amd64")


def test_surplus() -> None:
    """What is named, what that needs, and what every host needs stay."""
    known = dpkg.records(STATUS, ())

    assert ("libc6:i386",) == dpkg.surplus(known, ["tool"], "amd64")
    assert ("lib", "libc6:i386", "tool") == dpkg.surplus(known, [], "amd64")
