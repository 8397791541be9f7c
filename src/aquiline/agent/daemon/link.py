"""What an agent asks of its broker, whatever lies between them."""

from __future__ import annotations

from typing import Protocol

from aquiline.errors import AquilineError
from aquiline.protocol.changesets import ChangeSet
from aquiline.protocol.messages import Poll, PollAnswer, Report, ReportAnswer


class BrokerAway(AquilineError):
    """The broker did not answer, or could not: ask again later."""


class BrokerRefused(AquilineError):
    """The broker understood and said no: asking again as before will not help."""


class Link(Protocol):
    """The way to a broker. Where a method fails it MUST raise `BrokerAway` or `BrokerRefused`."""

    def poll(self, poll: Poll) -> PollAnswer:
        """Say where the host stands and ask for work; may take as long as `poll.wait`."""
        ...

    def profile(self, digest: str) -> bytes:
        """Return the JSON of a profile. The caller recomputes its digest."""
        ...

    def report(self, report: Report) -> ReportAnswer:
        """Say what happened. Saying it again MUST do no harm."""
        ...

    def send_change_set(self, digest: str, change_set: ChangeSet) -> None:
        """Send what a report named by digest."""
        ...

    def send_schemas(self, digest: str, schemas: bytes) -> None:
        """Send the schemas of this host's components, which a poll named by digest."""
        ...

    def reach(self) -> None:
        """Return once a confirmer has answered over a NEW connection; one that was open before proves nothing."""
        ...
