"""vcstack.controllers: see docs/architecture.md."""
