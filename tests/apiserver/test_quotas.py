"""Quotas over HTTP: refusals, use, the check of a set, and who may share out what."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fixtures.api import Api, error_of

Http = httpx2.AsyncClient
CHECK = "/api/v1/quotacheck"


def network(project: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "vcstack.io/v1", "kind": "Network", "metadata": {"project": project, "name": name}}


async def create(client: Http, project: str, name: str) -> httpx2.Response:
    return await client.post(f"/api/v1/projects/{project}/networks", json=network(project, name))


async def check(client: Http, *wires: dict[str, Any]) -> httpx2.Response:
    return await client.post(CHECK, json={"items": list(wires)})


async def set_limit(client: Http, base: str, spec: dict[str, Any]) -> int:
    answer = await client.post(f"{base}/quotas", json={"metadata": {"name": "more"}, "spec": spec})
    return answer.status_code


@pytest.fixture
async def cloud(api: Api) -> Api:
    """Projects mine and theirs in acme, with three networks in all at most and two in mine; alice is in mine."""
    await put_roles(api)
    await put(api, "Domain", "acme", {})
    await put(api, "Domain", "dev", {"parent": "acme"})
    await put(api, "Project", "mine", {"domain": "acme"})
    await put(api, "Project", "theirs", {"domain": "acme"})
    await put(api, "Quota", "small", {"limits": {"networks": 2}}, "mine")
    await put(api, "Quota", "acme", {"domain": "acme", "limits": {"networks": 3}})
    for name in ("alice", "pat", "dora"):
        await put(api, "User", name, {"domain": "acme"})
    await bind(api, "alice", "alice", "member", "mine")
    await bind(api, "pat", "pat", "project-admin", "mine")
    await bind(api, "dora", "dora", "domain-admin", domain="acme")
    return api


@pytest.fixture
async def alice(cloud: Api) -> AsyncIterator[Http]:
    async with as_(cloud, await log_in(cloud, "alice")) as client:
        yield client


async def test_who_asks_for_more_is_told_which_limit_and_how_much_is_used(alice: Http) -> None:
    assert [(await create(alice, "mine", name)).status_code for name in ("a", "b")] == [201, 201]
    answer = await create(alice, "mine", "c")
    error = error_of(answer)
    assert (answer.status_code, error["reason"]) == (403, "QuotaExceeded")
    fault = "networks: 1 asked, 2 of 2 in use (quota small of project mine)"
    assert [c["message"] for c in error["details"]["causes"]] == [fault]


async def test_a_member_sees_the_use_of_the_projects_quota_but_not_of_the_domains(alice: Http) -> None:
    await create(alice, "mine", "a")
    answer = await alice.get("/api/v1/projects/mine/quotas/small/usage")
    assert answer.json()["items"] == [{"name": "networks", "limit": 2, "used": 1, "largest": []}]
    assert (await alice.get("/api/v1/quotas/acme/usage")).status_code == 404
    assert (await alice.get("/api/v1/projects/theirs/quotas/small/usage")).status_code == 404


async def test_a_member_sees_all_limits_that_hold_and_of_shared_ones_what_is_the_projects_own(
    cloud: Api, alice: Http
) -> None:
    await create(alice, "mine", "a")
    async with cloud.raw() as admin:
        assert (await create(admin, "theirs", "b")).status_code == 201
    found = (await alice.get("/api/v1/projects/mine/usage")).json()
    assert [(q["name"], q.get("domain"), q["shared"], q["items"]) for q in found["items"]] == [
        ("small", None, False, [{"name": "networks", "limit": 2, "used": 1, "largest": []}]),
        ("acme", "acme", True, [{"name": "networks", "limit": 3, "used": 1, "largest": []}]),
    ]
    for project in ("theirs", "missing"):
        assert (await alice.get(f"/api/v1/projects/{project}/usage")).status_code == 404


async def test_a_set_is_checked_as_a_whole(alice: Http) -> None:
    assert (await check(alice, *(network("mine", n) for n in "ab"))).json() == {"kind": "QuotaCheck", "checked": 2}
    answer = await check(alice, *(network("mine", n) for n in "abc"))
    assert answer.status_code == 403
    assert error_of(answer)["details"]["causes"][0]["message"].startswith("networks: 3 asked, 0 of 2 in use")
    assert (await alice.get("/api/v1/projects/mine/networks")).json()["items"] == []


def quota(name: str, project: str, **limits: int) -> dict[str, Any]:
    return {"kind": "Quota", "metadata": {"project": project, "name": name}, "spec": {"limits": limits}}


def key(project: str, name: str) -> dict[str, Any]:
    return {"kind": "Key", "metadata": {"project": project, "name": name}, "spec": {}}


async def test_a_set_is_checked_against_the_limits_that_it_brings(cloud: Api) -> None:
    three = [network("mine", n) for n in "abc"]
    async with cloud.raw() as admin:
        assert (await check(admin, *three)).status_code == 403
        assert (await check(admin, *three, quota("small", "mine", networks=5))).status_code == 200
        lowered = await check(admin, network("mine", "a"), quota("small", "mine", networks=0))
        assert "1 asked, 0 of 0 in use (quota small of project mine)" in error_of(lowered)["message"]
        another = await check(admin, network("mine", "a"), quota("more", "mine", networks=0))
        assert "quota more of project mine" in error_of(another)["message"]
        new = {"kind": "Project", "metadata": {"name": "new"}, "spec": {"domain": "acme"}}
        assert (await check(admin, network("new", "a"), quota("q", "new", networks=0), new)).status_code == 403
        # Keys are written before quotas are, so they need room in those of now.
        assert (await admin.post("/api/v1/projects/mine/quotas", json=quota("keys", "mine", keys=0))).is_success
        assert (await check(admin, key("mine", "k"), quota("keys", "mine", keys=1))).status_code == 403


async def test_a_set_is_checked_against_what_its_projects_begin_with(cloud: Api) -> None:
    new = {"kind": "Project", "metadata": {"name": "new"}, "spec": {}}
    nets = [network("new", n) for n in "abc"]
    await put(cloud, "Setting", "begin", {"setting": "projects.defaultQuota", "value": "networks=2"})
    async with cloud.raw() as admin:
        assert (await check(admin, new, *nets[:2])).status_code == 200
        answer = await check(admin, *nets, new)
        assert "3 asked, 0 of 2 in use (quota default of project new)" in error_of(answer)["message"]
        assert (await check(admin, new, *nets, quota("default", "new", networks=3))).status_code == 200


async def test_a_tenants_own_quota_does_not_count_in_a_set(alice: Http) -> None:
    answer = await check(alice, quota("small", "mine", networks=9), *(network("mine", n) for n in "abc"))
    assert answer.status_code == 403


async def test_a_check_tells_nothing_of_where_one_may_not_write(alice: Http) -> None:
    wires = [network("theirs", f"n{n}") for n in range(9)]
    domains = [{"kind": "Project", "metadata": {"name": f"p{n}"}, "spec": {"domain": "acme"}} for n in range(9)]
    assert (await check(alice, *wires, *domains)).status_code == 200


@pytest.mark.parametrize("body", [b"{}", b'{"items":[1]}', b'{"items":{}}', b"[]", b'{"items":[],"more":1}'])
async def test_a_check_of_nonsense_is_refused(api: Api, body: bytes) -> None:
    async with api.raw() as admin:
        answer = await admin.post(CHECK, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)


async def test_objects_that_are_none_count_as_nothing(api: Api) -> None:
    wires: list[dict[str, Any]] = [{}, {"kind": 7}, {"kind": "Network"}, {"kind": "Network", "metadata": 1}]
    wires += [{"kind": "Network", "metadata": {"name": ["a"], "project": {}}}, {"kind": "Event", "metadata": {}}]
    async with api.raw() as admin:
        assert (await check(admin, *wires)).status_code == 200


async def test_only_a_post_checks_and_only_a_get_reads_the_use(cloud: Api) -> None:
    async with cloud.raw() as admin:
        assert (await admin.get(CHECK)).status_code == 405
        assert (await admin.post("/api/v1/quotas/acme/usage")).status_code == 405
        assert (await admin.get("/api/v1/quotas/none/usage")).status_code == 404
    async with cloud.raw(cloud.settings(token=None)) as nobody:
        assert (await check(nobody)).status_code == 401


async def test_who_is_limited_does_not_raise_the_limit(cloud: Api) -> None:
    spec = {"limits": {"networks": 100}}
    for name in ("alice", "pat"):
        async with as_(cloud, await log_in(cloud, name)) as client:
            assert await set_limit(client, "/api/v1/projects/mine", spec) == 403
            assert (await client.delete("/api/v1/projects/mine/quotas/small")).status_code == 403
    async with as_(cloud, await log_in(cloud, "dora")) as client:
        assert await set_limit(client, "/api/v1/projects/mine", spec) == 201
        assert await set_limit(client, "/api/v1", {**spec, "domain": "dev"}) == 201
        assert (await client.delete("/api/v1/projects/mine/quotas/small")).status_code == 204
        assert (await client.get("/api/v1/quotas/acme/usage")).status_code == 200
        assert (await client.delete("/api/v1/quotas/acme")).status_code == 403
        patch = {"spec": {"limits": {"networks": 100}}}
        headers = {"content-type": "application/merge-patch+json"}
        assert (await client.patch("/api/v1/quotas/acme", json=patch, headers=headers)).status_code == 403
