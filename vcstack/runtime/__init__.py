"""vcstack.runtime: see docs/architecture.md."""
