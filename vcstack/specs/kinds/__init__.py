"""vcstack.specs.kinds: see docs/architecture.md."""
