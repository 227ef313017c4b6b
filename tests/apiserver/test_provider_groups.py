"""Groups that an identity provider says: they decide in the session they were said for, and for no longer."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.apiserver.test_accounts import ADMIN, as_, key_token, put
from tests.apiserver.test_tenancy import PATIENCE, Http, names, network, put_roles, read_until_end
from tests.fixtures.api import SYSTEM, Api, error_of
from vcstack.apiserver.auth.directory import Account
from vcstack.apiserver.auth.records import VoucherRecord
from vcstack.apiserver.auth.sessions import Client, Vouched
from vcstack.specs.registry import get_kind

NETWORKS = "/api/v1/projects/mine/networks"
PROVIDER = get_kind("IdentityProvider")
OIDC = {"issuerUrl": "https://id.example.com", "clientId": "cloud"}


async def vouched_token(api: Api, *groups: str) -> str:
    """Return an access token of a session that the provider corp said these groups for."""
    wire = (await api.store.get(get_kind("User"), None, "corp-alice")).wire
    uid = (await api.store.get(PROVIDER, None, "corp")).wire["metadata"]["uid"]
    voucher = VoucherRecord(provider="corp", provider_uid=uid, external_id="42")
    account = Account(name="corp-alice", uid=wire["metadata"]["uid"], local=False)
    client = Client(address="192.0.2.1")
    return (await api.auth.sessions.begin(account, ["oidc"], client, vouched=Vouched(voucher, groups))).access_token


async def change(api: Api, **spec: Any) -> None:
    await api.store.merge_patch(PROVIDER, None, "corp", {"spec": spec}, actor=ADMIN)


@pytest.fixture
async def cloud(api: Api) -> Api:
    """A project that the group operators administers; the provider's "ops" stands for it. Nobody is a member."""
    await put_roles(api)
    await put(api, "Project", "mine", {})
    await network(api, "mine", "blue")
    for name in ("operators", "staff", "ops"):
        await put(api, "Group", name, {})
        subject = {"kind": "Group", "name": name}
        if name != "operators":
            await put(api, "RoleBinding", name, {"subject": subject, "role": "admin"})
        else:
            await put(api, "RoleBinding", name, {"subject": subject, "role": "project-admin"}, "mine")
    mapping = [{"external": "ops", "group": "operators"}]
    await put(api, "IdentityProvider", "corp", {"type": "OIDC", "oidc": OIDC, "groupMapping": mapping})
    await put(api, "User", "corp-alice", {"identityProvider": "corp", "externalId": "42"})
    return api


@pytest.fixture
async def alice(cloud: Api) -> AsyncIterator[Http]:
    async with as_(cloud, await vouched_token(cloud, "ops")) as client:
        yield client


async def test_a_mapped_group_decides_as_a_membership_would(cloud: Api, alice: Http) -> None:
    assert names(await alice.get(NETWORKS)) == ["mine/blue"]
    assert names(await alice.get("/api/v1/networks")) == ["mine/blue"]
    made = await alice.post(NETWORKS, json={"metadata": {"name": "red"}, "spec": {}})
    assert made.status_code == 201, made.text
    me = (await alice.get("/api/v1/me")).json()
    assert (me["groups"], [r["role"] for r in me["roles"]]) == (["operators"], ["project-admin"])
    answer = await alice.post("/api/v1/access/review", json={"verb": "create", "kind": "Network", "project": "mine"})
    assert answer.json()["allowed"] is True


async def test_a_group_there_is_none_here_that_is_called_the_same(cloud: Api) -> None:
    """ops and staff are groups here too, of administrators: only the mapping says what a name there means."""
    async with as_(cloud, await vouched_token(cloud, "staff", "operators")) as alice:
        assert (await alice.get(NETWORKS)).status_code == 404
        assert (await alice.get("/api/v1/me")).json()["groups"] == []
    async with as_(cloud, await vouched_token(cloud, "ops")) as alice:
        assert (await alice.get("/api/v1/me")).json()["groups"] == ["operators"]


