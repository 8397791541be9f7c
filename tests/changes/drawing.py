"""Hypothesis strategies: objects, changes and steps of every kind."""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st

from aquiline.changes import kinds, steps
from aquiline.host import objects

#: What `os.fsdecode` gives: any character but surrogates, and the low ones that stand for bytes which are not UTF-8.
characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.characters(
    min_codepoint=0xDC80, max_codepoint=0xDCFF
)
words = st.text(characters, max_size=8)
paths = st.lists(st.text(characters.filter(lambda c: c != "/"), min_size=1, max_size=6), min_size=1, max_size=3).map(
    lambda names: "/" + "/".join(names)
)
digests = st.binary(max_size=3).map(objects.sha256)
numbers = st.integers(0, 2**40)
xattrs = st.dictionaries(st.sampled_from(["user.a", "system.posix_acl_access"]), st.binary(max_size=4), max_size=2).map(
    lambda found: tuple(sorted(found.items()))
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
names = st.none() | st.integers(0, 65535) | st.sampled_from(["root", "daemon"])
argvs = st.lists(words, min_size=1, max_size=3).map(tuple)
accepts = st.lists(st.integers(0, 255), min_size=1, max_size=2, unique=True).map(tuple)

metadata = st.builds(
    objects.Metadata,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 65535),
    gid=st.integers(0, 65535),
    mtime_ns=numbers,
    xattrs=xattrs,
)
present = (
    st.builds(objects.RegularFile, metadata=metadata, size=numbers, sha256=digests, links=st.integers(1, 3))
    | st.builds(objects.Directory, metadata=metadata)
    | st.builds(objects.Symlink, metadata=metadata, target=words)
    | st.builds(
        objects.Special,
        metadata=metadata,
        special=st.sampled_from(get_args(objects.SpecialType)),
        device=st.integers(0, 9),
    )
)
any_object = st.just(objects.ABSENT) | present
at = st.builds(objects.At, path=paths, object=any_object)

contents = (
    st.builds(
        kinds.Inline, data=st.binary(max_size=8) | words.map(lambda text: text.encode("utf-8", "surrogateescape"))
    )
    | st.builds(kinds.Stored, sha256=digests, size=numbers)
    | st.builds(kinds.CopyOf, path=paths, sha256=digests, size=numbers)
)
touches = st.none() | st.builds(kinds.Touches, paths=st.lists(paths, max_size=2).map(tuple))
probes = st.none() | st.builds(kinds.Probe, argv=argvs, accepts=accepts)
owned = {
    "mode": st.none() | st.integers(0, 0o7777),
    "owner": names,
    "group": names,
    "mtime_ns": st.none() | numbers,
    "xattrs": st.none() | xattrs,
}
removals = st.builds(kinds.Remove, path=paths)
opaque = {
    "description": words,
    "accepts": accepts,
    "touches": touches,
    "guard": probes,
    "done_when": probes,
    "always": st.booleans(),
    "idempotent": st.booleans(),
    "environment": st.dictionaries(words, words, max_size=2),
    "undo": st.builds(kinds.CommandUndo, changes=st.lists(removals, max_size=2).map(tuple), irreversible=words),
    "secret": st.booleans(),
}
changes = st.one_of(
    st.builds(kinds.WriteFile, path=paths, content=contents, secret=st.booleans(), in_place=st.booleans(), **owned),
    st.builds(kinds.EditFile, path=paths, content=contents, edited_sha256=digests, secret=st.booleans()),
    removals,
    st.builds(kinds.MakeDirectory, path=paths, **owned),
    st.builds(kinds.MakeSymlink, path=paths, target=words, owner=names, group=names),
    st.builds(kinds.MakeHardlink, path=paths, existing=paths),
    st.builds(
        kinds.MakeSpecial,
        path=paths,
        special=st.sampled_from(get_args(objects.SpecialType)),
        device=st.integers(0, 9),
        **owned,
    ),
    st.builds(kinds.Move, source=paths, destination=paths),
    st.builds(kinds.SetMetadata, path=paths, **owned),
    st.builds(kinds.Restore, path=paths, object=any_object, kept=st.just("") | paths, secret=st.booleans()),
    st.builds(
        kinds.SetUnit,
        unit=words,
        enabled=st.none() | st.sampled_from(["enabled", "disabled", "masked"]),
        active=st.none() | st.booleans(),
    ),
    st.builds(
        kinds.SetPackages,
        install=st.lists(st.tuples(words, words), max_size=2).map(tuple),
        remove=st.lists(words, max_size=2).map(tuple),
    ),
    st.builds(
        kinds.SetRecord,
        database=st.sampled_from(["passwd", "shadow", "group", "gshadow", "subuid", "subgid"]),
        name=words,
        line=st.none() | words,
        after=st.none() | words,
        below=st.integers(0, 9),
        secret=st.booleans(),
    ),
    st.builds(kinds.RunCommand, argv=argvs, stdin=st.binary(max_size=4), **opaque),
    st.builds(
        kinds.RunScript,
        language=st.sampled_from(["python", "shell"]),
        text=words,
        arguments=json_values,
        **opaque,
    ),
    st.builds(kinds.ReactUnit, unit=words, action=st.sampled_from(["reload", "restart", "stop-sleep-start"])),
    st.builds(kinds.ReactSignal, process=words, signal=st.sampled_from(["HUP", "USR1"])),
    st.builds(kinds.ReactDaemonReload),
    st.builds(kinds.ReactCommand, argv=argvs, description=words, accepts=accepts, may_fail=st.booleans()),
    st.builds(kinds.Validate, path=paths, content=contents, argv=argvs, secret=st.booleans()),
)
undos = st.builds(
    steps.Undo,
    class_=st.sampled_from(get_args(steps.UndoClass)),
    description=words,
    changes=st.lists(changes, max_size=2).map(tuple),
    reason=words,
)
drawn_steps = st.builds(
    steps.Step,
    number=st.integers(1, 9),
    component=words,
    task=words,
    change=changes,
    description=words,
    cause=st.builds(steps.Cause, type=st.sampled_from(["intentional", "corrective", "owed"]), detail=words, run=words),
    before=st.lists(at, max_size=2).map(tuple),
    after=st.lists(at, max_size=2).map(tuple),
    undo=undos,
    undo_order=st.sampled_from(["reversed", "after"]),
    certain=st.sampled_from(["certain", "unknown", "assumption"]),
    because=st.lists(words, max_size=1).map(tuple),
    secret=st.booleans(),
)
