"""Actors and objects that the store's tests share."""

from typing import Any

from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.store.actor import Actor
from vcstack.store.records import Stored
from vcstack.store.store import Store

ADMIN = Actor("admin", "vcctl")
CONTROLLER = Actor("system:controller:test", "test-controller")
HOST = Actor("system:host:h1", "vc-compute")

PROJECT, NETWORK, SUBNET, PORT = (get_kind(k) for k in ("Project", "Network", "Subnet", "Port"))
FLAVOR, IMAGE, INSTANCE, EVENT = (get_kind(k) for k in ("Flavor", "Image", "Instance", "Event"))
GROUP, KEY, TASK, HOSTS = (get_kind(k) for k in ("SecurityGroup", "SSHKey", "Task", "Host"))

Wire = dict[str, Any]

TINY = {"vcpus": 1, "memoryMiB": 128, "rootDiskGiB": 1}
TIME = "2026-01-02T03:04:05Z"


def wire(name: str, spec: Wire | None = None, project: str | None = "demo", **metadata: Any) -> Wire:
    """Return an object as a user writes it."""
    place = {"project": project} if project else {}
    return {"metadata": {**place, "name": name, **metadata}, "spec": spec or {}}


async def create(store: Store, definition: KindDefinition, body: Wire, **options: Any) -> Stored:
    """Create as the administrator."""
    return await store.create(definition, body, **{"actor": ADMIN, **options})


async def make_project(store: Store, name: str = "demo") -> Stored:
    return await create(store, PROJECT, wire(name, project=None))


async def make_network(store: Store, name: str = "web", project: str = "demo") -> Stored:
    return await create(store, NETWORK, wire(name, project=project))


async def make_world(store: Store) -> None:
    """Make hosts h1 and h2, project demo with network web, subnet web-v4 (10.10.0.0/24), flavor and image tiny."""
    for host in ("h1", "h2"):
        await create(store, HOSTS, wire(host, project=None))
    await make_project(store)
    await make_network(store)
    await create(store, SUBNET, wire("web-v4", {"network": "web", "cidr": "10.10.0.0/24"}))
    await create(store, FLAVOR, wire("tiny", TINY, project=None))
    await create(store, IMAGE, wire("tiny", {"format": "QCOW2"}, project=None))


def instance(name: str = "web-1", **spec: Any) -> Wire:
    """Return an instance of flavor and image tiny."""
    return wire(name, {"flavor": "tiny", "image": "tiny", **spec})


def condition(type_: str, status: str = "True", **rest: Any) -> Wire:
    """Return a condition as a controller writes it."""
    return {"type": type_, "status": status, "lastTransitionTime": TIME, "observedGeneration": 1, **rest}


def ready(stored: Stored) -> Wire:
    """Return the Ready condition."""
    return next(c for c in stored.wire["status"]["conditions"] if c["type"] == "Ready")


def causes(error: Any) -> dict[str, str]:
    """Return the refused fields with their sentences."""
    return {c.field: c.message for c in error.value.causes}
