"""Why and related over HTTP: the chain, what is connected, and only what the caller may read."""

from typing import Any

import httpx2
import orjson

from tests.apiserver.test_accounts import ADMIN, as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fixtures.api import SYSTEM, Api, create_samples, error_of
from vcstack.specs.conditions import build_condition
from vcstack.specs.registry import get_kind, load_kinds

Http = httpx2.AsyncClient
INSTANCE = "/api/v1/projects/demo/instances/web-1"


async def ask(client: Http, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def observe(api: Api, kind: str, name: str, type_: str, message: str, project: str | None = "demo") -> None:
    """Report all conditions of an object as True, but one."""
    definition = get_kind(kind)
    live = (await api.store.get(definition, project, name)).wire
    generation, now = live["metadata"]["generation"], api.store.clock.now()
    conditions = [
        build_condition(c, c != type_, "Said", message if c == type_ else "", generation=generation, now=now).to_wire()
        for c in definition.ready_when
    ]
    await api.store.patch_status(definition, project, name, {"conditions": conditions}, actor=SYSTEM)


async def test_the_chain_leads_to_what_is_to_blame(api: Api) -> None:
    await create_samples(api)
    await observe(api, "Instance", "web-1", "NetworkReady", "waits for its ports")
    network = (await api.store.get(get_kind("Instance"), "demo", "web-1")).wire["spec"]["networkInterfaces"][0]
    await observe(api, "Network", network["network"], "Realized", "OVN does not answer")
    async with api.raw() as client:
        finding = (await ask(client, f"{INSTANCE}/why"))["finding"]
    assert (finding["kind"], finding["healthy"], "waits for its ports" in finding["sentence"]) == (
        "Instance", False, True,
    )  # fmt: skip
    below = {(f["kind"], f["name"], f.get("project")): f["sentence"] for f in finding["because"]}
    assert "OVN does not answer" in below["Network", network["network"], "demo"]


async def test_what_ready_does_not_go_by_is_told_beside_it(api: Api) -> None:
    await create_samples(api)
    (source,) = (await api.store.list(get_kind("GitSource"))).items
    name = orjson.loads(source)["metadata"]["name"]
    await observe(api, "GitSource", name, "", "")
    now = api.store.clock.now()
    failing = build_condition("Healthy", False, "NotReady", "1 of 2 objects is not ready", generation=1, now=now)
    patch = {"conditions": [failing.to_wire()]}
    await api.store.patch_status(get_kind("GitSource"), "demo", name, patch, actor=SYSTEM)
    async with api.raw() as client:
        finding = (await ask(client, f"/api/v1/projects/demo/gitsources/{name}/why"))["finding"]
    assert finding["sentence"] == "is Ready, but Healthy=False (NotReady): 1 of 2 objects is not ready"
    assert finding["healthy"]


async def test_what_is_connected_is_told_with_the_field(api: Api) -> None:
    await create_samples(api)
    instance = (await api.store.get(get_kind("Instance"), "demo", "web-1")).wire
    port = {"metadata": {"name": "p", "project": "demo", "ownerReferences": [
        {"kind": "Instance", "name": "web-1", "uid": instance["metadata"]["uid"], "controller": True}]},
        "spec": {"network": instance["spec"]["networkInterfaces"][0]["network"]}}  # fmt: skip
    await api.store.create(get_kind("Port"), port, actor=SYSTEM)
    async with api.raw() as client:
        found = await ask(client, f"{INSTANCE}/related")
        image = await ask(client, f"/api/v1/images/{instance['spec']['image']}/related")
    assert [(k["links"][0]["name"], k["links"][0]["ready"]) for k in found["owned"] if k["kind"] == "Port"] == [
        ("p", "Unknown")
    ]
    named = {link["path"]: link for link in found["references"]}
    assert named["spec.image"]["uid"]
    users = {link["name"] for group in image["users"] for link in group["links"]}
    assert "web-1" in users


async def test_of_every_kind_both_can_be_asked(api: Api) -> None:
    await create_samples(api)
    asked = 0
    async with api.raw() as client:
        for definition in load_kinds().values():
            for wire in (await client.get(f"/api/v1/{definition.plural}")).json()["items"][:1]:
                meta = wire["metadata"]
                place = f"projects/{meta['project']}/" if meta.get("project") else ""
                for subresource in ("why", "related"):
                    await ask(client, f"/api/v1/{place}{definition.plural}/{meta['name']}/{subresource}")
                    asked += 1
    assert asked > 20


async def test_what_the_caller_may_not_read_is_left_out(api: Api) -> None:
    await put_roles(api)
    for project in ("mine", "theirs"):
        await put(api, "Project", project, {})
    await put(api, "User", "alice", {})
    await bind(api, "alice", "alice", "reader", "mine")
    await put(api, "Flavor", "small", {"vcpus": 1, "memoryMiB": 64, "rootDiskGiB": 1})
    await put(api, "Image", "tiny", {"format": "QCOW2"})
    for project in ("mine", "theirs"):
        spec = {"flavor": "small", "image": "tiny"}
        wire = {"metadata": {"name": f"vm-{project}", "project": project}, "spec": spec}
        await api.store.create(get_kind("Instance"), wire, actor=ADMIN)
    async with as_(api, await log_in(api, "alice")) as alice:
        found = await ask(alice, "/api/v1/flavors/small/related")
        assert {link["name"] for group in found["users"] for link in group["links"]} == {"vm-mine"}
        why = await ask(alice, "/api/v1/projects/mine/instances/vm-mine/why")
        assert not why["finding"]["healthy"]
        for subresource in ("why", "related"):
            hidden = await alice.get(f"/api/v1/projects/theirs/instances/vm-theirs/{subresource}")
            missing = await alice.get(f"/api/v1/projects/theirs/instances/vm-nothing/{subresource}")
            assert (hidden.status_code, missing.status_code) == (404, 404)
        assert error_of(await alice.post("/api/v1/flavors/small/why"))["code"] in (403, 405)
        assert error_of(await alice.get("/api/v1/flavors/small/why?deep=true"))["code"] == 400
