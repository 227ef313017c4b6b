"""The first schema: resources, history, position.

Spelled out and not taken from tables.py, which moves on while this version stays as it is.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.execute(
        """
        CREATE TABLE resources (
            kind text NOT NULL, project text NOT NULL, name text NOT NULL,
            uid text NOT NULL, revision bigint NOT NULL, generation bigint NOT NULL, ready text,
            created_at timestamptz, deletion_requested_at timestamptz,
            labels jsonb NOT NULL, object jsonb NOT NULL,
            PRIMARY KEY (kind, project, name)
        );
        COMMENT ON COLUMN resources.project IS 'empty for global objects';
        CREATE INDEX resources_object ON resources USING gin (object jsonb_path_ops);
        CREATE INDEX resources_uid ON resources (uid);
        CREATE TABLE history (
            kind text NOT NULL, project text NOT NULL, name text NOT NULL, revision bigint NOT NULL,
            uid text NOT NULL, operation text NOT NULL, actor text NOT NULL, manager text NOT NULL,
            recorded_at timestamptz NOT NULL, object jsonb, diff jsonb NOT NULL,
            PRIMARY KEY (kind, project, name, revision)
        );
        CREATE INDEX history_uid ON history (uid);
        CREATE INDEX history_recorded_at ON history (recorded_at);
        CREATE TABLE position (id smallint PRIMARY KEY CHECK (id = 1), revision bigint NOT NULL);
        """
    )


def downgrade() -> None:
    """Drop them; the mirror can always be rebuilt, history cannot."""
    op.execute("DROP TABLE position; DROP TABLE history; DROP TABLE resources CASCADE")
