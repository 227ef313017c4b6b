"""/api/v1/plan: what an apply would do, and that planning does nothing."""

from typing import Any

import httpx2
import pytest

from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fixtures.api import SYSTEM, Api, create_samples, error_of, snapshot
from tests.fixtures.samples import SAMPLES, sample
from vcstack.apiclient.client import ApiClient
from vcstack.specs.errors import ApiError
from vcstack.specs.registry import get_kind

Http = httpx2.AsyncClient
INSTANCE = get_kind("Instance")


async def plan(client: Http, *items: Any, manager: str = "console", **how: bool) -> dict[str, Any]:
    answer = await client.post("/api/v1/plan", json={"items": items, "fieldManager": manager, **how})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def plan_one(client: Http, item: Any, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await plan(client, item, **more))["items"][0]
    return found


def network(name: str = "blue", project: str = "demo", **spec: Any) -> dict[str, Any]:
    return {"kind": "Network", "metadata": {"name": name, "project": project}, "spec": spec}


async def test_a_plan_says_what_changes_and_what_each_change_takes(api: Api) -> None:
    await create_samples(api)
    await put(api, "Flavor", "large", {**sample("Flavor")["spec"], "vcpus": 8})
    before = await snapshot(api)
    wanted = sample("Instance")
    wanted = {"kind": "Instance", **wanted, "spec": {**wanted["spec"], "flavor": "large", "powerState": "Stopped"}}
    async with api.raw() as client:
        found = await plan_one(client, wanted, force=True)
    assert (found["action"], found["kind"], found["project"], found["name"]) == (
        "Update", "Instance", "demo", "web-1",
    )  # fmt: skip
    changes = {c["path"]: c for c in found["changes"]}
    assert changes["spec.flavor"]["takes"] == "Reboot"
    assert changes["spec.flavor"]["to"] == "large"
    assert changes["spec.powerState"]["takes"] == "Live"
    live = await api.store.get(INSTANCE, "demo", "web-1")
    assert found["resourceVersion"] == str(live.revision)
    assert await snapshot(api) == before


async def test_a_plan_tells_new_from_unchanged(api: Api) -> None:
    await create_samples(api, "Project")
    async with api.raw() as client:
        created = await plan_one(client, network())
        assert (created["action"], created.get("resourceVersion")) == ("Create", None)
        headers = {"content-type": "application/apply-patch+json"}
        path = "/api/v1/projects/demo/networks/blue?fieldManager=console"
        assert (await client.patch(path, json=network(), headers=headers)).status_code in (200, 201)
        assert await plan_one(client, network()) == {
            **created, "action": "Unchanged", "changes": [], "resourceVersion": str(api.store.cache.revision),
        }  # fmt: skip


@pytest.mark.parametrize(
    ("item", "code", "field"),
    [
        ({}, 422, "kind"),
        ({"kind": "instance"}, 422, "kind"),
        ({"kind": ["Instance"]}, 422, "kind"),
        ({"kind": "Network"}, 422, "metadata"),
        ({"kind": "Network", "metadata": {"project": "demo"}}, 422, "metadata.name"),
        ({"kind": "Network", "metadata": {"name": "a"}}, 422, "metadata.project"),
        ({"kind": "Network", "metadata": {"name": ["a"], "project": "demo"}}, 422, "metadata.name"),
        (network("UPPER"), 422, "metadata.name"),
        (network("a/status"), 422, "metadata.name"),
        (network(project="../hosts"), 422, "metadata.project"),
        ({"kind": "Flavor", "metadata": {"name": "a", "project": "demo"}, "spec": {}}, 422, "metadata.project"),
        (network(mtuBytes=1), 422, "spec.mtuBytes"),
        (network(nothing=1), 422, "spec.nothing"),
        ({**network(), "spec": 7}, 422, "spec"),
        ({"kind": "Event", "metadata": {"name": "a", "project": "demo"}, "spec": {}}, 403, None),
    ],
)
async def test_what_would_be_refused_says_why_and_where(api: Api, item: Any, code: int, field: str | None) -> None:
    await create_samples(api, "Project")
    async with api.raw() as client:
        found = await plan_one(client, item)
    assert (found["action"], found["refusal"]["code"]) == ("Refused", code)
    if field is not None:
        assert [c["field"] for c in found["refusal"]["details"]["causes"]][:1] == [field]


