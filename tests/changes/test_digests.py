"""The three digests: what changes each of them, and what does not."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquiline.changes import digests
from aquiline.changes.kinds import EditFile, Inline, RunCommand, RunScript, Stored, Validate, WriteFile
from aquiline.changes.redact import holds_secret
from aquiline.changes.steps import Cause, Step, Undo
from aquiline.host.objects import ABSENT, At, Metadata, Object, RegularFile, sha256
from tests.changes.drawing import drawn_steps

KEY = b"the domain's key"
HOST = {"name": "wn.example.org", "short": "wn"}
OTHER = {"name": "wn3.example.org", "short": "wn3"}


def file(content: bytes, mode: int = 0o644, mtime_ns: int = 1) -> RegularFile:
    return RegularFile(Metadata(mode, 0, 0, mtime_ns), len(content), sha256(content))


def write(path: str, content: bytes, before: Object = ABSENT, mode: int = 0o644, *, secret: bool = False) -> Step:
    return Step(
        number=1,
        component="filecopy",
        task="",
        change=WriteFile(path=path, content=Inline(content), mode=mode, secret=secret),
        description=f"write {path}",
        cause=Cause("intentional", "/software/components/filecopy"),
        before=(At(path, before),),
        after=(At(path, file(content, mode, 0)),),
        undo=Undo("exact", f"remove {path}"),
        secret=secret,
    )


def run(argv: Sequence[str], *, secret: bool = False) -> Step:
    change = RunCommand(argv=tuple(argv), secret=secret)
    undo = Undo("irreversible", "", reason="no way back")
    cause = Cause("intentional")
    return Step(1, "cron", "", change, "run", cause, before=(), after=(), undo=undo, secret=secret)


def all_three(step: Step) -> tuple[str, str, str]:
    found = digests.digests([step], HOST, KEY)
    return found.plan, found.effect, found.shape


@given(st.lists(drawn_steps, max_size=3))
def test_together_is_one_by_one(steps: list[Step]) -> None:
    """Computing all digests at once gives what each of them is alone, for steps of every kind."""
    together = digests.digests(steps, HOST, KEY)

    assert together.plan == digests.plan_digest(steps, KEY)
    assert together.effect == digests.effect_digest(steps, KEY)
    assert together.shape == digests.shape_digest(steps, HOST, KEY)
    assert together.shape == digests.digest_of_shape(json.loads(json.dumps(digests.shape(steps, HOST, KEY))))


@given(st.lists(drawn_steps, max_size=3), st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=2), max_size=2))
def test_a_shape_is_filled_to_the_effect(steps: list[Step], facts: dict[str, str]) -> None:
    """A change-set filled with the facts it was made with is the effect and the words, for steps of every kind."""
    shape = json.loads(json.dumps(digests.shape(steps, facts, KEY)))
    words = [{"component": s.component, "description": s.description, "certain": s.certain} for s in steps]

    effect = json.loads(json.dumps(digests.effect(steps, KEY)))

    assert [row | word for row, word in zip(effect, words, strict=True)] == digests.fill(shape, facts)


@given(drawn_steps, drawn_steps)
def test_two_effects_never_share_a_shape_on_one_host(step: Step, other: Step) -> None:
    """On one host, steps with one shape have one effect."""
    same_shape = digests.shape_digest([step], HOST, KEY) == digests.shape_digest([other], HOST, KEY)

    assert same_shape <= (digests.effect([step], KEY) == digests.effect([other], KEY))


@given(drawn_steps.filter(lambda step: not holds_secret(step)))
def test_content_counts_not_where_it_lies(step: Step) -> None:
    """Inline content and the same content in the store have the same digests."""
    change = step.change
    if isinstance(change, WriteFile | EditFile | Validate):
        stored = Stored(sha256=change.content.sha256, size=change.content.size)
        moved = msgspec.structs.replace(step, change=msgspec.structs.replace(change, content=stored))
    else:
        moved = step

    assert digests.effect_digest([step], KEY) == digests.effect_digest([moved], KEY)


def test_a_touched_file_is_another_plan_and_the_same_effect() -> None:
    """The prior modification time decides staleness; it is no part of what is done."""
    plan, effect, shape = all_three(write("/etc/motd", b"new", file(b"old", mtime_ns=1)))
    later_plan, later_effect, later_shape = all_three(write("/etc/motd", b"new", file(b"old", mtime_ns=2)))

    assert plan != later_plan
    assert (effect, shape) == (later_effect, later_shape)


@pytest.mark.parametrize(
    "other",
    [
        write("/etc/issue", b"new", file(b"old")),
        write("/etc/motd", b"newer", file(b"old")),
        write("/etc/motd", b"new", file(b"older")),
        write("/etc/motd", b"new", file(b"old"), mode=0o755),
        write("/etc/motd", b"new"),
        msgspec.structs.replace(write("/etc/motd", b"new", file(b"old")), undo=Undo("irreversible", "")),
        msgspec.structs.replace(write("/etc/motd", b"new", file(b"old")), undo_order="after"),
    ],
)
def test_what_is_another_effect(other: Step) -> None:
    """Path, content, mode, what was there before, class and order of undo: each is part of all three digests."""
    found = all_three(write("/etc/motd", b"new", file(b"old")))

    assert all(one != two for one, two in zip(found, all_three(other), strict=True))


def test_wording_is_no_effect() -> None:
    """A better sentence, another number or another reason is the same effect."""
    step = write("/etc/motd", b"new")
    reworded = msgspec.structs.replace(step, description="say hello", number=7, cause=Cause("corrective"))

    assert digests.effect_digest([step], KEY) == digests.effect_digest([reworded], KEY)


def test_order_counts() -> None:
    """The same steps in another order are another plan and effect."""
    one, two = write("/a", b""), write("/b", b"")

    assert digests.digests([one, two], {}, KEY).effect != digests.digests([two, one], {}, KEY).effect


def test_hosts_that_differ_in_their_own_facts_group() -> None:
    """Name in path, content, argv and description: one shape; any other difference: two."""

    def steps_of(facts: dict[str, str], port: int) -> list[Step]:
        name = facts["name"]
        return [
            write(f"/etc/pki/{name}.conf", f"listen {name}:{port} # {facts['short']}\n".encode()),
            run(["hostnamectl", "set-hostname", name]),
        ]

    digest = digests.shape_digest(steps_of(HOST, 80), HOST, KEY)

    assert digest == digests.shape_digest(steps_of(OTHER, 80), OTHER, KEY)
    assert digest != digests.shape_digest(steps_of(OTHER, 81), OTHER, KEY)
    assert digest != digests.shape_digest(steps_of(HOST, 80), OTHER, KEY)


def test_prior_content_groups_where_it_can_be_read() -> None:
    """What stood there before is shaped too, if whoever asks can give its content."""
    old, other_old = b"old wn.example.org\n", b"old wn3.example.org\n"
    step, other = write("/etc/motd", b"new", file(old)), write("/etc/motd", b"new", file(other_old))

    assert digests.shape_digest([step], HOST, KEY) != digests.shape_digest([other], OTHER, KEY)
    assert digests.shape_digest([step], HOST, KEY, lambda _: old) == digests.shape_digest(
        [other], OTHER, KEY, lambda _: other_old
    )


def test_a_shape_shows_the_placeholders() -> None:
    """The change-set holds texts with the facts' names in place of the facts."""
    (row,) = digests.shape([write("/etc/wn.example.org", b"I am wn\n")], HOST, KEY)

    assert "write /etc/⟦name⟧" == row["description"]
    assert {"text": "I am ⟦short⟧\n"} == row["change"]["content"]
    assert {"text": "I am ⟦short⟧\n"} == row["after"][0][1]["content"]


