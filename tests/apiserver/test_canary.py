"""Secrets are planted through every door of the API, then all that is kept and logged is searched for them."""

import asyncio
import base64
import contextlib
import logging
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
import structlog
from sqlalchemy import text

from tests.apiserver.audit.trails import audit_settings
from tests.fakes.master_keys import open_store
from tests.fixtures.api import SYSTEM, Api, create_samples, serving
from tests.fixtures.etcd import EtcdServer
from tests.fixtures.mirrors import reached, running
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.samples import sample
from vcstack.apiserver.audit.settings import KindLevels, Level
from vcstack.apiserver.audit.trail import Trail
from vcstack.apiserver.shell.client import Size
from vcstack.apiserver.targets import Target
from vcstack.clock import SystemClock
from vcstack.crypto.envelope import Place
from vcstack.pki.installation import Installation
from vcstack.pki.keys import generate_key_and_csr
from vcstack.specs.registry import get_kind, load_kinds
from vcstack.specs.settings import SHELL_RECORDING
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.keymaterial import KeyMaterial
from vcstack.store.mirror.audit import AuditArchive
from vcstack.store.mirror.database import open_engine
from vcstack.store.mirror.history import HistoryReader
from vcstack.store.mirror.mirror import Mirror
from vcstack.store.mirror.recordings import RecordingArchive
from vcstack.store.shellkeys import ShellKeyRecords

pytestmark = pytest.mark.daemons

ROOT = "/api/v1"
DEMO = f"{ROOT}/projects/demo"
MERGE = {"content-type": "application/merge-patch+json"}
APPLY = {"content-type": "application/apply-patch+yaml"}


class Canaries:
    """What was planted, by what it is."""

    def __init__(self) -> None:
        self.planted: dict[str, bytes] = {}

    def new(self, what: str) -> str:
        value = f"canary-{len(self.planted)}-{base64.b32encode(what.encode()).decode().rstrip('=')}-Xq7"
        self.planted[what] = value.encode()
        return value

    def found_in(self, place: str, haystack: bytes) -> list[str]:
        """Return which of them are there, in any spelling."""
        low = haystack.lower()
        return [
            f"{what} in {place}"
            for what, value in self.planted.items()
            for spelling in (value, base64.b64encode(value), value.hex().encode())
            if spelling in haystack or spelling.lower() in low
        ]


@contextlib.contextmanager
def all_logs() -> Iterator[list[str]]:
    """Everything that structlog and logging are given, whatever the level."""
    lines: list[str] = []

    def keep(logger: Any, method: str, event: Any) -> Any:
        lines.append(repr(event))
        raise structlog.DropEvent

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.name} {record.getMessage()} {record.exc_info}")

    before, handler, root = structlog.get_config(), Handler(), logging.getLogger()
    structlog.configure(processors=[structlog.processors.format_exc_info, keep], wrapper_class=structlog.BoundLogger)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        structlog.configure(**before)


async def plant_values(api: Api, canaries: Canaries) -> None:
    """Secrets: created, changed in each way, refused, named by an instance, deleted."""
    async with api.raw() as client:

        def secret(**data: Any) -> dict[str, Any]:
            return {"metadata": {"name": "s"}, "spec": {"data": data}}

        made = await client.post(f"{DEMO}/secrets", json=secret(password=canaries.new("a new secret")))
        assert made.status_code == 201, made.text
        patch = {"spec": {"data": {"password": canaries.new("a patched secret")}}}
        assert (await client.patch(f"{DEMO}/secrets/s", json=patch, headers=MERGE)).status_code == 200
        assert (await client.put(f"{DEMO}/secrets/s", json=secret(p=canaries.new("a replaced secret")))).is_success
        body = secret(q=canaries.new("an applied secret"))
        applied = await client.patch(f"{DEMO}/secrets/s?fieldManager=me", json=body, headers=APPLY)
        assert applied.status_code == 200, applied.text
        shown = [
            await client.post(f"{DEMO}/secrets", json=secret(x={"nested": canaries.new("a refused secret")})),
            await client.post(f"{DEMO}/secrets", json=secret(**{"bad name": canaries.new("one of a bad name")})),
            await client.post(f"{DEMO}/secrets?dryRun=All", json=secret(y=canaries.new("a secret of a dry run"))),
            await client.post(f"{DEMO}/secrets", json={**secret(), "spec": {"dta": canaries.new("a misplaced one")}}),
            await client.get(f"{DEMO}/secrets/s"),
            await client.get(f"{DEMO}/secrets"),
            applied,
        ]
        assert (await client.get(f"{DEMO}/secrets/s/value", params={"key": "q"})).json()["values"]["q"]
        wire = sample("Instance")
        wire["spec"]["userDataSecret"] = {"name": "s", "key": "q"}
        assert (await client.post(f"{DEMO}/instances", json=wire)).status_code == 201
        await client.delete(f"{DEMO}/secrets/s")
        answers = b"".join(answer.content for answer in shown)
        assert canaries.found_in("answers", answers) == []


