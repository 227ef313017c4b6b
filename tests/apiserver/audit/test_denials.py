"""What is refused stands in the trail, also where the answer is that of something missing; and for whom one acts."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.apiserver.audit.conftest import Audited, Open
from tests.apiserver.audit.trails import audit_settings
from tests.apiserver.test_accounts import ADMIN, as_, key_token, log_in, put
from tests.apiserver.test_live_stream import page
from tests.apiserver.test_tenancy import bind, network, put_roles
from tests.apiserver.test_tunnels import connected
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import Api, create_samples, serving
from tests.fixtures.api import bind as bind_to_host
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.tunnel import open_console
from vcstack.apiserver.audit.settings import KindLevels, Level
from vcstack.apiserver.audit.trail import Trail
from vcstack.clock import SystemClock
from vcstack.pki.authority import CertificateAuthority
from vcstack.pki.files import PRIVATE, PUBLIC, write_atomically
from vcstack.specs.registry import get_kind
from vcstack.store.keymaterial import KeyMaterial
from vcstack.store.store import Store

Http = httpx2.AsyncClient
MERGE = {"content-type": "application/merge-patch+json"}
APPLY = {"content-type": "application/apply-patch+json"}


@pytest.fixture
async def cloud(audited: Audited) -> Audited:
    """Two projects, each with a network; alice is a member of the first."""
    api = audited.api
    await put_roles(api)
    for name in ("mine", "theirs"):
        await put(api, "Project", name, {})
        await network(api, name, "blue")
    await put(api, "User", "alice", {})
    await bind(api, "alice", "alice", "member", "mine")
    return audited


@pytest.fixture
async def alice(cloud: Audited) -> AsyncIterator[Http]:
    async with as_(cloud.api, await log_in(cloud.api, "alice")) as client:
        yield client


def told(audited: Audited, *fields: str, **wanted: Any) -> list[tuple[Any, ...]]:
    """The fields of the records that are like that."""
    found = [r for r in audited.records if all(r.get(k) == v for k, v in wanted.items())]
    return [tuple(r.get(f) for f in fields) for r in found]


async def test_what_looks_missing_because_it_is_others_is_recorded_as_denied(cloud: Audited, alice: Http) -> None:
    body = {"metadata": {"name": "blue"}, "spec": {}}
    path = "/api/v1/projects/theirs/networks"
    requests: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("GET", f"{path}/blue", {}),
        ("GET", path, {}),
        ("GET", f"{path}?watch=true", {}),
        ("GET", f"{path}/blue/history", {}),
        ("POST", path, {"json": body}),
        ("PUT", f"{path}/blue", {"json": body}),
        ("PATCH", f"{path}/blue", {"content": b"{}", "headers": MERGE}),
        ("PATCH", f"{path}/red?fieldManager=me", {"content": json.dumps(body).encode(), "headers": APPLY}),
        ("DELETE", f"{path}/blue", {}),
        ("GET", "/api/v1/users/root", {}),
    )
    for method, url, options in requests:
        assert (await alice.request(method, url, **options)).status_code == 404, (method, url)
    found = told(cloud, "method", "verb", "kind", "outcome", "status", subject="user:alice", outcome="Denied")
    assert found == [
        ("GET", "get", "Network", "Denied", 404),
        ("GET", "list", "Network", "Denied", 404),
        ("GET", "watch", "Network", "Denied", 404),
        ("GET", "get", "Network", "Denied", 404),
        ("POST", "create", "Network", "Denied", 404),
        ("PUT", "update", "Network", "Denied", 404),
        ("PATCH", "update", "Network", "Denied", 404),
        ("PATCH", "update", "Network", "Denied", 404),
        ("DELETE", "delete", "Network", "Denied", 404),
        ("GET", "get", "User", "Denied", 404),
    ]


async def test_what_is_missing_in_ones_own_project_is_no_denial(cloud: Audited, alice: Http) -> None:
    assert (await alice.get("/api/v1/projects/mine/networks/nothing")).status_code == 404
    assert told(cloud, "verb", outcome="Denied") == []


async def test_naming_what_one_may_not_see_is_recorded_as_denied(cloud: Audited, alice: Http) -> None:
    await put(cloud.api, "User", "mallory", {})
    await bind(cloud.api, "alice-admin", "alice", "project-admin", "mine")
    spec = {"subject": {"kind": "User", "name": "mallory"}, "role": "reader"}
    answer = await alice.post("/api/v1/projects/mine/rolebindings", json={"metadata": {"name": "given"}, "spec": spec})
    assert answer.status_code in (403, 422), answer.text
    assert told(cloud, "verb", "name", outcome="Denied") == [("create", "given")]


async def test_a_review_of_somebody_else_says_of_whom(cloud: Audited, alice: Http) -> None:
    question = {"verb": "get", "kind": "Network", "project": "mine"}
    assert (await alice.post("/api/v1/access/review", json=question)).status_code == 200
    async with cloud.api.raw() as admin:
        for name, asked in (("review", {**question, "subject": "user:alice"}), ("rights", {"subject": "user:alice"})):
            assert (await admin.post(f"/api/v1/access/{name}", json=asked)).status_code == 200
    found = told(cloud, "subject", "verb", "outcome", onBehalfOf="user:alice")
    assert found == [("admin", "access/review", "Allowed"), ("admin", "access/rights", "Allowed")]
    assert told(cloud, "verb", subject="user:alice", verb="access/review") == []


async def test_a_token_of_an_ended_session_is_recorded_with_whose_it_was(cloud: Audited, alice: Http) -> None:
    assert (await alice.post("/api/v1/auth/logout", json={})).status_code == 204
    assert (await alice.get("/api/v1/me")).status_code == 401
    assert told(cloud, "subject", "user", "path", outcome="Denied") == [("anonymous", "user:alice", "/api/v1/me")]


@pytest.mark.parametrize("token", ["made-up-and-long-enough", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.", "a.b.c"])
async def test_made_up_tokens_are_recorded_and_name_nobody(cloud: Audited, token: str) -> None:
    async with as_(cloud.api, token) as http:
        assert (await http.get("/api/v1/networks")).status_code == 401
    assert told(cloud, "subject", "user", "outcome", path="/api/v1/networks") == [("anonymous", None, "Denied")]
    assert token not in json.dumps(cloud.records)


async def test_a_certificate_that_gives_no_access_is_recorded_with_its_name(cloud: Audited) -> None:
    api = cloud.api
    settings = api.host_settings("h1")
    authority = CertificateAuthority.load(api.installation.ca_cert, api.installation.ca_key)
    issued = authority.issue_client("somebody:else", hours=1)
    assert settings.cert_file is not None
    assert settings.key_file is not None
    write_atomically(settings.key_file, issued.key, PRIVATE)
    write_atomically(settings.cert_file, issued.cert, PUBLIC)
    async with api.raw(settings) as http:
        assert (await http.get("/api/v1/instances")).status_code == 401
    assert told(cloud, "subject", "user", "outcome") == [("anonymous", "somebody:else", "Denied")]


async def test_a_host_that_is_not_registered_is_recorded(cloud: Audited) -> None:
    async with cloud.api.raw(cloud.api.host_settings("h7")) as http:
        answer = await http.get("/api/v1/hosts/h7")
    assert answer.status_code in (401, 403)
    assert told(cloud, "subject", "outcome") == [("system:host:h7", "Denied")]


async def test_a_wrong_secret_of_an_api_key_is_recorded_with_the_key(cloud: Audited) -> None:
    api = cloud.api
    await put(api, "ServiceAccount", "robot", {}, "mine")
    key = await put(api, "APIKey", "robot-key", {"serviceAccount": "robot"}, "mine")
    uid = key["metadata"]["uid"]
    await key_token(api, "/api/v1/projects/mine/apikeys/robot-key")
    async with api.raw(api.settings(token=None)) as nobody:
        for key_id in (uid, "ak-nothing-of-that-kind"):
            body = {"keyId": key_id, "secret": "planted-wrong-secret"}
            assert (await nobody.post("/api/v1/auth/token", json=body)).status_code == 401
    assert told(cloud, "key", "subject", verb="token", outcome="Denied") == [(uid, "anonymous"), (None, "anonymous")]
    assert told(cloud, "key", "subject", verb="token", outcome="Allowed") == [(uid, "serviceaccount:mine/robot")]
    assert "planted" not in json.dumps(cloud.records)


async def test_who_comes_by_a_key_is_recorded_with_it(cloud: Audited) -> None:
    api = cloud.api
    await put(api, "ServiceAccount", "robot", {}, "mine")
    key = await put(api, "APIKey", "robot-key", {"serviceAccount": "robot"}, "mine")
    async with as_(api, await key_token(api, "/api/v1/projects/mine/apikeys/robot-key")) as robot:
        assert (await robot.get("/api/v1/projects/mine/networks")).status_code in (403, 404)
    subject = "serviceaccount:mine/robot"
    assert told(cloud, "key", "verb", subject=subject, outcome="Denied") == [(key["metadata"]["uid"], "list")]


async def test_secrets_that_are_read_keys_that_are_used_and_logs_are_recorded(cloud: Audited) -> None:
    api = cloud.api
    await create_samples(api, "Project", "Flavor", "Image", "SSHKey", "Network", "SecurityGroup", "Instance", "Key")
    await api.store.create(
        get_kind("Secret"),
        {"metadata": {"name": "s", "project": "demo"}, "spec": {"data": {"a": "planted"}}},
        actor=ADMIN,
    )
    uid = (await api.store.get(get_kind("Key"), "demo", "disks")).wire["metadata"]["uid"]
    await KeyMaterial(api.auth.credentials).ensure(uid, "AES-256-GCM", api.store.clock.now())
    (instance,) = (await api.store.list(get_kind("Instance"), None)).items
    name = json.loads(instance)["metadata"]["name"]
    async with api.raw() as admin:
        assert (await admin.get("/api/v1/projects/demo/secrets/s/value")).status_code == 200
        made = await admin.post("/api/v1/projects/demo/keys/disks/encrypt", json={"plaintext": "cGxhbnRlZA=="})
        assert made.status_code == 200, made.text
        await admin.get(f"/api/v1/projects/demo/instances/{name}/log")
        await admin.get(f"/api/v1/projects/demo/instances/{name}/status")
    assert told(cloud, "kind", "subresource", subject="admin") == [
        ("Secret", "value"),
        ("Key", "encrypt"),
        ("Instance", "log"),
    ]
    text = json.dumps(cloud.records)
    assert "planted" not in text
    assert "cGxhbnRlZA" not in text
    assert made.json()["ciphertext"] not in text


@pytest.mark.parametrize("operation", ["encrypt", "decrypt", "reencrypt", "datakey", "sign", "verify"])
async def test_each_operation_with_a_key_is_recorded_and_what_its_policy_refuses(
    cloud: Audited, operation: str
) -> None:
    api = cloud.api
    await create_samples(api, "Project", "Key")
    key = get_kind("Key")
    uid = (await api.store.get(key, "demo", "disks")).wire["metadata"]["uid"]
    await KeyMaterial(api.auth.credentials).ensure(uid, "AES-256-GCM", api.store.clock.now())
    path = f"/api/v1/projects/demo/keys/disks/{operation}"
    async with api.raw() as admin:
        assert (await admin.post(path, json={"ciphertext": "x"})).status_code in (200, 422)
        await api.store.merge_patch(key, "demo", "disks", {"spec": {"policy": []}}, actor=ADMIN)
        refused = (await admin.post(path, json=BODIES[operation])).status_code
    assert refused == 403
    found = told(cloud, "subresource", "outcome", kind="Key")
    assert [sub for sub, _ in found] == [operation, operation]
    assert found[1][1] == "Denied"


BODIES = {
    "encrypt": {"plaintext": "AAAA"},
    "decrypt": {"ciphertext": "x"},
    "reencrypt": {"ciphertext": "x"},
    "datakey": {},
    "sign": {"message": "AAAA"},
    "verify": {"message": "AAAA", "signature": "x"},
}


async def test_a_tunnel_is_recorded_when_a_host_opens_it(cloud: Audited) -> None:
    settings = await cloud.api.register("h1")
    async with cloud.api.raw(settings) as http:
        headers = {
            "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        }  # fmt: skip
        async with http.stream("GET", "/api/v1/hosts/h1/tunnel", headers=headers) as answer:
            assert answer.status_code == 101
    assert told(cloud, "subject", "verb", "subresource", "outcome") == [
        ("system:host:h1", "connect", "tunnel", "Allowed")
    ]


async def test_a_console_through_another_replica_names_who_opened_it(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await create_samples(api)
    await bind_to_host(api, "Instance", "web-1", "h9")
    await put_roles(api)
    await bind(api, "alice", "alice", "member", "demo")
    folders = [tmp_path_factory.mktemp(n) for n in ("one", "two")]
    parts = memory_store, memory_etcd, api.installation
    async with (
        Trail(audit_settings(folders[0]), SystemClock(), memory_store.cache) as trail,
        Trail(audit_settings(folders[1]), SystemClock(), memory_store.cache) as other,
        serving(*parts, folders[0], peers=True, audit=trail) as one,
        serving(*parts, folders[1], peers=True, audit=other) as two,
        connected(one),
        Connection(two.settings(token=await log_in(two, "alice"))) as connection,
    ):
        async with open_console(connection, "web-1", project="demo") as console:
            await console.send(b"hello")
            assert await console.receive() == b"HELLO"
        audited = Audited(one, trail)
        found = told(audited, "subject", "onBehalfOf", "name", "outcome", verb="connect")
    assert ("system:host:h9", None, "h9", "Allowed") in found
    assert found[-1] == ("admin", "user:alice", "h9", "Allowed")


async def test_watches_are_recorded_where_the_level_says_so(open_audited: Open) -> None:
    async with open_audited(kinds={"Network": KindLevels(reads=Level.METADATA)}) as audited:
        await create_samples(audited.api, "Project")
        async with audited.api.raw() as http:
            for kind in ("networks", "volumes", "images"):
                async with http.stream("GET", f"/api/v1/{kind}?watch=true&timeoutSeconds=1"):
                    pass
        assert told(audited, "verb", "kind") == [("watch", "Network")]


async def test_watches_of_a_page_are_recorded_just_so(open_audited: Open) -> None:
    async with open_audited(kinds={"Network": KindLevels(reads=Level.METADATA)}) as audited:
        api = audited.api
        await put_roles(api)
        await put(api, "User", "mallory", {})
        async with page(api, await log_in(api, "mallory")) as live:
            await live.watch(1, "/api/v1/networks")
            assert await live.told() == (1, "ERROR", "403")
            await live.watch(2, "/api/v1/sessions")
            assert (await live.told())[1] == "ADDED"
        async with page(api) as live:
            await live.watch(1, "/api/v1/networks")
            assert (await live.told())[1] == "BOOKMARK"
        found = told(audited, "subject", "verb", "kind", "outcome")
    assert found[-2:] == [("user:mallory", "watch", "Network", "Denied"), ("admin", "watch", "Network", "Allowed")]


async def test_an_answer_that_hides_is_as_much_work_for_what_is_there_as_for_what_is_not(
    cloud: Audited, alice: Http
) -> None:
    """Both are recorded: who measures how long an answer takes learns nothing."""
    await put(cloud.api, "User", "mallory", {})
    for path in ("projects/theirs/networks/{}", "users/{}", "projects/{}"):
        for name in ("blue", "mallory", "theirs", "nothing"):
            assert (await alice.get(f"/api/v1/{path.format(name)}")).status_code == 404
    assert len(told(cloud, "path", outcome="Denied")) == 12
