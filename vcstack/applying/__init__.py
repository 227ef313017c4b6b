"""Apply sets on top of the API: manifests in order, pruning, plans. Used by vcctl, Git sources and the operator."""
