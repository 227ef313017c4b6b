"""A user of the cloud: every operation is repeated until it is acknowledged, and remembered from then on."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tests.cloud.cloud import Cloud
from tests.cloud.invariants import find_doubles, find_violations, read_objects
from vcstack.specs.errors import AlreadyExists, NotFound, Unavailable
from vcstack.specs.kinds.flavor import Flavor, FlavorSpec
from vcstack.specs.kinds.host import Host, HostSpec
from vcstack.specs.kinds.image import Image, ImageFormat, ImageSpec
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.meta import API_VERSION
from vcstack.specs.patch import merge_patch
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.actor import Actor
from vcstack.store.store import Store

T = TypeVar("T")
PROJECT = "demo"
AGAIN_SECONDS = 0.25
REST_SECONDS = 300.0
"""The longest that the cloud may take to come to rest: the runtime's resync and the sweeps are in it."""
QUIET_SECONDS = 3.0

Wire = dict[str, Any]


class Tenant:
    """Acts, and knows what was acknowledged."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.wanted: dict[Ref, Wire] = {}
        """Spec and labels as acknowledged."""
        self.gone: set[Ref] = set()

    async def apply(self, kind: str, name: str, spec: Wire, *, project: str | None = PROJECT) -> None:
        """Create the object."""
        metadata = {"name": name, **({"project": project} if project else {})}
        wire = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
        ref, attempts = Ref(kind, project, name), 0

        async def create(store: Store, actor: Actor) -> None:
            nonlocal attempts
            attempts += 1
            try:
                await store.create(get_kind(kind), wire, actor=actor)
            except AlreadyExists:
                if attempts == 1:
                    raise

        await self._until_answered(create)
        self.gone.discard(ref)
        self.wanted[ref] = {"spec": spec, "labels": {}}

    async def patch(self, kind: str, name: str, *, spec: Wire | None = None, labels: Wire | None = None) -> None:
        """Change the object by a merge patch."""
        patch: Wire = {"spec": spec} if spec else {}
        patch |= {"metadata": {"labels": labels}} if labels else {}
        await self._until_answered(
            lambda store, actor: store.merge_patch(get_kind(kind), PROJECT, name, patch, actor=actor)
        )
        before = self.wanted[Ref(kind, PROJECT, name)]
        before["spec"] = merge_patch(before["spec"], spec or {})
        before["labels"] = merge_patch(before["labels"], labels or {})

    async def delete(self, kind: str, name: str, *, project: str | None = PROJECT) -> None:
        """Ask for the deletion."""

        async def delete(store: Store, actor: Actor) -> None:
            with contextlib.suppress(NotFound):
                await store.delete(get_kind(kind), project, name, actor=actor)

        await self._until_answered(delete)
        self.wanted.pop(Ref(kind, project, name), None)
        self.gone.add(Ref(kind, project, name))

    async def state(self, host: str, *, out_of_service: bool) -> None:
        """State whether the host's machine is off or lost, as an operator does."""
        patch = {"spec": {"outOfService": out_of_service}}
        await self._until_answered(
            lambda store, actor: store.merge_patch(get_kind(Host.KIND), None, host, patch, actor=actor)
        )

    def find_instance(self, name: str) -> Instance:
        """Return the instance as etcd has it."""
        found = read_objects(self.cloud)[Ref(Instance.KIND, PROJECT, name)]
        assert isinstance(found, Instance)
        return found

    async def wait_for(self, name: str, holds: Callable[[Instance], bool]) -> Instance:
        """Wait until something holds of the instance."""
        while not holds(found := self.find_instance(name)):
            await asyncio.sleep(AGAIN_SECONDS)
        return found

    async def wait_gone(self, kind: str, name: str) -> None:
        """Wait until an object whose deletion was asked for is gone, as who wants its name again has to."""
        while Ref(kind, PROJECT, name) in read_objects(self.cloud):
            await asyncio.sleep(AGAIN_SECONDS)

    async def make_basics(self) -> None:
        """Join the hosts and make what an instance needs besides its network, as an operator does."""
        hosts = [Host.new(name, HostSpec()) for name in self.cloud.hosts]
        flavor = Flavor.new("tiny", FlavorSpec(vcpus=1, memory_mib=128, root_disk_gib=1))
        image = Image.new("tiny", ImageSpec(format=ImageFormat.QCOW2))
        ground: list[AnyResource] = [*hosts, Project.new(PROJECT, ProjectSpec()), flavor, image]
        for resource in ground:
            await self._until_answered(_creation_of(resource))

    async def rest(self) -> None:
        """Wait until the cloud is at rest and all is well. Raises AssertionError with what is wrong."""
        loop = asyncio.get_running_loop()
        end = loop.time() + REST_SECONDS
        while True:
            doubles = find_doubles(self.cloud)
            assert not doubles, doubles
            writes = self.cloud.etcd.writes
            await asyncio.sleep(QUIET_SECONDS)
            if self.cloud.etcd.writes == writes:
                wrong = [*find_violations(self.cloud), *self.find_lost()]
                if not wrong:
                    return
                assert loop.time() < end, f"after {self.cloud.kills}:\n" + "\n".join(wrong)
            assert loop.time() < end, f"after {self.cloud.kills}: no rest within {REST_SECONDS:g} s"

    def find_lost(self) -> list[str]:
        """Return which acknowledged writes are not there."""
        objects = read_objects(self.cloud)
        lost = [f"{ref} is back" for ref in self.gone if ref in objects]
        for ref, wanted in self.wanted.items():
            found = objects.get(ref)
            if found is None:
                lost.append(f"{ref} was acknowledged and is not there")
            elif _given(found) != wanted:
                lost.append(f"{ref} is {_given(found)}, acknowledged was {wanted}")
        return lost

    async def _until_answered(self, work: Callable[[Store, Actor], Awaitable[T]]) -> T:
        while True:
            try:
                return await self.cloud.user.ask_store(work)
            except Unavailable:
                await asyncio.sleep(AGAIN_SECONDS)


def _given(resource: AnyResource) -> Wire:
    wire = resource.to_wire()
    return {"spec": wire["spec"], "labels": wire["metadata"].get("labels", {})}


def _creation_of(resource: AnyResource) -> Callable[[Store, Actor], Awaitable[AnyResource]]:
    return lambda store, actor: store.bound(actor).create(resource)
