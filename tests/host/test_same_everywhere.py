"""Whatever is done to them, all hosts show the same tree; and an overlay can be taken back to any savepoint."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from aquiline.errors import HostError
from aquiline.host import Overlay, RealHost, SimulatedHost
from aquiline.host.objects import ABSENT, Absent, Directory, FileObject, Metadata
from aquiline.host.protocol import Host
from tests.host.conformance import THEN, directory, fifo, file, put, symlink, tree

AnyHost = TypeVar("AnyHost", bound=Host)

#: Few names, two deep and through links, so that everything gets in everything's way.
NAMES = ("a", "b", "c")
PATHS = st.one_of(
    st.sampled_from(NAMES).map("/{}".format),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).map("/".join).map("/{}".format),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(NAMES)).map("/".join).map("/{}".format),
)
CONTENTS = st.sampled_from((b"", b"one", b"two"))
TARGETS = st.sampled_from(("a", "b", "/c", "../b", "/a/b", "missing"))

#: What everything begins with, so that short sequences meet much.
BEGINNING = """
    /a/
        a/
            c: one
        b: two
        c -> ../b
    /b/
        a = /a/b
        b -> /a/a
    /c -> a
"""

Effect = tuple[str, tuple[object, ...]]


def effect(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Effect]:
    return st.tuples(st.just(name), st.tuples(*arguments))


EFFECTS = st.one_of(
    effect("write", PATHS, CONTENTS),
    effect("make_directory", PATHS),
    effect("make_directory", PATHS),
    effect("make_symlink", PATHS, TARGETS),
    effect("make_fifo", PATHS),
    effect("link", PATHS, PATHS),
    effect("link", PATHS, PATHS),
    effect("move", PATHS, PATHS),
    effect("move", PATHS, PATHS),
    effect("remove", PATHS),
    effect("write_in_place", PATHS, CONTENTS),
    effect("set_metadata", PATHS),
    effect("stage", PATHS),
    effect("discard", PATHS),
)
SEQUENCES = st.lists(EFFECTS, max_size=25)

DO: dict[str, Callable[..., object]] = {
    "write": lambda host, path, content: put(host, path, file(content), content),
    "make_directory": lambda host, path: put(host, path, directory()),
    "make_symlink": lambda host, path, target: put(host, path, symlink(target)),
    "make_fifo": lambda host, path: put(host, path, fifo()),
    "link": lambda host, path, existing: host.link(path, existing, "test"),
    "move": lambda host, source, destination: host.move(source, destination),
    "remove": lambda host, path: host.remove(path),
    "write_in_place": lambda host, path, content: host.write_in_place(path, [content], Metadata(0o640, 1, 2, THEN)),
    "set_metadata": lambda host, path: host.set_metadata(path, Metadata(0o751, 3, 4, THEN)),
    "stage": lambda host, path: host.stage(path, file(b"staged"), [b"staged"], "left"),
    "discard": lambda host, path: host.discard(path, "left"),
}


def do(host: Host, one: Effect) -> str:
    """Do one effect; return whether the host refused it. Leave nothing that was staged for it."""
    name, arguments = one
    try:
        DO[name](host, *arguments)
    except HostError:
        if name.startswith(("make", "write")):
            with suppress(HostError):  # where its parent cannot be walked nothing was staged
                host.discard(str(arguments[0]), "test")
        return "refused"
    return "done"


def changed(host: AnyHost, effects: list[Effect]) -> AnyHost:
    for one in effects:
        do(host, one)
    return host


def simulated(effects: list[Effect]) -> SimulatedHost:
    return changed(SimulatedHost.drawn(BEGINNING), effects)


def build(host: Host) -> None:
    """Make on any host what `BEGINNING` draws."""
    for path in ("/a", "/a/a", "/b"):
        put(host, path, directory())
    put(host, "/a/a/c", file(b"one"), b"one")
    put(host, "/a/b", file(b"two"), b"two")
    host.link("/b/a", "/a/b", "test")
    for path, target in (("/a/c", "../b"), ("/b/b", "/a/a"), ("/c", "a")):
        put(host, path, symlink(target))


@settings(deadline=None)
@given(before=SEQUENCES, after=SEQUENCES)
def test_an_overlay_shows_what_its_base_would(before: list[Effect], after: list[Effect]) -> None:
    """Over whatever stood there, each effect is refused or done alike, the same is seen, and the base stays."""
    base = simulated(before)
    other = simulated(before)
    untouched = base.draw(times=True)
    overlay = Overlay(base)

    for one in after:
        assert (one, do(other, one)) == (one, do(overlay, one))
        assert tree(other) == tree(overlay)

    assert untouched == base.draw(times=True)


@settings(deadline=None)
@given(before=SEQUENCES, kept=SEQUENCES, dropped=SEQUENCES, again=SEQUENCES)
def test_rollback_gives_the_tree_before(
    before: list[Effect], kept: list[Effect], dropped: list[Effect], again: list[Effect]
) -> None:
    """After a rollback the overlay shows the tree at the savepoint, and goes on as if nothing had been."""
    overlay = changed(Overlay(simulated(before)), kept)
    expected = tree(overlay)

    savepoint = overlay.savepoint()
    changed(overlay, dropped)
    overlay.rollback(savepoint)

    assert expected == tree(overlay)
    assert tree(simulated(before + kept + again)) == tree(changed(overlay, again))


def remember(overlay: Overlay, one: Effect) -> str:
    """Do one effect as planning does: look at what is there, then remember what will be."""
    name, arguments = one
    path = str(arguments[0])
    wanted, content = PREDICTED[name](*arguments[1:])
    try:
        if isinstance(overlay.observe(path), Directory) and overlay.names(path):
            return "refused"
        if isinstance(wanted, Absent) and isinstance(overlay.observe(path), Absent):
            return "done"
        overlay.remember(path, wanted, content)
    except HostError:
        return "refused"
    return "done"


PREDICTED: dict[str, Callable[..., tuple[FileObject, bytes | None]]] = {
    "write": lambda content: (file(content), content),
    "make_directory": lambda: (directory(), None),
    "make_symlink": lambda target: (symlink(target), None),
    "make_fifo": lambda: (fifo(), None),
    "remove": lambda: (ABSENT, None),
}


@settings(deadline=None)
@given(before=SEQUENCES, after=SEQUENCES)
def test_remembering_is_doing(before: list[Effect], after: list[Effect]) -> None:
    """What planning remembers without doing it is refused, and is seen, as if it had been done."""
    overlay, other = Overlay(simulated(before)), simulated(before)

    for one in after:
        predicted = remember(overlay, one) if one[0] in PREDICTED else do(overlay, one)
        assert (one, do(other, one)) == (one, predicted)
        assert tree(other) == tree(overlay)


@settings(deadline=None)
@given(before=SEQUENCES)
def test_a_drawing_is_the_tree(before: list[Effect]) -> None:
    """A tree that is drawn and read again is the same tree."""
    host = simulated(before)

    again = SimulatedHost.drawn(host.draw(times=True))

    assert tree(host) == tree(again)
    assert host.draw(times=True) == again.draw(times=True)


@settings(deadline=None)
@given(before=SEQUENCES, after=SEQUENCES)
def test_the_real_host_agrees(before: list[Effect], after: list[Effect]) -> None:
    """A real root, an overlay over it and a simulated host refuse and show the same; the overlay leaves it alone."""
    with tempfile.TemporaryDirectory() as root, RealHost(root) as real:
        build(real)
        pretended = SimulatedHost.drawn(BEGINNING)
        for one in before:
            assert (one, do(pretended, one)) == (one, do(real, one))
        assert tree(pretended) == tree(real)

        untouched = tree(real)
        overlay = Overlay(real)
        for one in after:
            assert (one, do(pretended, one)) == (one, do(overlay, one))
            assert tree(pretended) == tree(overlay)
        assert untouched == tree(real)