async def test_other_sessions_of_the_user_have_nothing_of_it(cloud: Api, alice: Http) -> None:
    async with as_(cloud, await vouched_token(cloud)) as elsewhere:
        assert (await elsewhere.get(NETWORKS)).status_code == 404
    assert (await alice.get(NETWORKS)).status_code == 200


async def test_who_has_a_group_from_outside_may_give_what_it_gives_and_no_more(cloud: Api, alice: Http) -> None:
    await put(cloud, "ServiceAccount", "ci", {}, "mine")
    path = "/api/v1/projects/mine/rolebindings"
    for role, code in (("reader", 201), ("admin", 403)):
        spec = {"subject": {"kind": "ServiceAccount", "name": "ci"}, "role": role}
        answer = await alice.post(path, json={"metadata": {"name": role}, "spec": spec})
        assert answer.status_code == code, answer.text


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"groupMapping": []}, 404),
        ({"groupMapping": [{"external": "others", "group": "operators"}]}, 404),
        ({"enabled": False}, 401),
    ],
)
async def test_what_the_provider_gives_ends_with_its_mapping_and_with_itself(
    cloud: Api, alice: Http, spec: dict[str, Any], code: int
) -> None:
    assert (await alice.get(NETWORKS)).status_code == 200
    await change(cloud, **spec)
    assert error_of(await alice.get(NETWORKS))["code"] == code


async def test_a_provider_that_is_being_deleted_vouches_for_nobody(cloud: Api, alice: Http) -> None:
    await cloud.store.delete(PROVIDER, None, "corp", actor=ADMIN)
    assert error_of(await alice.get(NETWORKS))["code"] == 401
    await cloud.store.finalize(PROVIDER, None, "corp", list(PROVIDER.finalizers), actor=SYSTEM)
    assert error_of(await alice.get(NETWORKS))["code"] == 401


async def test_groups_that_are_deleted_or_said_no_more_give_nothing(cloud: Api, alice: Http) -> None:
    session = (await alice.get("/api/v1/me")).json()["session"]
    wire = (await cloud.store.get(get_kind("User"), None, "corp-alice")).wire
    account = Account(name="corp-alice", uid=wire["metadata"]["uid"], local=False)
    now = datetime.now(UTC)
    await cloud.auth.directory.note_groups(session, account, ["staff"], now)
    assert (await alice.get(NETWORKS)).status_code == 404
    await cloud.auth.directory.note_groups(session, account, ["ops", "staff"], now)
    assert (await alice.get(NETWORKS)).status_code == 200
    await cloud.store.delete(get_kind("Group"), None, "operators", actor=ADMIN)
    assert (await alice.get(NETWORKS)).status_code == 404


@pytest.mark.parametrize(("spec", "code"), [({"groupMapping": []}, 410), ({"enabled": False}, 401)])
async def test_a_live_watch_ends_with_what_the_provider_gave(
    cloud: Api, alice: Http, spec: dict[str, Any], code: int
) -> None:
    started = asyncio.Event()
    reading = asyncio.create_task(read_until_end(alice, f"{NETWORKS}?watch=true", started))
    await asyncio.wait_for(started.wait(), PATIENCE)
    await change(cloud, **spec)
    await network(cloud, "mine", "too-late")
    lines = await asyncio.wait_for(reading, PATIENCE)
    assert lines[-1]["object"]["code"] == code
    assert "too-late" not in [line["object"].get("metadata", {}).get("name") for line in lines[:-1]]


async def test_a_key_of_the_user_has_nothing_of_it(cloud: Api, alice: Http) -> None:
    await put(cloud, "APIKey", "laptop", {"user": "corp-alice"})
    async with as_(cloud, await key_token(cloud, "/api/v1/apikeys/laptop")) as program:
        assert (await program.get("/api/v1/me")).json()["groups"] == []
        assert (await program.get(NETWORKS)).status_code == 404


