"""The tables of the broker's database.

Each has the columns that something is looked up by, and the whole record as JSON: a record may gain fields without a
migration, a look-up may not. Migrations are in ``broker/migrations``; a test holds the two together.
"""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

branch = Table(
    "branch",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("commit_id", String(64), nullable=False),
    Column("serial", Integer, nullable=False),
    Column("record", Text, nullable=False),
)
host = Table(
    "host",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("branch", String(255), nullable=False, index=True),
    Column("credential", String(64), nullable=True, unique=True),
    Column("record", Text, nullable=False),
)
target = Table(
    "target",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("record", Text, nullable=False),
)
change = Table(
    "change",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("domain", String(255), nullable=False, index=True),
    Column("record", Text, nullable=False),
)
change_host = Table(
    "change_host",
    metadata,
    Column("change", String(64), ForeignKey("change.id"), primary_key=True),
    Column("host", String(255), primary_key=True),
    Column("state", String(16), nullable=False, server_default=""),
    Column("change_set", String(64), nullable=False, server_default=""),
    Column("record", Text, nullable=False),
    Index("change_host_by_host", "host", "state"),
    Index("change_host_by_state", "change", "state", "change_set"),
)
approval = Table(
    "approval",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("change", String(64), nullable=False, index=True),
    Column("record", Text, nullable=False),
)
order = Table(
    "host_order",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("change", String(64), nullable=False),
    Column("expires", Float, nullable=False),
    Column("answered", Integer, nullable=False),
    Column("record", Text, nullable=False),
    Index("host_order_by_host", "host", "answered"),
)
report = Table(
    "report",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("host", String(255), nullable=False),
    Column("id", String(255), nullable=False),
    Column("change", String(64), nullable=False, index=True),
    Column("record", Text, nullable=False),
    Index("report_once", "host", "id", unique=True),
)
content = Table(
    "content",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
person = Table(
    "person",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("token", String(64), nullable=False, unique=True),
    Column("record", Text, nullable=False),
)
join_token = Table(
    "join_token",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("token", String(64), nullable=False, unique=True),
    Column("left", Integer, nullable=False),
    Column("expires", Float, nullable=False),
    Column("record", Text, nullable=False),
)
audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("about", String(255), nullable=False, index=True),
    Column("record", Text, nullable=False),
)
lease = Table(
    "lease",
    metadata,
    Column("domain", String(255), primary_key=True),
    Column("holder", String(255), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("expires", Float, nullable=False),
)
