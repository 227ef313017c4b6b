"""How far back history reaches, when old versions are removed. New tables only: history itself may be large."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "history_floor",
        sa.Column("id", sa.SmallInteger, sa.CheckConstraint("id = 1"), primary_key=True),
        sa.Column(
            "revision",
            sa.BigInteger,
            nullable=False,
            comment="nothing was removed for its age that was needed from here",
        ),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False, comment="the same as a moment"),
    )
    op.create_table(
        "history_cuts",
        sa.Column("project", sa.Text, primary_key=True, comment="empty for global objects"),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False, comment="of the oldest version that is left"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("history_cuts")
    op.drop_table("history_floor")
