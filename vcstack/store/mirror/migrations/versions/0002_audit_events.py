"""The audit trail's archive, and events for longer than the store keeps them.

All but the text of a record is generated from it, so what queries find by cannot differ from what the hash
was made of.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.execute(
        """
        CREATE TABLE audit (
            record text NOT NULL,
            chain text GENERATED ALWAYS AS (record::jsonb ->> 'chain') STORED,
            seq bigint GENERATED ALWAYS AS ((record::jsonb ->> 'seq')::bigint) STORED,
            time text GENERATED ALWAYS AS (record::jsonb ->> 'time') STORED NOT NULL,
            subject text GENERATED ALWAYS AS (record::jsonb ->> 'subject') STORED,
            verb text GENERATED ALWAYS AS (record::jsonb ->> 'verb') STORED,
            kind text GENERATED ALWAYS AS (record::jsonb ->> 'kind') STORED,
            project text GENERATED ALWAYS AS (record::jsonb ->> 'project') STORED,
            name text GENERATED ALWAYS AS (record::jsonb ->> 'name') STORED,
            outcome text GENERATED ALWAYS AS (record::jsonb ->> 'outcome') STORED,
            request_id text GENERATED ALWAYS AS (record::jsonb ->> 'requestId') STORED,
            PRIMARY KEY (chain, seq)
        );
        CREATE INDEX audit_time ON audit (time, chain, seq);
        CREATE INDEX audit_subject ON audit (subject, time);
        CREATE INDEX audit_object ON audit (kind, project, name, time);
        CREATE INDEX audit_request ON audit (request_id);
        CREATE TABLE events (
            uid text PRIMARY KEY, project text NOT NULL, name text NOT NULL, revision bigint NOT NULL,
            regarding_kind text, regarding_name text, regarding_uid text,
            type text, reason text, message text, actor text, count bigint,
            first_time timestamptz, last_time timestamptz NOT NULL
        );
        CREATE INDEX events_regarding ON events (regarding_kind, project, regarding_name, last_time);
        CREATE INDEX events_last_time ON events (last_time);
        """
    )


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP TABLE events; DROP TABLE audit")
