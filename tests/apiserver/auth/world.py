"""A cloud's logins without its HTTP server: the real store on an etcd in memory, the real services, a clock to move."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pyotp

from tests.fakes.manual_clock import ManualClock
from tests.fakes.master_keys import MasterKeys
from tests.fakes.memory_etcd import MemoryEtcd
from vcstack.apiclient.authmessages import ChallengeKind
from vcstack.apiserver.auth.assembly import Auth, AuthSettings
from vcstack.apiserver.auth.challenges import Challenge
from vcstack.apiserver.auth.directory import KeyAccount
from vcstack.apiserver.auth.passwords import HashingSettings
from vcstack.apiserver.auth.sessions import Client, Tokens
from vcstack.apiserver.auth.tokens import Access, TokenSettings
from vcstack.crypto.envelope import Envelopes
from vcstack.outbound.client import OutboundSettings
from vcstack.specs.kinds.session import Session
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor
from vcstack.store.credentials import Credentials
from vcstack.store.etcd_api import Etcd
from vcstack.store.store import Store

ADMIN = Actor("admin", "tests")
SYSTEM = Actor("system:controller:test", "test")
CHEAP = HashingSettings(memory_kib=64, passes=1)
"""Tests prove the order of steps, not the cost of guessing."""
ISSUER = "https://cloud.example:8443"
PASSWORD = "seven wet umbrellas dance"
HOME = Client(address="192.0.2.10", program="vcctl/1")
AWAY = Client(address="198.51.100.7", program="curl/8")


class SkewedClock(ManualClock):
    """A clock whose wall time is wrong; what it measures is right, as on a machine."""

    skew = timedelta()

    def now(self) -> datetime:
        return super().now() + self.skew


def make_envelopes() -> Envelopes:
    return Envelopes(MasterKeys())


class Replica(Auth):
    """What one API server has of logging in; several may share etcd and master key. With steps that tests repeat."""

    def __init__(
        self,
        store: Store,
        etcd: Etcd,
        clock: SkewedClock,
        envelopes: Envelopes,
        hashing: HashingSettings = CHEAP,
        outbound: OutboundSettings | None = None,
    ) -> None:
        outbound = outbound or OutboundSettings()
        settings = AuthSettings(tokens=TokenSettings(issuer=ISSUER), hashing=hashing, outbound=outbound)
        super().__init__(store, Credentials(etcd, envelopes, clock), clock, settings)
        self.store, self.clock = store, clock

    async def user(self, name: str = "alice", *, password: str = PASSWORD, **spec: Any) -> None:
        """Create a user; with a password, as the user would set it."""
        wire = {"metadata": {"name": name}, "spec": spec}
        await self.store.create(get_kind("User"), wire, actor=ADMIN)
        if password:
            issued = await self.login.issue_initial_secret(name)
            first = await self.login.login(name, issued.secret, HOME)
            assert isinstance(first, Challenge)
            done = await self.login.set_password(first.token, password, HOME)
            if isinstance(done, Tokens):
                await self.login.logout(done.refresh_token)

    async def change_user(self, name: str = "alice", **spec: Any) -> None:
        await self.store.merge_patch(get_kind("User"), None, name, {"spec": spec}, actor=ADMIN)

    async def tokens_of(self, name: str = "alice", password: str = PASSWORD, client: Client = HOME) -> Tokens:
        """Log in where nothing but the password is asked for."""
        found = await self.login.login(name, password, client)
        assert isinstance(found, Tokens)
        return found

    async def challenge_of(self, kind: ChallengeKind, password: str = PASSWORD, client: Client = HOME) -> Challenge:
        """Log in as alice where more is asked for."""
        found = await self.login.login("alice", password, client)
        assert isinstance(found, Challenge)
        assert found.kind is kind
        return found

    async def enrol(self) -> tuple[str, list[str]]:
        """Enrol a second factor for alice; return its secret and the recovery codes."""
        access = self.access(await self.tokens_of())
        secret = (await self.login.enrol(access, PASSWORD, "", HOME)).secret
        codes = (await self.login.confirm(access, self.code(secret))).recovery_codes
        self.clock.skip(60)  # so that the next code is another one
        return secret, codes

    def access(self, tokens: Tokens) -> Access:
        return self.tokens.verify(tokens.access_token)

    def code(self, secret: str, shift_seconds: float = 0) -> str:
        """Return what the authenticator shows."""
        return pyotp.TOTP(secret).at(self.clock.now() + timedelta(seconds=shift_seconds))

    async def key(self, *, project: str | None = None, **spec: Any) -> KeyAccount:
        """Create an API key named ci and return it."""
        wire = {"metadata": {"name": "ci"}, "spec": spec}
        if project:
            wire["metadata"]["project"] = project
        await self.store.create(get_kind("APIKey"), wire, actor=ADMIN)
        found = await self.directory.find_key(project, "ci")
        assert found is not None
        return found

    async def status_of(self, kind: str, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = (await self.store.get(get_kind(kind), None, name)).wire.get("status", {})
        return found

    async def session_names(self) -> list[str]:
        bound = self.store.bound(SYSTEM)
        return [s.metadata.name for s in (await bound.list(Session)).items]


def with_device(client: Client, tokens: Tokens) -> Client:
    return dataclasses.replace(client, device=tokens.device_token)


async def replica(
    store: Store, etcd: MemoryEtcd, clock: SkewedClock, envelopes: Envelopes, hashing: HashingSettings = CHEAP
) -> Replica:
    made = Replica(store, etcd, clock, envelopes, hashing)
    await made.start()
    return made


async def make_pair(
    stores: tuple[Store, Store], etcd: Etcd, clock: SkewedClock, envelopes: Envelopes
) -> tuple[Replica, Replica]:
    """Return two replicas with a cache each and one clock."""
    one, two = (Replica(store, etcd, clock, envelopes) for store in stores)
    await one.start()
    await two.start()
    return one, two
