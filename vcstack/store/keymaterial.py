"""The material of managed keys: one record a key among the credentials, ``keys/{uid}``.

Each version is sealed for itself (``crypto/kms.py``), and the record is in an envelope besides.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from vcstack.crypto.kms import KeyKind, KeyVersion, Kms, ManagedKey
from vcstack.specs.errors import Conflict, NotFound, Unavailable
from vcstack.specs.kinds import key as specs
from vcstack.specs.meta import format_time
from vcstack.store.credentials import MAX_STEPS, Credentials

AREA: Final = "keys"
MOST_BYTES: Final = 1024 * 1024
"""Of one key's record: in its envelope it is a third larger, and etcd takes 1.5 MiB."""
Made = list[Mapping[str, Any]]
"""Each version as it is kept: number, sealed, publicPem, createdAt."""


class KeyMaterial:
    """Makes, rotates, reads and destroys it. Each change is done once however often it is asked for."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self.kms = Kms(credentials.envelopes)

    async def ensure(self, uid: str, algorithm: str, now: datetime) -> Sequence[specs.KeyVersion]:
        """Return the versions of the key, the first one made if there is none."""
        return await self._change(uid, algorithm, 0, now)

    async def rotate(self, uid: str, algorithm: str, version: int, now: datetime) -> Sequence[specs.KeyVersion]:
        """Return the versions of the key, with a new one if that version is still the newest.

        Raises Conflict when it has as many as can be kept.
        """
        return await self._change(uid, algorithm, version, now)

    async def destroy(self, uid: str) -> None:
        """Remove the material; what it encrypted is lost. Absent is success."""
        await self._credentials.delete_prefix(f"{AREA}/{uid}")

    async def load(self, uid: str) -> ManagedKey:
        """Return the key with its sealed versions. Raises NotFound."""
        record = await self._credentials.get(f"{AREA}/{uid}")
        if record is None:
            raise NotFound("the key has no material yet; wait until it is Ready")
        return _read(uid, orjson.loads(record.value))[0]

    async def rewrap(self, uid: str) -> bool:
        """Put the versions under the active master key; return whether any was under another one."""

        def change(value: bytes | None) -> bytes | None:
            if value is None:
                return None
            wire = orjson.loads(value)
            key, made = _read(uid, wire)
            again = self.kms.rewrap(key)
            if again == key:
                return value
            versions = [{**m, "sealed": v.sealed} for m, v in zip(made, again.versions, strict=True)]
            return orjson.dumps({**wire, "versions": versions})

        before = await self._credentials.get(f"{AREA}/{uid}")
        after = await self._credentials.update(f"{AREA}/{uid}", change)
        return before is not None and after != before.value

    async def _change(self, uid: str, algorithm: str, version: int, now: datetime) -> Sequence[specs.KeyVersion]:
        """Add a version when the newest one is that (0: when there is none)."""
        path = f"{AREA}/{uid}"
        for _ in range(MAX_STEPS):
            record = await self._credentials.get(path)
            if record is None:
                if version:
                    raise NotFound("the key has no material yet; wait until it is Ready")
                make: Callable[[], ManagedKey] = lambda: self.kms.create(uid, KeyKind(algorithm))  # noqa: E731
                made: Made = []
            else:
                key, made = _read(uid, orjson.loads(record.value))
                if version != key.newest.number:
                    return _describe(made)
                if len(record.value) + len(orjson.dumps(made[-1])) >= MOST_BYTES:
                    raise Conflict(f"the key has {len(made)} versions, and no more can be kept")
                make = lambda key=key: self.kms.rotate(key)  # type: ignore[misc]  # noqa: E731
            grown = await asyncio.to_thread(make)  # an RSA key takes its seconds
            made = [*made, _keep(grown.newest, now)]
            try:
                await self._credentials.put(path, _write(algorithm, made), record.revision if record else 0)
            except Conflict:
                continue  # somebody else made one at the same time
            return _describe(made)
        raise Unavailable("the key is changed by too many at once; try again")


def _keep(version: KeyVersion, now: datetime) -> Mapping[str, Any]:
    return {
        "number": version.number,
        "sealed": version.sealed,
        "publicPem": version.public_pem,
        "createdAt": format_time(now),
    }


def _write(algorithm: str, made: Made) -> bytes:
    return orjson.dumps({"algorithm": algorithm, "versions": made})


def _read(uid: str, wire: Mapping[str, Any]) -> tuple[ManagedKey, Made]:
    made: Made = wire["versions"]
    versions = tuple(KeyVersion(m["number"], m["sealed"], m["publicPem"]) for m in made)
    return ManagedKey(uid, KeyKind(wire["algorithm"]), versions), made


def _describe(made: Made) -> Sequence[specs.KeyVersion]:
    return [
        specs.KeyVersion(
            version=m["number"], created_at=datetime.fromisoformat(m["createdAt"]), public_key=m["publicPem"] or None
        )
        for m in made
    ]
