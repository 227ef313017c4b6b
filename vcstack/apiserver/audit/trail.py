"""The audit trail of one API process: takes records, looks after the chain, its anchors and its archive."""

import asyncio
import contextlib
import socket
from collections import OrderedDict
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import orjson
import structlog

from vcstack.apiserver import bodies
from vcstack.apiserver.audit import metrics
from vcstack.apiserver.audit.allowance import Allowance
from vcstack.apiserver.audit.anchors import AnchorFile, post_anchors
from vcstack.apiserver.audit.chain import Chain
from vcstack.apiserver.audit.entry import ALLOWED, SWITCHING_PROTOCOLS, Entry
from vcstack.apiserver.audit.journal import OWN, Journal
from vcstack.apiserver.audit.policy import Policy
from vcstack.apiserver.audit.redaction import BODY_LIMIT, clean, clean_body
from vcstack.apiserver.audit.settings import AuditSettings, Level
from vcstack.apiserver.audit.shipper import Archive, Shipper
from vcstack.apiserver.targets import Target
from vcstack.clock import Clock
from vcstack.outbound.client import OutboundClient
from vcstack.specs.audit import Anchor, AuditFilter, format_instant
from vcstack.specs.errors import BadRequest, Unavailable
from vcstack.specs.model import is_label
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.specs.resource import Ref
from vcstack.store.actor import SYSTEM_PREFIX
from vcstack.store.cache import WatchCache
from vcstack.store.keys import row_of
from vcstack.store.writes import Written

FLUSH_SECONDS = 10.0
"""How often it is told what was suppressed."""
MOVING_SECONDS = 3.0
"""In that time another process has moved into the archive what it has anchored."""
UNKNOWN = "(unknown)"
USER = "user:"
REMEMBERED = 4096
"""Writers kept in memory, to name them for what controllers do because of them."""
LOOKED_AT = 10
"""Newest records of an object that a person is looked for in."""
LOOK_SECONDS = 2.0

logger = structlog.get_logger(__name__)


