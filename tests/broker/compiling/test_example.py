"""The example fleet."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from aquiline.agent.applying import apply, dry_run
from aquiline.agent.session import Session
from aquiline.broker.compiling import Checked, Compiled, Layers, Schemas
from aquiline.broker.repository import Repository
from aquiline.profile import Profile, json_schema

HOSTS = ("db001", "db002", "web001", "web002", "web003", "web004")
SCHEMAS = Schemas({found.name: json_schema(found.load()) for found in entry_points(group="aquiline.components")})


@pytest.fixture(scope="module")
def profiles() -> dict[str, Profile]:
    """The profile of each host of the example, from the data of the package."""
    with as_file(files("aquiline.broker") / "example") as source:
        compiler = Checked(Layers(), lambda _: SCHEMAS)
        assert HOSTS == compiler.hosts(source)
        found = compiler.compile(source, HOSTS)
    assert all(isinstance(one, Compiled) for one in found.values()), found
    return {host: Profile(one.profile) for host, one in found.items() if isinstance(one, Compiled)}


@pytest.mark.parametrize("host", HOSTS)
def test_every_host_applies_on_an_empty_root(profiles: dict[str, Profile], host: str, tmp_path: Path) -> None:
    """Each host plans and applies on an empty root with full coverage, and then there is nothing left to do."""
    assert f"{host}.example.org" == profiles[host].name
    with Session(str(tmp_path)) as session:
        plan = dry_run(session, profiles[host])
        assert {"planned"} == {report.state for report in plan.components.values()}
        assert ((), ()) == (plan.notes, plan.coverage.reduced_by)
        assert 0 == apply(session, profiles[host]).exit_status
        after = dry_run(session, profiles[host])

    assert () == after.steps
    assert (tmp_path / "etc/motd").is_file()


def test_the_way_from_the_example_through_git(profiles: dict[str, Profile], tmp_path: Path) -> None:
    """What is compiled from the repository that begins with the example is what the example says."""
    repository = Repository.create(tmp_path / "site.git")
    with as_file(files("aquiline.broker") / "example") as source:
        repository.add_branch("prod", repository.commit(source, message="begin", author="demo"))

    repository.export(repository.head("prod"), tmp_path / "out")

    found = Layers().compile(tmp_path / "out", HOSTS)
    assert {host: profile.digest for host, profile in profiles.items()} == {
        host: one.digest for host, one in found.items() if isinstance(one, Compiled)
    }


def test_what_hosts_have_of_their_own(profiles: dict[str, Profile]) -> None:
    """The web servers differ in their names, and the newest in its workers; the stand-by takes no dumps."""
    workers = "/software/components/metaconfig/services/{/etc/shop/settings.json}/contents/workers"

    assert [4, 4, 4, 16] == [profiles[f"web00{n}"].at(workers) for n in range(1, 5)]
    jobs = [{entry["name"] for entry in profiles[host].at("/software/components/cron/entries")} for host in HOSTS[:2]]
    assert [{"report-inventory", "dump"}, {"report-inventory"}] == jobs
