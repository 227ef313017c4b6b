"""Notification targets: events are sent to where they say, each at least once, those of one object in order.

The events themselves are the queue: they lie in the store. A target's status says up to which version of the store
everything was sent, and what of later ones; whoever goes on after a crash sends the rest, and under the same ids again
what was sent and not yet written down. What waits longer than the store keeps events (events.retention) is gone.
"""

import asyncio
import base64
import hashlib
import hmac
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

import orjson
import structlog

from vcstack.controllers.backends.network_sources import Throttle
from vcstack.controllers.backends.secrets import SECRETS
from vcstack.outbound.client import Answer
from vcstack.outbound.errors import BadAnswer, BadUrl, NotReachable
from vcstack.outbound.urls import url_host
from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.errors import NotFound
from vcstack.specs.kinds.event import Event
from vcstack.specs.kinds.notificationtarget import DELIVERING, DELIVERY_FAILED, NotificationTarget, TargetSecret
from vcstack.specs.meta import Condition, format_time
from vcstack.specs.registry import load_kinds
from vcstack.specs.resource import Ref
from vcstack.specs.selectors import parse_label_selector

BATCH: Final = 64
"""Sent before the status is written: what is sent twice after a crash at most."""
AT_ONCE: Final = 4
"""Requests to one target under way."""
BATCH_SECONDS: Final = 15.0
"""After that no other delivery of a batch begins: what is left has its turn after the other targets."""
PAUSE_SECONDS: Final = 2.0
"""Between two looks at a target, however much happens: its status is written once in that time."""
SUSPENDED_SECONDS: Final = 60.0
FIRST_RETRY_SECONDS: Final = 2.0
LONGEST_RETRY_SECONDS: Final = 600.0
ANSWER_LIMIT: Final = 64 * 1024
MOST_AHEAD: Final = 200
"""Ids that are kept of what was sent out of turn; of more some are sent again after what held them up."""
WORKERS: Final = 16
"""Targets at once: one that answers slowly keeps a place for half a minute."""
SLOW_SECONDS: Final = 5.0
SLOW_WORKERS: Final = WORKERS // 2
"""So many work for projects whose receivers have taken that long of late: they cannot hold up what others are sent."""
SLOW_MEMORY_SECONDS: Final = 600.0
GREET_SECONDS: Final = 600.0
"""A receiver that is sent nothing is reached for that often, without a request."""
REFUSED: Final = frozenset({400, 413, 422})
"""The receiver says that it is the content, which will be the same next time."""

log = structlog.get_logger(__name__)


class Sending(Protocol):
    """Makes guarded requests."""

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        limit: int = ...,
        redirects: int = 0,
    ) -> Answer:
        """Return the answer. Raises OutboundError."""

    async def greet(self, url: str) -> None:
        """See whether a request could be made. Raises OutboundError."""


SENDING: BackendKey[Sending] = BackendKey("notifications")


