"""Secrets or ConfigMaps in memory, as ``vcstack.programs.kubernetesapi.ClusterObjects`` keeps them in a cluster."""

from vcstack.programs.kubernetesapi import ClusterError


class MemoryObjects:
    """A namespace's objects of one kind."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, bytes]] = {}
        self.types: dict[str, str] = {}
        self.writes: list[str] = []

    def find(self, name: str) -> dict[str, bytes] | None:
        return dict(self.kept[name]) if name in self.kept else None

    def create(self, name: str, data: dict[str, bytes], *, of_type: str = "Opaque") -> bool:
        if name in self.kept:
            return False
        self.kept[name], self.types[name] = dict(data), of_type
        self.writes.append(name)
        return True

    def update(self, name: str, data: dict[str, bytes]) -> None:
        if name not in self.kept:
            raise ClusterError(f"{name} not found", 404)
        self.kept[name] |= data
        self.writes.append(name)
