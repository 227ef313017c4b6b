"""What is one host's is not another's: by get, list, watch, status, finalizers, events, content."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fixtures.api import SYSTEM, Api, bind, create_samples, error_of, snapshot
from tests.fixtures.samples import sample
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.specs.access import EventType
from vcstack.specs.errors import Forbidden, Invalid
from vcstack.specs.kinds.event import Event, actor_of
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.kinds.host import Host
from vcstack.specs.kinds.image import Image
from vcstack.specs.kinds.instance import DOMAIN_FINALIZER, FINALIZER, Instance
from vcstack.specs.kinds.network import Network
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.sshkey import SSHKey
from vcstack.specs.kinds.subnet import Subnet
from vcstack.specs.kinds.task import Task
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import AnyResource

BOUND: list[type[AnyResource]] = [Instance, Port, Task]
DEMO = "/api/v1/projects/demo"


@pytest.fixture
async def cloud(api: Api) -> Api:
    """Two hosts, a and b; everything of the samples is bound to a, web-2 and its port to b."""
    await create_samples(api)
    await api.register("a")
    await api.register("b")
    await api.store.create(get_kind("Instance"), sample("Instance", name="web-2"), actor=SYSTEM)
    await api.store.create(get_kind("Port"), sample("Port", name="p2"), actor=SYSTEM)
    await api.store.create(get_kind("Task"), sample("Task", name="reboot-2"), actor=SYSTEM)
    for kind, names in (("Instance", "web"), ("Task", "reboot")):
        await bind(api, kind, f"{names}-1", "a")
        await bind(api, kind, f"{names}-2", "b")
    await bind(api, "Port", "p1", "a")
    await bind(api, "Port", "p2", "b")
    return api


@pytest.fixture
async def a(cloud: Api) -> AsyncIterator[ApiClient]:
    async with Connection(cloud.host_settings("a")) as connection:
        yield ApiClient(connection)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/hosts/b", None),
        ("GET", "/api/v1/hosts/b/status", None),
        ("PATCH", "/api/v1/hosts/b/status", {"status": {"address": "10.0.0.1"}}),
        ("POST", "/api/v1/hosts/b/heartbeat", None),
        ("POST", "/api/v1/hosts/b/certificate", {"csr": "x"}),
        ("POST", "/api/v1/hosts/a/jointoken", None),
        ("DELETE", "/api/v1/hosts/a", None),
        ("PUT", "/api/v1/hosts/a", {"spec": {"scheduling": "Disabled"}}),
        ("GET", "/api/v1/hosts", None),
        ("GET", f"{DEMO}/instances/web-2", None),
        ("GET", f"{DEMO}/instances/none", None),
        ("PATCH", f"{DEMO}/instances/web-2/status", {"status": {"powerState": "Stopped"}}),
        ("PUT", f"{DEMO}/instances/web-2/status", {"status": {"host": "a"}}),
        ("POST", f"{DEMO}/instances/web-2/finalize", {"remove": [DOMAIN_FINALIZER]}),
        ("DELETE", f"{DEMO}/instances/web-1", None),
        ("GET", f"{DEMO}/instances/web-1/log", None),
        ("GET", f"{DEMO}/instances/web-1/history", None),
        ("GET", f"{DEMO}/ports/p2", None),
        ("PATCH", f"{DEMO}/ports/p2/status", {"status": {"conditions": []}}),
        ("GET", f"{DEMO}/tasks/reboot-2", None),
        ("PATCH", f"{DEMO}/tasks/reboot-2/status", {"status": {"phase": "Failed"}}),
        ("GET", f"{DEMO}/instances", None),
        ("GET", "/api/v1/instances", None),
        ("GET", "/api/v1/instances?fieldSelector=status.host%3Db", None),
        ("GET", "/api/v1/instances?fieldSelector=status.host!%3Db", None),
        ("GET", "/api/v1/instances?fieldSelector=metadata.name%3Dweb-1", None),
        ("GET", "/api/v1/instances?watch=true", None),
        ("GET", "/api/v1/instances?watch=true&fieldSelector=status.host%3Db", None),
        ("GET", "/api/v1/ports?watch=true&fieldSelector=status.host%3Db", None),
        ("GET", "/api/v1/tasks?fieldSelector=status.host%3Db", None),
        ("GET", "/api/v1/flavors", None),
        ("GET", "/api/v1/images?watch=true", None),
        ("GET", "/api/v1/projects/demo", None),
        ("GET", f"{DEMO}/events", None),
        ("POST", f"{DEMO}/instances", sample("Instance", name="mine")),
        ("POST", "/api/v1/hosts", {"metadata": {"name": "c"}, "spec": {}}),
        ("PUT", "/api/v1/images/tiny/content", None),
    ],
)
async def test_a_host_gets_403_for_what_is_not_its_own(cloud: Api, method: str, path: str, body: object) -> None:
    before = await snapshot(cloud)
    media_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    async with cloud.raw(cloud.host_settings("a")) as raw:
        answer = await raw.request(method, path, json=body, headers={"content-type": media_type})
    assert answer.status_code == 403, answer.text
    assert "system:host:a" in error_of(answer)["message"]
    assert await snapshot(cloud) == before


@pytest.mark.parametrize("kind", BOUND)
async def test_a_host_lists_and_watches_its_own(cloud: Api, a: ApiClient, kind: type[AnyResource]) -> None:
    page = await a.list(kind, fields="status.host=a")
    assert len(page.items) == 1
    definition = get_kind(kind.KIND)
    (mine,) = page.items
    async with asyncio.timeout(60):
        stream = a.watch(kind, since=page.resource_version, fields="status.host=a")
        await cloud.store.merge_patch(
            definition, "demo", mine.metadata.name, {"metadata": {"labels": {"x": "y"}}}, actor=SYSTEM
        )
        event = await anext(stream)
        while event.type is EventType.BOOKMARK:
            event = await anext(stream)
    assert event.object is not None
    assert event.object.metadata.name == mine.metadata.name


async def test_an_instance_that_moves_away_leaves_the_watch(cloud: Api, a: ApiClient) -> None:
    since = (await a.list(Instance, fields="status.host=a")).resource_version
    await bind(cloud, "Instance", "web-1", "b")
    async with asyncio.timeout(60):
        event = await anext(a.watch(Instance, since=since, fields="status.host=a"))
    assert event.type is EventType.DELETED
    with pytest.raises(Forbidden):
        await a.get(Instance, "web-1", "demo")


async def test_a_host_reads_itself_and_what_its_objects_refer_to(a: ApiClient) -> None:
    assert (await a.get(Host, "a")).metadata.name == "a"
    assert await a.get(Flavor, "tiny")
    assert await a.get(Image, "tiny")
    assert await a.get(SSHKey, "me", "demo")
    assert await a.get(Network, "web", "demo")


async def test_a_host_reads_the_subnet_that_its_port_got_an_address_of(cloud: Api, a: ApiClient) -> None:
    with pytest.raises(Forbidden):
        await a.get(Subnet, "web-v4", "demo")
    await cloud.store.patch_status(
        get_kind("Port"), "demo", "p1", {"addresses": [{"subnet": "web-v4", "address": "10.10.0.9"}]}, actor=SYSTEM
    )
    assert await a.get(Subnet, "web-v4", "demo")


async def test_what_nothing_of_the_host_refers_to_stays_closed(cloud: Api, a: ApiClient) -> None:
    await cloud.store.create(get_kind("Flavor"), sample("Flavor", name="big"), actor=SYSTEM)
    with pytest.raises(Forbidden):
        await a.get(Flavor, "big")


async def test_a_host_writes_the_status_of_its_own(a: ApiClient) -> None:
    instance = await a.get(Instance, "web-1", "demo")
    written = await a.patch_status(instance, {"powerState": "Running"})
    assert written.status.power_state == "Running"
    host = await a.get(Host, "a")
    assert (await a.patch_status(host, {"address": "10.0.0.7"})).status.address == "10.0.0.7"


@pytest.mark.parametrize(
    ("kind", "name", "status", "field"),
    [
        (Instance, "web-1", {"host": "b"}, "status.host"),
        (Instance, "web-1", {"host": None}, "status.host"),
        (Instance, "web-1", {"allocated": None}, "status.host"),
        (Instance, "web-1", {"addresses": []}, "status.addresses"),
        (Port, "p1", {"addresses": [{"subnet": "web-v4", "address": "10.10.0.66"}]}, "status.addresses"),
        (Port, "p1", {"mac": "52:54:00:00:00:01"}, "status.mac"),
        (Task, "reboot-1", {"targetUid": "i-0"}, "status.targetUid"),
        (Host, "a", {"allocatable": {"vcpus": 1000}}, "status.allocatable"),
        (Host, "a", {"instanceCount": 0}, "status.instanceCount"),
    ],
)
async def test_a_host_does_not_write_what_the_manager_decides(
    cloud: Api, a: ApiClient, kind: type[AnyResource], name: str, status: dict[str, object], field: str
) -> None:
    project = None if kind is Host else "demo"
    await cloud.store.patch_status(
        get_kind("Instance"), "demo", "web-1", {"allocated": {"vcpus": 1, "memoryMiB": 1, "diskGiB": 1}}, actor=SYSTEM
    )
    before = await snapshot(cloud)
    mine = await a.get(kind, name, project)
    with pytest.raises(Invalid) as refused:
        await a.patch_status(mine, status)
    assert refused.value.causes[0].field.startswith(field.rsplit(".", 1)[0])
    assert await snapshot(cloud) == before


@pytest.mark.parametrize(("kind", "name", "condition"), [(Instance, "web-1", "Scheduled"), (Host, "a", "Alive")])
async def test_a_host_does_not_write_the_managers_conditions(
    a: ApiClient, kind: type[AnyResource], name: str, condition: str
) -> None:
    mine = await a.get(kind, name, None if kind is Host else "demo")
    forged = {"type": condition, "status": "True", "lastTransitionTime": "2026-11-01T12:00:00Z"}
    with pytest.raises(Invalid) as refused:
        await a.patch_status(mine, {"conditions": [forged]})
    assert refused.value.causes[0].field == f"status.conditions[{condition}]"


async def test_a_host_removes_only_its_own_finalizer(cloud: Api, a: ApiClient) -> None:
    instance = await a.get(Instance, "web-1", "demo")
    with pytest.raises(Forbidden):
        await a.remove_finalizer(instance, FINALIZER)
    await a.remove_finalizer(instance, DOMAIN_FINALIZER)
    await a.remove_finalizer(instance, DOMAIN_FINALIZER)
    assert (await a.get(Instance, "web-1", "demo")).metadata.finalizers == [FINALIZER]


def event(name: str, project: str | None = "demo", **spec: object) -> Event:
    """Return an event as host a's agent reports it."""
    wire = sample("Event", name=name)
    wire["spec"] |= {"actor": actor_of("a"), **spec}
    wire["metadata"] = {"name": name, **({"project": project} if project else {})}
    return Event.from_wire(wire)