async def test_people_cannot_write_what_a_session_was_vouched_for(cloud: Api, alice: Http) -> None:
    session = (await alice.get("/api/v1/me")).json()["session"]
    patch = b'{"spec":{"externalGroups":["ops","staff"]}}'
    headers = {"content-type": "application/merge-patch+json"}
    async with cloud.raw() as admin:
        for client in (alice, admin):
            answer = await client.patch(f"/api/v1/sessions/{session}", content=patch, headers=headers)
            assert answer.status_code == 403, answer.text


async def seen(cloud: Api, *groups: str) -> str:
    """Have the provider say groups, as a login does; return when that is said to have been."""
    wire = (await cloud.store.get(get_kind("User"), None, "corp-alice")).wire
    account = Account(name="corp-alice", uid=wire["metadata"]["uid"], local=False)
    at = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
    await cloud.auth.directory.note_user(account, last_login_at=at, groups=groups)
    return "2026-11-20 09:30 UTC"


async def test_what_others_may_is_told_with_the_groups_seen_last_and_since_when(cloud: Api) -> None:
    question = {"subject": "user:corp-alice", "verb": "create", "kind": "Network", "project": "mine"}
    async with cloud.raw() as admin:
        answer = (await admin.post("/api/v1/access/review", json=question)).json()
        assert (answer["allowed"], answer.get("seenGroups")) == (False, None)
        when = await seen(cloud, "ops")
        answer = (await admin.post("/api/v1/access/review", json=question)).json()
        assert answer["allowed"] is True
        assert f"in a session by corp, with operators as of {when}" in answer["message"]
        assert answer["seenGroups"]["groups"] == ["operators"]
        named = (await admin.post("/api/v1/access/review", json={**question, "verb": "get", "name": "blue"})).json()
        assert named["allowed"] is True
        rights = (await admin.post("/api/v1/access/rights", json={"subject": "user:corp-alice"})).json()
        assert {right["project"] for right in rights["rights"]} == {"mine"}
        assert rights["seenGroups"]["seenAt"] == "2026-11-20T09:30:00Z"
        await change(cloud, enabled=False)
        assert (await admin.post("/api/v1/access/review", json=question)).json()["allowed"] is False


async def test_a_plan_knows_whom_another_mapping_would_give_and_take(cloud: Api) -> None:
    await seen(cloud, "ops")
    provider = (await cloud.store.get(PROVIDER, None, "corp")).wire
    spec = {**provider["spec"], "groupMapping": [{"external": "ops", "group": "staff"}]}
    async with cloud.raw() as admin:
        body = {"objects": [{**provider, "spec": spec}]}
        changes = (await admin.post("/api/v1/access/plan", json=body)).json()["changes"]
        assert {change["subject"] for change in changes} == {"user:corp-alice"}
        assert {change["seenAt"] for change in changes} == {"2026-11-20T09:30:00Z"}
        assert any(change["granted"] and not change.get("project") for change in changes)
        body = {"objects": [{**provider, "spec": {**spec, "groupMapping": []}}]}
        changes = (await admin.post("/api/v1/access/plan", json=body)).json()["changes"]
        assert {(change["granted"], change["project"]) for change in changes} == {(False, "mine")}


async def test_a_plan_lists_no_subresource_that_a_kind_does_not_have(cloud: Api) -> None:
    role = {"rules": [{"verbs": ["*"], "kinds": ["*"], "subresources": ["usage", "console"]}]}
    binding = {"subject": {"kind": "Group", "name": "staff"}, "role": "odd", "domain": None}
    await put(cloud, "Group", "few", {})
    async with cloud.raw() as admin:
        objects = [
            {"kind": "Role", "metadata": {"name": "odd"}, "spec": role},
            {
                "kind": "RoleBinding",
                "metadata": {"name": "few"},
                "spec": {**binding, "subject": {"kind": "Group", "name": "few"}},
            },
        ]
        changes = (await admin.post("/api/v1/access/plan", json={"objects": objects})).json()["changes"]
        found = {(change["kind"], change.get("subresource", "")) for change in changes}
        assert found == {("Instance", "console"), ("Project", "usage"), ("Quota", "usage")}
