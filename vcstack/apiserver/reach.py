"""What a host may see: itself, the objects bound to it, and what those refer to (the node authorizer).

Read from the store's cache, which is proven fresh once for a request; the decision itself costs no round trip.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from vcstack.apiserver.targets import Target
from vcstack.specs.columns import find_value
from vcstack.specs.errors import Forbidden
from vcstack.specs.introspect import iter_wire_references
from vcstack.specs.kinds.host import Host
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.port import Port
from vcstack.specs.model import split_lent
from vcstack.specs.registry import KindDefinition, Scope, definition_of, get_kind, load_kinds
from vcstack.specs.resource import Ref
from vcstack.store.etcd.ops import Compare
from vcstack.store.keys import object_key, row_of
from vcstack.store.store import Store
from vcstack.store.table import Entry

JOIN_AGAIN = "to join again, remove pki/host.crt in vc-compute's stateDir, give it a new join token and restart it"
IN_SERVICE_AGAIN = "if that is not so, an administrator has to set spec.outOfService of the Host to false"
DEPTH_LIMIT = 4
"""Instance → Port → Subnet → Network."""

Wire = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is asked of a Host at each request of it, with the entry that it was read from."""

    entry: Entry
    uid: str
    out_of_service: bool


class HostReach:
    """Answers whether something belongs to a host."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, _Known] = {}

    async def demand_registered(self, host: str, uid: str, *, fresh: bool = True) -> None:
        """Return when the very Host is there; what is asked after that is answered from the same state.

        Args:
            host: its name.
            uid: of the Host that the certificate was issued for; another machine may have joined under the name.
            fresh: False takes the word of a cache that shows the host, without proof that it is still so.

        Raises:
            Forbidden: a host that was removed, or is out of service, has no rights.
        """
        if not fresh and self.find_refusal(host, uid) is None:
            return
        await self._store.cache.fresh()
        refusal = self.find_refusal(host, uid)
        if refusal is not None:
            raise refusal

    def find_refusal(self, host: str, uid: str) -> Forbidden | None:
        """Return why that host has no rights, as the cache says; None: it is registered."""
        found = self._find_host(host)
        if found is None:
            return Forbidden(f"host {host} is not registered; {JOIN_AGAIN}")
        if found.uid != uid:
            was = f"the certificate is of a host {host} that was removed, and another Host has the name now"
            return Forbidden(f"{was}; {JOIN_AGAIN}, under another hostName if another machine has this one")
        return out_of_service(host) if found.out_of_service else None

    def rest_on_registration(self, host: str, uid: str) -> Compare:
        """Return what has to hold for the very Host to be there still. Raises Forbidden when it is not there now."""
        refusal = self.find_refusal(host, uid)
        if refusal is not None:
            raise refusal
        return self._as_it_is(definition_of(Host), None, host)

    def rest_on_regarded(self, project: str | None, regarding: Wire) -> Compare:
        """Return what has to hold for what an event regards to be as it is now, when ``regards`` said that it may."""
        return self._as_it_is(get_kind(regarding["kind"]), project, regarding["name"])

    def _as_it_is(self, definition: KindDefinition, project: str | None, name: str) -> Compare:
        row = row_of(project, name)
        entry = self._store.cache.find(definition, row)
        return Compare.mod_revision(object_key(definition, row), "=", entry.revision if entry is not None else 0)

    def is_bound(self, host: str, target: Target) -> bool:
        """Return whether the object names that host where its kind names hosts."""
        path = target.definition.node_path
        found = self._find(target.definition, target.project, target.name)
        return path is not None and found is not None and find_value(found, path) == host

    def regards(self, host: str, project: str | None, regarding: Wire) -> bool:
        """Return whether an event about that object, and in that project, is the host's to write."""
        kind, name = regarding.get("kind"), regarding.get("name")
        definition = load_kinds().get(kind) if isinstance(kind, str) else None
        if definition is None or not isinstance(name, str):
            return False
        if definition.kind == Host.KIND and (project is not None or name != host):
            return False  # a project's events are read by its people
        found = self._find(definition, project, name)
        # Events are looked for by uid: another one's would stand among the events of that object.
        if found is None or regarding.get("uid") not in (None, "", found["metadata"]["uid"]):
            return False
        return definition.kind == Host.KIND or self.is_bound(host, Target(definition, project, name))

    def owns_event(self, host: str, target: Target) -> bool:
        """Return whether an event that is there regards something of the host's."""
        found = self._find(target.definition, target.project, target.name)
        return found is not None and self.regards(host, target.project, found["spec"]["regarding"])

    def has_instance_in(self, host: str, project: str) -> bool:
        """Return whether an instance of the project is bound to the host."""
        return bool(self._store.cache.table(definition_of(Instance)).rows_at_node(host, project))

    def is_referred_to(self, host: str, target: Target) -> bool:
        """Return whether something bound to the host refers to the object, directly or through others."""
        return target.ref in self._iter_referred(host)

    def keys_named(self, host: str, target: Target) -> frozenset[str]:
        """Return which values of a Secret what is bound to the host names."""
        found: set[str] = set()
        for definition, wire in self._iter_bound(host):
            if wire["metadata"].get("project") != target.project:
                continue
            for reference in iter_wire_references(definition.model, wire):
                if (reference.kind, reference.name) == (target.definition.kind, target.name):
                    named = find_value(wire, f"{reference.path.removesuffix('.name')}.key")
                    if isinstance(named, str):
                        found.add(named)
        return frozenset(found)

    def _find_host(self, host: str) -> _Known | None:
        """Return what is known of the Host of that name, None when there is none; asked at each request."""
        entry = self._store.cache.find(definition_of(Host), row_of(None, host))
        if entry is None:
            self._known.pop(host, None)
            return None
        known = self._known.get(host)
        if known is None or known.entry is not entry:
            wire = orjson.loads(entry.json)
            known = self._known[host] = _Known(entry, wire["metadata"]["uid"], is_out_of_service(wire))
        return known

    def _iter_referred(self, host: str) -> Iterator[Ref]:
        """Yield what is referred to, the nearest first: nearly all that hosts ask for is found at once."""
        seen: set[Ref] = set()
        level: Iterable[tuple[KindDefinition, Wire]] = self._iter_bound(host)
        for _ in range(DEPTH_LIMIT):
            found: list[Ref] = []
            for definition, wire in level:
                for ref in _references(definition, wire):
                    if ref not in seen:
                        seen.add(ref)
                        found.append(ref)
                        yield ref
            level = self._load(found)

    def _iter_bound(self, host: str) -> Iterator[tuple[KindDefinition, Wire]]:
        for definition in load_kinds().values():
            table = self._store.cache.table(definition)
            if table.node_path is not None:
                for row in table.rows_at_node(host):
                    yield definition, orjson.loads(table.objects[row].json)

    def _load(self, refs: Iterable[Ref]) -> Iterator[tuple[KindDefinition, Wire]]:
        for ref in refs:
            definition = get_kind(ref.kind)
            wire = self._find(definition, ref.project, ref.name)
            if wire is not None:
                yield definition, wire

    def _find(self, definition: KindDefinition, project: str | None, name: str) -> Wire | None:
        entry = self._store.cache.find(definition, row_of(project, name))
        return None if entry is None else orjson.loads(entry.json)


def is_out_of_service(host: Wire) -> bool:
    """Return whether it is stated of a Host on the wire that its machine is off or lost."""
    return find_value(host, "spec.outOfService") is True


def out_of_service(host: str) -> Forbidden:
    """Return why a machine that is stated to be off or lost gets nothing."""
    return Forbidden(f"host {host} is out of service: its machine is stated to be off or lost; {IN_SERVICE_AGAIN}")


def _references(definition: KindDefinition, wire: Wire) -> Iterable[Ref]:
    """Yield what the object may mean: a name stands for the project's own object or for a global one."""
    project = wire["metadata"].get("project")
    named = [(r.kind, r.project, r.name) for r in iter_wire_references(definition.model, wire)]
    if definition.kind == Port.KIND:
        named += [("Subnet", *split_lent(a["subnet"], None)) for a in (wire.get("status") or {}).get("addresses") or ()]
    for kind, elsewhere, name in named:
        scope = get_kind(kind).scope
        if scope is not Scope.GLOBAL and project is not None:
            yield Ref(kind, elsewhere or project, name)
        if scope is not Scope.PROJECT:
            yield Ref(kind, None, name)