async def plant_logins(api: Api, canaries: Canaries) -> None:
    """A password, a second factor with its recovery codes, tokens, an API key."""
    async with api.raw() as client:
        secret = (await client.post(f"{ROOT}/users/alice/initialsecret")).json()["secret"]
        canaries.planted["a one-time secret"] = secret.encode()
        step = (await client.post(f"{ROOT}/auth/login", json={"user": "alice", "password": secret})).json()
        password = canaries.new("a password")
        body = {"challenge": step["challenge"], "newPassword": password}
        tokens = (await client.post(f"{ROOT}/auth/password", json=body)).json()
        own = {"authorization": f"Bearer {tokens['accessToken']}"}
        canaries.planted["an access token"] = tokens["accessToken"].encode()
        canaries.planted["a refresh token"] = tokens["refreshToken"].encode()
        factor = (await client.post(f"{ROOT}/auth/mfa/enrol", json={"password": password}, headers=own)).json()
        canaries.planted["a TOTP secret"] = factor["secret"].encode()
        code = pyotp.TOTP(factor["secret"]).now()
        codes = (await client.post(f"{ROOT}/auth/mfa/confirm", json={"code": code}, headers=own)).json()
        canaries.planted["a recovery code"] = codes["recoveryCodes"][0].encode()
        wrong = {"user": "alice", "password": canaries.new("a wrong password")}
        assert (await client.post(f"{ROOT}/auth/login", json=wrong)).status_code == 401
        key = (await client.post(f"{DEMO}/apikeys/ci/secret")).json()
        canaries.planted["an API key"] = key["secret"].encode()
        await client.post(f"{ROOT}/auth/token", json={"keyId": key["keyId"], "secret": key["secret"]})
        await client.get(f"{ROOT}/me", headers={"authorization": f"Bearer {canaries.new('a made-up token')}"})


async def plant_keys(api: Api, canaries: Canaries) -> None:
    """A managed key's material, and what it encrypted."""
    material = KeyMaterial(api.application.auth.credentials)
    uid = (await api.store.get(get_kind("Key"), "demo", "disks")).wire["metadata"]["uid"]
    await material.ensure(uid, "AES-256-GCM", api.store.clock.now())
    key = await material.load(uid)
    raw = api.application.auth.credentials.envelopes.decrypt(key.newest.sealed, Place(f"kms/{uid}/1", uid))
    canaries.planted["key material"] = raw
    async with api.raw() as client:
        plain = base64.b64encode(canaries.new("what a key encrypted").encode()).decode()
        body = {"plaintext": plain, "context": canaries.new("a context")}
        made = await client.post(f"{DEMO}/keys/disks/encrypt", json=body)
        assert made.status_code == 200, made.text
        data = (await client.post(f"{DEMO}/keys/disks/datakey", json={})).json()
        canaries.planted["a data key"] = base64.b64decode(data["plaintext"])


async def plant_installation(api: Api, canaries: Canaries) -> None:
    """Join tokens, a host's key, the CA's, the key that signs access tokens, the administrator's token."""
    async with api.raw() as client:
        await client.post(f"{ROOT}/hosts", json={"metadata": {"name": "h9"}, "spec": {}})
        issued = await client.post(f"{ROOT}/hosts/h9/jointoken")
        assert issued.status_code == 201, issued.text
        canaries.planted["a join token"] = issued.json()["token"].encode()
        key, csr = generate_key_and_csr("h9")
        canaries.planted["a host's key"] = inner_line(key)
        body = {"token": issued.json()["token"], "hostName": "h9", "csr": csr.decode()}
        async with api.raw(api.settings(token=None)) as joining:
            joined = await joining.post(f"{ROOT}/join", json=body)
            assert joined.is_success, joined.text
            wrong = {**body, "token": canaries.new("a wrong join token")}
            assert (await joining.post(f"{ROOT}/join", json=wrong)).status_code == 403
    canaries.planted["the CA's key"] = inner_line(api.installation.ca_key.read_bytes())
    canaries.planted["the server's key"] = inner_line(api.installation.api.key.read_bytes())
    canaries.planted["the administrator's token"] = api.token.strip().encode()
    signing = await api.auth.credentials.get("signing/access")
    assert signing is not None
    private = re.search(rb'"d": ?"([\w-]{40,})"', signing.value)
    assert private is not None
    canaries.planted["the key that signs tokens"] = private[1]


async def plant_shells(api: Api, canaries: Canaries) -> None:
    setting = {"setting": SHELL_RECORDING, "value": "Always"}
    wire = {"metadata": {"name": "recorded", "project": "demo"}, "spec": setting}
    await api.store.create(get_kind("Setting"), wire, actor=SYSTEM)
    keys = await ShellKeyRecords(api.etcd, api.auth.credentials, api.store.cache).ensure("demo")
    canaries.planted["the SSH authority's key"] = keys.authority
    canaries.planted["the key of recordings"] = keys.recordings
    target = Target(get_kind("Instance"), "demo", "web-1", "shell")
    recorder = await api.application._recordings.begin(target, "vm-1", "user:alice", "root", Size(80, 24), keys)
    assert recorder is not None
    await recorder.show(canaries.new("what a shell showed").encode())
    await recorder.end()


