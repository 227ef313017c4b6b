"""Who may do what to a Key itself: members make and rotate keys, and take none away from others."""

import pytest

from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fixtures.api import Api, error_of

KEYS = "/api/v1/projects/mine/keys"
PATCH = {"content-type": "application/merge-patch+json"}


@pytest.fixture
async def cloud(api: Api) -> Api:
    """The project mine with alice as member, paul as its administrator, and kim, who keeps keys."""
    await put_roles(api)
    await put(api, "Project", "mine", {})
    keeping = [
        {"verbs": ["get", "update", "delete"], "kinds": ["Key"]},
        {"verbs": ["update"], "kinds": ["Key"], "subresources": ["state"]},
    ]
    await put(api, "Role", "keeper", {"rules": keeping})
    for name, role in (("alice", "member"), ("paul", "project-admin"), ("kim", "keeper")):
        await put(api, "User", name, {})
        await bind(api, name, name, role, "mine")
    return api


async def test_members_make_and_rotate_keys_and_neither_disable_nor_delete_them(cloud: Api) -> None:
    async with as_(cloud, await log_in(cloud, "alice")) as alice:
        assert (await alice.post(KEYS, json={"metadata": {"name": "disks"}, "spec": {}})).status_code == 201
        rotate = b'{"spec": {"rotateAfter": "2026-11-23T00:00:00Z", "description": "disks"}}'
        assert (await alice.patch(f"{KEYS}/disks", content=rotate, headers=PATCH)).is_success
        for state in ("Disabled", "PendingDeletion"):
            content = f'{{"spec": {{"state": "{state}"}}}}'
            refused = await alice.patch(f"{KEYS}/disks", content=content, headers=PATCH)
            assert refused.status_code == 403
            assert "change the state of a Key" in error_of(refused)["message"]
        assert (await alice.delete(f"{KEYS}/disks")).status_code == 403
        question = {"verb": "update", "kind": "Key", "subresource": "state", "project": "mine"}
        assert (await alice.post("/api/v1/access/review", json=question)).json()["allowed"] is False


@pytest.mark.parametrize("name", ["paul", "kim"])
async def test_who_administers_the_project_or_has_the_right_does(cloud: Api, name: str) -> None:
    await put(cloud, "Key", "disks", {}, "mine")
    async with as_(cloud, await log_in(cloud, name)) as keeper:
        for state in ("Disabled", "Enabled", "PendingDeletion"):
            content = f'{{"spec": {{"state": "{state}"}}}}'
            assert (await keeper.patch(f"{KEYS}/disks", content=content, headers=PATCH)).is_success
        assert (await keeper.delete(f"{KEYS}/disks")).is_success
