"""vcstack.specs: see docs/architecture.md."""
