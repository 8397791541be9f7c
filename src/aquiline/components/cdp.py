"""How Quattor's cdp-listend waits for the word that there is a new profile.

Schema and behaviour are Quattor's ncm-cdp; docs/reference/components/cdp.md says where ours differs.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from aquiline.changes.kinds import Inline, ReactUnit, WriteFile
from aquiline.components.settings import AbsolutePath, Natural, lines
from aquiline.planning.component import Changes, Component, Task, View


class Configuration(msgspec.Struct, frozen=True, kw_only=True, rename={"config_file": "configFile"}):
    """What ``/software/components/cdp`` holds: settings of cdp-listend.conf(5), left out where they are not given."""

    config_file: AbsolutePath = "/etc/cdp-listend.conf"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    hostname: str | None = None
    #: Programs run at notifications.
    nch: AbsolutePath | None = None
    fetch: AbsolutePath | None = None
    #: Seconds.
    nch_smear: Natural | None = None
    fetch_smear: Natural | None = None
    fetch_offset: Natural | None = None


class Cdp(Component[Configuration]):
    """Quattor's cdp."""

    name = "cdp"
    version = "1"
    configuration = Configuration

    def configure(self, configuration: Configuration, host: View) -> Changes:  # noqa: ARG002 - it need not look
        """Yield the file; its change restarts the listener."""
        path = configuration.config_file
        yield Task(
            description=f"say in {path} how notifications are waited for",
            changes=(
                WriteFile(
                    path=path, content=Inline(lines(configuration, "/software/components/cdp", " = ")), mode=0o644
                ),
            ),
            reactions=(ReactUnit(unit="cdp-listend.service", action="restart"),),
        )
