"""What a host may see: itself, the objects bound to it, and what those refer to (the node authorizer).

Read from the store's cache, so a decision costs no round trip beyond the proof that the cache is fresh.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from vcstack.apiserver.targets import Target
from vcstack.clock import Clock
from vcstack.specs.columns import find_value
from vcstack.specs.errors import Forbidden, NotFound
from vcstack.specs.introspect import iter_wire_references
from vcstack.specs.kinds.host import Host
from vcstack.specs.kinds.port import Port
from vcstack.specs.registry import KindDefinition, Scope, definition_of, get_kind, load_kinds
from vcstack.specs.resource import Ref
from vcstack.store.store import Store

FOUND_SECONDS = 5.0
"""How long a reference once found stays good. What was not found is looked for again at once."""
DEPTH_LIMIT = 4
"""Instance → Port → Subnet → Network."""

Wire = Mapping[str, Any]


class HostReach:
    """Answers whether something belongs to a host."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._found: dict[str, tuple[float, frozenset[Ref]]] = {}

    async def demand_registered(self, host: str) -> None:
        """Return when the host's object is there. Raises Forbidden: a removed host has no rights left."""
        try:
            await self._store.get(definition_of(Host), None, host)
        except NotFound as error:
            raise Forbidden(f"host {host} is not registered; join again with a new token") from error

    async def is_bound(self, host: str, target: Target) -> bool:
        """Return whether the object names that host where its kind names hosts."""
        path = target.definition.node_path
        try:
            found = await self._store.get(target.definition, target.project, target.name)
        except NotFound:
            return False
        return path is not None and find_value(found.wire, path) == host

    async def regards(self, host: str, project: str | None, regarding: Wire) -> bool:
        """Return whether an event about that object is the host's to write."""
        kind, name = regarding.get("kind"), regarding.get("name")
        definition = load_kinds().get(kind) if isinstance(kind, str) else None
        if definition is None or not isinstance(name, str):
            return False
        if definition.kind == Host.KIND:
            return name == host
        return await self.is_bound(host, Target(definition, project, name))

    async def owns_event(self, host: str, target: Target) -> bool:
        """Return whether an event that is there regards something of the host's."""
        try:
            found = await self._store.get(target.definition, target.project, target.name)
        except NotFound:
            return False
        return await self.regards(host, target.project, found.wire["spec"]["regarding"])

    async def is_referred_to(self, host: str, target: Target) -> bool:
        """Return whether something bound to the host refers to the object, directly or through others."""
        wanted, now = target.ref, self._clock.monotonic()
        since, refs = self._found.get(host, (0.0, frozenset[Ref]()))
        if wanted in refs and now - since < FOUND_SECONDS:
            return True
        refs = await self._collect(host)
        self._found[host] = (now, refs)
        return wanted in refs

    async def _collect(self, host: str) -> frozenset[Ref]:
        found: set[Ref] = set()
        queue: deque[tuple[int, KindDefinition, Wire]] = deque()
        for definition in load_kinds().values():
            if definition.node_path and definition.kind != Host.KIND:
                queue.extend((0, definition, wire) for wire in await self._list_bound(definition, host))
        while queue:
            depth, definition, wire = queue.popleft()
            for ref in _references(definition, wire):
                if ref in found:
                    continue
                found.add(ref)
                target = get_kind(ref.kind)
                if depth + 1 < DEPTH_LIMIT and (next_wire := await self._find(target, ref)) is not None:
                    queue.append((depth + 1, target, next_wire))
        return frozenset(found)

    async def _list_bound(self, definition: KindDefinition, host: str) -> list[Wire]:
        page = await self._store.list(definition, None, field_selector=f"{definition.node_path}={host}")
        return [orjson.loads(item) for item in page.items]

    async def _find(self, definition: KindDefinition, ref: Ref) -> Wire | None:
        try:
            return (await self._store.get(definition, ref.project, ref.name)).wire
        except NotFound:
            return None


def _references(definition: KindDefinition, wire: Wire) -> Iterable[Ref]:
    """Yield what the object may mean: a name stands for the project's own object or for a global one."""
    project = wire["metadata"].get("project")
    named = [(r.kind, r.name) for r in iter_wire_references(definition.model, wire)]
    if definition.kind == Port.KIND:
        named += [("Subnet", a["subnet"]) for a in (wire.get("status") or {}).get("addresses") or ()]
    for kind, name in named:
        scope = get_kind(kind).scope
        if scope is not Scope.GLOBAL and project is not None:
            yield Ref(kind, project, name)
        if scope is not Scope.PROJECT:
            yield Ref(kind, None, name)
