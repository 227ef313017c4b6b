"""vcstack.store.mirror: see docs/architecture.md."""
