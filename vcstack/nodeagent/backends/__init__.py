"""vcstack.nodeagent.backends: see docs/architecture.md."""
