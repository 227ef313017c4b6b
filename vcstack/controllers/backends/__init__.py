"""vcstack.controllers.backends: see docs/architecture.md."""