async def test_a_plan_says_whose_fields_are_taken_and_what_was_asked_for(api: Api) -> None:
    await create_samples(api, "Project")
    headers = {"content-type": "application/apply-patch+json"}
    async with api.raw() as client:
        path = "/api/v1/projects/demo/networks/blue?fieldManager=gitops"
        assert (await client.patch(path, json=network(mtuBytes=1400), headers=headers)).status_code in (200, 201)
        refused = await plan_one(client, network(mtuBytes=1300))
        forced = await plan_one(client, network(mtuBytes=1300), force=True)
    assert (refused["action"], refused["refusal"]["code"]) == ("Refused", 409)
    assert "gitops" in refused["refusal"]["message"]
    change = {"path": "spec.mtuBytes", "from": 1400, "to": 1300}
    assert [{k: c[k] for k in change} for c in refused["changes"]] == [change]
    assert (forced["action"], forced["changes"]) == ("Update", refused["changes"])


async def test_a_version_that_is_not_the_newest_is_a_conflict(api: Api) -> None:
    await create_samples(api, "Project")
    made = await put(api, "Network", "blue", {}, "demo")
    await api.store.merge_patch(get_kind("Network"), "demo", "blue", {"spec": {"mtuBytes": 1400}}, actor=SYSTEM)
    stale = network(mtuBytes=1300)
    stale["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    async with api.raw() as client:
        found = await plan_one(client, stale, force=True)
    assert found["refusal"]["code"] == 409
    assert found["resourceVersion"] != made["metadata"]["resourceVersion"]


async def test_objects_of_a_set_may_need_each_other_and_nothing_else_may_be_missing(api: Api) -> None:
    project = {"kind": "Project", "metadata": {"name": "new"}, "spec": {}}
    subnet = {
        "kind": "Subnet",
        "metadata": {"name": "v4", "project": "new"},
        "spec": {"network": "blue", "cidr": "10.0.0.0/24"},
    }
    async with api.raw() as client:
        whole = await plan(client, project, network(project="new"), subnet)
        assert [i["action"] for i in whole["items"]] == ["Create"] * 3
        alone = await plan_one(client, subnet)
        assert (alone["action"], alone["refusal"]["details"]["kind"]) == ("Refused", "Project")
        broken = await plan(client, project, network(project="new", mtuBytes=1))
        assert [i["action"] for i in broken["items"]] == ["Create", "Refused"]
        await put(api, "Project", "new", {})
        without = await plan(client, subnet)
        assert without["items"][0]["refusal"]["details"]["causes"][0]["field"] == "spec.network"
        assert [i["action"] for i in (await plan(client, subnet, network(project="new")))["items"]] == ["Create"] * 2


async def test_the_same_object_twice_is_refused(api: Api) -> None:
    await create_samples(api, "Project")
    async with api.raw() as client:
        found = await plan(client, network(), network(mtuBytes=1400))
    assert [i["action"] for i in found["items"]] == ["Create", "Refused"]


async def test_quotas_hold_for_all_together(api: Api) -> None:
    await create_samples(api, "Project")
    await put(api, "Quota", "small", {"limits": {"networks": 2}}, "demo")
    async with api.raw() as client:
        fits = await plan(client, network("a"), network("b"))
        assert fits.get("refusal") is None
        found = await plan(client, network("a"), network("b"), network("c"))
    assert [i["action"] for i in found["items"]] == ["Create"] * 3
    assert found["refusal"]["reason"] == "QuotaExceeded"


async def test_policies_deny_and_warn(api: Api) -> None:
    await create_samples(api, "Project")
    rule = {"name": "small", "expression": "object.spec.mtuBytes <= 1400", "message": "too large"}
    spec: dict[str, Any] = {"matches": {"kinds": ["Network"]}, "rules": [rule]}
    await put(api, "Policy", "warns", {**spec, "action": "Warn"}, "demo")
    async with api.raw() as client:
        warned = await plan_one(client, network(mtuBytes=1500))
        assert (warned["action"], "too large" in warned["warnings"][0]) == ("Create", True)
        await put(api, "Policy", "denies", {**spec, "action": "Deny"}, "demo")
        denied = await plan_one(client, network(mtuBytes=1500))
    assert (denied["action"], denied["refusal"]["reason"]) == ("Refused", "PolicyDenied")


async def test_secrets_are_not_told(api: Api) -> None:
    await create_samples(api, "Project", "Secret")
    wire = {"kind": "Secret", **sample("Secret")}
    spec = wire["spec"]
    field = next(iter(spec))
    async with api.raw() as client:
        for project in ("demo", "brand-new"):
            metadata = {**wire["metadata"], "project": project}
            changed = {**wire, "metadata": metadata, "spec": {**spec, field: _with_canary(spec[field])}}
            made = {"kind": "Project", "metadata": {"name": "brand-new"}, "spec": {}}
            answer = await client.post(
                "/api/v1/plan", json={"items": [made, changed], "fieldManager": "console", "force": True}
            )
            assert answer.json()["items"][1]["changes"], answer.text
            assert "canary" not in answer.text


def _with_canary(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _with_canary(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_canary(v) for v in value]
    return "canary" if isinstance(value, str) else value


async def test_a_plan_is_held_to_the_callers_rights(api: Api) -> None:
    await put_roles(api)
    for name in ("mine", "theirs"):
        await put(api, "Project", name, {})
        await put(api, "Network", "blue", {}, name)
    for name, role in (("alice", "member"), ("bob", "reader")):
        await put(api, "User", name, {})
        await bind(api, name, name, role, "mine")
    items = (
        network(project="mine", mtuBytes=1400), network(project="theirs", mtuBytes=1400),
        network("gone", project="theirs"), network(project="nowhere"),
    )  # fmt: skip
    async with as_(api, await log_in(api, "alice")) as alice, as_(api, await log_in(api, "bob")) as bob:
        found = (await plan(alice, *items))["items"]
        assert [i["action"] for i in found] == ["Update", "Refused", "Refused", "Refused"]
        assert [i["refusal"]["code"] for i in found[1:]] == [404] * 3
        assert all(not i["changes"] and i.get("resourceVersion") is None for i in found[1:])
        seen = (await plan(bob, items[0]))["items"][0]
        assert (seen["action"], seen["refusal"]["code"], seen["changes"]) == ("Refused", 403, [])


async def test_a_plan_is_what_the_apply_then_does(api: Api, admin: ApiClient) -> None:
    """Of every kind that users write: the plan of its sample, and the apply."""
    await create_samples(api, "Project")
    async with api.raw() as client:
        for kind, wire in SAMPLES.items():
            definition = get_kind(kind)
            if definition.system_only:
                continue
            found = await plan_one(client, {"kind": kind, **wire}, manager="m", force=True)
            try:
                await admin.apply_wire(definition, {"kind": kind, **wire}, manager="m", force=True)
                done = "Create" if kind != "Project" else found["action"]
            except ApiError as error:
                done = f"Refused {error.CODE}"
            told = found["action"] + (f" {found['refusal']['code']}" if found.get("refusal") else "")
            assert (kind, told) == (kind, done)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"items": [], "fieldManager": "m"}, 422),
        ({"items": [{}]}, 422),
        ({"items": [{}], "fieldManager": "two words"}, 422),
        ({"items": {}, "fieldManager": "m"}, 422),
        ({"items": [7], "fieldManager": "m"}, 422),
        ({"items": [{}] * 1001, "fieldManager": "m"}, 422),
        ([], 400),
    ],
)
async def test_what_is_no_plan_is_refused(api: Api, body: Any, code: int) -> None:
    async with api.raw() as client:
        assert error_of(await client.post("/api/v1/plan", json=body))["code"] == code


