"""Group commit: transactions that meet nowhere share one request to etcd, and one revision.

A request costs etcd and the client much more than what it carries: a proposal, a sync of the log, a call of
gRPC. So while requests are under way, those that come are gathered, and go together when an answer has come.
Each keeps its own comparisons and its own outcome. Who comes alone is sent at once, alone.

Only transactions are put together that touch no key which another one writes: then their order is of no
account, and each is as true as if it had been sent alone (ADR 0017).

Who waits when etcd does not answer is refused together with those that were sent: nobody waits longer than one
request may take, and of what was not sent it is known that nothing was written.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from vcstack.store.cache import WatchCache
from vcstack.store.etcd.errors import EtcdError, EtcdRefused, EtcdUnavailable, NoAnswer, OutcomeUnknown, RequestTooLarge
from vcstack.store.etcd.ops import Put, Txn
from vcstack.store.etcd.records import TxnResult
from vcstack.store.etcd_api import Etcd

MAX_UNDERWAY = 1
"""Requests at a time from which on others wait to be gathered."""
GATHER_SECONDS = 0.0001
"""As PostgreSQL's commit_delay, for each member of the group before: where fewer wait than went together last, the
others are on their way, and a request costs as much as several of its members."""
GATHER_LIMIT_SECONDS = 0.003
MAX_MEMBERS = 32
"""etcd takes 128 operations in a request, those of the members and the members themselves together."""
MAX_BYTES = 256 * 1024
"""Of a group; a larger transaction goes alone. etcd takes 1.5 MiB."""


class GroupCommit:
    """Sends the transactions of one process, and shows the cache what succeeded."""

    def __init__(self, etcd: Etcd, cache: WatchCache) -> None:
        self._etcd = etcd
        self._cache = cache
        self._waiting: deque[_Waiting] = deque()
        self._underway = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._shared = 1
        """How many the last group had."""
        self._gathering: asyncio.TimerHandle | None = None

    async def txn(self, txn: Txn) -> TxnResult:
        """Return the outcome, as ``Etcd.txn`` does. Raises EtcdError."""
        if not is_sociable(txn) or (self._underway < MAX_UNDERWAY and self._gathering is None):
            return await self._send_alone(txn)
        waiting = _Waiting(txn)
        self._waiting.append(waiting)
        if self._gathering is not None and len(self._waiting) >= self._shared:
            self._send_gathered()
        try:
            return await waiting.outcome
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            raise

    async def _send_alone(self, txn: Txn) -> TxnResult:
        self._underway += 1
        try:
            result = await self._etcd.txn(txn.compares, txn.success, txn.failure)
            if result.succeeded:
                self._cache.note(result.revision, txn.success)
            return result
        except (EtcdUnavailable, NoAnswer) as error:
            self._refuse_waiting(error)
            raise
        finally:
            self._underway -= 1
            self._send_waiting()

    def _send_waiting(self) -> None:
        """Send those that wait; a moment later if they are fewer than went together before."""
        if not self._waiting or self._underway >= MAX_UNDERWAY or self._gathering is not None:
            return
        if len(self._waiting) >= self._shared:
            self._send_gathered()
            return
        delay = min(GATHER_SECONDS * self._shared, GATHER_LIMIT_SECONDS)
        self._gathering = asyncio.get_running_loop().call_later(delay, self._send_gathered)

    def _send_gathered(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._waiting and self._underway < MAX_UNDERWAY:
            group = self._take_group()
            self._shared = len(group)
            self._underway += 1
            task = asyncio.create_task(self._send(group), name="group-commit")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _refuse_waiting(self, error: EtcdError) -> None:
        """Let nobody wait for an etcd that does not answer."""
        while self._waiting:
            self._waiting.popleft().fail(_not_sent(error))

    def _take_group(self) -> "list[_Waiting]":
        """Take the first that waits, and all behind it that meet neither it nor each other."""
        group: list[_Waiting] = []
        left: list[_Waiting] = []
        read: set[bytes] = set()
        written: set[bytes] = set()
        size = 0
        while self._waiting and len(group) < MAX_MEMBERS:
            each = self._waiting.popleft()
            fits = not group or (
                size + each.size <= MAX_BYTES
                and each.written.isdisjoint(written)
                and each.written.isdisjoint(read)
                and each.read.isdisjoint(written)
            )
            if fits:
                group.append(each)
                read |= each.read
                written |= each.written
                size += each.size
            else:
                left.append(each)
        self._waiting.extendleft(reversed(left))
        return group

    async def _send(self, group: "Sequence[_Waiting]") -> None:
        try:
            if len(group) == 1:
                await self._send_one(group[0], ())
            else:
                await self._send_group(group)
        except BaseException:
            for each in group:  # nobody may be left waiting
                each.fail(OutcomeUnknown("the request was broken off"))
            raise
        finally:
            self._underway -= 1
            self._send_waiting()

    async def _send_group(self, group: "Sequence[_Waiting]") -> None:
        try:
            results = await self._etcd.txn_each([each.txn for each in group])
        except (EtcdRefused, RequestTooLarge):
            # Nothing of it was done, and only one may be to blame.
            for each in group:
                if not each.outcome.done():
                    await self._send_one(each, group)
        except EtcdError as error:
            for each in group:
                each.fail(error)
            if isinstance(error, EtcdUnavailable | NoAnswer):
                self._refuse_waiting(error)
        else:
            done = [
                op for each, result in zip(group, results, strict=True) if result.succeeded for op in each.txn.success
            ]
            if done:
                self._cache.note(results[0].revision, done)
            for each, result in zip(group, results, strict=True):
                each.finish(result)

    async def _send_one(self, each: "_Waiting", others: "Sequence[_Waiting]") -> None:
        """Send one; when nobody answers, the others that were to follow are not sent."""
        txn = each.txn
        try:
            result = await self._etcd.txn(txn.compares, txn.success, txn.failure)
        except EtcdError as error:
            each.fail(error)
            if isinstance(error, EtcdUnavailable | NoAnswer):
                for other in others:
                    other.fail(_not_sent(error))
                self._refuse_waiting(error)
            return
        if result.succeeded:
            self._cache.note(result.revision, txn.success)
        each.finish(result)


def _not_sent(error: EtcdError) -> EtcdUnavailable:
    return EtcdUnavailable(f"not sent, for those before had no answer: {error}")


def is_sociable(txn: Txn) -> bool:
    """Return whether a transaction can share a request: it names each of its keys, and nobody else can fail it.

    A removal goes alone: who watches and was cut off in the middle of a revision is told again of what was
    written then, which nobody could do of what is no more. A lease that is gone would refuse the whole group.
    """
    return all(c.range_end is None for c in txn.compares) and all(
        isinstance(op, Put) and not op.lease for op in txn.success
    )


class _Waiting:
    """A transaction that waits for a request to share."""

    __slots__ = ("outcome", "read", "size", "txn", "written")

    def __init__(self, txn: Txn) -> None:
        self.txn = txn
        self.outcome: asyncio.Future[TxnResult] = asyncio.get_running_loop().create_future()
        self.read = {c.key for c in txn.compares}
        self.written = {op.key for op in txn.success}
        self.size = sum(len(op.value) for op in txn.success if isinstance(op, Put))

    def finish(self, result: TxnResult) -> None:
        if not self.outcome.done():
            self.outcome.set_result(result)

    def fail(self, error: EtcdError) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