async def test_a_host_reports_events_of_its_own_and_of_nothing_else(a: ApiClient) -> None:
    made = await a.create(event("mine"))
    made.spec.count = 2
    assert (await a.update(made)).spec.count == 2
    for regarding in ({"kind": "Instance", "name": "web-2"}, {"kind": "Host", "name": "b"}, {"kind": "X", "name": "x"}):
        with pytest.raises(Forbidden):
            await a.create(event("theirs", regarding=regarding))
    made.spec.regarding.name = "web-2"
    with pytest.raises(Forbidden):
        await a.update(made)


async def test_a_host_tells_the_people_of_a_project_nothing_of_itself(cloud: Api, a: ApiClient) -> None:
    await cloud.store.create(get_kind("Project"), {"metadata": {"name": "other"}, "spec": {}}, actor=SYSTEM)
    itself = {"kind": "Host", "name": "a"}
    assert await a.create(event("mine", project=None, regarding=itself))
    for project in ("demo", "other", "none"):
        with pytest.raises(Forbidden):
            await a.create(event("mine", project=project, regarding=itself))


async def test_an_event_of_a_host_stands_at_the_very_object_that_is_bound_to_it(cloud: Api, a: ApiClient) -> None:
    def about(uid: str) -> dict[str, str]:
        return {"kind": "Instance", "name": "web-1", "uid": uid}

    found = [await cloud.store.get(get_kind("Instance"), "demo", name) for name in ("web-1", "web-2")]
    mine, other = (str(stored.wire["metadata"]["uid"]) for stored in found)
    made = await a.create(event("mine", regarding=about(mine)))
    with pytest.raises(Forbidden):
        await a.create(event("theirs", regarding=about(other)))
    made.spec.regarding.uid = other
    with pytest.raises(Forbidden):
        await a.update(made)


