"""Which project a namespace stands for.

By default the one of its name. The annotation ``kubernetes.vcstack.io/project`` names another, and ``-`` says that the
namespace is for what lies outside projects: global objects of kinds that may be global.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vcstack.operator.kubernetes import Kubernetes
from vcstack.operator.settings import NamespaceMode
from vcstack.specs.registry import KindDefinition, Scope

PREFIX = "kubernetes.vcstack.io/"
"""Of annotations that are said to the operator, or by it."""
PROJECT = f"{PREFIX}project"
OUTSIDE = "-"


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects of a namespace go."""

    project: str | None
    """None: outside projects."""


class NoPlace(Exception):
    """The namespace stands for no place where the kind's objects could lie."""


class Places:
    """What the namespaces' annotations say; told of changes by the watch."""

    def __init__(self, kubernetes: Kubernetes, mode: NamespaceMode) -> None:
        self._kubernetes = kubernetes
        self._mode = mode
        self._projects: dict[str, str] = {}

    def note(self, namespace: str, annotations: Mapping[str, str] | None) -> bool:
        """Remember a namespace; None: it is gone. Return whether that changes where its objects go."""
        if annotations is None:
            return self._projects.pop(namespace, None) is not None
        project = annotations.get(PROJECT, "")
        changed = self._projects.get(namespace) != project
        self._projects[namespace] = project
        return changed

    async def find(self, definition: KindDefinition, namespace: str | None) -> Place:
        """Return where an object of the kind goes. Raises NoPlace, KubernetesError."""
        if namespace is None:
            return Place(None)
        if namespace not in self._projects:
            found = await self._kubernetes.find(f"/api/v1/namespaces/{namespace}")
            self.note(namespace, ((found or {}).get("metadata") or {}).get("annotations") or {})
        named = self._projects.get(namespace, "")
        if named == OUTSIDE:
            if definition.scope is Scope.PROJECT:
                message = f"namespace {namespace} stands for no project, and objects of {definition.kind} lie in one"
                raise NoPlace(message)
            return Place(None)
        if not named and self._mode is NamespaceMode.ANNOTATED:
            raise NoPlace(f"namespace {namespace} stands for no project: annotate it with {PROJECT}")
        return Place(named or namespace)
