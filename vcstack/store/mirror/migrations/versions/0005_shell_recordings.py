"""Recordings of shells: what each was, and what was shown in sealed parts."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "shell_recordings",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("project", sa.Text, nullable=False, comment="the project's uid"),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("instance_uid", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("login", sa.Text, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("chunks", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("shell_recordings_project", "shell_recordings", ["project", "started_at", "id"])
    op.create_index("shell_recordings_expires", "shell_recordings", ["expires_at"])
    op.create_table(
        "shell_chunks",
        sa.Column("recording", sa.Text, sa.ForeignKey("shell_recordings.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False, comment="sealed"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("shell_chunks")
    op.drop_table("shell_recordings")
