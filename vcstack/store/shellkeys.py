"""What a project's shells rest on: the key of its SSH authority, and the key that its recordings are encrypted under.

One record a project among the credentials, ``shells/{uid}``: put under new master keys like all of them, and gone with
the project, which leaves its recordings unreadable.
"""

import base64
import os
from dataclasses import dataclass, field

import orjson

from vcstack.crypto.masterkey import KEY_BYTES
from vcstack.pki.ssh import make_private_key, public_line
from vcstack.specs.errors import Conflict, Unavailable
from vcstack.specs.kinds.project import Project
from vcstack.specs.registry import definition_of
from vcstack.store.authorities import SHELLS
from vcstack.store.cache import WatchCache
from vcstack.store.credentials import MAX_STEPS, Credentials
from vcstack.store.draft import not_found
from vcstack.store.etcd.errors import EtcdError
from vcstack.store.etcd.ops import Compare
from vcstack.store.etcd_api import Etcd
from vcstack.store.keys import object_key, row_of


@dataclass(frozen=True, slots=True)
class ShellKeys:
    """The keys of one project."""

    project: str
    """The project's uid."""
    authority: bytes = field(repr=False)
    """The SSH authority's private key."""
    recordings: bytes = field(repr=False)
    """What recordings' own keys are derived from."""

    @property
    def public_key(self) -> str:
        """Return what guests are to trust: ``ssh-ed25519 AAAA...``."""
        return public_line(self.authority)


class ShellKeyRecords:
    """Reads the keys, and makes them when they are first asked for."""

    def __init__(self, etcd: Etcd, credentials: Credentials, cache: WatchCache) -> None:
        self._etcd = etcd
        self._credentials = credentials
        self._cache = cache

    async def ensure(self, project: str) -> ShellKeys:
        """Return the project's keys, made if there are none; whoever comes second gets those of the first.

        Raises:
            NotFound: there is no such project.
            Conflict: it is being deleted, and has none.
            Unavailable: etcd does not answer.
        """
        definition = definition_of(Project)
        row = row_of(None, project)
        for _ in range(MAX_STEPS):
            await self._cache.fresh()
            entry = self._cache.find(definition, row)
            if entry is None:
                raise not_found(definition, None, project)
            metadata = orjson.loads(entry.json)["metadata"]
            path = f"{SHELLS}/{metadata['uid']}"
            found = await self._credentials.get(path)
            if found is not None:
                return _read(metadata["uid"], found.value)
            if metadata.get("deletionTimestamp"):
                raise Conflict(f"project {project} is being deleted")
            put = self._credentials.put_op(path, _make())
            # With the project as it was read: one that goes meanwhile leaves no keys behind.
            same = Compare.mod_revision(object_key(definition, row), "=", entry.revision)
            try:
                await self._etcd.txn([same, Compare.mod_revision(put.key, "=", 0)], [put])
            except EtcdError as error:
                raise Unavailable("the store does not answer; try again") from error
        raise Unavailable(f"project {project} never stands still; try again")

    async def find(self, uid: str) -> ShellKeys | None:
        """Return the keys of the project of that uid, None when there are none. Raises Unavailable."""
        found = await self._credentials.get(f"{SHELLS}/{uid}")
        return None if found is None else _read(uid, found.value)


def _make() -> bytes:
    keys = {"authority": make_private_key(), "recordings": os.urandom(KEY_BYTES)}
    return orjson.dumps({name: base64.b64encode(key).decode() for name, key in keys.items()})


def _read(uid: str, value: bytes) -> ShellKeys:
    wire = orjson.loads(value)
    return ShellKeys(uid, *(base64.b64decode(wire[name]) for name in ("authority", "recordings")))