SECRETS = [
    (write("/etc/app", b"hunter2", file(b"hunter1"), secret=True), write("/etc/app", b"hunter3", secret=True)),
    (write("/etc/app", b"hunter2", file(b"hunter1"), mode=0o600), write("/etc/app", b"hunter3", mode=0o600)),
    (write("/etc/shadow", b"hunter2", file(b"hunter1")), write("/etc/shadow", b"hunter3")),
    (run(["login", "hunter2"], secret=True), run(["login", "hunter3"], secret=True)),
]


@pytest.mark.parametrize(("step", "other"), SECRETS)
def test_a_secret_leaves_only_a_keyed_hash(step: Step, other: Step) -> None:
    """Neither a secret nor its plain digest, prior ones included, is in effect or shape; equal ones still group."""
    rows = json.dumps([digests.effect([step], KEY), digests.shape([step], HOST, KEY)])

    for value in (b"hunter1", b"hunter2"):
        assert value.decode() not in rows
        assert sha256(value) not in rows
    assert digests.effect([step], KEY) == digests.effect([step], KEY)
    assert digests.effect([step], KEY) != digests.effect([step], b"another domain's key")
    assert digests.effect([step], KEY) != digests.effect([other], KEY)
    assert digests.plan_digest([step], KEY) != digests.plan_digest([step], b"another domain's key")


def test_a_prior_secret_leaves_nothing() -> None:
    """Two hosts with different old secrets and the same new one have one effect."""
    step, other = (write("/etc/app", b"new", file(old, 0o600), mode=0o600) for old in (b"one", b"two"))

    assert digests.effect([step], KEY) == digests.effect([other], KEY)


def test_the_validation_of_a_secret_is_one() -> None:
    """Content that another step makes private is hidden in the step that validates it."""
    validation = msgspec.structs.replace(
        run([]), change=Validate(path="/etc/sudoers.d/app", content=Inline(b"hunter2"), argv=("visudo", "-cf", "{}"))
    )
    rows = json.dumps(digests.shape([validation, write("/etc/sudoers.d/app", b"hunter2", mode=0o440)], HOST, KEY))

    assert "hunter2" not in rows
    assert sha256(b"hunter2") not in rows


def test_scripts_are_shaped() -> None:
    """Facts in a script's text and arguments are placeholders too."""
    change = RunScript(language="shell", text="echo wn.example.org", arguments={"hosts": ["wn"]})
    (row,) = digests.shape([msgspec.structs.replace(run([]), change=change)], HOST, KEY)

    assert "echo ⟦name⟧" == row["change"]["text"]
    assert {"hosts": ["⟦short⟧"]} == row["change"]["arguments"]


def test_digests_of_this_version() -> None:
    """The digests of a known plan, so that a change of the form without a change of its version is seen."""
    found = digests.digests([write("/etc/motd", b"hello wn\n", file(b"old"))], HOST, KEY)

    expected = ("0eedaeef6a5bb4fd", "a65754e8d9c2af58", "7e9cf6839ae6a7d5")

    assert expected == (found.plan[:16], found.effect[:16], found.shape[:16])
