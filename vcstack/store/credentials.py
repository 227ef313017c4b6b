"""Secrets of identities: password hashes, TOTP secrets, refresh tokens, signing keys, API keys.

They are no resources: no kind, no route, no watch shows them. Each lies in etcd below
``/vcstack/.credentials/{area}/{uid}[/...]`` in an envelope that opens at this place only: a record copied to
another place (or another identity's) cannot be read there. The watch cache, the mirror
and the history take in objects of kinds only, which these keys are not.

Every write says which version it replaces: "single use" is a comparison in etcd's transaction and holds
across replicas.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from vcstack.clock import Clock
from vcstack.crypto.envelope import Envelopes, Place
from vcstack.crypto.errors import KeyUnavailable, UnknownKeyVersion
from vcstack.specs.errors import Conflict, Unavailable
from vcstack.store.etcd.errors import EtcdError, LeaseNotFound, OutcomeUnknown
from vcstack.store.etcd.ops import Compare, Delete, Put, prefix_end
from vcstack.store.etcd_api import Etcd
from vcstack.store.leases import LeaseBuckets

CREDENTIALS: Final = b"/vcstack/.credentials/"
MAX_STEPS: Final = 32
"""How often a change is tried anew because somebody else was faster."""
_PATH: Final = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)+")


class Record(NamedTuple):
    """One credential at one version."""

    value: bytes
    """The plaintext, JSON."""
    revision: int
    """To be given back when it is replaced."""


class Credentials:
    """Reads and writes the records, each by compare-and-swap."""

    def __init__(self, etcd: Etcd, envelopes: Envelopes, clock: Clock) -> None:
        self._etcd = etcd
        self.envelopes = envelopes
        """What encrypts them."""
        self._leases = LeaseBuckets(etcd, clock)

    async def get(self, path: str) -> Record | None:
        """Return the record by a quorum read, None when there is none. Raises Unavailable."""
        key = _key(path)
        with _unavailable():
            found = (await self._etcd.get(key)).kv
        if found is None:
            return None
        with _unavailable():
            return Record(self.envelopes.decrypt(found.value.decode(), place_of(key)), found.mod_revision)

    async def put(self, path: str, value: bytes, revision: int, *, ttl_seconds: int = 0) -> int:
        """Write the record when it still is at that revision (0: absent); return its new revision.

        Args:
            path: where.
            value: the plaintext.
            revision: the version that is replaced.
            ttl_seconds: the record vanishes by itself that long after, or up to a twentieth later; 0: it stays.

        Raises:
            Conflict: it is at another revision.
            Unavailable: etcd does not answer.
        """
        key = _key(path)
        with _unavailable():
            text = self.envelopes.encrypt(value, place_of(key)).encode()
            while True:
                lease = await self._leases.lease_for(ttl_seconds) if ttl_seconds else 0
                try:
                    return await self._swap(key, text, revision, lease)
                except LeaseNotFound:
                    self._leases.forget(lease)

    async def update(
        self, path: str, change: Callable[[bytes | None], bytes | None], *, ttl_seconds: int = 0
    ) -> bytes | None:
        """Replace the record by what ``change`` makes of it (None: absent); return that.

        ``change`` is called again whenever somebody else was faster, and may raise to change nothing.

        Raises:
            Unavailable: etcd does not answer, or the record never stands still.
        """
        for _ in range(MAX_STEPS):
            found = await self.get(path)
            before = found.value if found else None
            after = change(before)
            if after == before:
                return after
            with contextlib.suppress(Conflict):
                if after is not None:
                    await self.put(path, after, found.revision if found else 0, ttl_seconds=ttl_seconds)
                elif found is not None:
                    await self.delete(path, found.revision)
                return after
            await asyncio.sleep(0)
        raise Unavailable("too many change the same credential at once; try again")

    async def delete(self, path: str, revision: int = 0) -> bool:
        """Remove the record; return whether there was one.

        Args:
            path: where.
            revision: only at that version; 0: at any.

        Raises:
            Conflict: it is at another revision.
        """
        key = _key(path)
        compares = [Compare.mod_revision(key, "=", revision)] if revision else [Compare.version(key, ">", 0)]
        with _unavailable():
            done = await self._etcd.txn(compares, [Delete(key)])
        if revision and not done.succeeded:
            raise Conflict("the credential was changed meanwhile")
        return done.succeeded

    async def delete_prefix(self, path: str) -> None:
        """Remove the record and all below it."""
        key = _key(path)
        below = key + b"/"
        with _unavailable():
            await self._etcd.txn([], [Delete(key), Delete(below, prefix_end(below))])

    def put_op(self, path: str, value: bytes) -> Put:
        """Return the write of a record, to be part of another transaction. Raises Unavailable."""
        key = _key(path)
        with _unavailable():
            return Put(key, self.envelopes.encrypt(value, place_of(key)).encode())

    async def _swap(self, key: bytes, text: bytes, revision: int, lease: int) -> int:
        try:
            done = await self._etcd.txn([Compare.mod_revision(key, "=", revision)], [Put(key, text, lease)])
        except OutcomeUnknown:
            # The text is unique (each has its own nonce), so what lies there tells whose write was applied.
            found = (await self._etcd.get(key)).kv
            if found is not None and found.value == text:
                return found.mod_revision
            raise
        if not done.succeeded:
            raise Conflict("the credential was changed meanwhile")
        return done.revision


def _key(path: str) -> bytes:
    if not _PATH.fullmatch(path):
        raise ValueError(f"no place for a credential: {path!r}")
    return CREDENTIALS + path.encode()


def place_of(key: bytes) -> Place:
    """Return where a record's envelope opens."""
    path = key.decode()
    return Place(path, path.removeprefix(CREDENTIALS.decode()).split("/")[1])


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except EtcdError as error:
        raise Unavailable("the store does not answer; try again") from error
    except (KeyUnavailable, UnknownKeyVersion) as error:
        raise Unavailable("the master key that protects credentials cannot be reached; try again") from error
