"""The edge: headers of answers, request ids, other origins, requests in a browser's name, the access log."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.apiserver.audit.trails import audit_settings
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import Api, create_samples, error_of, serving
from tests.fixtures.samples import sample
from vcstack.apiserver.audit.settings import AccessLog
from vcstack.apiserver.audit.trail import Trail
from vcstack.apiserver.edges import Origins
from vcstack.clock import SystemClock
from vcstack.pki.installation import Installation
from vcstack.specs.errors import Forbidden
from vcstack.store.store import Store

CONSOLE = "https://console.example"
EVIL = "https://evil.example"
JSON = {"content-type": "application/json"}
FLAVOR = json.dumps({"metadata": {"name": "edge"}, "spec": {"vcpus": 1, "memoryMiB": 64, "rootDiskGiB": 1}})
PREFLIGHT = {"access-control-request-method": "PATCH", "access-control-request-headers": "authorization,content-type"}


@pytest.fixture
async def open_api(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path
) -> AsyncIterator[Api]:
    """An API that pages of the console's origin may call."""
    async with serving(memory_store, memory_etcd, pki_installation, tmp_path, cors_origins=(CONSOLE,)) as found:
        yield found


async def exchange(api: Api, raw: bytes) -> bytes:
    """Send bytes as they are and return all that comes until the server closes."""
    context = ssl.create_default_context(cafile=str(api.installation.ca_cert))
    port = int(api.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(raw)
        return await reader.read()
    finally:
        writer.close()


SAFE = {
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}


async def test_every_answer_has_safe_headers_also_refusals(api: Api) -> None:
    await create_samples(api, "Project", "Flavor")
    async with api.raw() as client:
        answers = [
            await client.get("/api/v1/flavors"),
            await client.get("/healthz"),
            await client.get("/nowhere"),
            await client.post("/api/v1/flavors", content=b"{", headers=JSON),
            await client.delete("/api/v1/flavors/tiny"),
            await client.options("/api/v1/flavors"),
            await client.get("/api/v1/flavors", headers={"authorization": "Bearer wrong"}),
        ]
    assert {a.status_code for a in answers} >= {200, 400, 401, 404}
    for answer in answers:
        assert SAFE.items() <= dict(answer.headers).items(), answer.url
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert len(answer.headers.get_list("content-security-policy")) == 1


async def test_what_is_no_http_is_answered_with_the_same_headers(api: Api) -> None:
    answer = (await exchange(api, b"NONSENSE\r\n\r\n")).decode()
    assert answer.startswith("HTTP/1.1 400 ")
    for name, value in SAFE.items():
        assert f"{name}: {value}\r\n" in answer
    assert json.loads(answer.split("\r\n\r\n", 1)[1])["reason"] == "BadRequest"


async def test_a_refused_websocket_has_safe_headers_and_an_id(api: Api) -> None:
    raw = (
        b"GET /api/v1/hosts/h1/tunnel HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"x-request-id: from-client-1\r\n\r\n"
    )
    answer = (await exchange(api, raw)).decode()
    assert answer.startswith("HTTP/1.1 401 ")
    assert "x-request-id: from-client-1\r\n" in answer
    assert all(f"{name}: {value}\r\n" in answer for name, value in SAFE.items())


@pytest.mark.parametrize("given", ["abcdefgh", "0af7651916cd43dd8448eb211c80319c", "build-17.step_2"])
async def test_a_clients_request_id_is_kept(api: Api, given: str) -> None:
    async with api.raw() as client:
        assert (await client.get("/version", headers={"x-request-id": given})).headers["x-request-id"] == given


ILL_FORMED = ["", "short", "a" * 65, "with space in it", 'quote"quote"', "<script>alert", "-leading"]


@pytest.mark.parametrize("given", ILL_FORMED)
async def test_a_request_id_that_is_not_well_formed_is_replaced(api: Api, given: str) -> None:
    async with api.raw() as client:
        found = (await client.get("/version", headers={"x-request-id": given})).headers["x-request-id"]
    assert found != given
    assert len(found) == 32


async def test_by_default_no_other_origin_may_read_anything(api: Api) -> None:
    async with api.raw() as client:
        answer = await client.get("/version", headers={"origin": CONSOLE})
        asked = await client.options("/api/v1/flavors", headers={"origin": CONSOLE, **PREFLIGHT})
    for found in (answer, asked):
        assert not [name for name in found.headers if name.startswith("access-control-")]


async def test_an_allowed_origin_is_let_in_with_credentials(open_api: Api) -> None:
    async with open_api.raw(open_api.settings(token=None)) as client:
        asked = await client.options("/api/v1/flavors/tiny", headers={"origin": CONSOLE, **PREFLIGHT})
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == CONSOLE
        assert asked.headers["access-control-allow-credentials"] == "true"
        assert "PATCH" in asked.headers["access-control-allow-methods"]
        assert "authorization" in asked.headers["access-control-allow-headers"]
        assert "Origin" in asked.headers["vary"]
        assert SAFE.items() <= dict(asked.headers).items()
        refused = await client.get("/api/v1/flavors", headers={"origin": CONSOLE})
    assert refused.status_code == 401  # the preflight needs no credential, the request does
    assert refused.headers["access-control-allow-origin"] == CONSOLE
    assert "x-request-id" in refused.headers["access-control-expose-headers"]
    assert refused.headers["vary"] == "Origin"


OTHERS = [EVIL, "null", CONSOLE + ".evil.example", "http://console.example", CONSOLE + ":444"]


@pytest.mark.parametrize("origin", OTHERS)
async def test_other_origins_are_not(open_api: Api, origin: str) -> None:
    async with open_api.raw() as client:
        asked = await client.options("/api/v1/flavors/tiny", headers={"origin": origin, **PREFLIGHT})
        answer = await client.get("/version", headers={"origin": origin})
    assert asked.status_code == 400
    for found in (asked, answer):
        assert "access-control-allow-origin" not in found.headers
        assert "Origin" in found.headers["vary"]


async def test_an_answer_without_an_origin_says_that_it_depends_on_it(open_api: Api) -> None:
    async with open_api.raw() as client:
        assert (await client.get("/version")).headers["vary"] == "Origin"


COOKIE = {"cookie": "__Host-vcstack-refresh=s-1.0.x.y", **JSON}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"origin": EVIL},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": EVIL, "sec-fetch-site": "same-origin"},
    ],
)
async def test_what_changes_something_with_a_cookie_from_elsewhere_is_refused(api: Api, more: dict[str, str]) -> None:
    async with api.raw() as client:
        answer = await client.post("/api/v1/flavors", content=FLAVOR, headers={**COOKIE, **more})
        assert error_of(answer)["reason"] == "Forbidden"
        assert (await client.get("/api/v1/flavors/edge")).status_code == 404


