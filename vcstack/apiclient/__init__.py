"""vcstack.apiclient: see docs/architecture.md."""
