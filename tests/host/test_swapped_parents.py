"""Somebody who swaps a parent directory for a link, while root works below it, gains nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from aquiline.errors import HostError, UnsafePath
from aquiline.host import RealHost
from aquiline.host.objects import Directory, Metadata, RegularFile, sha256

USER = 1234


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RealHost]:
    """A root with a directory of a user, and a directory of root that the user would like to change."""
    for parent in (tmp_path, *tmp_path.parents[:3]):
        os.chmod(parent, 0o755)
    for path in ("home", "home/d", "victim"):
        (tmp_path / path).mkdir(mode=0o755)
    for path in ("home", "home/d"):
        os.chown(tmp_path / path, USER, USER)
    for path in ("victim/f", "victim/keep"):
        (tmp_path / path).write_text("root's")
        (tmp_path / path).chmod(0o600)
    with RealHost(str(tmp_path)) as host:
        yield host


def as_user(work: Callable[[], None]) -> int:
    """Do `work` as the user in a process of its own; return its number."""
    child = os.fork()
    if child:
        return child
    try:
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)
        work()
    finally:
        os._exit(0)


def swap(root: str) -> None:
    """Put a link to the victim in the place of the directory."""
    os.rename(f"{root}/home/d", f"{root}/home/away")
    os.symlink("../victim", f"{root}/home/d")


def swapped_for_ever(root: str) -> Callable[[], None]:
    def work() -> None:
        os.symlink("../victim", f"{root}/home/trap")
        while True:
            os.rename(f"{root}/home/d", f"{root}/home/away")
            os.rename(f"{root}/home/trap", f"{root}/home/d")
            os.rename(f"{root}/home/d", f"{root}/home/trap")
            os.rename(f"{root}/home/away", f"{root}/home/d")

    return work


def file(data: bytes) -> RegularFile:
    return RegularFile(Metadata(0o666, USER, USER, 7), len(data), sha256(data))


def victim(root: str) -> list[tuple[str, str, int, int]]:
    found = []
    for name in sorted(os.listdir(f"{root}/victim")):
        status = os.lstat(f"{root}/victim/{name}")
        found.append((name, Path(root, "victim", name).read_text(), status.st_mode & 0o7777, status.st_uid))
    return found


UNTOUCHED = [("f", "root's", 0o600, 0), ("keep", "root's", 0o600, 0)]


EFFECTS: dict[str, Callable[[RealHost], object]] = {
    "stage": lambda host: host.stage("/home/d/f", file(b"x"), [b"x"], "x"),
    "stage a directory": lambda host: host.stage("/home/d/f", Directory(Metadata(0o777, USER, USER)), None, "x"),
    "remove": lambda host: host.remove("/home/d/keep"),
    "move from": lambda host: host.move("/home/d/keep", "/home/kept"),
    "move to": lambda host: host.move("/home/own", "/home/d/keep"),
    "link": lambda host: host.link("/home/d/f", "/home/own", "x"),
    "link to": lambda host: host.link("/home/g", "/home/d/f", "x"),
    "set metadata": lambda host: host.set_metadata("/home/d/f", Metadata(0o666, USER, USER)),
    "set time": lambda host: host.set_mtime("/home/d/f", 7),
    "write in place": lambda host: host.write_in_place("/home/d/f", [b"x"], Metadata(0o666, USER, USER)),
    "read": lambda host: host.read("/home/d/f"),
    "observe": lambda host: host.observe("/home/d/f"),
    "status": lambda host: host.status("/home/d/f"),
    "names": lambda host: host.names("/home/d"),
}


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("known", ["seen before", "never seen"])
def test_nothing_is_done_or_seen_behind_a_swapped_parent(host: RealHost, effect: str, known: str) -> None:
    """Whether we know the directory from before or not, what the user swapped it for is neither touched nor read."""
    Path(host.root, "home/own").write_text("u")
    if known == "seen before":
        host.observe("/home/d/f")
    os.waitpid(as_user(lambda: swap(host.root)), 0)

    with pytest.raises(UnsafePath, match="home/d"):
        EFFECTS[effect](host)

    assert UNTOUCHED == victim(host.root)


def test_a_swap_between_staging_and_publishing(host: RealHost) -> None:
    """What was staged in the user's directory is not published in root's, nor synced or discarded there."""
    staged = host.stage("/home/d/f", file(b"x"), [b"x"], "x")
    os.waitpid(as_user(lambda: swap(host.root)), 0)

    effects: tuple[Callable[[], object], ...] = (
        lambda: host.publish(staged),
        lambda: host.sync([staged]),
        lambda: host.discard("/home/d/f", "x"),
        lambda: host.sync_directories(["/home/d"]),
    )
    for effect in effects:
        with pytest.raises(UnsafePath):
            effect()

    assert UNTOUCHED == victim(host.root)


def test_a_swap_while_content_flows(host: RealHost) -> None:
    """A swap in the middle of an effect leaves it in the directory where it began."""

    def content() -> Iterator[bytes]:
        os.waitpid(as_user(lambda: swap(host.root)), 0)
        yield b"x"

    host.stage("/home/d/f", file(b"x"), content(), "x")

    assert UNTOUCHED == victim(host.root)
    assert [".aq-x"] == os.listdir(f"{host.root}/home/away")


def test_a_link_at_the_end_is_not_followed(host: RealHost) -> None:
    """A link where a file was is replaced, removed or changed itself; what it leads to stays."""

    def plant() -> None:
        os.symlink("../../victim/f", f"{host.root}/home/d/f")

    os.waitpid(as_user(plant), 0)
    with pytest.raises(HostError):
        host.write_in_place("/home/d/f", [b"x"], Metadata(0o666, USER, USER))
    host.set_metadata("/home/d/f", Metadata(0o777, USER, USER, 7))
    host.publish(host.stage("/home/d/f", file(b"x"), [b"x"], "x"))
    os.unlink(f"{host.root}/home/d/f")
    os.waitpid(as_user(plant), 0)
    host.remove("/home/d/f")

    assert UNTOUCHED == victim(host.root)


def test_a_temporary_object_exchanged_by_its_directory_s_owner(host: RealHost) -> None:
    """Whoever exchanges what we are staging for a link of theirs turns no change of owner or mode to its target."""

    def exchange() -> None:
        os.rename(f"{host.root}/home/d/.aq-x", f"{host.root}/home/d/taken")
        os.symlink("../../victim/f", f"{host.root}/home/d/.aq-x")

    def content() -> Iterator[bytes]:
        os.waitpid(as_user(exchange), 0)
        yield b"x"

    host.publish(host.stage("/home/d/f", file(b"x"), content(), "x"))

    assert UNTOUCHED == victim(host.root)


def test_a_staged_directory_exchanged_for_one_of_root(host: RealHost) -> None:
    """A directory of root beside what we stage cannot be slipped in to be given away."""
    os.mkdir(f"{host.root}/home/d/root-s", 0o700)
    Path(host.root, "home/d/root-s/secret").write_text("x")
    wanted = Directory(Metadata(0o777, USER, USER))

    def exchange() -> None:
        while True:
            with suppress(OSError):
                os.rename(f"{host.root}/home/d/.aq-x", f"{host.root}/home/d/taken")
            with suppress(OSError):
                os.rename(f"{host.root}/home/d/root-s", f"{host.root}/home/d/.aq-x")
            with suppress(OSError):
                os.rename(f"{host.root}/home/d/.aq-x", f"{host.root}/home/d/root-s")
            with suppress(OSError):
                os.rmdir(f"{host.root}/home/d/taken")

    racer = as_user(exchange)
    until = time.monotonic() + 1
    try:
        while time.monotonic() < until:
            with suppress(HostError):
                host.stage("/home/d/new", wanted, None, "x")
    finally:
        os.kill(racer, signal.SIGKILL)
        os.waitpid(racer, 0)

    owners = {os.stat(path.parent).st_uid for path in Path(host.root, "home/d").glob("*/secret")}
    owners |= {os.stat(path.parent).st_uid for path in Path(host.root, "home/d").glob(".*/secret")}
    assert {0} == owners


def test_a_race_is_never_won(host: RealHost) -> None:
    """While the user swaps as fast as they can, no effect of root ever lands in root's directory."""
    racer = as_user(swapped_for_ever(host.root))
    refused = done = 0
    until = time.monotonic() + 2
    try:
        while time.monotonic() < until:
            for effect in ("stage", "remove", "set metadata", "write in place", "move from", "stage a directory"):
                try:
                    EFFECTS[effect](host)
                    done += 1
                except HostError:
                    refused += 1
    finally:
        os.kill(racer, signal.SIGKILL)
        os.waitpid(racer, 0)

    assert UNTOUCHED == victim(host.root)
    assert done > 50
    assert refused > 50


def test_a_race_never_shows_root_s_secret(host: RealHost) -> None:
    """While the user swaps, what is read at their path is never the content of root's file."""
    racer = as_user(swapped_for_ever(host.root))
    seen = set()
    until = time.monotonic() + 1
    try:
        while time.monotonic() < until:
            try:
                found = host.observe("/home/d/f")
                seen.add(found.sha256 if isinstance(found, RegularFile) else "")
                seen.add(sha256(host.read("/home/d/f")))
            except HostError:
                seen.add("refused")
    finally:
        os.kill(racer, signal.SIGKILL)
        os.waitpid(racer, 0)

    assert {"refused", ""} == seen
