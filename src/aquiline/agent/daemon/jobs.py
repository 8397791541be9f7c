"""What an agent is set to do, and how that ended: values that go through a file from one process to another."""

from __future__ import annotations

import msgspec

from aquiline.agent.daemon.memory import FINAL, Result
from aquiline.protocol.messages import Order, Target


class Reach(msgspec.Struct, frozen=True, tag="reach"):
    """Bring the host to its target."""

    target: Target


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """Answer an order."""

    order: Order


Job = Reach | Answer


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a job ended."""

    #: Of a target, what was made of it; ``reached`` of an order that was answered.
    result: Result
    exit_status: int = 0
    because: str = ""

    @property
    def is_final(self) -> bool:
        """Return whether trying it again would be of no use."""
        return self.result in FINAL
