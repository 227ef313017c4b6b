"""Users and service accounts at the API server: logging in, being let in, and not any more."""

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.fixtures.api import SYSTEM, Api, create_samples, error_of
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor

Http = httpx2.AsyncClient
PASSWORD = "seven wet umbrellas dance"
ADMIN = Actor("admin", "tests")


async def put(api: Api, kind: str, name: str, spec: dict[str, Any], project: str | None = None) -> dict[str, Any]:
    metadata = {"name": name, **({"project": project} if project else {})}
    stored = await api.store.create(get_kind(kind), {"metadata": metadata, "spec": spec}, actor=ADMIN)
    return stored.wire


async def log_in(api: Api, name: str) -> str:
    """Return an access token of a user, who sets the first password."""
    async with api.raw() as admin, api.raw(api.settings(token=None)) as nobody:
        issued = (await admin.post(f"/api/v1/users/{name}/initialsecret")).json()
        step = (await nobody.post("/api/v1/auth/login", json={"user": name, "password": issued["secret"]})).json()
        asked = {"challenge": step["challenge"], "newPassword": PASSWORD}
        answer = await nobody.post("/api/v1/auth/password", json=asked)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["accessToken"]
        return token


async def key_token(api: Api, path: str) -> str:
    """Return an access token for a new secret of the API key."""
    async with api.raw() as admin:
        answer = await admin.post(f"{path}/secret")
        assert answer.status_code == 201, answer.text
        issued = {"keyId": answer.json()["keyId"], "secret": answer.json()["secret"]}
        token: str = (await admin.post("/api/v1/auth/token", json=issued)).json()["accessToken"]
        return token


def as_(api: Api, token: str) -> Http:
    return api.raw(api.settings(token=token))


@pytest.fixture
async def alice(api: Api) -> AsyncIterator[Http]:
    """A client of the user alice, who may nothing."""
    await put(api, "User", "alice", {})
    async with as_(api, await log_in(api, "alice")) as client:
        yield client


async def who(client: Http) -> Any:
    answer = await client.get("/api/v1/me")
    return answer.json() if answer.status_code == 200 else error_of(answer)["code"]


async def test_a_user_logs_in_and_is_known(alice: Http) -> None:
    found = await who(alice)
    assert (found["subject"], found["role"], found["name"]) == ("user:alice", "User", "alice")
    assert found["session"]
    assert (found["roles"], found["projects"], found["allProjects"]) == ([], [], False)


async def test_logging_out_ends_the_token_at_once(api: Api, alice: Http) -> None:
    assert (await alice.post("/api/v1/auth/logout", json={})).status_code == 204
    assert await who(alice) == 401


async def test_an_administrator_ends_a_session_by_deleting_it(api: Api, alice: Http) -> None:
    session = (await who(alice))["session"]
    async with api.raw() as admin:
        assert (await admin.delete(f"/api/v1/sessions/{session}")).status_code == 204
    assert await who(alice) == 401


async def test_a_disabled_user_is_out(api: Api, alice: Http) -> None:
    await api.store.merge_patch(get_kind("User"), None, "alice", {"spec": {"enabled": False}}, actor=ADMIN)
    assert await who(alice) == 401


async def test_a_token_is_not_good_for_another_user_of_the_same_name(api: Api, alice: Http) -> None:
    definition = get_kind("User")
    await api.store.delete(definition, None, "alice", actor=ADMIN)
    await api.store.finalize(definition, None, "alice", list(definition.finalizers), actor=SYSTEM)
    await put(api, "User", "alice", {})
    assert await who(alice) == 401


async def test_a_service_account_comes_by_its_key(api: Api) -> None:
    await create_samples(api, "Project")
    await put(api, "ServiceAccount", "robot", {}, "demo")
    key = await put(api, "APIKey", "robot-key", {"serviceAccount": "robot"}, "demo")
    async with as_(api, await key_token(api, "/api/v1/projects/demo/apikeys/robot-key")) as robot:
        found = await who(robot)
        assert (found["subject"], found["project"]) == ("serviceaccount:demo/robot", "demo")
        assert found["key"] == key["metadata"]["uid"]
        change = {"spec": {"sourceNetworks": ["192.0.2.0/24"]}}
        await api.store.merge_patch(get_kind("APIKey"), "demo", "robot-key", change, actor=ADMIN)
        assert await who(robot) == 401
        change = {"spec": {"sourceNetworks": ["127.0.0.0/8"]}}
        await api.store.merge_patch(get_kind("APIKey"), "demo", "robot-key", change, actor=ADMIN)
        assert (await who(robot))["name"] == "robot"
        definition = get_kind("APIKey")
        await api.store.delete(definition, "demo", "robot-key", actor=ADMIN)
        assert await who(robot) == 401


async def test_the_administrator_and_hosts_are_known_as_well(api: Api) -> None:
    async with api.raw() as admin:
        found = await who(admin)
        assert (found["subject"], found["allProjects"]) == ("admin", True)
    async with api.raw(await api.register("h1")) as host:
        assert (await who(host))["name"] == "h1"


@pytest.mark.parametrize("token", ["a.b.c", "e30.e30.", "eyJhbGciOiJub25lIn0.e30.", ".."])
async def test_what_only_looks_like_a_token_is_refused(api: Api, token: str) -> None:
    async with as_(api, token) as client:
        assert await who(client) == 401


async def test_a_wrong_bearer_does_not_keep_anybody_from_logging_in(api: Api, alice: Http) -> None:
    body = {"user": "alice", "password": PASSWORD}
    async with api.raw(dataclasses.replace(api.settings(), token="wrong-token-wrong")) as client:
        assert (await client.post("/api/v1/auth/login", json=body)).status_code == 200
