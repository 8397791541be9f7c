import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquiline.errors import ProfileError
from aquiline.planning.order import Order, order
from aquiline.profile import ComponentSection


def section(name: str, pre: str = "", post: str = "", *, active: bool = True) -> ComponentSection:
    return ComponentSection(
        name=name, active=active, dispatch=True, pre=tuple(pre.split()), post=tuple(post.split()), configuration={}
    )


def ordered(*sections: ComponentSection) -> Order:
    return order({one.name: one for one in sections})


def test_unrelated_components_stand_as_quattor_puts_them() -> None:
    """Each name is put before those already there, so nothing but dependencies leaves them in reverse alphabet."""

    assert ("c", "b", "a") == ordered(section("a"), section("b"), section("c")).names


def test_pre_and_post_both_order() -> None:
    """`pre` names those before a component, `post` those after it."""

    assert ("d", "c", "a", "b") == ordered(
        section("a", pre="c", post="b"), section("b"), section("c"), section("d")
    ).names


def test_a_loop_is_named() -> None:
    """A loop is an error that names its members in order."""

    with pytest.raises(ProfileError) as raised:
        ordered(section("a", pre="b"), section("b", pre="c"), section("c", pre="a"), section("z", pre="a"))

    assert "/software/components: dependency loop: a < c < b < a" == str(raised.value)


def test_a_component_before_itself_is_a_loop() -> None:
    """The shortest loop is one."""

    with pytest.raises(ProfileError, match="a < a"):
        ordered(section("a", pre="a"))


def test_what_is_not_there_orders_nothing_and_is_said() -> None:
    """A dependency that is missing or inactive blocks nobody and is a line."""
    found = ordered(section("a", pre="spma x", post="y"), section("x", active=False))

    assert (
        Order(
            names=("a",),
            notes=(
                "pre-dependency spma of a is missing: it orders nothing",
                "pre-dependency x of a is inactive: it orders nothing",
                "post-dependency y of a is missing: it orders nothing",
            ),
        )
        == found
    )


def test_chains_may_be_long() -> None:
    """No profile is too long for the sort."""
    chain = [section(f"c{n:05}", pre=f"c{n - 1:05}" if n else "") for n in range(5000)]

    assert tuple(one.name for one in chain) == ordered(*chain).names


@given(st.permutations(range(8)), st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_every_dependency_is_kept(ranks: list[int], edges: set[tuple[int, int]]) -> None:
    """In any graph without loops every component stands after all its pre-dependencies."""
    sections = [
        section(str(one), pre=" ".join(str(two) for two in range(8) if (one, two) in edges and ranks[two] < ranks[one]))
        for one in range(8)
    ]

    names = ordered(*sections).names

    assert all(names.index(before) < names.index(one.name) for one in sections for before in one.pre)
    assert 8 == len(names)
