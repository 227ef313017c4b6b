"""How users and hosts reach the manager in process: what the API server would let them do, and nothing else.

When the manager dies, requests under way get no answer and streams end.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import orjson

from tests.cloud.manager import ManagerProcess
from tests.fakes.secrets import StoredSecrets
from vcstack.apiserver.reach import is_out_of_service, out_of_service
from vcstack.specs.access import EventType, Page, Propagation, WatchEvent
from vcstack.specs.errors import Forbidden, Unavailable
from vcstack.specs.kinds.host import Host
from vcstack.specs.registry import definition_of, get_kind
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.actor import Actor
from vcstack.store.bound import BoundStore
from vcstack.store.cache import WatchCache
from vcstack.store.keys import row_of
from vcstack.store.store import Store

R = TypeVar("R", bound=AnyResource)
T = TypeVar("T")


class Access:
    """A ResourceClient that asks whatever manager runs at the moment."""

    def __init__(self, manager: Callable[[], ManagerProcess | None], actor: Actor) -> None:
        self._manager, self._actor = manager, actor

    async def ask(self, work: Callable[[BoundStore], Awaitable[T]]) -> T:
        """Have the manager do it. Raises Unavailable when there is none or it dies."""
        manager = self.running()

        async def answer() -> T:
            return await work(manager.ready_store().bound(self._actor))

        return await manager.program.serve(answer())

    async def read(self, project: str, name: str, key: str) -> str:
        """Return a value of a secret."""
        return await self.ask_store(lambda store, actor: StoredSecrets(store).read(project, name, key))

    async def read_ssh_authority(self, project: str) -> str:
        """Return the public key of the project's SSH authority."""
        manager = self.running()

        async def answer() -> str:
            return (await manager.shell_keys().ensure(project)).public_key

        return await manager.program.serve(answer())

    async def ask_store(self, work: Callable[[Store, Actor], Awaitable[T]]) -> T:
        """Have the manager do it with wire objects."""
        manager = self.running()

        async def answer() -> T:
            return await work(manager.ready_store(), self._actor)

        return await manager.program.serve(answer())

    def running(self) -> ManagerProcess:
        manager = self._manager()
        if manager is None:
            raise Unavailable("vc-management does not answer")
        return manager

    async def get(self, kind: type[R], name: str, project: str | None = None) -> R:
        return await self.ask(lambda store: store.get(kind, name, project))

    async def list(self, kind: type[R], *, project: str | None = None, labels: str = "", fields: str = "") -> Page[R]:
        return await self.ask(lambda store: store.list(kind, project=project, labels=labels, fields=fields))

    async def watch(
        self, kind: type[R], *, since: str, project: str | None = None, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent[R]]:
        stream = await self.ask_store(
            lambda store, _: store.watch(
                definition_of(kind), project, since=int(since), label_selector=labels, field_selector=fields
            )
        )
        async with stream:
            async for item in stream:
                found = None if item.type is EventType.BOOKMARK else kind.model_validate_json(item.json)
                yield WatchEvent(item.type, found, str(item.revision))

    async def create(self, resource: R) -> R:
        return await self.ask(lambda store: store.create(resource))

    async def update(self, resource: R) -> R:
        return await self.ask(lambda store: store.update(resource))

    async def patch_status(
        self,
        resource: R,
        status: Mapping[str, Any],
        *,
        exact_version: bool = False,
        limits: Mapping[str, Mapping[str, int]] | None = None,
    ) -> R:
        return await self.ask(
            lambda store: store.patch_status(resource, status, exact_version=exact_version, limits=limits)
        )

    async def remove_finalizer(self, resource: AnyResource, *finalizers: str, exact_version: bool = False) -> None:
        await self.ask(lambda store: store.remove_finalizer(resource, *finalizers, exact_version=exact_version))

    async def delete(
        self, ref: Ref, *, uid: str | None = None, propagation: Propagation = Propagation.BACKGROUND
    ) -> None:
        await self.ask(lambda store: store.delete(ref, uid=uid, propagation=propagation))


class HostAccess(Access):
    """What a host may do while it is in service: read what is bound to it and what that refers to, and report on it."""

    def __init__(self, manager: Callable[[], ManagerProcess | None], host: str) -> None:
        super().__init__(manager, Actor(f"system:host:{host}", "vc-compute"))
        self._own, self._host = f"status.host={host}", host

    async def demand_in_service(self) -> None:
        """Return when the host may ask for something."""
        manager = self.running()

        async def answer() -> None:
            cache = manager.ready_store().cache
            await cache.fresh()
            self._check_in_service(cache)

        await manager.program.serve(answer())

    async def ask(self, work: Callable[[BoundStore], Awaitable[T]]) -> T:
        await self.demand_in_service()
        return await super().ask(work)

    async def ask_store(self, work: Callable[[Store, Actor], Awaitable[T]]) -> T:
        await self.demand_in_service()
        return await super().ask_store(work)

    async def read_ssh_authority(self, project: str) -> str:
        await self.demand_in_service()
        return await super().read_ssh_authority(project)

    async def list(self, kind: type[R], *, project: str | None = None, labels: str = "", fields: str = "") -> Page[R]:
        self._check_bound(fields)
        return await super().list(kind, project=project, labels=labels, fields=fields)

    async def watch(
        self, kind: type[R], *, since: str, project: str | None = None, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent[R]]:
        self._check_bound(fields)
        async for event in super().watch(kind, since=since, project=project, labels=labels, fields=fields):
            self._check_in_service(self.running().ready_store().cache)
            yield event

    async def update(self, resource: R) -> R:
        if resource.kind != "Event":
            raise Forbidden("hosts write no specs")
        return await super().update(resource)

    async def create(self, resource: R) -> R:
        if resource.kind != "Event":
            raise Forbidden("hosts create events only")
        return await super().create(resource)

    async def patch_status(self, resource: R, status: Mapping[str, Any], **options: Any) -> R:
        await self._check_own(resource)
        return await super().patch_status(resource, status, **options)

    async def remove_finalizer(self, resource: AnyResource, *finalizers: str, exact_version: bool = False) -> None:
        await self._check_own(resource)
        await super().remove_finalizer(resource, *finalizers, exact_version=exact_version)

    async def delete(self, ref: Ref, **options: Any) -> None:
        raise Forbidden("hosts delete nothing")

    def _check_in_service(self, cache: WatchCache) -> None:
        entry = cache.find(definition_of(Host), row_of(None, self._host))
        if entry is not None and is_out_of_service(orjson.loads(entry.json)):
            raise out_of_service(self._host)

    def _check_bound(self, fields: str) -> None:
        if fields != self._own:
            raise Forbidden(f"hosts list and watch with {self._own} only")

    async def _check_own(self, resource: AnyResource) -> None:
        path = get_kind(resource.kind).node_path
        bound = resource.metadata.name if path == "metadata.name" else getattr(resource.status, "host", None)
        if path is None or bound != self._host:
            raise Forbidden(f"{resource.ref} is not bound to {self._host}")
