"""vcstack.programs: see docs/architecture.md."""
