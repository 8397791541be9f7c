"""The first start of a broker, also one that is killed in the middle of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aquiline.broker import members
from aquiline.broker.api.identity import identify
from aquiline.broker.serving import open_broker
from tests.broker.small import Killed


def test_killed_in_the_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it dies, the next start has a whole repository and an admin whose token is in the file."""
    half = tmp_path / "repository.git.new"
    half.mkdir()
    (half / "HEAD").write_text("half\n")

    def dies(*_: object, **__: object) -> str:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(members, "add_person", dies)
        with pytest.raises(Killed):
            open_broker(tmp_path)

    broker = open_broker(tmp_path)

    found = identify(broker, (tmp_path / "admin.token").read_text().strip())
    assert found is not None
    assert frozenset({"admin"}) == found.roles
    assert not half.exists()
    assert "#!/bin/sh" in (tmp_path / "repository.git/hooks/update").read_text()
    broker.store.close()
