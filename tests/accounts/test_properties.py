"""Any sequence of entries set by us and by others: undo gives ours back and leaves theirs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aquiline.host.protocol import Entry
from aquiline.host.records import Database

NAMES = ["a", "b", "c", "d", "e"]
OTHERS = ["x", "y"]
names = st.sampled_from(NAMES)
values = st.integers(0, 3)
#: Lines that are no entries.
rests = st.sampled_from(["", "# a comment", "+@net::", "-bad::", ":nameless:", "no colon"])


@st.composite
def databases(draw: st.DrawFn) -> bytes:
    """Draw a file: some entries, each once, other lines between, with or without an end."""
    entries = [f"{name}:{draw(values)}:" for name in draw(st.lists(names, unique=True))]
    lines = draw(st.permutations([*entries, *draw(st.lists(rests, max_size=4))]))
    return ("\n".join(lines) + draw(st.sampled_from(["", "\n"]))).encode()


changes = st.tuples(names, st.none() | values)


def change(database: Database, name: str, value: int | None) -> Database:
    """Return the database with one entry set, added at its usual place, or removed."""
    return database.with_entries([Entry(name, None if value is None else f"{name}:{value}:")])


@given(databases(), st.lists(changes, max_size=12))
def test_undo_in_reverse_gives_the_same_bytes(content: bytes, done: list[tuple[str, int | None]]) -> None:
    """Each entry as it was recorded before, put back newest first, is the file as it was."""
    database, undo = Database.parsed(content), []
    for name, value in done:
        undo.append(database.entry(name))
        database = Database.parsed(change(database, name, value).content)
    for entry in reversed(undo):
        database = Database.parsed(database.with_entries([entry]).content)

    assert content == database.content


@given(databases(), st.lists(changes, max_size=12), st.integers(0, 12))
def test_a_batch_is_the_same_as_one_by_one(content: bytes, done: list[tuple[str, int | None]], split: int) -> None:
    """Several entries in one rewrite come out as in a rewrite for each."""
    entries = [Entry(name, None if value is None else f"{name}:{value}:") for name, value in done]
    database = Database.parsed(content)
    alone = database
    for entry in entries:
        alone = Database.parsed(alone.with_entries([entry]).content)
    together = database.with_entries(entries[:split]).with_entries(entries[split:])

    assert alone.content == together.content


@given(databases(), st.lists(changes, max_size=6), st.lists(st.tuples(st.sampled_from(OTHERS), values), max_size=4))
def test_what_others_add_meanwhile_survives(
    content: bytes, done: list[tuple[str, int | None]], added: list[tuple[str, int]]
) -> None:
    """Entries that somebody else appended stay as they are, and all else is there as it was."""
    database, undo = Database.parsed(content), []
    for name, value in done:
        undo.append(database.entry(name))
        database = change(database, name, value)
    for name, number in added:
        database = change(database, name, number)
    for entry in reversed(undo):
        database = database.with_entries([entry])
    theirs = {name: f"{name}:{number}:" for name, number in added}

    assert theirs == {name: database.line(name) for name in theirs}
    kept = [line for line in database.content.decode().split("\n") if not line.startswith(("x:", "y:"))]
    assert sorted(filter(None, content.decode().split("\n"))) == sorted(filter(None, kept))


@given(databases(), st.lists(changes, max_size=8))
def test_other_lines_stay(content: bytes, done: list[tuple[str, int | None]]) -> None:
    """Lines that are no entries stay, in their order."""
    database = Database.parsed(content)
    for name, value in done:
        database = change(database, name, value)

    def rest(text: bytes) -> list[str]:
        return [line for line in text.decode().split("\n") if line and line[:2] not in {f"{name}:" for name in NAMES}]

    assert rest(content) == rest(database.content)
