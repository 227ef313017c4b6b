"""The domain of audit records, by which a domain's auditors find what lies outside of projects."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and its index."""
    op.execute(
        """
        ALTER TABLE audit ADD COLUMN domain text GENERATED ALWAYS AS (record::jsonb ->> 'domain') STORED;
        CREATE INDEX audit_domain ON audit (domain, time) WHERE domain IS NOT NULL;
        """
    )


def downgrade() -> None:
    """Drop them."""
    op.execute("ALTER TABLE audit DROP COLUMN domain")
