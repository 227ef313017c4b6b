"""A new master key: every envelope in the store is put under it, until none needs an older one.

Record by record, each by compare-and-swap, so it may be killed anywhere, run twice at once, and run beside all else.
What cannot be opened is left as it is and counted: it holds back the retirement of its key.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
import structlog

from vcstack.clock import Clock
from vcstack.crypto.envelope import Envelopes, version_of
from vcstack.crypto.errors import CryptoError
from vcstack.specs.errors import Unavailable
from vcstack.store.credentials import CREDENTIALS, Credentials, place_of
from vcstack.store.etcd.errors import EtcdError
from vcstack.store.etcd.ops import Compare, Put
from vcstack.store.etcd.records import KeyValue
from vcstack.store.etcd_api import Etcd
from vcstack.store.keymaterial import AREA, KeyMaterial

LOOK_SECONDS: Final = 10.0
"""A new master key is noticed after that long."""
SCAN_SECONDS: Final = 3600.0
"""So often it is looked again: another process may have written with an older key meanwhile."""
LOG_EVERY: Final = 10_000
_KEYS: Final = CREDENTIALS + f"{AREA}/".encode()

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """Which master key versions the envelopes in the store need."""

    active: int
    """The version that encrypts now."""
    needed: Mapping[int, int]
    """Version → how many envelopes need it."""
    unreadable: int
    """How many are damaged."""

    @property
    def left(self) -> int:
        """Return how many envelopes are not under the active version."""
        return sum(count for version, count in self.needed.items() if version != self.active) + self.unreadable


class Rewrapper:
    """Counts and rewraps."""

    def __init__(
        self,
        etcd: Etcd,
        credentials: Credentials,
        clock: Clock,
        tell: Callable[[Progress, int], Awaitable[None]] | None = None,
    ) -> None:
        """``tell`` is called with what was counted, and how much is left since, now and then."""
        self._tell = tell
        self._etcd = etcd
        self._envelopes: Envelopes = credentials.envelopes
        self._material = KeyMaterial(credentials)
        self._clock = clock
        self._counted: Progress | None = None
        self._done_since = 0

    @property
    def left(self) -> int | None:
        """Return how many envelopes were still to be put under the active version; None before they were counted."""
        return None if self._counted is None else max(0, self._counted.left - self._done_since)

    async def count(self) -> Progress:
        """Return which versions are needed. Raises Unavailable."""
        needed: Counter[int] = Counter()
        unreadable = 0
        try:
            async for page in self._etcd.pages(CREDENTIALS):
                for kv in page.kvs:
                    try:
                        needed.update(self._versions_in(kv))
                    except (CryptoError, ValueError, KeyError, TypeError):
                        unreadable += 1
        except EtcdError as error:
            raise Unavailable("the store does not answer; try again") from error
        return Progress(self._envelopes.active, dict(sorted(needed.items())), unreadable)

    async def rewrap(self) -> int:
        """Put everything under the active version; return how many records were under another one."""
        done = seen = 0
        try:
            async for page in self._etcd.pages(CREDENTIALS):
                for kv in page.kvs:
                    seen += 1
                    changed = await self._rewrap(kv)
                    done += changed
                    self._done_since += changed
                    if seen % LOG_EVERY == 0:
                        log.info("rewrap.progress", seen=seen, rewrapped=done)
                        await self._report()
        except EtcdError as error:
            raise Unavailable("the store does not answer; try again") from error
        return done

    async def run(self) -> None:
        """Rewrap whenever another master key becomes active, until cancelled."""
        finished, looked = 0, 0.0
        while True:
            active, now = self._envelopes.active, self._clock.monotonic()
            if active != finished or now - looked >= SCAN_SECONDS:
                finished = await self._scan(active)
                looked = now
            await self._clock.sleep(LOOK_SECONDS)

    async def _scan(self, active: int) -> int:
        """Return the version under which all is now, 0 when it has to be tried again soon."""
        try:
            await self._recount()
            done = await self.rewrap()
            await self._recount()
        except Unavailable as error:
            log.warning("rewrap.waits", error=error.message)
            return 0
        if done:
            log.info("rewrap.finished", rewrapped=done, master_key=active)
        return active

    async def _recount(self) -> None:
        self._counted, self._done_since = await self.count(), 0
        await self._report()

    async def _report(self) -> None:
        if self._tell is not None and self._counted is not None:
            await self._tell(self._counted, max(0, self._counted.left - self._done_since))

    async def _rewrap(self, kv: KeyValue) -> bool:
        try:
            text = kv.value.decode()
            after = self._envelopes.rewrap(text, place_of(kv.key))
            changed = after != text
            if changed:
                unchanged = Compare.mod_revision(kv.key, "=", kv.mod_revision)
                # Who was faster has written under the active version.
                await self._etcd.txn([unchanged], [Put(kv.key, after.encode(), kv.lease)])
            if kv.key.startswith(_KEYS):
                changed |= await self._material.rewrap(kv.key[len(_KEYS) :].decode())
        except (CryptoError, ValueError) as error:
            log.warning("rewrap.unreadable", key=kv.key.decode(errors="replace"), error=str(error))
            return False
        return changed

    def _versions_in(self, kv: KeyValue) -> list[int]:
        text = kv.value.decode()
        found = [version_of(text)]
        if kv.key.startswith(_KEYS):
            record = orjson.loads(self._envelopes.decrypt(text, place_of(kv.key)))
            found += [version_of(made["sealed"]) for made in record["versions"]]
        return found
