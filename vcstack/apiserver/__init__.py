"""vcstack.apiserver: see docs/architecture.md."""