async def test_a_host_reports_events_in_its_own_name(a: ApiClient) -> None:
    for actor in ("vc-management", actor_of("b"), ""):
        with pytest.raises(Forbidden, match="as actor vc-compute/a only"):
            await a.create(event("mine", actor=actor))


@pytest.mark.parametrize(
    "held",
    [
        {"finalizers": ["example.org/stay"]},
        {"ownerReferences": [{"kind": "Project", "name": "demo", "uid": "prj-1", "blockOwnerDeletion": True}]},
    ],
)
async def test_an_event_of_a_host_holds_nothing_up(cloud: Api, a: ApiClient, held: dict[str, object]) -> None:
    (field,) = held
    wire = event("mine").to_wire()
    del wire["status"]
    changed = {**wire, "metadata": {**wire["metadata"], **held}}
    async with cloud.raw(cloud.host_settings("a")) as raw:
        assert (await raw.post(f"{DEMO}/events", json=changed)).status_code == 403
        assert (await raw.post(f"{DEMO}/events", json=wire)).status_code == 201
        for method, media_type in (("PUT", "application/json"), ("PATCH", "application/merge-patch+json")):
            headers = {"content-type": media_type}
            answer = await raw.request(method, f"{DEMO}/events/mine", json=changed, headers=headers)
            assert answer.status_code == 403
            assert f"metadata.{field}" in error_of(answer)["message"]


async def test_a_host_cannot_take_over_the_events_of_another(cloud: Api, a: ApiClient) -> None:
    wire = sample("Event", name="theirs")
    wire["spec"]["regarding"] = {"kind": "Instance", "name": "web-2"}
    await cloud.store.create(get_kind("Event"), wire, actor=SYSTEM)
    wire["spec"]["regarding"] = {"kind": "Instance", "name": "web-1"}
    with pytest.raises(Forbidden):
        await a.replace_wire(get_kind("Event"), wire)


async def test_a_host_that_was_removed_has_no_rights_left(cloud: Api, a: ApiClient) -> None:
    host = await cloud.store.get(get_kind("Host"), None, "a")
    await cloud.store.delete(get_kind("Host"), None, "a", actor=SYSTEM)
    await cloud.store.finalize(get_kind("Host"), None, "a", host.wire["metadata"]["finalizers"], actor=SYSTEM)
    with pytest.raises(Forbidden, match="join again"):
        await a.list(Instance, fields="status.host=a")
