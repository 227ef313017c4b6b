"""The mirror's schema, version by version, applied by alembic when the mirror starts."""
