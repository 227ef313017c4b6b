"""Tenants: what is theirs they reach, what is others' looks as if it were not there."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.apiserver.test_accounts import ADMIN, as_, key_token, log_in, put
from tests.fixtures.api import SYSTEM, Api, error_of
from vcstack.specs.meta import format_time
from vcstack.specs.permissions import built_in_roles
from vcstack.specs.registry import get_kind

Http = httpx2.AsyncClient
PATIENCE = 60
FLAVOR = {"vcpus": 1, "memoryMiB": 512, "diskGiB": 5}
MERGE = {"content-type": "application/merge-patch+json"}
APPLY = {"content-type": "application/apply-patch+json"}


async def bind(api: Api, name: str, user: str, role: str, project: str | None = None, **spec: Any) -> None:
    wire = {"subject": {"kind": "User", "name": user}, "role": role, **spec}
    await put(api, "RoleBinding", name, wire, project)


async def network(api: Api, project: str, name: str, **labels: str) -> None:
    wire = {"metadata": {"name": name, "project": project, "labels": labels}, "spec": {}}
    await api.store.create(get_kind("Network"), wire, actor=ADMIN)


async def put_roles(api: Api) -> None:
    """Store the built-in roles, as their controller does."""
    for role in built_in_roles().values():
        spec = {"rules": [rule.to_wire() for rule in role.rules]}
        await api.store.create(get_kind("Role"), {"metadata": {"name": role.name}, "spec": spec}, actor=SYSTEM)


async def make_two_projects(api: Api) -> Api:
    """Make two projects, each with a network; alice is a member of the first."""
    await put_roles(api)
    for name in ("mine", "theirs"):
        await put(api, "Project", name, {})
        await network(api, name, "blue")
    await put(api, "User", "alice", {})
    await bind(api, "alice", "alice", "member", "mine")
    return api


@pytest.fixture
async def cloud(api: Api) -> Api:
    """Two projects, as made above."""
    return await make_two_projects(api)


@pytest.fixture
async def alice(cloud: Api) -> AsyncIterator[Http]:
    async with as_(cloud, await log_in(cloud, "alice")) as client:
        yield client


def names(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [f"{i['metadata'].get('project', '-')}/{i['metadata']['name']}" for i in answer.json()["items"]]


async def test_a_member_works_in_its_project(alice: Http) -> None:
    path = "/api/v1/projects/mine/networks"
    assert names(await alice.get(path)) == ["mine/blue"]
    assert (await alice.get(f"{path}/blue")).status_code == 200
    made = await alice.post(path, json={"metadata": {"name": "red"}, "spec": {}})
    assert made.status_code == 201, made.text
    changed = await alice.patch(f"{path}/red", content=b'{"metadata":{"labels":{"a":"b"}}}', headers=MERGE)
    assert changed.status_code == 200, changed.text
    applied = await alice.patch(
        f"{path}/green?fieldManager=me", content=b'{"metadata":{"name":"green"},"spec":{}}', headers=APPLY
    )
    assert applied.status_code == 200, applied.text
    assert (await alice.delete(f"{path}/red")).status_code in (200, 204)


async def test_what_is_others_looks_missing_in_every_answer(cloud: Api, alice: Http) -> None:
    """The same bytes for what is there and what is not, but for the names that were asked for."""
    body = {"metadata": {"name": "blue"}, "spec": {}}
    patch = b'{"metadata":{"labels":{"a":"b"}}}'
    for verb, suffix, options in (
        ("GET", "/blue", {}),
        ("GET", "/blue/status", {}),
        ("GET", "/blue/history", {}),
        ("GET", "", {}),
        ("GET", "?watch=true", {}),
        ("GET", "?labelSelector=a%3Db", {}),
        ("POST", "", {"json": body}),
        ("POST", "?dryRun=All", {"json": body}),
        ("PUT", "/blue", {"json": body}),
        ("PATCH", "/blue", {"content": patch, "headers": MERGE}),
        ("PATCH", "/blue?fieldManager=me", {"content": json.dumps(body).encode(), "headers": APPLY}),
        ("DELETE", "/blue", {}),
    ):
        found = []
        for project in ("theirs", "nothin"):
            answer = await alice.request(verb, f"/api/v1/projects/{project}/networks{suffix}", **options)
            assert answer.status_code == 404, (verb, suffix, answer.text)
            headers = {k: v for k, v in answer.headers.items() if k not in ("x-request-id", "date")}
            found.append((answer.content.replace(project.encode(), b"P"), headers))
        assert found[0] == found[1], (verb, suffix)


async def test_users_and_projects_of_others_look_missing(cloud: Api, alice: Http) -> None:
    await put(cloud, "User", "mallory", {})
    for path in ("projects/{}", "users/{}", "domains/{}", "hosts/{}"):
        for verb in ("GET", "DELETE"):
            known = "theirs" if path.startswith("projects") else "mallory"
            answers = [await alice.request(verb, f"/api/v1/{path.format(n)}") for n in (known, "missing")]
            assert [a.status_code for a in answers] == [404, 404], (verb, path, answers[0].text)
            assert answers[0].text.replace(known, "N") == answers[1].text.replace("missing", "N")


async def test_lists_over_all_projects_show_ones_own(cloud: Api, alice: Http) -> None:
    assert names(await alice.get("/api/v1/networks")) == ["mine/blue"]
    assert names(await alice.get("/api/v1/projects")) == ["-/mine"]
    page = (await alice.get("/api/v1/networks?limit=1")).json()
    assert "continue" not in page["metadata"]
    assert "remainingItemCount" not in page["metadata"] or page["metadata"]["remainingItemCount"] == 0
    assert error_of(await alice.get("/api/v1/hosts"))["code"] == 403
    found = await alice.get("/api/v1/me")
    assert found.json()["projects"] == ["mine"]


async def test_some_right_in_the_project_makes_the_refusal_plain(cloud: Api, alice: Http) -> None:
    body = {"metadata": {"name": "x"}, "spec": {"subject": {"kind": "User", "name": "alice"}, "role": "reader"}}
    refused = error_of(await alice.post("/api/v1/projects/mine/rolebindings", json=body))
    assert (refused["code"], refused["message"]) == (403, "user:alice may not create RoleBinding in project mine")
    flavor = {"metadata": {"name": "f"}, "spec": FLAVOR}
    assert error_of(await alice.post("/api/v1/flavors", json=flavor))["code"] == 403


async def test_nobody_grants_what_he_does_not_have(cloud: Api, alice: Http) -> None:
    await bind(cloud, "alice-admin", "alice", "project-admin", "mine")
    await put(cloud, "ServiceAccount", "ci", {}, "mine")
    await put(cloud, "User", "mallory", {})
    path = "/api/v1/projects/mine/rolebindings"

    def binding(role: str, kind: str = "ServiceAccount", name: str = "ci") -> dict[str, Any]:
        return {"metadata": {"name": f"{name}-{role}"}, "spec": {"subject": {"kind": kind, "name": name}, "role": role}}

    assert (await alice.post(path, json=binding("reader"))).status_code == 201
    assert "nobody grants" in error_of(await alice.post(path, json=binding("admin")))["message"]
    assert "there is no Role nowhere" in error_of(await alice.post(path, json=binding("nowhere")))["message"]
    # A user whom she may not see is as good as missing.
    hidden = error_of(await alice.post(path, json=binding("reader", "User", "mallory")))
    missing = error_of(await alice.post(path, json=binding("reader", "User", "nowhere")))
    assert hidden["code"] == missing["code"] == 422
    assert json.dumps(hidden).replace("mallory", "N") == json.dumps(missing).replace("nowhere", "N")


async def test_nobody_grants_for_longer_than_he_has_it(cloud: Api) -> None:
    soon, later = (format_time(datetime.now(UTC) + timedelta(days=days)) for days in (1, 9))
    await put(cloud, "User", "temp", {})
    await put(cloud, "ServiceAccount", "robot", {}, "mine")
    await bind(cloud, "temp", "temp", "project-admin", "mine", expiresAt=soon)
    await bind(cloud, "lasting", "temp", "reader", "mine")
    await bind(cloud, "admins", "alice", "project-admin", "mine")
    path = "/api/v1/projects/mine/rolebindings"
    async with as_(cloud, await log_in(cloud, "temp")) as temp:

        async def give(role: str, **spec: Any) -> httpx2.Response:
            wire = {"subject": {"kind": "ServiceAccount", "name": "robot"}, "role": role, **spec}
            return await temp.post(path, json={"metadata": {"name": "x"}, "spec": wire}, params={"dryRun": "All"})

        for refused in (
            await give("project-admin"),
            await give("project-admin", expiresAt=later),
            await temp.patch(f"{path}/temp", content=b'{"spec": {"expiresAt": null}}', headers=MERGE),
        ):
            assert refused.status_code == 403, refused.text
            message = error_of(refused)["message"]
            assert message.startswith("nobody grants for longer than he has it: ")
            assert message.endswith(f"set spec.expiresAt to {soon} at the latest")
        assert (await give("project-admin", expiresAt=soon)).status_code == 201
        assert (await give("reader")).status_code == 201, "that is for good"
        for change in ({"metadata": {"labels": {"a": "b"}}}, {"spec": {"expiresAt": soon}}):
            less = await temp.patch(f"{path}/admins", content=json.dumps(change), headers=MERGE)
            assert less.status_code == 200, "nobody gains by it"


async def test_a_secret_ends_with_the_right_of_whoever_made_it(cloud: Api) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    soon, later, latest = (format_time(now + timedelta(days=days)) for days in (1, 9, 20))
    await put(cloud, "User", "temp", {})
    await put(cloud, "ServiceAccount", "robot", {}, "mine")
    await put(cloud, "APIKey", "robot", {"serviceAccount": "robot"}, "mine")
    subject = {"kind": "ServiceAccount", "name": "robot"}
    await put(cloud, "RoleBinding", "robot", {"subject": subject, "role": "project-admin"}, "mine")
    await bind(cloud, "temp", "temp", "project-admin", "mine", expiresAt=later)
    await bind(cloud, "longest", "temp", "reader", "mine", expiresAt=latest)
    await bind(cloud, "shortest", "temp", "member", "mine", expiresAt=soon)
    await bind(cloud, "lasting", "temp", "auditor", "mine")
    await bind(cloud, "admins", "alice", "project-admin", "mine")
    path = "/api/v1/projects/mine/apikeys"
    async with (
        as_(cloud, await log_in(cloud, "temp")) as temp,
        as_(cloud, await log_in(cloud, "alice")) as alice,
        cloud.raw() as nobody,
    ):

        async def rotate(who: httpx2.AsyncClient, key: str = "robot") -> dict[str, Any]:
            answer = await who.post(f"{path}/{key}/secret")
            assert answer.status_code == 201, answer.text
            status = (await alice.get(f"{path}/{key}")).json()["status"]
            assert status.get("secretExpiresAt") == answer.json().get("expiresAt")
            return dict(answer.json())

        made = await rotate(temp)
        assert made["expiresAt"] == later, "as long as both the right to rotate and what the account may are his"
        issued = {"keyId": made["keyId"], "secret": made["secret"]}
        token = (await nobody.post("/api/v1/auth/token", json=issued)).json()["accessToken"]
        async with as_(cloud, token) as robot:
            wire = {"subject": subject, "role": "member"}
            body = {"metadata": {"name": "x"}, "spec": wire}
            refused = await robot.post(path.replace("apikeys", "rolebindings"), json=body)
            assert refused.status_code == 403, refused.text
            assert error_of(refused)["message"].endswith(f"set spec.expiresAt to {later} at the latest")
            body["spec"] = wire | {"expiresAt": later}
            assert (await robot.post(path.replace("apikeys", "rolebindings"), json=body)).status_code == 201
            own = {"metadata": {"name": "own"}, "spec": {"serviceAccount": "robot"}}
            assert (await robot.post(path, json=own)).status_code == 201
            assert (await rotate(robot, "own"))["expiresAt"] == later, "nor by a detour over the account itself"
        assert "expiresAt" not in await rotate(alice)
        await put(cloud, "APIKey", "mine", {"user": "temp"})
        async with cloud.raw() as admin:
            assert "expiresAt" not in (await admin.post("/api/v1/apikeys/mine/secret")).json()


async def test_nobody_joins_a_group_for_longer_than_he_has_what_it_gives(cloud: Api) -> None:
    soon = format_time(datetime.now(UTC) + timedelta(days=1))
    await put(cloud, "Domain", "acme", {})
    await put(cloud, "User", "temp", {"domain": "acme"})
    await put(cloud, "Group", "ops", {"domain": "acme"})
    for kind, name in (("User", "temp"), ("Group", "ops")):
        wire = {"subject": {"kind": kind, "name": name}, "role": "domain-admin", "domain": "acme"}
        await put(cloud, "RoleBinding", name, wire | ({"expiresAt": soon} if kind == "User" else {}))
    async with as_(cloud, await log_in(cloud, "temp")) as temp:
        joining = b'{"spec": {"members": ["temp"]}}'
        refused = await temp.patch("/api/v1/groups/ops", content=joining, headers=MERGE)
        assert refused.status_code == 403
        assert error_of(refused)["message"].endswith("members of a group stay")


async def test_nobody_makes_last_what_he_has_for_a_time_by_a_role_a_provider_or_a_target(cloud: Api) -> None:
    """Each of them gives on when the role of who wrote it has ended."""
    soon = format_time(datetime.now(UTC) + timedelta(days=1))
    await put(cloud, "User", "temp", {})
    await bind(cloud, "temp", "temp", "admin", expiresAt=soon)
    narrow, wide = [{"verbs": ["get"], "kinds": ["Flavor"]}], [{"verbs": ["*"], "kinds": ["Flavor"]}]
    await put(cloud, "Role", "own", {"rules": wide})
    await bind(cloud, "own", "temp", "own")
    await put(cloud, "Group", "ops", {})
    await put(cloud, "RoleBinding", "ops", {"subject": {"kind": "Group", "name": "ops"}, "role": "admin"})
    oidc = {"issuerUrl": "https://id.example.com", "clientId": "cloud"}
    provider = {"type": "OIDC", "oidc": oidc, "groupMapping": [{"external": "x", "group": "ops"}]}
    await put(cloud, "IdentityProvider", "corp", provider)
    await put(cloud, "ServiceAccount", "robot", {}, "mine")
    robot = {"subject": {"kind": "ServiceAccount", "name": "robot"}, "role": "project-admin"}
    await put(cloud, "RoleBinding", "robot", robot, "mine")
    source = {"url": "https://git.example.com/x", "serviceAccount": "robot"}
    target = {"url": "https://hooks.example.com/"}
    async with as_(cloud, await log_in(cloud, "temp")) as temp:

        async def change(path: str, **spec: Any) -> httpx2.Response:
            return await temp.patch(f"/api/v1/{path}", content=json.dumps({"spec": spec}), headers=MERGE)

        async def make(path: str, spec: dict[str, Any]) -> httpx2.Response:
            return await temp.post(f"/api/v1/{path}", json={"metadata": {"name": "new"}, "spec": spec})

        for kind, refused in (
            ("Role", await change("roles/own", rules=[*wide, {"verbs": ["*"], "kinds": ["*"]}])),
            ("Role", await make("roles", {"rules": [{"verbs": ["get"], "kinds": ["Host"]}]})),
            ("IdentityProvider", await change("identityproviders/corp", oidc={"groupsClaim": "roles"})),
            ("IdentityProvider", await make("identityproviders", provider)),
            ("NotificationTarget", await make("projects/mine/notificationtargets", target)),
            ("GitSource", await make("projects/mine/gitsources", source)),
        ):
            assert refused.status_code == 403, (kind, refused.text)
            message = error_of(refused)["message"]
            assert message.startswith("nobody grants for longer than he has it: "), message
            assert message.endswith(f"; this {kind} stays"), message
        for less in (
            await change("roles/own", description="flavors", rules=narrow),
            await change("identityproviders/corp", enabled=False),
            await make("identityproviders", {"type": "OIDC", "oidc": oidc}),
        ):
            assert less.status_code in (200, 201), less.text


async def test_ones_own_sessions_are_seen_and_ended(cloud: Api, alice: Http) -> None:
    await put(cloud, "User", "bob", {})
    await log_in(cloud, "bob")
    mine = (await alice.get("/api/v1/me")).json()["session"]
    assert names(await alice.get("/api/v1/sessions")) == [f"-/{mine}"]
    assert (await alice.get(f"/api/v1/sessions/{mine}")).status_code == 200
    everybody = (await cloud.store.list(get_kind("Session"))).items
    others = [n for n in (json.loads(i)["metadata"]["name"] for i in everybody) if n != mine]
    assert (await alice.delete(f"/api/v1/sessions/{others[0]}")).status_code == 404
    assert (await alice.delete(f"/api/v1/sessions/{mine}")).status_code == 204


async def test_labels_limit_what_a_role_gives(cloud: Api) -> None:
    rules = [{"verbs": ["*"], "kinds": ["Network"], "labelSelector": "env=dev"}]
    await put(cloud, "Role", "dev", {"rules": rules})
    await put(cloud, "User", "bob", {})
    await bind(cloud, "bob", "bob", "dev", "mine")
    await network(cloud, "mine", "dev", env="dev")
    path = "/api/v1/projects/mine/networks"
    async with as_(cloud, await log_in(cloud, "bob")) as bob:
        assert names(await bob.get(path)) == names(await bob.get("/api/v1/networks")) == ["mine/dev"]
        assert (await bob.get(f"{path}/dev")).status_code == 200
        assert error_of(await bob.get(f"{path}/blue"))["code"] == 403
        wire = {"metadata": {"name": "new"}, "spec": {}}
        assert error_of(await bob.post(path, json=wire))["code"] == 403
        wire["metadata"]["labels"] = {"env": "dev"}  # type: ignore[index]
        assert (await bob.post(path, json=wire)).status_code == 201
        # Neither taking an object out of what one may, nor taking one in.
        out, into = b'{"metadata":{"labels":{"env":"prod"}}}', b'{"metadata":{"labels":{"env":"dev"}}}'
        assert error_of(await bob.patch(f"{path}/dev", content=out, headers=MERGE))["code"] == 403
        assert error_of(await bob.patch(f"{path}/blue", content=into, headers=MERGE))["code"] == 403


async def test_a_task_is_done_to_what_the_labels_select_whatever_its_own_are(cloud: Api) -> None:
    """Whoever may reboot what is of env=dev writes the label on each of his tasks himself."""
    rules = [{"verbs": ["create", "get"], "kinds": ["Task"], "labelSelector": "env=dev"}]
    await put(cloud, "Role", "rebooter", {"rules": rules})
    await put(cloud, "User", "bob", {})
    await bind(cloud, "bob", "bob", "rebooter", "mine")
    for env in ("dev", "prod"):
        metadata = {"name": env, "project": "mine", "labels": {"env": env}}
        spec = {"flavor": "tiny", "image": "tiny", "networkInterfaces": [{"name": "eth0", "network": "blue"}]}
        wire = {"metadata": metadata, "spec": spec}
        await cloud.store.create(get_kind("Instance"), wire, actor=ADMIN, allow_missing_references=True)

    async def recreate(client: Http, target: str) -> httpx2.Response:
        spec = {"type": "Recreate", "target": {"kind": "Instance", "name": target}}
        wire = {"metadata": {"name": f"of-{target}", "labels": {"env": "dev"}}, "spec": spec}
        return await client.post("/api/v1/projects/mine/tasks", json=wire)

    async with as_(cloud, await log_in(cloud, "bob")) as bob:
        refusals = [await recreate(bob, name) for name in ("prod", "gone")]
        assert [r.status_code for r in refusals] == [403, 403]
        told = [
            error_of(r)["message"].replace(name, "NAME") for r, name in zip(refusals, ("prod", "gone"), strict=True)
        ]
        assert told[0] == told[1], "what is there is not told"
        assert told[0].startswith("user:bob may not create a Task for Instance NAME in project mine")
        assert (await recreate(bob, "dev")).status_code == 201
    async with as_(cloud, await log_in(cloud, "alice")) as alice:
        assert (await recreate(alice, "prod")).status_code == 201, "who may all tasks may this one"


async def test_a_restricted_key_may_less_than_its_owner(cloud: Api) -> None:
    rules = [{"verbs": ["get", "list"], "kinds": ["Network"]}]
    await put(cloud, "ServiceAccount", "ci", {}, "mine")
    subject = {"kind": "ServiceAccount", "name": "ci", "project": "mine"}
    await put(cloud, "RoleBinding", "ci", {"subject": subject, "role": "project-admin"}, "mine")
    await put(cloud, "APIKey", "ci", {"serviceAccount": "ci", "rules": rules}, "mine")
    path = "/api/v1/projects/mine"
    async with as_(cloud, await key_token(cloud, f"{path}/apikeys/ci")) as ci:
        assert names(await ci.get(f"{path}/networks")) == ["mine/blue"]
        assert error_of(await ci.delete(f"{path}/networks/blue"))["code"] == 403
        assert error_of(await ci.post(f"{path}/apikeys/ci/secret"))["code"] == 403
        change = {"spec": {"rules": [{"verbs": ["list"], "kinds": ["Network"]}]}}
        await cloud.store.merge_patch(get_kind("APIKey"), "mine", "ci", change, actor=ADMIN)
        assert error_of(await ci.get(f"{path}/networks/blue"))["code"] == 403


async def read_until_end(client: Http, path: str, started: asyncio.Event) -> list[dict[str, Any]]:
    lines = []
    async with client.stream("GET", path) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            started.set()
            if line:
                lines.append(json.loads(line))
    return lines


async def remove_user(api: Api, name: str) -> None:
    definition = get_kind("User")
    await api.store.delete(definition, None, name, actor=ADMIN)
    await api.store.finalize(definition, None, name, list(definition.finalizers), actor=SYSTEM)


@pytest.mark.parametrize("project", ["projects/mine/", ""])
async def test_a_live_watch_shows_ones_own_and_ends_with_its_user(cloud: Api, alice: Http, project: str) -> None:
    started = asyncio.Event()
    reading = asyncio.create_task(read_until_end(alice, f"/api/v1/{project}networks?watch=true", started))
    await asyncio.wait_for(started.wait(), PATIENCE)
    await network(cloud, "theirs", "secret")
    await network(cloud, "mine", "red")
    await remove_user(cloud, "alice")
    await network(cloud, "mine", "too-late")
    lines = await asyncio.wait_for(reading, PATIENCE)
    seen = [line["object"]["metadata"]["name"] for line in lines if line["type"] != "ERROR"]
    assert set(seen) <= {"blue", "red"}
    assert lines[-1]["type"] == "ERROR"
    assert lines[-1]["object"]["code"] == 401


async def test_a_live_watch_ends_with_the_binding(cloud: Api, alice: Http) -> None:
    started = asyncio.Event()
    reading = asyncio.create_task(read_until_end(alice, "/api/v1/projects/mine/networks?watch=true", started))
    await asyncio.wait_for(started.wait(), PATIENCE)
    await cloud.store.delete(get_kind("RoleBinding"), "mine", "alice", actor=ADMIN)
    lines = await asyncio.wait_for(reading, PATIENCE)
    assert lines[-1]["object"]["code"] == 410
    assert (await alice.get("/api/v1/projects/mine/networks")).status_code == 404


async def test_figures_are_for_who_may_read_all(cloud: Api, alice: Http) -> None:
    assert (await alice.get("/metrics")).status_code == 403
    await bind(cloud, "alice-auditor", "alice", "auditor")
    assert (await alice.get("/metrics")).status_code == 200
    assert names(await alice.get("/api/v1/networks")) == ["mine/blue", "theirs/blue"]
    assert (await alice.get("/api/v1/hosts")).status_code == 200
    assert error_of(await alice.delete("/api/v1/projects/theirs/networks/blue"))["code"] == 403


async def test_an_administrator_by_role_may_what_the_token_may(cloud: Api, alice: Http) -> None:
    await bind(cloud, "alice-root", "alice", "admin")
    flavor = {"metadata": {"name": "f"}, "spec": FLAVOR}
    assert (await alice.post("/api/v1/flavors", json=flavor)).status_code in (201, 422)
    assert (await alice.post("/api/v1/hosts/h7/jointoken")).status_code == 201
    await put(cloud, "User", "bob", {})
    assert (await alice.post("/api/v1/users/bob/initialsecret")).status_code == 201
    assert error_of(await alice.post("/api/v1/hosts/h7/heartbeat"))["code"] == 403


async def test_a_domain_administrator_reaches_below_and_hands_out_no_more(cloud: Api) -> None:
    await put(cloud, "Domain", "acme", {})
    await put(cloud, "Project", "acme-web", {"domain": "acme"})
    await put(cloud, "User", "dora", {"domain": "acme"})
    await put(cloud, "User", "root", {"domain": "acme"})
    await bind(cloud, "dora", "dora", "domain-admin", domain="acme")
    await bind(cloud, "root", "root", "admin")
    async with as_(cloud, await log_in(cloud, "dora")) as dora:
        assert names(await dora.get("/api/v1/projects")) == ["-/acme-web"]
        assert names(await dora.get("/api/v1/users")) == ["-/dora", "-/root"]
        made = await dora.post("/api/v1/projects", json={"metadata": {"name": "acme-db"}, "spec": {"domain": "acme"}})
        assert made.status_code == 201, made.text
        refused = await dora.post("/api/v1/projects", json={"metadata": {"name": "rogue"}, "spec": {}})
        assert error_of(refused)["code"] == 403
        assert (
            await dora.post("/api/v1/projects/acme-db/networks", json={"metadata": {"name": "n"}})
        ).status_code == 201
        # Who could log in as a cloud's administrator would be one.
        assert error_of(await dora.post("/api/v1/users/root/initialsecret"))["code"] == 403
