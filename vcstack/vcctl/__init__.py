"""vcstack.vcctl: see docs/architecture.md."""
