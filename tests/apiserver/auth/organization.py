"""People, grants and places in a store, written as the parts responsible would, for tests of access."""

from typing import Any

from tests.store.objects import ADMIN, CONTROLLER, Wire
from vcstack.specs.errors import ApiError
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store


class Org:
    """Short words for writing objects of identity."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def put(self, kind: str, name: str, spec: Wire | None = None, project: str | None = None) -> None:
        """Create it, or give it this spec, even where references are missing."""
        definition = get_kind(kind)
        metadata = {"name": name, **({"project": project} if project else {})}
        wire = {"metadata": metadata, "spec": spec or {}}
        if self.store.cache.find(definition, f"{project or '-'}/{name}") is None:
            actor = CONTROLLER if definition.system_only else ADMIN
            await self.store.create(definition, wire, actor=actor, allow_missing_references=True)
        else:
            await self.store.replace(definition, project, name, wire, actor=ADMIN, allow_missing_references=True)

    async def remove(self, kind: str, name: str, project: str | None = None, *, wholly: bool = True) -> None:
        """Delete it; wholly: with what holds it back."""
        definition = get_kind(kind)
        if await self.store.delete(definition, project, name, actor=ADMIN) is not None and wholly:
            await self.store.finalize(definition, project, name, list(definition.finalizers), actor=CONTROLLER)

    async def bind(
        self, name: str, subject: tuple[str, ...], role: str, project: str | None = None, **spec: Any
    ) -> None:
        """Bind a role to ("User", name), ("Group", name) or ("ServiceAccount", name, project)."""
        who = dict(zip(("kind", "name", "project"), subject, strict=False))
        await self.put("RoleBinding", name, {"subject": who, "role": role, **spec}, project)

    async def try_(self, verb: str, *args: Any, **options: Any) -> bool:
        """Do it; return whether it was not refused."""
        try:
            await getattr(self, verb)(*args, **options)
        except ApiError:
            return False
        return True


def rule(verbs: str, kinds: str, selector: str = "", subresources: str = "") -> Wire:
    """Return a rule: words separated by spaces."""
    wire: Wire = {"verbs": verbs.split(), "kinds": kinds.split()}
    if subresources:
        wire["subresources"] = subresources.split()
    return {**wire, "labelSelector": selector} if selector else wire
