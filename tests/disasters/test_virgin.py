"""A host that never had a run: questions are answered, and leave nothing behind."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Host
from tests.engine.site import tree

from .conftest import Ask

QUESTIONS = {
    ("status",): 0, ("log",): 0, ("fsck",): 0, ("verify",): 0, ("gc",): 0, ("gc", "--purge-secrets"): 0,
    ("recover",): 0, ("recover", "--finish"): 0, ("confirm",): 2, ("undo",): 2, ("undo", "--last", "2"): 0,
    ("redo", "abc"): 2, ("show", "last"): 2, ("blame", "/etc/motd"): 2, ("thaw",): 0,
}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_nothing_is_made(host: Host, ask: Ask, question: tuple[str, ...]) -> None:
    """No state directory comes of what has nothing to do."""
    before = tree(host.root)

    assert QUESTIONS[question] == ask(*question)[0]
    assert before == tree(host.root)
