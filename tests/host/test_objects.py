"""Two objects compared by what conflicts compare."""

from hypothesis import given
from hypothesis import strategies as st

from aquiline.host.objects import (
    ABSENT,
    Directory,
    Metadata,
    Object,
    RegularFile,
    Special,
    Symlink,
    same_but_times,
    without_times,
)

_metadata = st.builds(
    Metadata,
    mode=st.sampled_from([0o644, 0o755]),
    uid=st.integers(0, 1),
    gid=st.integers(0, 1),
    mtime_ns=st.integers(0, 1),
    xattrs=st.sampled_from([(), (("user.a", b"1"),)]),
)
_objects: st.SearchStrategy[Object] = st.one_of(
    st.just(ABSENT),
    st.builds(RegularFile, _metadata, st.integers(0, 1), st.sampled_from("ab"), st.integers(1, 2)),
    st.builds(Directory, _metadata),
    st.builds(Symlink, _metadata, st.sampled_from("ab")),
    st.builds(Special, _metadata, st.sampled_from(["fifo", "socket"]), st.integers(0, 1)),
)


@given(_objects, _objects)
def test_the_same_but_for_times(one: Object, other: Object) -> None:
    """The quick comparison says of any two objects what comparing them without times says."""

    assert (without_times(one) == without_times(other)) == same_but_times(one, other)


@given(_objects)
def test_an_object_is_as_itself(one: Object) -> None:
    """Every object is the same as itself, and as itself without times."""

    assert same_but_times(one, one)
    assert same_but_times(one, without_times(one))