def inner_line(pem: bytes) -> bytes:
    """The second line of its base64: the first begins as those of all keys do."""
    lines = [line for line in pem.splitlines() if line and b"-----" not in line]
    return lines[min(1, len(lines) - 1)][-40:]


async def test_no_planted_secret_is_found_anywhere(
    own_etcd: EtcdServer, own_postgres: PostgresServer, pki_installation: Installation, tmp_path: Path
) -> None:
    canaries, dsn = Canaries(), own_postgres.dsn("canary")
    engine = open_engine(dsn)
    everything = {kind: KindLevels(Level.REQUEST, Level.REQUEST) for kind in load_kinds()}
    settings = audit_settings(tmp_path, writes=Level.REQUEST, reads=Level.REQUEST, kinds=everything)
    with all_logs() as lines:
        async with EtcdClient(own_etcd.settings) as etcd, open_store(etcd) as store:
            mirror = Mirror(etcd, engine, dsn)
            history = HistoryReader(engine)
            trail = Trail(settings, SystemClock(), store.cache, AuditArchive(engine, dsn))
            archive = RecordingArchive(engine, dsn)
            server = serving(store, etcd, pki_installation, tmp_path, history=history, audit=trail, recordings=archive)
            async with running(mirror), trail, server as api:
                kinds = ("Project", "Flavor", "Image", "SSHKey", "Network", "SecurityGroup", "Domain", "User", "Key")
                await create_samples(api, *kinds, "ServiceAccount", "APIKey")
                await plant_values(api, canaries)
                await plant_logins(api, canaries)
                await plant_keys(api, canaries)
                await plant_installation(api, canaries)
                await plant_shells(api, canaries)
                await store.finalize(get_kind("Secret"), "demo", "s", ["vcstack.io/in-use"], actor=SYSTEM)
                await reached(mirror, await etcd.current_revision())
                async with api.raw() as client:
                    told = (await client.get(f"{DEMO}/secrets/s/history")).content
                    told += (await client.get(f"{ROOT}/events")).content
                    told += (await client.get(f"{ROOT}/events", params={"since": "2000-01-01T00:00:00Z"})).content
                    await trail.flush()
                    await trail.shipper.ship()
                    exported = (await client.get(f"{ROOT}/audit/export")).content
            keys = [kv async for page in etcd.pages(b"/") for kv in page.kvs]
    rows = await read_all(engine)
    await engine.dispose()
    snapshot, dump = tmp_path / "etcd.snapshot", await asyncio.to_thread(dump_of, dsn)
    await asyncio.to_thread(take_snapshot, own_etcd, snapshot)
    for server in (own_etcd, own_postgres):  # else their files change while they are read
        await asyncio.to_thread(server.stop)
    assert len(canaries.planted) > 27
    assert exported.count(b"\n") > 30
    assert b"CREATE TABLE public.audit" in dump
    assert told
    assert rows
    assert any("rec-" in row for row in rows)
    assert any("request" in line for line in lines)
    found = canaries.found_in("history and events", told)
    found += canaries.found_in("the audit trail's export", exported)
    found += canaries.found_in("a dump of PostgreSQL", dump)
    found += canaries.found_in("a snapshot of etcd", snapshot.read_bytes())
    found += canaries.found_in("etcd's keys", b"\n".join(kv.key + kv.value for kv in keys))
    found += canaries.found_in("PostgreSQL's rows", "\n".join(rows).encode())
    found += canaries.found_in("the log", "\n".join(lines).encode())
    for folder in (own_etcd.data, own_postgres.folder / "data", settings.folder, settings.anchor_file.parent):
        for path in (p for p in folder.rglob("*") if p.is_file()):
            found += canaries.found_in(str(path), path.read_bytes())
    assert found == []


def dump_of(dsn: str) -> bytes:
    """What a backup of PostgreSQL holds."""
    return subprocess.run(["pg_dump", dsn], capture_output=True, check=True).stdout


def take_snapshot(etcd: EtcdServer, path: Path) -> None:
    """What a backup of etcd holds."""
    command = ["etcdctl", "--endpoints", etcd.endpoint, "snapshot", "save", str(path)]
    subprocess.run(command, capture_output=True, check=True, env={**os.environ, "ETCDCTL_API": "3"})


async def read_all(engine: Any) -> list[str]:
    query = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    async with engine.connect() as connection:
        return [
            str(row)
            for schema, table in (await connection.execute(text(query))).all()
            for row in await connection.execute(text(f'SELECT t::text FROM "{schema}"."{table}" t'))
        ]


def test_the_search_finds_what_is_there() -> None:
    canaries = Canaries()
    value = canaries.new("a word").encode()
    for spelling in (value, base64.b64encode(value), value.hex().encode(), value.upper()):
        assert canaries.found_in("here", b"x" + spelling + b"y") != []
    assert canaries.found_in("here", b"nothing") == []