async def test_who_may_ask_and_how(api: Api) -> None:
    settings = await api.register("h1")
    async with api.raw(settings) as host, api.raw(api.settings(token=None)) as nobody, api.raw() as client:
        body = {"items": [network()], "fieldManager": "m"}
        same = {"origin": api.url}
        assert error_of(await host.post("/api/v1/plan", json=body, headers=same))["code"] == 403
        assert error_of(await nobody.post("/api/v1/plan", json=body))["code"] == 401
        assert error_of(await client.get("/api/v1/plan"))["code"] == 405
        assert error_of(await client.post("/api/v1/plan?dryRun=All", json=body))["code"] == 400


async def test_a_plan_that_replaces_takes_away_what_others_own_and_knows_the_set(api: Api) -> None:
    await create_samples(api, "Project")
    await put(api, "Network", "blue", {"mtuBytes": 1400}, "demo")
    await put(api, "Subnet", "blue", {"network": "blue", "cidr": "10.9.0.0/24"}, "demo")
    await put(api, "Port", "door", {"network": "blue", "subnet": "blue"}, "demo")
    before = await snapshot(api)
    group = {"kind": "SecurityGroup", "metadata": {"name": "ssh", "project": "demo"}, "spec": {}}
    port = await api.store.get(get_kind("Port"), "demo", "door")
    door = {"kind": "Port", "metadata": {"name": "door", "project": "demo"}, "spec": dict(port.wire["spec"])}
    door["spec"]["securityGroups"] = ["ssh"]
    async with api.raw() as client:
        gently = await plan_one(client, network())
        assert gently["action"] == "Unchanged", "an apply leaves fields alone that are not given"
        found = await plan_one(client, network(), replace=True)
        assert (found["action"], [c["path"] for c in found["changes"]]) == ("Update", ["spec.mtuBytes"])
        assert (await plan_one(client, door, replace=True))["action"] == "Refused"
        both = (await plan(client, door, group, replace=True))["items"]
    assert [item["action"] for item in both] == ["Update", "Create"], "what is there may name what the set makes"
    assert await snapshot(api) == before