async def test_with_a_cookie_from_our_own_page_it_is_done(api: Api) -> None:
    async with api.raw() as client:
        own = await client.post("/api/v1/flavors", content=FLAVOR, headers={**COOKIE, "origin": api.url})
        assert own.status_code == 201
        by_site = {**COOKIE, "sec-fetch-site": "same-origin"}
        assert (await client.delete("/api/v1/flavors/edge", headers=by_site)).status_code in (200, 204)


async def test_an_allowed_origin_may_bring_a_cookie(open_api: Api) -> None:
    async with open_api.raw() as client:
        answer = await client.post("/api/v1/flavors", content=FLAVOR, headers={**COOKIE, "origin": CONSOLE})
    assert answer.status_code == 201


async def test_reading_with_a_cookie_and_writing_without_one_is_nobodys_fault(api: Api) -> None:
    async with api.raw() as client:
        assert (await client.get("/version", headers={**COOKIE, "origin": EVIL})).status_code == 200
        assert (await client.post("/api/v1/flavors", content=FLAVOR, headers=JSON)).status_code == 201


async def test_a_page_cannot_use_a_client_certificate_of_the_browser(api: Api) -> None:
    settings = await api.register("h1")
    async with api.raw(settings) as client:
        assert (await client.post("/api/v1/hosts/h1/heartbeat")).status_code == 200
        answer = await client.post("/api/v1/hosts/h1/heartbeat", headers={"origin": EVIL})
    assert error_of(answer)["reason"] == "Forbidden"


