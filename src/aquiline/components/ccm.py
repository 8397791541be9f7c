"""Where Quattor's ccm fetches the host's profile from, and how it keeps it.

Schema and behaviour are Quattor's ncm-ccm; docs/reference/components/ccm.md says where ours differs.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from aquiline.changes.kinds import Inline, Validate, WriteFile
from aquiline.components.settings import AbsolutePath, Natural, lines
from aquiline.planning.component import Changes, Component, Task, View

_FETCH = "/usr/sbin/ccm-fetch"
Switch = Annotated[int, msgspec.Meta(ge=0, le=1)]


class Configuration(msgspec.Struct, frozen=True, kw_only=True, rename={"config_file": "configFile"}):
    """What ``/software/components/ccm`` holds: settings of ccm.conf(5), left out where they are not given."""

    config_file: AbsolutePath = "/etc/ccm.conf"
    profile: str | None = None
    profile_failover: tuple[str, ...] | None = None
    base_url: str | None = None
    context: str | None = None
    cache_root: AbsolutePath | None = None
    get_timeout: Natural | None = None
    lock_retries: Natural | None = None
    lock_wait: Natural | None = None
    retrieve_retries: Natural | None = None
    retrieve_wait: Natural | None = None
    cert_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    ca_file: AbsolutePath | None = None
    ca_dir: AbsolutePath | None = None
    principal: str | None = None
    keytab: AbsolutePath | None = None
    trust: tuple[str, ...] | None = None
    group_readable: str | None = None
    world_readable: Switch | None = None
    force: Switch | None = None
    debug: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    dbformat: Literal["DB_File", "CDB_File", "GDBM_File"] | None = None
    json_typed: bool | None = None
    tabcompletion: bool | None = None
    keep_old: Natural | None = None
    purge_time: Natural | None = None


class Ccm(Component[Configuration]):
    """Quattor's ccm."""

    name = "ccm"
    version = "1"
    configuration = Configuration

    def configure(self, configuration: Configuration, host: View) -> Changes:  # noqa: ARG002 - it need not look
        """Yield the file, which a fetch by it must find good before it is written."""
        content = Inline(lines(configuration, "/software/components/ccm", " ", list_separator=","))
        path = configuration.config_file
        yield Task(
            description=f"say in {path} where the profile comes from",
            changes=(
                Validate(path=path, content=content, argv=(_FETCH, "--cfgfile", "{}"), timeout=300),
                WriteFile(path=path, content=content, mode=0o644),
            ),
        )
