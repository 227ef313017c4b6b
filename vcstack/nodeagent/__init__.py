"""vcstack.nodeagent: see docs/architecture.md."""