def test_a_foreign_page_opens_no_websocket() -> None:
    origins = Origins((CONSOLE,), "https://cloud.example:8443")
    scope: dict[str, Any] = {"type": "websocket"}
    for own in ({}, {b"origin": b"https://cloud.example:8443"}, {b"origin": CONSOLE.encode()}):
        origins.demand_own_site(scope, own)
    origins.demand_own_site(scope, {b"origin": b"https://10.0.0.1:8443", b"host": b"10.0.0.1:8443"})
    for foreign in (EVIL.encode(), b"null", b"http://cloud.example:8443"):
        with pytest.raises(Forbidden):
            origins.demand_own_site(scope, {b"origin": foreign, b"host": b"cloud.example:8443"})


SECRETS = ("top-secret-token-value", "cookie-secret-value", "query-secret-value", "body-secret-value")


async def test_the_access_log_has_a_line_a_request_and_no_secret(api: Api) -> None:
    forged = '/x"} {"event":"forged"}\u2028'
    headers = {
        "authorization": f"Bearer {SECRETS[0]}",
        "cookie": f"a={SECRETS[1]}",
        "origin": api.url,
        "user-agent": b'evil"} {"event":"forged"} \xe9\x9b' + b"x" * 300,
        "x-request-id": "the-request-1",
        **JSON,
    }
    with structlog.testing.capture_logs() as entries:
        async with api.raw(api.settings(token=None)) as client:
            path = f"/api/v1/auth/refresh{forged}"
            answer = await client.post(
                path, params={"token": SECRETS[2]}, content=json.dumps({"refreshToken": SECRETS[3]}), headers=headers
            )
    lines = [e for e in entries if e["event"] == "request"]
    assert len(lines) == 1
    assert answer.headers["x-request-id"] == "the-request-1"
    assert (lines[0]["method"], lines[0]["path"], lines[0]["status"]) == ("POST", path, answer.status_code)
    assert lines[0]["client"] == "127.0.0.1"
    assert len(lines[0]["program"]) == 100
    assert not [secret for secret in SECRETS if secret in repr(entries)]


async def test_a_refused_websocket_is_in_the_access_log(api: Api) -> None:
    raw = (
        b"GET /api/v1/hosts/h1/tunnel?token=query-secret-value HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n"
        b"upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with structlog.testing.capture_logs() as entries:
        await exchange(api, raw)
    (line,) = [e for e in entries if e["event"] == "websocket"]
    assert (line["path"], line["status"], line["subject"]) == ("/api/v1/hosts/h1/tunnel", 401, "anonymous")
    assert "query-secret-value" not in repr(entries)


@pytest.mark.parametrize(
    ("access_log", "levels"),
    [
        (AccessLog.UNRECORDED, ["debug", "debug", "info"]),
        (AccessLog.CHANGES, ["debug", "info", "info"]),
        (AccessLog.ALL, ["info", "info", "info"]),
    ],
)
async def test_the_operator_says_which_requests_get_a_line(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path,
    access_log: AccessLog, levels: list[str],
) -> None:  # fmt: skip
    trail = Trail(audit_settings(tmp_path), SystemClock(), memory_store.cache)
    async with trail, serving(
        memory_store, memory_etcd, pki_installation, tmp_path, audit=trail, access_log=access_log
    ) as api:  # fmt: skip
        with structlog.testing.capture_logs() as entries:
            async with api.raw() as client:
                assert (await client.get("/version")).status_code == 200
                assert (await client.post("/api/v1/flavors", json=sample("Flavor"))).status_code == 201
                assert (await client.post("/api/v1/flavors", json=sample("Flavor"))).status_code == 409
    assert [e["log_level"] for e in entries if e["event"] == "request"] == levels


async def test_a_change_that_no_trail_records_gets_a_line(api: Api) -> None:
    with structlog.testing.capture_logs() as entries:
        async with api.raw() as client:
            assert (await client.post("/api/v1/flavors", json=sample("Flavor"))).status_code == 201
    assert [e["log_level"] for e in entries if e["event"] == "request"] == ["info"]


async def test_the_request_id_stands_in_log_and_audit(api: Api) -> None:
    """The audit trail's own tests look at its records; here that the log's lines carry it."""
    async with api.raw() as client:
        with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as entries:
            await client.get("/nowhere", headers={"x-request-id": "the-request-2"})
    assert [e["request_id"] for e in entries if e["event"] == "request"] == ["the-request-2"]
