"""vcstack.nodeagent.realizers: see docs/architecture.md."""
