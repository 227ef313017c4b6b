"""Master keys in memory, for envelopes that need no keyring file. Real keys; only where they lie differs."""

import os
from collections.abc import Mapping

from vcstack.clock import Clock, SystemClock
from vcstack.crypto.envelope import Envelopes
from vcstack.crypto.errors import UnknownKeyVersion
from vcstack.crypto.masterkey import KEY_BYTES, LocalMasterKey
from vcstack.store.credentials import Credentials
from vcstack.store.etcd_api import Etcd
from vcstack.store.store import Store


class MasterKeys:
    """Implements ``vcstack.crypto.keyring.Wrapping``."""

    def __init__(self, keys: Mapping[int, LocalMasterKey] | None = None, active: int = 1) -> None:
        self.keys = dict(keys or {1: LocalMasterKey(os.urandom(KEY_BYTES))})
        self.active = active

    @property
    def active_id(self) -> str:
        return self._key(self.active).id

    def wrap(self, version: int, data_key: bytes, associated: bytes) -> bytes:
        return self._key(version).wrap(data_key, associated)

    def unwrap(self, version: int, wrapped: bytes, associated: bytes) -> bytes:
        return self._key(version).unwrap(wrapped, associated)

    def _key(self, version: int) -> LocalMasterKey:
        if version not in self.keys:
            raise UnknownKeyVersion(f"master key version {version} is not here")
        return self.keys[version]


def credentials_on(etcd: Etcd, keys: MasterKeys | None = None, clock: Clock | None = None) -> Credentials:
    """Return the real credentials store under these master keys, or under fresh ones."""
    return Credentials(etcd, Envelopes(keys or MasterKeys()), clock or SystemClock())


def open_store(etcd: Etcd, keys: MasterKeys | None = None) -> Store:
    """Return a store that can keep secret values, under these master keys."""
    return Store(etcd, credentials=credentials_on(etcd, keys))