class Trail:
    """Use as an async context manager around the server that it records."""

    def __init__(
        self,
        settings: AuditSettings,
        clock: Clock,
        cache: WatchCache | None = None,
        archive: Archive | None = None,
        outbound: OutboundClient | None = None,
    ) -> None:
        """``outbound`` sends anchors; without it they go into the file only."""
        self.settings = settings
        self.policy = Policy(settings)
        self.body_limit = 4 * BODY_LIMIT
        self.archive = archive
        self.anchors = AnchorFile(settings.anchor_file)
        self._clock = clock
        self._cache = cache
        self._outbound = outbound
        self._allowance = Allowance(clock.monotonic)
        self._writers: OrderedDict[tuple[str, str], str] = OrderedDict()
        """Who last wrote what, the newest last."""
        self._journal: Journal | None = None
        self._shipper: Shipper | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._anchored: Anchor | None = None
        self._posted: Anchor | None = None

    async def __aenter__(self) -> "Trail":
        chain = await asyncio.to_thread(self._open)
        journal = self._journal = Journal(chain, self.settings)
        self._shipper = Shipper(chain, self.archive, self._note, self.settings, self._clock)
        with contextlib.suppress(Unavailable):  # the disk is full: the server says so to whoever writes
            self._note({"verb": "start", "message": f"record {chain.seq + 1} follows what was here"})
        loops = (self._shipper.run(), self._keep_anchored(), self._tell_suppressed())
        self._tasks = [asyncio.create_task(loop) for loop in loops]
        logger.info("audit trail", chain=journal.chain.name, seq=chain.seq)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Unavailable):
            self._note({"verb": "stop", "message": "the server stops"})
        assert self._journal is not None
        await self._journal.close()
        with contextlib.suppress(OSError):
            await self._anchor()

    @property
    def chain(self) -> Chain:
        """Return the chain that is written."""
        assert self._journal is not None
        return self._journal.chain

    @property
    def shipper(self) -> Shipper:
        """Return what moves records into the archive."""
        assert self._shipper is not None
        return self._shipper

    def demand(self) -> None:
        """Return when what is done now can be recorded. Raises Unavailable."""
        assert self._journal is not None
        self._journal.demand()

    def use(self, settings: AuditSettings) -> None:
        """Record by these levels from now on, which is recorded too; all else is as it was at the start."""
        policy = Policy(settings)
        if policy.describe() == self.policy.describe():
            return
        self.policy = policy
        logger.info("the audit trail's levels have changed", levels=policy.describe())
        with contextlib.suppress(Unavailable):
            self._note({"verb": "policy", "message": clean(policy.describe(), 1024)})

    def record(self, entry: Entry, level: Level, status: int) -> None:
        """Record a request, or count it only. Raises Unavailable when the record is not written, if so set."""
        suppressed = 0
        if entry.outcome(status) != ALLOWED:
            login = "login" if entry.find_target() is None else ""
            told = self._allowance.take(f"{entry.caller} {entry.peer} {login}")
            if told is None:
                metrics.SUPPRESSED.inc()
                return
            suppressed = told
        for written in entry.writes:
            self._remember(written, entry.caller)
        record = entry.describe(level, status)
        record["time"] = format_instant(self._clock.now())
        if suppressed:
            record["suppressed"] = suppressed
        assert self._journal is not None
        self._journal.append(record)

    def record_end(self, entry: Entry, seconds: float) -> None:
        """Record that a websocket is over, if its beginning was recorded. Nobody waits for that to be told."""
        level = entry.level_of_end()
        if level is not Level.NONE:
            record = entry.describe(level, SWITCHING_PROTOCOLS) | {"verb": "disconnect", "seconds": round(seconds, 1)}
            with contextlib.suppress(Unavailable):
                assert self._journal is not None
                self._journal.append({**record, "time": format_instant(self._clock.now())})

    async def note_controller(self, subject: str, record: dict[str, Any], cause: Ref | None) -> None:
        """Record what a controller has written, because of which object. A disk that takes none keeps none from it."""
        if cause is not None:
            record["cause"] = str(cause)
            record |= _given(onBehalfOf=await self._find_writer(cause))
        assert self._journal is not None
        found = {"subject": subject, "outcome": ALLOWED, "level": Level.METADATA.value, **record}
        with contextlib.suppress(Unavailable):
            self._journal.append({**found, "time": format_instant(self._clock.now())})

    async def _find_writer(self, about: Ref) -> str:
        """Return who last wrote the object through the API: as we know, else as PostgreSQL does; nothing if neither."""
        key = about.kind, row_of(about.project, about.name)
        if key in self._writers or self.archive is None:
            return self._writers.get(key, "")
        wanted = AuditFilter(kind=about.kind, project=about.project or "", name=about.name, outcome=ALLOWED)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                records = [orjson.loads(line) for _, line in await self.archive.select(wanted, limit=LOOKED_AT)]
        except (Unavailable, TimeoutError):
            return ""
        people = (str(r["subject"]) for r in records if "after" in r and not r["subject"].startswith(SYSTEM_PREFIX))
        return next(people, "")

    def _remember(self, written: Written, subject: str) -> None:
        key = written.kind, written.row
        self._writers[key] = subject
        self._writers.move_to_end(key)
        if len(self._writers) > REMEMBERED:
            self._writers.popitem(last=False)

    def known_user(self, name: str) -> str:
        """Return the name if there is such a user, else nothing."""
        known = self._cache is not None and is_label(name) and self._cache.find(get_kind("User"), row_of(None, name))
        return name if known else UNKNOWN

    def find_domain(self, record: Mapping[str, Any], target: Target | None) -> str:
        """Return the domain that a record outside projects is about, empty for none: that which its object lies in, of
        logins the user's. A domain is changed within itself, made and removed within the one above."""
        if self._cache is None:
            return ""
        found: str = record.get("domain", "")
        definition, name = (target.definition, record.get("name", "")) if target is not None else (None, "")
        if definition is None:
            subject = str(record["subject"])
            name = subject.removeprefix(USER) if subject.startswith(USER) else str(record.get("user", ""))
            definition = get_kind("User")
        elif definition.kind == "Domain" and record["verb"] not in ("create", "delete"):
            found = name
        if found or not is_label(name):
            return found
        entry = self._cache.find(definition, row_of(None, name))
        return "" if entry is None else self._cache.limits.domain_of(definition, orjson.loads(entry.json))

    def read_body(self, definition: KindDefinition, content_type: str, raw: bytearray) -> dict[str, Any] | str:
        """Return a request's body without secrets, or why it is left out. It is read as whoever answers it reads it."""
        if len(raw) > self.body_limit:
            return f"left out: larger than {self.body_limit} bytes"
        if not raw:
            return {}
        try:
            body = bodies.decode(bytes(raw), is_yaml=bodies.plain_type(content_type).endswith("yaml"))
        except BadRequest:
            return "left out: it cannot be read"
        return clean_body(definition, body)

    async def flush(self) -> None:
        """Return when what was recorded until now is on the disk, or the disk takes none."""
        assert self._journal is not None
        await self._journal.flush()

    async def anchor(self) -> None:
        """Note the chain's end outside. Raises OSError."""
        await self.flush()
        await self._anchor()

    async def read_anchors(self) -> list[Anchor]:
        """Return all anchors, once the archive has what they are about: else it would seem cut off.

        What this process has anchored is moved now, likewise what processes have left that are gone; the others are
        given the time that they take for it.
        """
        anchors = await asyncio.to_thread(self.anchors.read)
        with contextlib.suppress(Unavailable, OSError):
            await self.shipper.ship()
            await self.shipper.look_after_segments()
        young = format_instant(self._clock.now() - timedelta(seconds=MOVING_SECONDS))
        if any(anchor.time > young and anchor.chain != self.chain.name for anchor in anchors):
            await self._clock.sleep(MOVING_SECONDS)
        return anchors

    def _open(self) -> Chain:
        heads = self.anchors.read_heads()
        return Chain.open(
            self.settings.folder, socket.gethostname(), heads, segment_bytes=self.settings.segment_mib * 2**20
        )

    def _note(self, record: dict[str, Any]) -> None:
        assert self._journal is not None
        self._journal.append({**OWN, "time": format_instant(self._clock.now()), **record})

    async def _keep_anchored(self) -> None:
        while True:
            try:
                await self.anchor()
            except OSError as error:
                logger.error("the audit trail's anchor cannot be written", file=str(self.anchors.path), why=str(error))
            await self._clock.sleep(self.settings.anchor_seconds)

    async def _anchor(self) -> None:
        seq, digest = self.chain.durable
        if not seq:
            return
        now = self._clock.now()
        anchor = Anchor(chain=self.chain.name, seq=seq, hash=digest, time=format_instant(now))
        if self._anchored is None or self._anchored.seq != anchor.seq:
            await asyncio.to_thread(self.anchors.append, anchor)
            self._anchored = anchor
            metrics.ANCHORED.set(now.timestamp())
        url, sender = self.settings.webhook_url, self._outbound
        new = self._posted is None or self._posted.seq != anchor.seq
        if url and sender is not None and new and await post_anchors(sender, url, [anchor]):
            self._posted = anchor

    async def _tell_suppressed(self) -> None:
        while True:
            await self._clock.sleep(FLUSH_SECONDS)
            for caller, count in self._allowance.flush().items():
                message = f"{count} refusals of {caller.strip()} were counted only"
                with contextlib.suppress(Unavailable):
                    self._note({"verb": "suppress", "suppressed": count, "message": message, "outcome": "Denied"})


def _given(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
