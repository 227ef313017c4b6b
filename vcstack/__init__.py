"""vcstack: see docs/architecture.md."""