class _NoAddress(Exception):
    """A Secret is missing, or what it says is no use; the text is for the target's owner."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """An event that is to be sent."""

    version: int
    event: Event

    @property
    def id(self) -> str:
        """Return what is the same however often this is sent, and another one when it has happened again."""
        return f"{self.event.uid}.{self.event.spec.count}"


@dataclass(slots=True)
class _Batch:
    """What became of some events."""

    taken: int = 0
    refused: int = 0
    greeted: bool = False
    failure: str = ""
    reason: str = ""

    def fail(self, reason: str, failure: str) -> None:
        """Take down what did not work."""
        self.reason, self.failure = reason, failure[:500]


@dataclass(frozen=True, slots=True)
class _Address:
    url: str = field(repr=False)
    key: bytes = field(repr=False)
    is_secret: bool

    def conceal(self, text: str) -> str:
        """Return what may be told, where the address itself may not."""
        return text.replace(url_host(self.url), "the receiver") if self.is_secret else text


class NotificationTargetReconciler:
    """Sends what is due, and says how that went."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._sending, self._secrets = context.backend(SENDING), context.backend(SECRETS)
        self._events = context.informer(Event)
        self._events.add_index("project", lambda event: [event.metadata.project])
        self._pace = Throttle(context.clock, PAUSE_SECONDS)
        self._slow: dict[str, float] = {}
        """Projects whose receivers took long, and when that was."""
        self._slow_at_work = 0

    async def reconcile(self, target: NotificationTarget | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if target is None or target.deleting:
            if target is not None:
                self._pace.forget(target.uid)
            return None
        if target.status.cursor is None:
            # What happened before it was there is none of its business.
            await self._write(target, {"cursor": target.metadata.resource_version}, _Batch(), pending=0)
            return Result(requeue_after=PAUSE_SECONDS)
        wait = max(self._pace.remaining(target.uid), self._time_to_retry(target))
        if wait and target.status.observed_generation == target.metadata.generation:
            return Result(requeue_after=wait)
        return await self._take_turn(target)

    def interested(self, event: Event) -> list[Ref]:
        """Return the targets that an event may be for."""
        project = event.metadata.project
        targets = self._context.informer(NotificationTarget).list()
        return [t.ref for t in targets if t.metadata.project in (None, project) and not t.spec.suspended]

    async def _take_turn(self, target: NotificationTarget) -> Result | None:
        """Work for it, unless it has to wait for others whose receivers are slow."""
        clock, project = self._context.clock, target.metadata.project
        began = clock.monotonic()
        slow = project is not None and began - self._slow.get(project, -SLOW_MEMORY_SECONDS) < SLOW_MEMORY_SECONDS
        if slow and self._slow_at_work >= SLOW_WORKERS:
            return Result(requeue_after=PAUSE_SECONDS)
        self._pace.note(target.uid)
        self._slow_at_work += slow
        try:
            return await self._work_off(target)
        finally:
            self._slow_at_work -= slow
            ended = clock.monotonic()
            if project is not None and ended - began >= SLOW_SECONDS:
                self._slow = {p: at for p, at in self._slow.items() if ended - at < SLOW_MEMORY_SECONDS}
                self._slow[project] = ended

    async def _work_off(self, target: NotificationTarget) -> Result | None:
        pending, settled = self._find_pending(target), set(target.status.ahead)
        waiting = [each for each in pending if each.id not in settled]
        excess = waiting[: max(0, len(waiting) - target.spec.backlog_limit)]
        settled.update(each.id for each in excess)
        due = waiting[len(excess) :]
        batch = _Batch()
        if not target.spec.suspended and (due or self._is_to_be_greeted(target)):
            try:
                address = await self._find_address(target)
                if due:
                    await self._send(target, address, due[:BATCH], batch, settled)
                else:
                    await self._greet(target, address, batch)
            except (_NoAddress, BadUrl) as error:
                batch.fail("AddressUnusable", str(error))
        left = [each for each in due if each.id not in settled]
        fields = _progress(target, pending, settled)
        if excess:
            fields["dropped"] = (target.status.dropped or 0) + len(excess)
        await self._write(target, fields, batch, pending=len(left))
        if target.spec.suspended:
            return Result(requeue_after=SUSPENDED_SECONDS)
        if batch.failure:
            return Result(requeue_after=_retry_seconds((target.status.failures or 0) + 1))
        return Result(requeue_after=PAUSE_SECONDS if left else GREET_SECONDS)

    def _is_to_be_greeted(self, target: NotificationTarget) -> bool:
        """Return whether it is not known of late if the receiver can be reached."""
        status, known = target.status, target.find_condition(DELIVERING)
        if known is None or known.observed_generation != target.metadata.generation:
            return True
        if status.failures:
            return known.reason != DELIVERY_FAILED  # of which only a delivery shows that it is over
        if status.reached_at is None:
            return True
        return abs((self._context.clock.now() - status.reached_at).total_seconds()) >= GREET_SECONDS

    async def _greet(self, target: NotificationTarget, address: _Address, batch: _Batch) -> None:
        try:
            await self._sending.greet(address.url)
            batch.greeted = True
        except NotReachable as error:
            self._note_unreachable(target, address, error, batch)

    def _note_unreachable(
        self, target: NotificationTarget, address: _Address, error: NotReachable, batch: _Batch
    ) -> None:
        log.info("notification.unreachable", target=str(target.ref), why=address.conceal(error.detail))
        batch.fail("Unreachable", address.conceal(str(error)))

    def _find_pending(self, target: NotificationTarget) -> list[_Pending]:
        """Return the events after the cursor that it asks for, in the order in which they happened."""
        project, cursor = target.metadata.project, int(target.status.cursor or 0)
        events = self._events.list() if project is None else self._events.by_index("project", project)
        found = [_Pending(int(event.metadata.resource_version), event) for event in events]
        after = [each for each in found if each.version > cursor and _asks_for(target, each.event)]
        return sorted(after, key=lambda each: (each.version, each.event.uid))

    async def _send(
        self,
        target: NotificationTarget,
        address: _Address,
        due: Sequence[_Pending],
        batch: _Batch,
        settled: set[str],
    ) -> None:
        """Send the events, those of one object one after the other, until something does not work or time is up."""
        lines: defaultdict[str, list[_Pending]] = defaultdict(list)
        for each in due:
            regarding = each.event.spec.regarding
            lines[regarding.uid or f"{regarding.kind}/{regarding.name}"].append(each)
        free = asyncio.Semaphore(AT_ONCE)
        clock = self._context.clock
        until = clock.monotonic() + BATCH_SECONDS

        async def send_line(line: Sequence[_Pending]) -> None:
            async with free:
                for each in line:
                    if (
                        batch.failure
                        or clock.monotonic() >= until
                        or not await self._send_one(target, address, each, batch)
                    ):
                        return
                    settled.add(each.id)

        async with asyncio.TaskGroup() as group:
            for line in lines.values():
                group.create_task(send_line(line))

    async def _send_one(self, target: NotificationTarget, address: _Address, pending: _Pending, batch: _Batch) -> bool:
        """Return whether the event is done with."""
        if not await self._is_labelled(target, pending.event):
            return True
        body = _body(target, pending)
        now = int(self._context.clock.now().timestamp())
        headers = {"content-type": "application/json", "webhook-id": pending.id, "webhook-timestamp": str(now)}
        if address.key:
            headers["webhook-signature"] = sign(address.key, pending.id, now, body)
        try:
            answer = await self._sending.fetch("POST", address.url, headers=headers, content=body, limit=ANSWER_LIMIT)
        except NotReachable as error:
            self._note_unreachable(target, address, error, batch)
            return False
        except BadUrl as error:
            batch.fail("AddressUnusable", str(error))
            return False
        except BadAnswer as error:
            batch.fail(DELIVERY_FAILED, address.conceal(str(error)))
            return False
        if 200 <= answer.status < 300:
            batch.taken += 1
            return True
        if answer.status in REFUSED:
            batch.refused += 1
            return True
        batch.fail(DELIVERY_FAILED, f"the receiver answers {answer.status}")
        return False

    async def _is_labelled(self, target: NotificationTarget, event: Event) -> bool:
        selector = parse_label_selector(target.spec.events.label_selector)
        if not selector.requirements:
            return True
        regarding = event.spec.regarding
        definition = load_kinds().get(regarding.kind)
        labels: Mapping[str, str] = {}
        if definition is not None:
            try:
                found = await self._context.client.get(definition.model, regarding.name, event.metadata.project)
                labels = found.metadata.labels if regarding.uid in ("", found.uid) else {}
            except NotFound:
                pass
        return selector.matches(labels)

    async def _find_address(self, target: NotificationTarget) -> _Address:
        """Return where to, and what it is signed with. Raises _NoAddress, BadUrl."""
        spec = target.spec
        url = (spec.url or await self._read(target, spec.url_secret)).strip()
        url_host(url)
        key = read_key(await self._read(target, spec.signing_secret)) if spec.signing_secret else b""
        return _Address(url, key, spec.url is None)

    async def _read(self, target: NotificationTarget, secret: TargetSecret | None) -> str:
        assert secret is not None  # either this or the address itself
        project = target.metadata.project or secret.project or ""
        try:
            return (await self._secrets.read(project, secret.name))[secret.key]
        except (NotFound, KeyError) as error:
            raise _NoAddress(f"the value {secret.key} of the Secret {secret.name} is not there") from error

    def _time_to_retry(self, target: NotificationTarget) -> float:
        status = target.status
        if not status.failures or status.failed_at is None:
            return 0.0
        at = status.failed_at + timedelta(seconds=_retry_seconds(status.failures))
        left = (at - self._context.clock.now()).total_seconds()
        return min(max(0.0, left), LONGEST_RETRY_SECONDS)

    async def _write(
        self, target: NotificationTarget, fields: dict[str, object], batch: _Batch, *, pending: int
    ) -> None:
        status, now = target.status, format_time(self._context.clock.now())
        fields["pending"] = pending
        if batch.taken:
            fields |= {"delivered": (status.delivered or 0) + batch.taken, "deliveredAt": now}
        if batch.refused:
            fields["refused"] = (status.refused or 0) + batch.refused
        if batch.failure:
            fields |= {"failures": (status.failures or 0) + 1, "failedAt": now, "failure": batch.failure}
        elif batch.taken or batch.refused or batch.greeted:
            fields |= {"failures": 0, "reachedAt": now}
        await write_status(self._context.client, target, fields=fields, conditions=self._judge(target, batch))

    def _judge(self, target: NotificationTarget, batch: _Batch) -> list[Condition]:
        """Return what is to be said of it now; nothing where nothing was found out."""

        def condition(good: bool, reason: str, message: str = "") -> list[Condition]:
            return [condition_of(target, DELIVERING, good, reason, message, clock=self._context.clock)]

        if target.spec.suspended:
            return condition(False, "Suspended", "Nothing is sent while spec.suspended is true.")
        if batch.failure:
            return condition(False, batch.reason, f"It is tried again: {batch.failure}.")
        return condition(True, "Reachable") if batch.taken or batch.refused or batch.greeted else []


def sign(key: bytes, id_: str, timestamp: int, body: bytes) -> str:
    """Return the header webhook-signature (standardwebhooks.com, Signature scheme)."""
    signed = f"{id_}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def read_key(text: str) -> bytes:
    """Return the key of a Secret's value: base64 behind whsec_, else the text itself."""
    if not text.strip():
        raise _NoAddress("the signing secret is empty")
    prefix, _, rest = text.strip().partition("whsec_")
    if rest and not prefix:
        try:
            return base64.b64decode(rest, validate=True)
        except ValueError as error:  # binascii.Error is one; what is not ASCII is another
            raise _NoAddress("the signing secret begins with whsec_ and is no base64 after that") from error
    return text.encode()


def _progress(target: NotificationTarget, pending: Sequence[_Pending], settled: Set[str]) -> dict[str, object]:
    """Return up to where all is settled, and what is beyond.

    Several events may have one version, and not all of them need have come yet: the last one is never behind us.
    """
    if not pending:
        return {"cursor": target.status.cursor, "ahead": []}
    first_open = next((each.version for each in pending if each.id not in settled), pending[-1].version)
    cursor = max(int(target.status.cursor or 0), first_open - 1)
    ahead = [each.id for each in pending if each.id in settled and each.version > cursor]
    return {"cursor": str(cursor), "ahead": ahead[-MOST_AHEAD:]}


def _asks_for(target: NotificationTarget, event: Event) -> bool:
    wanted, spec = target.spec.events, event.spec
    if (spec.regarding.kind, spec.regarding.uid) == (target.KIND, target.uid):
        return False  # what is said of its failing would make it fail again
    return (
        (not wanted.kinds or spec.regarding.kind in wanted.kinds)
        and (not wanted.reasons or spec.reason in wanted.reasons)
        and (not wanted.types or spec.type in wanted.types)
    )


def _body(target: NotificationTarget, pending: _Pending) -> bytes:
    event = pending.event
    data = {"project": event.metadata.project, **event.spec.to_wire()}
    wire = {
        "id": pending.id,
        "type": "event",
        "timestamp": format_time(event.spec.last_time),
        "target": {"project": target.metadata.project, "name": target.metadata.name},
        "data": data,
    }
    return orjson.dumps(wire)


def _retry_seconds(failures: int) -> float:
    return float(min(FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 20), LONGEST_RETRY_SECONDS))


def build(context: ControllerContext) -> Controller:
    """Return the controller of notification targets."""
    reconciler = NotificationTargetReconciler(context)
    return context.controller(reconciler, NotificationTarget, watches={Event: reconciler.interested}, workers=WORKERS)
