"""vcstack.store: see docs/architecture.md."""
