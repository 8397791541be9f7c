"""What this host's components take, as JSON Schema, so that a broker can check profiles without any component (D24)."""

from __future__ import annotations

import hashlib
from functools import cached_property

from aquiline.changes.canonical import encode
from aquiline.components import installed
from aquiline.profile.schema import json_schema


class Schemas:
    """The schemas of the components that are installed here, by the name of each."""

    @cached_property
    def body(self) -> bytes:
        """Return them as canonical JSON: component to its schema, which has its version."""
        found = {name: json_schema(component) for name, component in sorted(installed().items())}
        return encode(found).encode("ascii")

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the body."""
        return hashlib.sha256(self.body).hexdigest()
