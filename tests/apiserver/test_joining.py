"""Joining: one-time tokens, certificates, renewal, heartbeats."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.fakes.manual_clock import ManualClock
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import SYSTEM, Api
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.hosts import HostClient
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.apiserver.jointokens import JoinTokens
from vcstack.clock import SystemClock
from vcstack.pki.authority import load_certificate
from vcstack.pki.keys import generate_key_and_csr
from vcstack.pki.tls import certificate_common_name
from vcstack.specs.errors import ApiError, Forbidden, Invalid, Unauthorized
from vcstack.specs.kinds.host import Host
from vcstack.specs.kinds.setting import Setting, SettingSpec
from vcstack.specs.registry import get_kind
from vcstack.specs.settings import HOSTS_JOIN_TOKEN_LIFETIME
from vcstack.store.store import Store


@pytest.fixture
def nobody(api: Api) -> ConnectionSettings:
    return api.settings(token=None)


async def join(settings: ConnectionSettings, token: str, host: str, csr: bytes, **more: object) -> str:
    async with Connection(settings) as connection:
        issued = await HostClient(connection).join(token=token, host_name=host, csr=csr.decode(), **more)  # type: ignore[arg-type]
    return issued.certificate


async def token_for(admin: ApiClient, host: str) -> str:
    return (await HostClient(admin.connection).create_join_token(host)).token


async def test_a_host_joins_beats_and_renews(
    api: Api, admin: ApiClient, nobody: ConnectionSettings, tmp_path: Path
) -> None:
    key, csr = generate_key_and_csr("anything")
    pem = await join(nobody, await token_for(admin, "h1"), "h1", csr, zone="z1", labels={"rack": "r1"})
    assert certificate_common_name(load_certificate(pem.encode())) == "system:host:h1"
    host = await admin.get(Host, "h1")
    assert host.spec.zone == "z1"
    assert host.metadata.labels == {"rack": "r1"}
    cert_file, key_file = tmp_path / "h1.crt", tmp_path / "h1.key"
    cert_file.write_text(pem)
    key_file.write_bytes(key)
    settings = api.settings(token=None, cert_file=cert_file, key_file=key_file)
    async with Connection(settings) as connection:
        client = HostClient(connection)
        assert (await client.beat("h1")).ttl_seconds > 0
        _, csr = generate_key_and_csr("other")
        renewed = await client.renew("h1", csr.decode())
        assert certificate_common_name(load_certificate(renewed.certificate.encode())) == "system:host:h1"
        with pytest.raises(Forbidden):
            await client.renew("h2", csr.decode())


async def test_a_token_is_good_once_but_for_the_same_key(admin: ApiClient, nobody: ConnectionSettings) -> None:
    token = await token_for(admin, "h1")
    _, csr = generate_key_and_csr("x")
    await join(nobody, token, "h1", csr)
    await join(nobody, token, "h1", csr)  # the first answer may have been lost
    _, thief = generate_key_and_csr("x")
    with pytest.raises(Forbidden):
        await join(nobody, token, "h1", thief)


async def test_a_token_is_for_one_host(admin: ApiClient, nobody: ConnectionSettings) -> None:
    token = await token_for(admin, "h1")
    _, csr = generate_key_and_csr("x")
    with pytest.raises(Forbidden):
        await join(nobody, token, "h2", csr)


@pytest.mark.parametrize("token", ["", "x", "../../elections", "\u2028", "a" * 5000])
async def test_a_wrong_token_is_refused(nobody: ConnectionSettings, token: str) -> None:
    _, csr = generate_key_and_csr("x")
    with pytest.raises(Forbidden):
        await join(nobody, token, "h1", csr)


async def test_a_token_that_ran_out_is_refused(memory_etcd: MemoryEtcd) -> None:
    async with Store(memory_etcd) as store:
        clock = ManualClock()
        tokens = JoinTokens(memory_etcd, clock, store.cache.setting_book)
        token, expires_at = await tokens.create("h1")
        clock.skip((expires_at - clock.now()).total_seconds())
        with pytest.raises(Forbidden):
            await tokens.redeem(token, "h1", b"key", "h-1")


async def test_how_long_a_token_is_good_is_a_setting(api: Api, admin: ApiClient) -> None:
    await admin.create(Setting.new("tokens", SettingSpec(setting=HOSTS_JOIN_TOKEN_LIFETIME, value="10m")))
    made = await admin.subresource("POST", get_kind("Host"), "h1", "jointoken")
    left = datetime.fromisoformat(made["expiresAt"]) - SystemClock().now()
    assert timedelta() < left <= timedelta(minutes=10)


async def test_tokens_stand_nowhere_in_the_store(api: Api, admin: ApiClient) -> None:
    token = await token_for(admin, "h1")
    found = (await api.etcd.range(b"/vcstack/.join/")).kvs
    assert len(found) == 1
    assert token.encode() not in found[0].key + found[0].value
    assert found[0].lease


PEM = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize("csr", ["", "x", PEM])
async def test_a_damaged_request_uses_no_token_up(admin: ApiClient, nobody: ConnectionSettings, csr: str) -> None:
    token = await token_for(admin, "h1")
    with pytest.raises(Invalid) as refused:
        await join(nobody, token, "h1", csr.encode())
    assert refused.value.causes[0].field == "csr"
    _, good = generate_key_and_csr("x")
    await join(nobody, token, "h1", good)


async def test_bad_labels_use_no_token_up(api: Api, admin: ApiClient, nobody: ConnectionSettings) -> None:
    token = await token_for(admin, "h1")
    _, csr = generate_key_and_csr("x")
    async with api.raw(nobody) as raw:
        body = {"token": token, "hostName": "h1", "csr": csr.decode(), "labels": {"a b": "$(id)"}}
        answer = await raw.post("/api/v1/join", json=body)
    assert answer.status_code == 422
    assert answer.json()["details"]["causes"][0]["field"].startswith("labels")
    await join(nobody, token, "h1", csr)


async def test_a_host_may_join_again_with_a_new_token(admin: ApiClient, nobody: ConnectionSettings) -> None:
    for _ in range(2):
        _, csr = generate_key_and_csr("x")
        await join(nobody, await token_for(admin, "h1"), "h1", csr)
    assert len((await admin.list(Host)).items) == 1


async def test_a_name_too_long_for_a_certificate_is_refused(admin: ApiClient) -> None:
    with pytest.raises(Invalid) as refused:
        await token_for(admin, "h" * 60)
    assert refused.value.causes[0].field == "metadata.name"


@pytest.mark.parametrize("field", ["token", "hostName", "csr"])
async def test_a_missing_field_is_named(api: Api, field: str) -> None:
    body = {"token": "x", "hostName": "h1", "csr": "x"}
    del body[field]
    async with api.raw(api.settings(token=None)) as raw:
        answer = await raw.post("/api/v1/join", json=body)
    assert answer.status_code == 422
    assert answer.json()["details"]["causes"][0]["field"] == field


async def test_only_administrators_make_tokens(api: Api, nobody: ConnectionSettings) -> None:
    errors: list[tuple[ConnectionSettings, type[ApiError]]] = [
        (nobody, Unauthorized),
        (await api.register("h1"), Forbidden),
    ]
    for settings, error in errors:
        async with Connection(settings) as connection:
            with pytest.raises(error):
                await HostClient(connection).create_join_token("h2")


async def test_a_heartbeat_tells_that_the_hosts_object_was_changed(api: Api) -> None:
    async with Connection(await api.register("h1")) as connection:
        client = HostClient(connection)
        assert (await client.beat("h1")).generation == 1
        spec = {"spec": {"scheduling": "Disabled"}}
        await api.store.merge_patch(get_kind("Host"), None, "h1", spec, actor=SYSTEM)
        assert (await client.beat("h1")).generation == 2


async def test_heartbeats_cost_no_revision(api: Api) -> None:
    async with Connection(await api.register("h1")) as connection:
        client = HostClient(connection)
        await client.beat("h1")
        before = api.etcd.revision
        for _ in range(20):
            await client.beat("h1")
    assert api.etcd.revision == before
