"""A network that one project shares with another, as the members of both and of a third one reach it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.apiserver.test_accounts import ADMIN, as_, log_in, put
from tests.apiserver.test_tenancy import APPLY, MERGE, bind, names, network, put_roles
from tests.apiserver.test_watch import watching
from tests.fixtures.api import SYSTEM, Api, error_of
from vcstack.specs.registry import get_kind

Http = httpx2.AsyncClient
BLUE = "/api/v1/projects/lab/networks/blue"
SUBNET = "/api/v1/projects/lab/subnets/blue-v4"


@pytest.fixture
async def cloud(api: Api) -> Api:
    """lab shares blue with shop: lena is a member of lab, sam of shop, eve of a third project."""
    await put_roles(api)
    for project, user in (("lab", "lena"), ("shop", "sam"), ("third", "eve")):
        await put(api, "Project", project, {})
        await put(api, "User", user, {})
        await bind(api, user, user, "member", project)
    for name in ("blue", "red"):
        await network(api, "lab", name, secret="label")
        await put(api, "Subnet", f"{name}-v4", {"network": name, "cidr": "10.9.0.0/24"}, "lab")
    await put(api, "Port", "labs-own", {"network": "blue"}, "lab")
    await share(api, {"project": "shop"}, {"project": "third"})
    await share(api, {"project": "shop"})
    return api


async def share(api: Api, *shares: dict[str, str]) -> None:
    patch = {"spec": {"sharedWith": list(shares)}}
    await api.store.merge_patch(get_kind("Network"), "lab", "blue", patch, actor=ADMIN)


@pytest.fixture
async def sam(cloud: Api) -> AsyncIterator[Http]:
    async with as_(cloud, await log_in(cloud, "sam")) as client:
        yield client


async def ask(cloud: Api, user: str, path: str) -> httpx2.Response:
    async with as_(cloud, await log_in(cloud, user)) as client:
        return await client.get(path)


async def test_a_borrower_sees_of_it_what_it_needs_and_nothing_else(cloud: Api, sam: Http) -> None:
    uid = (await cloud.store.get(get_kind("Project"), None, "shop")).wire["metadata"]["uid"]
    status = {"mtuBytes": 1442, "sharedWith": [{"project": "shop", "uid": uid, "portCount": 3}]}
    await cloud.store.patch_status(get_kind("Network"), "lab", "blue", status, actor=SYSTEM)
    blue = (await sam.get(BLUE)).json()
    assert (blue["kind"], blue["metadata"]["project"], blue["metadata"]["name"]) == ("Network", "lab", "blue")
    assert blue["spec"] == {}
    assert blue["status"]["mtuBytes"] == 1442
    subnet = (await sam.get(SUBNET)).json()
    assert subnet["spec"] == {"network": "blue", "cidr": "10.9.0.0/24"}
    for seen in (blue, subnet):
        text = json.dumps(seen)
        assert not any(word in text for word in ("sharedWith", "label", "managedFields", "finalizers", "usedAddresses"))


async def test_what_is_shared_with_a_project_can_be_listed_there(cloud: Api, sam: Http) -> None:
    assert names(await sam.get("/api/v1/projects/shop/networks?shared=true")) == ["lab/blue"]
    assert names(await sam.get("/api/v1/projects/shop/subnets?shared=true")) == ["lab/blue-v4"]
    assert names(await sam.get("/api/v1/projects/shop/networks")) == []
    assert names(await sam.get("/api/v1/networks")) == []
    refused = error_of(await sam.get("/api/v1/projects/shop/ports?shared=true"))
    assert (refused["code"], "networks, subnets" in refused["message"]) == (400, True)
    assert error_of(await sam.get("/api/v1/networks?shared=true"))["code"] == 400
    assert (await ask(cloud, "eve", "/api/v1/projects/shop/networks?shared=true")).status_code == 404


WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", BLUE, {"json": {"metadata": {"name": "blue"}, "spec": {}}}),
    ("PATCH", BLUE, {"content": b'{"spec":{"sharedWith":[]}}', "headers": MERGE}),
    ("PATCH", f"{BLUE}?fieldManager=x", {"json": {"spec": {}}, "headers": APPLY}),
    ("DELETE", BLUE, {}),
    ("DELETE", SUBNET, {}),
]


async def test_a_borrower_is_told_that_he_may_not_change_it_and_nobody_else_is(cloud: Api, sam: Http) -> None:
    for verb, path, options in WRITES:
        refused = error_of(await sam.request(verb, path, **options))
        assert refused["code"] == 403, (verb, path, refused)
        assert "is shared to be used: user:sam may not " in refused["message"]
        red = await sam.request(verb, path.replace("blue", "red"), **options)
        assert error_of(red)["code"] == 404, "of the same project, and not shared"
    async with as_(cloud, await log_in(cloud, "eve")) as eve:
        for verb, path, options in WRITES:
            known = await eve.request(verb, path, **options)
            absent = await eve.request(verb, path.replace("blue", "none"), **options)
            assert (known.status_code, known.text.replace("blue", "none")) == (404, absent.text)
    assert (await cloud.store.get(get_kind("Network"), "lab", "blue")).wire["spec"]["sharedWith"]


async def test_a_borrower_sees_and_watches_nothing_else_of_it(cloud: Api, sam: Http) -> None:
    for verb, path, options in (
        ("GET", f"{BLUE}/status", {}),
        ("GET", f"{BLUE}/history", {}),
        ("GET", f"{BLUE}?atRevision=1", {}),
        ("GET", "/api/v1/projects/lab/networks", {}),
        ("GET", "/api/v1/projects/lab/networks?watch=true", {}),
        ("GET", "/api/v1/projects/lab/ports", {}),
        ("GET", "/api/v1/projects/lab/ports/labs-own", {}),
        ("GET", "/api/v1/projects/lab/networks/red", {}),
        ("GET", "/api/v1/projects/lab/subnets/red-v4", {}),
        ("POST", "/api/v1/projects/lab/ports", {"json": {"metadata": {"name": "p"}, "spec": {"network": "blue"}}}),
    ):
        answer = await sam.request(verb, path, **options)
        assert answer.status_code == 404, (verb, path, answer.text)


async def test_it_is_missing_for_everybody_else_as_if_it_were_not_there(cloud: Api) -> None:
    for path in (BLUE, SUBNET):
        known = await ask(cloud, "eve", path)
        absent = await ask(cloud, "eve", path.replace("blue", "none"))
        assert (known.status_code, known.text.replace("blue", "none")) == (404, absent.text)
    async with as_(cloud, await log_in(cloud, "eve")) as eve:
        refused = [error_of(await eve.post(**port("third", name))) for name in ("lab/blue", "lab/none", "none/blue")]
    assert {e["code"] for e in refused} == {422}
    texts = [e["details"]["causes"] for e in refused]
    assert str(texts[0]).replace("lab/blue", "X") == str(texts[1]).replace("lab/none", "X")
    assert str(texts[0]).replace("lab/blue", "X") == str(texts[2]).replace("none/blue", "X")


async def test_it_is_missing_again_once_it_is_shared_no_more(cloud: Api, sam: Http) -> None:
    made = await sam.post(**port("shop", "lab/blue"))
    assert made.status_code == 201, made.text
    await share(cloud)
    assert (await sam.get(BLUE)).status_code == 404
    assert names(await sam.get("/api/v1/projects/shop/networks?shared=true")) == []
    assert error_of(await sam.post(**port("shop", "lab/blue", "second")))["code"] == 422
    assert (await sam.get("/api/v1/projects/shop/ports/first")).status_code == 200


async def test_whose_network_it_is_shares_it_with_those_that_he_sees(cloud: Api) -> None:
    async with as_(cloud, await log_in(cloud, "lena")) as lena:
        refused = error_of(await lena.patch(BLUE, content=shares("third"), headers=MERGE))
        absent = error_of(await lena.patch(BLUE, content=shares("nobody"), headers=MERGE))
        assert refused["code"] == absent["code"] == 422
        assert str(refused).replace("third", "nobody") == str(absent)
        await bind(cloud, "lena-third", "lena", "reader", "third")
        assert (await lena.patch(BLUE, content=shares("third"), headers=MERGE)).status_code == 200
        assert (await lena.get("/api/v1/projects/lab/networks/blue")).json()["spec"]["sharedWith"] == [
            {"project": "third"}
        ]
    assert (await ask(cloud, "eve", BLUE)).status_code == 200
    assert (await ask(cloud, "sam", BLUE)).status_code == 404


async def test_a_borrower_watches_what_comes_changes_and_is_taken_back(cloud: Api, sam: Http) -> None:
    path = "/api/v1/projects/shop/networks?shared=true&watch=true"
    async with asyncio.timeout(60), watching(sam, path) as events:

        async def next_one() -> tuple[str, str]:
            event = await anext(events)
            assert "sharedWith" not in json.dumps(event)
            return event["type"], event["object"]["metadata"]["name"]

        assert await next_one() == ("ADDED", "blue")
        kind = get_kind("Network")
        hidden = {"metadata": {"labels": {"seen": "by-nobody"}}}
        await cloud.store.merge_patch(kind, "lab", "blue", hidden, actor=ADMIN)
        await cloud.store.patch_status(kind, "lab", "blue", {"mtuBytes": 1400}, actor=SYSTEM)
        assert await next_one() == ("MODIFIED", "blue"), "once: what he does not see is no change"
        green = {"metadata": {"name": "green"}, "spec": {"sharedWith": [{"project": "shop"}]}}
        await cloud.store.create(kind, {**green, "metadata": {"name": "green", "project": "lab"}}, actor=ADMIN)
        assert await next_one() == ("ADDED", "green")
        await share(cloud)
        assert await next_one() == ("DELETED", "blue")
        await share(cloud, {"project": "third"})
        await share(cloud, {"project": "shop"})
        assert await next_one() == ("ADDED", "blue")
        assert error_of(await sam.get(f"{path}&labelSelector=a%3Db"))["code"] == 400


async def test_a_borrowers_watch_goes_on_from_his_list_or_says_to_list_again(cloud: Api, sam: Http) -> None:
    path = "/api/v1/projects/shop/networks?shared=true"
    version = (await sam.get(path)).json()["metadata"]["resourceVersion"]
    async with asyncio.timeout(60), watching(sam, f"{path}&watch=true&resourceVersion={version}") as events:
        await share(cloud)
        assert (await anext(events))["type"] == "DELETED"
    gone = await sam.get(f"{path}&watch=true&resourceVersion={version}")
    assert error_of(gone)["code"] == 410
    assert (await ask(cloud, "eve", f"{path}&watch=true")).status_code == 404


def shares(project: str) -> bytes:
    return json.dumps({"spec": {"sharedWith": [{"project": project}]}}).encode()


def port(project: str, network: str, name: str = "first") -> dict[str, Any]:
    body = {"metadata": {"name": name}, "spec": {"network": network, "securityGroups": []}}
    return {"url": f"/api/v1/projects/{project}/ports", "json": body}
