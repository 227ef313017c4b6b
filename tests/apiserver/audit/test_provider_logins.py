"""Logins at identity providers in the audit trail: who, from where, by which provider, and why not."""

import contextlib
import json
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.apiserver.audit.conftest import Audited
from tests.apiserver.audit.trails import audit_settings, lines_of, verified
from tests.apiserver.test_accounts import ADMIN, put
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import serving
from tests.fixtures.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider
from tests.fixtures.slapd import CLOUD_PASSWORD, USERS, Slapd
from vcstack.apiserver.audit.trail import Trail
from vcstack.clock import SystemClock
from vcstack.outbound.addresses import AddressPolicy, AllowedTarget
from vcstack.outbound.client import OutboundSettings
from vcstack.pki.installation import Installation
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

pytestmark = pytest.mark.daemons
LOOPBACK = "http://127.0.0.1:5555/oidc/corp"


@pytest.fixture
async def audited(
    slapd: Slapd,
    oidc_provider: OidcProvider,
    memory_store: Store,
    memory_etcd: MemoryEtcd,
    pki_installation: Installation,
    tmp_path: Path,
) -> AsyncIterator[Audited]:
    """A cloud with two providers: the directory office, and corp, which speaks OpenID Connect."""
    ports = frozenset({slapd.tls_port, oidc_provider.port})
    target = AllowedTarget(network=ip_network("127.0.0.1/32"), ports=ports)
    addresses = AddressPolicy(allowed=[target])
    outbound = OutboundSettings(
        addresses=addresses, ca_file=oidc_provider.ca_file, connect_seconds=60, total_seconds=60
    )
    trail = Trail(audit_settings(tmp_path), SystemClock(), memory_store.cache, None)
    async with (
        trail,
        serving(memory_store, memory_etcd, pki_installation, tmp_path, audit=trail, outbound=outbound) as api,
    ):
        await put(api, "Project", "office", {})
        await put(api, "Secret", "ldap", {"data": {"password": CLOUD_PASSWORD}}, "office")
        await put(api, "IdentityProvider", "office", {"type": "LDAP", "ldap": slapd.spec()})
        oidc = {"issuerUrl": oidc_provider.issuer, "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}
        await put(api, "IdentityProvider", "corp", {"type": "OIDC", "oidc": oidc})
        yield Audited(api, trail)


@contextlib.asynccontextmanager
async def nobody(audited: Audited) -> AsyncIterator[httpx2.AsyncClient]:
    async with audited.api.raw(audited.api.settings(token=None)) as http:
        yield http


async def by_directory(audited: Audited, user: str, password: str) -> int:
    async with nobody(audited) as http:
        body = {"provider": "office", "user": user, "password": password}
        return (await http.post("/api/v1/auth/ldap/login", json=body)).status_code


async def by_browser(audited: Audited, provider: OidcProvider, user: str, **changes: str) -> int:
    async with nobody(audited) as http:
        begun = (await http.post("/api/v1/auth/oidc/begin", json={"provider": "corp", "redirectUri": LOOPBACK})).json()
        async with contextlib.aclosing(provider.browser()) as browser:
            found = await browser.log_in(begun["authorizationUrl"], user)
        body = {"challenge": begun["challenge"], "code": found["code"], "state": found["state"], "issuer": found["iss"]}
        return (await http.post("/api/v1/auth/oidc/complete", json={**body, **changes})).status_code


def told(records: list[dict[str, Any]], verb: str) -> list[tuple[Any, ...]]:
    """Return what those logins' records say."""
    fields = ("subject", "outcome", "status", "name", "user", "reason")
    return [tuple(r.get(field, "") for field in fields) for r in records if r["verb"] == verb]


async def test_logins_by_a_directory_are_recorded_like_local_ones(audited: Audited) -> None:
    assert await by_directory(audited, "alice", USERS["alice"]) == 200
    assert await by_directory(audited, "alice", "planted-and-wrong") == 401
    assert await by_directory(audited, "my password, typed too early", "planted-and-wrong") == 401
    user = {"spec": {"mfaRequired": True}}
    await audited.api.store.merge_patch(get_kind("User"), None, "office-alice", user, actor=ADMIN)
    assert await by_directory(audited, "alice", USERS["alice"]) == 200
    good, wrong, unknown, asked = told(audited.records, "ldap/login")
    assert good == ("user:office-alice", "Allowed", 200, "office", "office-alice", "")
    assert wrong == ("anonymous", "Denied", 401, "office", "office-alice", "Unauthorized")
    assert unknown == ("anonymous", "Denied", 401, "office", "(unknown)", "Unauthorized")
    assert asked[1:5] == ("Allowed", 200, "office", "office-alice"), "a second factor is asked for"
    records = audited.records
    assert [bool(r.get("session")) for r in records] == [True, False, False, False]
    text = json.dumps(records)
    assert not any(secret in text for secret in (USERS["alice"], "planted-and-wrong", "typed too early"))
    assert verified(lines_of(audited.trail.settings.folder)).intact


async def test_logins_with_a_browser_are_recorded_like_local_ones(
    audited: Audited, oidc_provider: OidcProvider
) -> None:
    assert await by_browser(audited, oidc_provider, "alice") == 200
    assert await by_browser(audited, oidc_provider, "alice", state="another") == 401
    refuse = {"spec": {"newUsers": "Refuse"}}
    await audited.api.store.merge_patch(get_kind("IdentityProvider"), None, "corp", refuse, actor=ADMIN)
    assert await by_browser(audited, oidc_provider, "bob") == 403
    good, wrong, denied = told(audited.records, "oidc/complete")
    assert good[:4] == ("user:corp-alice", "Allowed", 200, "corp")
    assert (wrong[1:4], wrong[5]) == (("Denied", 401, "corp"), "Unauthorized")
    assert (denied[1:4], denied[5]) == (("Denied", 403, "corp"), "Forbidden")


async def test_asking_whether_a_device_is_let_in_is_recorded_once_it_is(
    audited: Audited, oidc_provider: OidcProvider
) -> None:
    async with nobody(audited) as http, contextlib.aclosing(oidc_provider.browser()) as browser:
        device = (await http.post("/api/v1/auth/oidc/device", json={"provider": "corp"})).json()
        body = {"challenge": device["challenge"]}
        assert (await http.post("/api/v1/auth/oidc/poll", json=body)).json()["pending"]
        assert told(audited.records, "oidc/poll") == []
        await browser.log_in_elsewhere(device["verificationUriComplete"], "alice")
        assert (await http.post("/api/v1/auth/oidc/poll", json=body)).json()["accessToken"]
    (record,) = told(audited.records, "oidc/poll")
    assert record[:4] == ("user:corp-alice", "Allowed", 200, "corp")


async def test_a_provider_that_is_down_is_recorded_as_a_failure(audited: Audited, slapd: Slapd) -> None:
    await slapd.stop()
    assert await by_directory(audited, "alice", USERS["alice"]) == 503
    (record,) = told(audited.records, "ldap/login")
    assert record[1:4] == ("Failed", 503, "office")
