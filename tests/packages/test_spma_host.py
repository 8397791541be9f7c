"""spma on real hosts: repositories and what comes from them in one run, groups, what is surplus and what stays."""

from __future__ import annotations

import json
from typing import Any

from tests.bed.repository import AptRepository, Deb, DnfRepository, Rpm
from tests.packages.hosts import apply, aquiline, changed, escaped, give, profile

GROUPS = """<?xml version="1.0"?>
<!DOCTYPE comps PUBLIC "-//Red Hat, Inc.//DTD Comps info//EN" "comps.dtd">
<comps><group><id>bench</id><name>bench</name><description/><default>true</default><uservisible>true</uservisible>
<packagelist>
<packagereq type="mandatory">hammer</packagereq>
<packagereq type="default">nails</packagereq>
<packagereq type="optional">glue</packagereq>
<packagereq type="mandatory">nowhere</packagereq>
</packagelist></group></comps>
"""


def with_repository(wanted: dict[str, Any], url: str) -> dict[str, Any]:
    """Return a profile with one repository."""
    wanted["software"]["repositories"] = [
        {"name": "site", "owner": "bed@example.org", "protocols": [{"name": "file", "url": url}]}
    ]
    return wanted


def test_apt_repository_and_install_in_one_run(apt_host: AptRepository) -> None:
    """Packages wait for the repository; one run sets it up, reads it and installs; undo takes back both."""
    host = apt_host.host
    apt_host.add(Deb("lib", "1"), Deb("tool", "1", fields={"Depends": "lib"}))
    (host.root / "etc/apt/sources.list").write_text("")
    apt_host.update()
    host.install_aquiline()
    (host.root / "var/lib/aquiline").mkdir(mode=0o700)
    wanted = with_repository(profile({"tool": None}), "file:/srv/apt ./")
    before = host.snapshot()

    planned = json.loads(aquiline(host, "plan", "--json", give(host, wanted)).stdout)
    apply(host, wanted)
    after = host.snapshot()

    assert ["write_file", "run_command"] == [one["kind"] for one in planned["steps"]]
    assert "deferred" == planned["components"]["spma"]
    assert ("1", "1", True) == (
        after.packages["tool"].version,
        after.packages["lib"].version,
        after.packages["lib"].automatic,
    )
    assert "nothing to do" in apply(host, wanted).stdout
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())
    assert "tool" not in host.run(["apt-cache", "pkgnames"]).stdout.split(), "its index is read anew"


def test_apt_surplus_and_whitelist(apt_host: AptRepository) -> None:
    """What nobody names or needs goes, unless it is whitelisted; dependencies of both stay; undo brings it back."""
    host = apt_host.host
    apt_host.add(
        Deb("lib", "1"), Deb("tool", "1", fields={"Depends": "lib"}), Deb("extra", "1"), Deb("local-one", "1"),
        Deb("local-lib", "1"), Deb("local-two", "1", fields={"Depends": "local-lib"}),
    )  # fmt: skip
    host.install_aquiline()
    (host.root / "var/lib/aquiline").mkdir(mode=0o700)
    base = dict.fromkeys(host.snapshot().packages)
    apply(host, profile(dict.fromkeys(("tool", "extra", "local-one", "local-two"))))
    before = host.snapshot()
    wanted = profile({**base, "tool": None}, userpkgs="no", whitelist=["local-*"], repository_cleanup=False)

    planned = json.loads(aquiline(host, "plan", "--json", give(host, wanted)).stdout)
    apply(host, wanted)

    assert ["remove extra 1"] == [one["description"] for one in planned["steps"]]
    assert {"extra"} == before.packages.keys() - host.snapshot().packages.keys()
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())


def test_dnf_repository_group_and_install_in_one_run(dnf_host: DnfRepository) -> None:
    """The repository, a package and the lists of a group that are wanted come in one run; undo takes all of it."""
    host = dnf_host.host
    dnf_host.add(
        Rpm("tool", "1"),
        Rpm("hammer", "1", tags={"Requires": "grip"}),
        Rpm("grip", "1"),
        Rpm("nails", "1"),
        Rpm("glue", "1"),
    )
    (dnf_host.directory / "comps.xml").write_text(GROUPS)
    host.run(["createrepo_c", "--quiet", "--update", "-g", "comps.xml", "/srv/rpm"])
    (host.root / "etc/yum.repos.d/bed.repo").unlink()
    host.install_aquiline()
    apply(host, profile({}, packager="yumdnf"))
    wanted = with_repository(profile({"tool": None}, packager="yumdnf"), "file:///srv/rpm")
    wanted["software"]["groups"] = {"bench": {"mandatory": True, "default": True, "optional": False}}
    before = host.snapshot()

    apply(host, wanted)
    after = host.snapshot()

    came = {
        name.partition(".")[0]: one.automatic for name, one in after.packages.items() if name not in before.packages
    }
    assert {"tool": False, "hammer": False, "nails": False, "grip": True} == came
    assert "nothing to do" in apply(host, wanted).stdout
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())


def test_dnf_surplus_and_whitelist(dnf_host: DnfRepository) -> None:
    """What nobody names or needs goes, unless it is whitelisted; undo brings it back with its reason."""
    host = dnf_host.host
    dnf_host.add(Rpm("tool", "1", tags={"Requires": "lib"}), Rpm("lib", "1"), Rpm("extra", "1"), Rpm("local-one", "1"))
    host.install_aquiline()
    apply(host, profile(dict.fromkeys(("tool", "extra", "local-one")), packager="yumdnf"))
    before = host.snapshot()
    wanted = profile(
        {"sh": None, "tool": None}, packager="yumdnf", userpkgs="no", whitelist=["local-*"], repository_cleanup=False
    )

    planned = json.loads(aquiline(host, "plan", "--json", give(host, wanted)).stdout)
    apply(host, wanted)

    assert ["remove extra 1-1"] == [one["description"] for one in planned["steps"]]
    assert {"extra.noarch"} == before.packages.keys() - host.snapshot().packages.keys()
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())


def test_one_version_for_all(apt_host: AptRepository) -> None:
    """A version with an epoch and a tilde, as keys escape it, is found, fetched and taken back."""
    host = apt_host.host
    apt_host.add(Deb("odd", "1:2.0~rc1-3"), Deb("odd", "1:2.0-1"))
    host.install_aquiline()
    (host.root / "var/lib/aquiline").mkdir(mode=0o700)
    apply(host, profile({"odd": "1:2.0~rc1-3"}))
    before = host.snapshot()
    assert "_31_3a2" in escaped("1:2")

    apply(host, profile({"odd": "1:2.0-1"}))
    apt_host.withdraw("odd", "1:2.0~rc1-3")
    aquiline(host, "undo")

    assert [] == changed(before, host.snapshot())
