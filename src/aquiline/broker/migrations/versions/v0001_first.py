"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "approval",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("change", sa.String(length=64), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index(op.f("ix_approval_change"), "approval", ["change"], unique=False)
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("about", sa.String(length=255), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index(op.f("ix_audit_about"), "audit", ["about"], unique=False)
    op.create_table(
        "branch",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("commit_id", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "change",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("domain", sa.String(length=255), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
    )
    op.create_index(op.f("ix_change_domain"), "change", ["domain"], unique=False)
    op.create_table(
        "content",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "digest"),
    )
    op.create_table(
        "host",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("branch", sa.String(length=255), nullable=False),
        sa.Column("credential", sa.String(length=64), nullable=True),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sa.UniqueConstraint("credential"),
    )
    op.create_index(op.f("ix_host_branch"), "host", ["branch"], unique=False)
    op.create_table(
        "host_order",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("change", sa.String(length=64), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("host_order_by_host", "host_order", ["host", "answered"], unique=False)
    op.create_table(
        "join_token",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("left", sa.Integer(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token"),
    )
    op.create_table(
        "lease",
        sa.Column("domain", sa.String(length=255), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("domain"),
    )
    op.create_table(
        "person",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sa.UniqueConstraint("token"),
    )
    op.create_table(
        "report",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("change", sa.String(length=64), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index(op.f("ix_report_change"), "report", ["change"], unique=False)
    op.create_index("report_once", "report", ["host", "id"], unique=True)
    op.create_table(
        "target",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("host"),
    )
    op.create_table(
        "change_host",
        sa.Column("change", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["change"], ["change.id"]),
        sa.PrimaryKeyConstraint("change", "host"),
    )
    op.create_index("change_host_by_host", "change_host", ["host"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("change_host_by_host", table_name="change_host")
    op.drop_table("change_host")
    op.drop_table("target")
    op.drop_index("report_once", table_name="report")
    op.drop_index(op.f("ix_report_change"), table_name="report")
    op.drop_table("report")
    op.drop_table("person")
    op.drop_table("lease")
    op.drop_table("join_token")
    op.drop_index("host_order_by_host", table_name="host_order")
    op.drop_table("host_order")
    op.drop_index(op.f("ix_host_branch"), table_name="host")
    op.drop_table("host")
    op.drop_table("content")
    op.drop_index(op.f("ix_change_domain"), table_name="change")
    op.drop_table("change")
    op.drop_table("branch")
    op.drop_index(op.f("ix_audit_about"), table_name="audit")
    op.drop_table("audit")
    op.drop_index(op.f("ix_approval_change"), table_name="approval")
    op.drop_table("approval")
