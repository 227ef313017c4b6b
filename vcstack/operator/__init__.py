"""vcstack.operator: see docs/kubernetes.md."""
