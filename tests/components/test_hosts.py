"""Whole profiles of real hosts, each taken by every component that there is."""

import os
from pathlib import Path

import pytest

from aquiline.agent.applying import apply, dry_run
from aquiline.agent.session import Session
from aquiline.agent.undoing import select, undo
from aquiline.components.chkconfig import Chkconfig
from aquiline.components.cron import Cron
from aquiline.components.filecopy import FileCopy
from aquiline.components.metaconfig import Metaconfig
from aquiline.components.systemd import Systemd
from aquiline.planning.order import order
from aquiline.profile import load, unknown_keys
from tests.components.driving import run_profile
from tests.engine.site import tree_but_database_times as tree
from tests.hosts.real import HOSTS, each_host, where_they_are

COMPONENTS = (Chkconfig, Cron, FileCopy, Metaconfig, Systemd)


def populate(root: Path) -> None:
    """Put some of what such a host has in the way of a profile: other contents, modes, owners, an obsolete job."""
    for path, content, mode in (
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\n", 0o644),
        ("etc/group", "root:x:0:\nglexec:x:77:\n", 0o644),
        ("etc/cron.d/old.ncm-cron.cron", "an obsolete job\n", 0o600),
        ("etc/cron.d/mom-logs.ncm-cron.cron", "another content\n", 0o600),
        ("etc/ssh/ssh_config", "Host *\n", 0o640),
        ("etc/glexec.conf", "", 0o400),
        ("var/log/mom-logs.ncm-cron.log", "what the job said\n", 0o666),
        ("etc/glite/info/service/glite-info-glue2-argus-pap.conf.template", "a template\n", 0o444),
    ):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)
        os.utime(file, (1, 1))


@where_they_are
@pytest.mark.parametrize("populated", [False, True], ids=["empty", "populated"])
@each_host
def test_a_real_profile_is_applied_and_taken_back(path: Path, populated: bool, tmp_path: Path) -> None:
    """On an empty and on a populated root a profile is applied, plans empty after that, and leaves no trace undone."""
    root = tmp_path / "root"
    root.mkdir()
    if populated:
        populate(root)
    before = tree(root)
    profile = load(path)

    with Session(str(root), str(tmp_path / "state")) as session:
        ended = apply(session, profile)

        assert "done" == ended.status
        assert () == dry_run(session, profile).steps
        if ended.plan is not None and ended.plan.steps:
            with session.reading() as journal:
                runs = select(session, journal, last=1)
            assert 0 == undo(session, runs).exit_status

    assert before == tree(root)


@where_they_are
@pytest.mark.parametrize("path", sorted(HOSTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_real_profile_is_taken_whole(path: Path) -> None:
    """A real profile loads, orders and gives files; no key of it is unknown to the component it is for."""
    profile = load(path)
    sections = profile.components()
    taken = [component for component in COMPONENTS if component.name in sections]

    assert path.stem == profile.name
    assert sorted(sections) == sorted(order(sections).names)
    for component in taken:
        section = sections[component.name]

        found = run_profile(component, profile)

        assert len(found.tasks) + len(found.notes) >= len(section.configuration.get("services", ()))
        assert [] == unknown_keys(section.configuration, component.configuration, section.path)
