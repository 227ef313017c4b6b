"""One-time tokens that let a host join.

etcd keeps only the token's hash, attached to a lease, so that it vanishes by itself. A used token stays
until then with the key that it was used for: the same request may be repeated when its answer was lost,
but nobody else can use the token again.
"""

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from datetime import datetime

from vcstack.clock import Clock
from vcstack.specs.errors import Forbidden, Unavailable
from vcstack.specs.meta import Time
from vcstack.specs.model import Model
from vcstack.specs.settings import HOSTS_JOIN_TOKEN_LIFETIME, SettingReader
from vcstack.store.etcd.errors import EtcdError
from vcstack.store.etcd.ops import Compare, Put
from vcstack.store.etcd.records import KeyValue
from vcstack.store.etcd_api import Etcd

PREFIX = b"/vcstack/.join/"
TOKEN_BYTES = 32
REFUSED = "the join token is wrong, too old, used already or for another host; ask for a new one"


class Grant(Model):
    """What a token allows, as kept in etcd."""

    host: str
    """The host that may join."""
    expires_at: Time
    """When it runs out."""
    used_by: str | None = None
    """SHA-256 of the public key that it was used for."""
    used_for: str = ""
    """The uid of the Host that joined with it; when that is removed, nothing can be had by the token any more."""


class JoinTokens:
    """Makes and redeems tokens."""

    def __init__(self, etcd: Etcd, clock: Clock, settings: SettingReader) -> None:
        self._etcd = etcd
        self._clock = clock
        self._settings = settings

    async def create(self, host: str) -> tuple[str, datetime]:
        """Return a new token for the host and when it runs out."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        lifetime = self._settings.duration(HOSTS_JOIN_TOKEN_LIFETIME)
        expires_at = self._clock.now() + lifetime
        grant = Grant(host=host, expires_at=expires_at)
        with _unavailable():
            lease = await self._etcd.lease_grant(int(lifetime.total_seconds()))
            await self._etcd.put(_key(token), grant.to_json(), lease=lease.id)
        return token, expires_at

    async def check(self, token: str, host: str, public_key: bytes) -> str:
        """Return the uid of the Host that the token was used for already by that key; empty: it is unused.

        It is not used up. Raises Forbidden.
        """
        with _unavailable():
            grant, _ = await self._find(_key(token), host, _user(public_key))
        return grant.used_for

    async def redeem(self, token: str, host: str, public_key: bytes, uid: str) -> None:
        """Use the token up for that Host and key; repeating it is nothing. Raises Forbidden."""
        key, user = _key(token), _user(public_key)
        with _unavailable():
            while True:
                grant, found = await self._find(key, host, user)
                if grant.used_by == user and grant.used_for == uid:
                    return
                if grant.used_by is not None:
                    raise Forbidden(REFUSED)
                used = grant.model_copy(update={"used_by": user, "used_for": uid})
                put = Put(key, used.to_json(), found.lease)
                unchanged = Compare.mod_revision(key, "=", found.mod_revision)
                if (await self._etcd.txn([unchanged], [put])).succeeded:
                    return

    async def _find(self, key: bytes, host: str, user: str) -> tuple[Grant, KeyValue]:
        found = (await self._etcd.get(key)).kv
        if found is None:
            raise Forbidden(REFUSED)
        grant = Grant.from_wire(found.value)
        if grant.host != host or grant.expires_at <= self._clock.now() or grant.used_by not in (None, user):
            raise Forbidden(REFUSED)
        return grant, found


def _user(public_key: bytes) -> str:
    return hashlib.sha256(public_key).hexdigest()


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except EtcdError as error:
        raise Unavailable(f"the store does not answer: {error}") from error


def _key(token: str) -> bytes:
    return PREFIX + hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest().encode()
