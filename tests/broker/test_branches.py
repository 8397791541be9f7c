"""Branches that come and go, while people push."""

import subprocess
from pathlib import Path

import pytest

from aquiline.broker import members
from aquiline.broker.broker import Asker, Broker, NotFound, Refused
from aquiline.broker.compiling import Layers
from aquiline.broker.repository import Repository
from aquiline.broker.sqlstore import SqlStore
from aquiline.errors import RepositoryError
from tests.broker.small import ALICE, Fleet

ADA = Asker("ada")


class Raced(Repository):
    """A repository to which somebody pushes the instant that a branch is there."""

    said = ""

    def add_branch(self, name: str, start: str) -> str:
        made = super().add_branch(name, start)
        clone = self.path.parent / "clone"
        script = f"""
            git clone --quiet {self.path} {clone} && cd {clone} && git checkout --quiet {name}
            git -c user.name=eve -c user.email=eve@localhost commit --quiet --allow-empty -m push
            git push --quiet origin HEAD:{name}
        """
        self.said = subprocess.run(["sh", "-c", script], check=False, capture_output=True, text=True).stderr
        return made


def test_a_domain_is_protected_before_it_is_there(tmp_path: Path) -> None:
    """There is no instant at which a new domain can be pushed to."""
    Repository.create(tmp_path / "site.git")
    repository = Raced(tmp_path / "site.git")
    broker = Broker(SqlStore.in_file(tmp_path / "broker.db"), repository, Layers())

    made = members.add_domain(broker, "prod", ADA)

    assert "prod is a domain: it moves by `aquiline deploy` only" in repository.said
    assert made.commit == repository.head("prod")
    broker.store.close()


def test_a_branch_that_was_pushed_first(fleet: Fleet) -> None:
    """A branch that somebody pushed becomes a sandbox with what is in it, and never a domain."""
    box = fleet.sandbox({"common/motd": "x"})
    for name in ("theirs", "qa"):
        fleet.repository.add_branch(name, box)

    made = members.add_sandbox(fleet.broker, "theirs", ALICE, start="prod")
    with pytest.raises(Refused, match="has pushed a branch qa"):
        members.add_domain(fleet.broker, "qa", ALICE, start="prod")

    assert made.commit == fleet.repository.head(box)
    fleet.people.push("qa", {"common/motd": "y"})
    members.add_sandbox(fleet.broker, "qa", ALICE, start="prod")


def test_a_branch_starts_where_hosts_are(fleet: Fleet) -> None:
    """A sandbox begins as the database says its domain is, not where the ref is on its way to; or nowhere."""
    live = fleet.branch().commit
    box = fleet.sandbox({"common/motd": "x"})
    fleet.repository.move("prod", expected=live, to=fleet.repository.head(box))

    assert live == members.add_sandbox(fleet.broker, "new", ALICE, start="prod").commit
    assert fleet.repository.head(box) == members.add_domain(fleet.broker, "qa", ALICE, start=box).commit
    with pytest.raises(NotFound):
        members.add_domain(fleet.broker, "dev", ALICE, start="nowhere")
    with pytest.raises(RepositoryError):
        members.add_domain(fleet.broker, "no name", ALICE)


def test_an_id_is_never_used_again(fleet: Fleet) -> None:
    """A sandbox that is removed and made again goes on counting: its first changes stay to be read."""
    members.add_sandbox(fleet.broker, "mine", ALICE, start="prod")
    first = members.manage(fleet.broker, "web1", ALICE, branch="mine")
    members.manage(fleet.broker, "web1", ALICE, branch="prod")
    members.remove_sandbox(fleet.broker, "mine", ALICE)

    members.add_sandbox(fleet.broker, "mine", ALICE, start="prod")
    second = members.manage(fleet.broker, "web2", ALICE, branch="mine")

    assert first.id != second.id
    with fleet.store.transaction() as tx:
        assert first == tx.change(first.id)
