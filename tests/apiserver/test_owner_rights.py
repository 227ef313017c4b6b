"""Owners decide when an object is deleted: who may only change it does not get rid of it by naming one."""

import json
from typing import Any

import httpx2
import pytest

from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_tenancy import MERGE, bind, put_roles
from tests.fixtures.api import Api, error_of

MINE = "/api/v1/projects/mine"
NOBODY = {"kind": "Network", "name": "nobody", "uid": "net-none"}


@pytest.fixture
async def cloud(api: Api) -> Api:
    """The project mine with alice as member and paul as its administrator."""
    await put_roles(api)
    await put(api, "Project", "mine", {})
    for name, role in (("alice", "member"), ("paul", "project-admin")):
        await put(api, "User", name, {})
        await bind(api, name, name, role, "mine")
    return api


async def own(client: httpx2.AsyncClient, path: str, *owners: Any, query: str = "") -> httpx2.Response:
    content = json.dumps({"metadata": {"ownerReferences": owners}})
    return await client.patch(f"{path}{query}", content=content, headers=MERGE)


async def test_who_may_not_delete_an_object_gives_it_no_owner_that_is_not_there(cloud: Api) -> None:
    await put(cloud, "Key", "disks", {}, "mine")
    async with as_(cloud, await log_in(cloud, "alice")) as alice:
        for query in ("", "?dryRun=All"):
            refused = await own(alice, f"{MINE}/keys/disks", NOBODY, query=query)
            assert refused.status_code == 403
            assert "change metadata.ownerReferences of this Key" in error_of(refused)["message"]
        apply = {"metadata": {"name": "disks", "ownerReferences": [NOBODY]}, "spec": {}}
        headers = {"content-type": "application/apply-patch+json"}
        applied = await alice.patch(f"{MINE}/keys/disks?fieldManager=me", content=json.dumps(apply), headers=headers)
        assert applied.status_code == 403
        whole = (await alice.get(f"{MINE}/keys/disks")).json()
        assert (await alice.put(f"{MINE}/keys/disks", json=whole)).status_code == 200, "what stays is no change"
        whole["metadata"]["ownerReferences"] = [NOBODY]
        assert (await alice.put(f"{MINE}/keys/disks", json=whole)).status_code == 403
    async with as_(cloud, await log_in(cloud, "paul")) as paul:
        assert (await own(paul, f"{MINE}/keys/disks", NOBODY)).status_code == 200, "he may delete it"
        assert (await own(paul, MINE, {"kind": "User", "name": "x", "uid": "usr-x"})).status_code == 403
        assert (await paul.delete(MINE)).status_code == 403


async def test_whoever_makes_an_object_says_what_it_goes_with(cloud: Api) -> None:
    network = await put(cloud, "Network", "blue", {}, "mine")
    owner = {"kind": "Network", "name": "blue", "uid": network["metadata"]["uid"]}
    async with as_(cloud, await log_in(cloud, "alice")) as alice:
        made = {"metadata": {"name": "k", "ownerReferences": [owner]}, "spec": {}}
        assert (await alice.post(f"{MINE}/keys", json=made)).status_code == 201
        assert (await own(alice, f"{MINE}/keys/k")).status_code == 403


async def test_only_who_may_delete_an_owner_holds_up_its_deletion(cloud: Api) -> None:
    network = await put(cloud, "Network", "blue", {}, "mine")
    flavor = await put(cloud, "Flavor", "tiny", {"vcpus": 1, "memoryMiB": 512, "rootDiskGiB": 5})
    async with as_(cloud, await log_in(cloud, "alice")) as alice:
        for owner, status in ((network, 201), (flavor, 403)):
            named = {"kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
            metadata = {"name": named["name"], "ownerReferences": [{**named, "blockOwnerDeletion": True}]}
            answer = await alice.post(f"{MINE}/securitygroups", json={"metadata": metadata, "spec": {}})
            assert answer.status_code == status, answer.text
        assert "set blockOwnerDeletion for Flavor tiny" in error_of(answer)["message"]
