"""A validation looks at a private copy of would-be content, and a dry-run leaves an offline root as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from aquiline.agent.session import Session
from aquiline.changes.kinds import Change, Inline, Validate, WriteFile
from aquiline.planning.component import Task
from tests.agent.making import Site as InstalledSite
from tests.disasters.mounts import in_private_mounts, make_read_only

from .site import Site
from .test_planning import install_shell

#: Sees the copy, by its own name, which only root may read; and nobody else's.
LOOKS = 'read word < "$0" && test "$word" = good && test "$0" = /*/aquiline-check'


def checked(script: str, *arguments: str) -> Task:
    """Return a task that writes a file if a shell finds it good."""
    content = Inline(b"good\n")
    argv = ("/bin/sh", "-c", script, *arguments)
    check = Validate(path="/file", content=content, argv=argv)
    return Task(description="checked", changes=(check, WriteFile(path="/file", content=content)))


def everything(root: Path) -> dict[str, tuple[int, ...]]:
    """Return what the kernel tells of each object below `root`; starting the checker moves its access time alone."""
    below = [os.path.join(top, name) for top, *names in os.walk(root) for name in (*names[0], *names[1])]
    return {path: told(os.lstat(path)) for path in (str(root), *below)}


def told(found: os.stat_result) -> tuple[int, ...]:
    """Return what stays while nobody writes; the change time comes last."""
    owner = (found.st_mode, found.st_uid, found.st_gid)
    return (*owner, found.st_ino, found.st_nlink, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@pytest.mark.parametrize("point", ["tmp", "mnt", "media", "run", "srv", "home", "boot"])
def test_nothing_changes_below_the_root(site: Site, point: str) -> None:
    """The copy is in memory, over a directory that is there: nothing changes, not even a change time."""
    install_shell(site.root)
    site.path(f"/{point}").mkdir(mode=0o750)
    site.path(f"/{point}/kept").touch()
    site.wants(checked(LOOKS, "{}"))
    before = everything(site.root)

    assert 2 == len(site.plan().steps)
    assert before == everything(site.root)
    assert 0 == site.apply().exit_status


def test_a_checker_of_its_input_needs_no_copy(site: Site) -> None:
    """What reads standard input, as most do that metaconfig starts, is given no file at all."""
    install_shell(site.root)
    content = Inline(b"good\n")
    check = Validate(path="/file", content=content, argv=("/bin/sh", "-c", "read word; test $word = good"), stdin=True)
    site.wants(Task(description="checked", changes=(check, WriteFile(path="/file", content=content))))
    before = everything(site.root)

    assert 2 == len(site.plan().steps)
    assert before == everything(site.root)


@pytest.mark.parametrize("script", ["exit 3", "kill -KILL $$"])
def test_bad_content_leaves_no_trace_either(site: Site, script: str) -> None:
    """A checker that refuses, or dies, takes its copy with it."""
    install_shell(site.root)
    site.path("/tmp").mkdir()
    site.wants(checked(script, "{}"))
    before = everything(site.root)

    assert "failed" == site.plan().components["one"].state
    assert before == everything(site.root)


def test_a_link_is_no_place_for_it(site: Site) -> None:
    """A link in the place of a directory is passed over, wherever it leads."""
    install_shell(site.root)
    site.path("/tmp").symlink_to("/etc")
    site.path("/mnt").mkdir()
    site.wants(checked('test "$0" = /mnt/aquiline-check', "{}"))

    assert 2 == len(site.plan().steps)


@pytest.mark.parametrize("point", ["tmp", ""])
def test_a_root_that_cannot_be_written(site: Site, point: str) -> None:
    """A read-only root is validated like any other where it has a directory to mount over; elsewhere that is said."""
    install_shell(site.root)
    site.path(f"/{point}").mkdir(exist_ok=True)
    site.wants(checked(LOOKS, "{}"))

    def work() -> None:
        make_read_only(site.root)
        site.session.host.close()
        site.session = Session(str(site.root), str(site.state))
        reasons = [] if point else ["/file: not validated here: no copy can be written there: Read-only file system"]
        assert reasons == list(site.plan().coverage.reduced_by)

    in_private_mounts(work)


def with_namespaces(number: int) -> tuple[str, ...]:
    """Return what starts a command as root that may have so many mount namespaces, its own among them."""
    limit = f'echo {number} > /proc/sys/user/max_mnt_namespaces && exec "$@"'
    return ("unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", limit, "sh")


#: How we come to be one that may not mount. Some kernels count a file system that is mounted nowhere as a namespace: by
#: one of the two limits, that can be made, and only the checker learns that it cannot be mounted.
FORBIDS = {
    "privilege": ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"),
    "one-namespace": with_namespaces(1),
    "two-namespaces": with_namespaces(2),
}


@pytest.mark.parametrize(
    ("forbids", "temporary"),
    [
        *(("privilege", temporary) for temporary in ("directory", "absent", "link")),
        ("one-namespace", "directory"),
        ("two-namespaces", "directory"),
    ],
)
def test_where_nobody_may_mount(tmp_path: Path, forbids: str, temporary: str) -> None:
    """In a container the copy is a file on disk for a moment: what is left is as it was, times of parents included.

    A link in the place of ``/tmp`` is not followed, which may lead out of the root.
    """
    site = InstalledSite(tmp_path)
    site.install()
    site.with_shell()
    outside = tmp_path / "outside"
    outside.mkdir()
    if temporary != "directory":
        site.path("/tmp").rmdir()
    if temporary == "link":
        site.path("/tmp").symlink_to(outside)
        site.path("/mnt").mkdir()
    changes: tuple[Change, ...] = checked('read word < "$0" && test "$word" = good', "{}").changes
    section = {"anything": {"changes": [msgspec.to_builtins(change) for change in changes]}}
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"software": {"components": section}}))
    before = {path: found[:-1] for path, found in everything(site.root).items()}
    before_outside = everything(outside)

    plan = (sys.executable, "-m", "aquiline.cli", "--root", str(site.root), "plan", str(profile), "--require-coverage")
    command = [*FORBIDS[forbids], *plan]
    done = subprocess.run(command, env=site.environment(), capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    assert before == {path: found[:-1] for path, found in everything(site.root).items()}
    assert before_outside == everything(outside)
