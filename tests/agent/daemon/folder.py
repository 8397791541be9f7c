"""A broker in a folder: it remembers what it was told when the process of an agent that talks to it is killed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from aquiline.agent.daemon.link import BrokerRefused
from aquiline.profile import Profile
from aquiline.profile.loading import parse_json
from aquiline.profile.profile import canonical
from aquiline.protocol.changesets import ChangeSet, change_set_digest
from aquiline.protocol.messages import (
    Order,
    Poll,
    PollAnswer,
    Report,
    ReportAnswer,
    Target,
    decode_message,
    encode_message,
)


class FolderBroker:
    """Keeps everything in files, so that an agent may be killed before it hears the answer. It is a `Link`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("profiles", "reports", "bodies", "orders"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    # ---- what a person does ---------------------------------------------------------------------------------------

    def wants(self, generation: int, profile: Profile, *change_ids: str) -> None:
        """Set the target of the host."""
        target = Target(generation=generation, profile=self.compiles(profile), change_ids=change_ids)
        (self.folder / "target").write_bytes(encode_message(target))

    def compiles(self, profile: Profile) -> str:
        """Keep a profile; return its digest."""
        read = Profile(parse_json(canonical(profile.tree).decode()))
        (self.folder / "profiles" / read.digest).write_bytes(canonical(read.tree))
        return read.digest

    def asks(self, order: Order) -> None:
        """Ask the host something."""
        (self.folder / "orders" / order.id).write_bytes(encode_message(order))

    def reports(self) -> list[Report]:
        """Return the reports that were accepted, in the order in which they came."""
        kept = sorted((self.folder / "reports").glob("[!.]*"), key=lambda path: path.stat().st_mtime_ns)
        return [decode_message(path.read_bytes(), Report) for path in kept]

    def bodies(self) -> set[str]:
        """Return the digests of the bodies that it has."""
        return {path.name for path in (self.folder / "bodies").glob("[!.]*")}

    # ---- what an agent asks ---------------------------------------------------------------------------------------

    def poll(self, poll: Poll) -> PollAnswer:
        place = self.folder / "target"
        answered = {report.order for report in self.reports()}
        orders = [decode_message(path.read_bytes(), Order) for path in sorted((self.folder / "orders").iterdir())]
        return PollAnswer(
            target=decode_message(place.read_bytes(), Target) if place.exists() else None,
            orders=tuple(order for order in orders if order.id not in answered),
            pace=60.0,
        )

    def profile(self, digest: str) -> bytes:
        return (self.folder / "profiles" / digest).read_bytes()

    def report(self, report: Report) -> ReportAnswer:
        place = self.folder / "reports" / hashlib.sha256(report.id.encode()).hexdigest()
        if not place.exists():
            _put(place, encode_message(report))
        return ReportAnswer(wants=(report.change_set,) if report.change_set not in {"", *self.bodies()} else ())

    def send_change_set(self, digest: str, change_set: ChangeSet) -> None:
        if digest != change_set_digest(change_set):
            raise BrokerRefused("another one")
        _put(self.folder / "bodies" / digest, encode_message(change_set))

    def send_schemas(self, digest: str, schemas: bytes) -> None:
        raise AssertionError("nobody wants them")

    def reach(self) -> None:
        """It is there."""


def _put(place: Path, data: bytes) -> None:
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.rename(temporary, place)
