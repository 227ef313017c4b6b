"""The history of a whole project, the newest first, without a scan."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index; of those who only look at projects, status reports are left out."""
    op.execute("CREATE INDEX history_project ON history (project, revision DESC) WHERE operation <> 'StatusUpdated'")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP INDEX history_project")
