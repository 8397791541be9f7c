"""States and change-sets of hosts in columns: what a change still waits for is looked up, not read host by host."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: Records that are held in memory at once.
_AT_ONCE = 5000


def upgrade() -> None:
    """Add them, from the records."""
    op.drop_index("change_host_by_host", table_name="change_host")
    for name, length in (("state", 16), ("change_set", 64)):
        op.add_column("change_host", sa.Column(name, sa.String(length), nullable=False, server_default=""))
    _fill()
    op.create_index("change_host_by_host", "change_host", ["host", "state"])
    op.create_index("change_host_by_state", "change_host", ["change", "state", "change_set"])


def _fill() -> None:
    connection = op.get_bind()
    changes = connection.execute(sa.text("SELECT id FROM change")).scalars().all()
    for change in changes:
        rows = connection.execute(sa.text("SELECT host, record FROM change_host WHERE change = :c"), {"c": change})
        for some in rows.partitions(_AT_ONCE):
            values = [_values(change, host, json.loads(record)) for host, record in some]
            connection.execute(
                sa.text("UPDATE change_host SET state = :s, change_set = :d WHERE change = :c AND host = :h"), values
            )


def _values(change: str, host: str, record: dict[str, str]) -> dict[str, str]:
    return {"c": change, "h": host, "s": record["state"], "d": record.get("change_set", "")}


def downgrade() -> None:
    """Take them away."""
    op.drop_index("change_host_by_state", table_name="change_host")
    op.drop_index("change_host_by_host", table_name="change_host")
    for name in ("change_set", "state"):
        op.drop_column("change_host", name)
    op.create_index("change_host_by_host", "change_host", ["host"])
