"""The write loop: build from the cache, send with comparisons, and begin anew when the cache was behind.

Nothing is read before a write. What the cache shows is compared in the transaction, so a write that
succeeds was right. A refusal, or the finding that nothing has to be written, is only believed when the
cache was proven fresh after the request came; else the cache is brought up to date and asked again.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence

from vcstack.clock import Clock
from vcstack.specs.errors import ApiError, Conflict, FencedOut, TooLarge, Unavailable
from vcstack.specs.registry import KindDefinition
from vcstack.store.cache import WatchCache
from vcstack.store.compose import Terms, Transaction, compose
from vcstack.store.draft import Draft
from vcstack.store.encoding import to_json, with_revision
from vcstack.store.etcd.election import Fence
from vcstack.store.etcd.errors import EtcdError, LeaseNotFound, NoAnswer, OutcomeUnknown, RequestTooLarge
from vcstack.store.etcd.ops import Get, Op, Put, Txn
from vcstack.store.etcd.records import RangeResult, TxnResult
from vcstack.store.etcd_api import Etcd
from vcstack.store.groupcommit import GroupCommit
from vcstack.store.leases import LeaseBuckets
from vcstack.store.quotas import find_turns, is_unmeasured
from vcstack.store.readback import find_applied
from vcstack.store.records import Stored
from vcstack.store.table import Entry
from vcstack.store.turns import Turn, Turnstiles
from vcstack.store.writes import WRITES, Written

Build = Callable[[Entry | None], Draft]
"""From the object as cached to the draft; raises ApiError to refuse."""

MAX_ATTEMPTS = 100
"""How often a write begins anew because others were faster: more than writers can race for one object."""
MAX_REPEATS = 3
"""How often a transaction is repeated whose answer was lost."""


class Writer:
    """Writes objects, one transaction each."""

    def __init__(self, etcd: Etcd, cache: WatchCache, clock: Clock) -> None:
        self._etcd = etcd
        self._cache = cache
        self._clock = clock
        self._commits = GroupCommit(etcd, cache)
        self._leases = LeaseBuckets(etcd, clock)
        self._turnstiles = Turnstiles()

    async def write(self, definition: KindDefinition, row: str, build: Build, terms: Terms) -> Stored:
        """Return the object as stored, or its last state when it was removed.

        Raises:
            ApiError: refused, or etcd does not answer.
        """
        turn = Turn(self._turnstiles)
        try:
            return await self._write(definition, row, build, terms, turn)
        finally:
            turn.end()

    async def _write(self, definition: KindDefinition, row: str, build: Build, terms: Terms, turn: Turn) -> Stored:
        proven = terms.dry_run
        if terms.dry_run:
            await self._cache.fresh()
        elif len(self._turnstiles):
            await turn.wait(find_turns(self._cache, definition, row))  # spares composing it twice
        for _ in range(MAX_ATTEMPTS):
            attempt = self._attempt(definition, row, build, terms)
            if isinstance(attempt, Transaction):
                if terms.actor.review is not None and (review := _find_review(attempt, terms)) is not None:
                    try:
                        await review
                    except ApiError:
                        if proven:
                            raise
                        await self._cache.fresh()
                        proven = True
                        continue
                if terms.dry_run:
                    return self._stored(row, attempt, attempt.draft.revision)
                if attempt.turns and await turn.wait(attempt.turns):
                    continue  # while it waited, sums have changed
                if not attempt.turns:
                    turn.end()
                if attempt.revokes:
                    await self._revoke(attempt.revokes)
                    continue
                result = await self._send(attempt, terms)
                if result.succeeded:
                    if (writes := WRITES.get()) is not None:
                        writes.append(self._written(row, attempt.draft, result.revision))
                    await turn.rest()
                    return self._stored(row, attempt, result.revision)
                _check_fence(terms.actor.fence, result)
                await self._cache.wait_for(result.revision)
            elif not proven:
                await self._cache.fresh()
            elif isinstance(attempt, ApiError):
                raise attempt
            else:
                return attempt
            proven = True
        raise Conflict(f"{definition.kind} {row} is being written by too many at once; try again")

    async def _revoke(self, marks: Sequence[bytes]) -> None:
        """End what processes may take without asking: from then on what is in use is exactly known."""
        try:
            result = await self._etcd.txn((), [Put(mark, b"") for mark in marks])
        except EtcdError as error:
            raise _unavailable(unknown=False) from error
        await self._cache.wait_for(result.revision)

    def _attempt(
        self, definition: KindDefinition, row: str, build: Build, terms: Terms
    ) -> Transaction | Stored | ApiError:
        """Return what is to be sent, the object when nothing has to be written, or why it is refused."""
        entry = self._cache.find(definition, row)
        try:
            draft = build(entry)
            premise = terms.actor.premise
            rests_on = premise(draft) if premise is not None else ()
            if entry is None or draft.removes or not draft.changes_nothing or is_unmeasured(self._cache, draft):
                transaction = compose(self._cache, draft, terms, self._clock.now())
                transaction.compares += rests_on
                # Deriving Ready may have undone the only change.
                if entry is None or draft.removes or not draft.changes_nothing or transaction.measures:
                    return transaction
        except ApiError as error:
            return error
        return Stored(entry.json, entry.revision)

    def _written(self, row: str, draft: Draft, revision: int) -> Written:
        domain = ""
        if draft.project is None:
            domain = self._cache.limits.domain_of(draft.definition, {"metadata": draft.metadata, "spec": draft.spec})
        return Written(draft.definition.kind, row, draft.revision, revision, domain)

    def _stored(self, row: str, transaction: Transaction, revision: int) -> Stored:
        definition = transaction.draft.definition
        if transaction.removes:
            return Stored(with_revision(definition, transaction.value, revision), revision, gone=True)
        entry = self._cache.find(definition, row)
        if entry is not None and entry.revision == revision and revision > transaction.draft.revision:
            return Stored(entry.json, revision)  # the cache has made it already
        return Stored(to_json(definition, transaction.value, revision), revision)

    async def _send(self, transaction: Transaction, terms: Terms) -> TxnResult:
        """Send the transaction; when its answer is lost find out what became of it."""
        fence = terms.actor.fence
        compares = [*transaction.compares, fence.compare] if fence else transaction.compares
        failure = [Get(fence.key)] if fence else []
        unknown = False
        for _ in range(MAX_REPEATS):
            try:
                ops = await self._with_lease(transaction)
                result = await self._commits.txn(Txn(compares, ops, failure))
                if unknown and not result.succeeded:
                    applied = await find_applied(self._etcd, transaction)
                    return TxnResult(True, applied, ()) if applied else result
                return result
            except NoAnswer as error:
                raise _unavailable(unknown=True) from error  # another try would only take as long
            except OutcomeUnknown:
                unknown = True
            except RequestTooLarge as error:
                raise TooLarge("the object and its claims do not fit into one transaction") from error
            except LeaseNotFound:
                self._forget_lease(transaction)
            except EtcdError as error:
                raise _unavailable(unknown) from error
        raise _unavailable(unknown)

    async def _with_lease(self, transaction: Transaction) -> list[Op]:
        draft = transaction.draft
        if draft.definition.ttl_setting is None or transaction.removes:
            return transaction.ops
        lifetime = self._cache.setting_book.duration(draft.definition.ttl_setting, project=draft.project)
        lease = await self._leases.lease_for(int(lifetime.total_seconds()))
        put, *rest = transaction.ops
        assert isinstance(put, Put)
        transaction.ops = [dataclasses.replace(put, lease=lease), *rest]
        return transaction.ops

    def _forget_lease(self, transaction: Transaction) -> None:
        put = transaction.ops[0]
        assert isinstance(put, Put)
        self._leases.forget(put.lease)


def _find_review(transaction: Transaction, terms: Terms) -> Awaitable[None] | None:
    """Return what a write has to pass besides, if anything. What is going may go."""
    draft = transaction.draft
    if terms.subresource or terms.actor.review is None:
        return None
    if draft.live is None:
        verb = "create"
    elif not draft.metadata.get("deletionTimestamp"):
        verb = "update"
    elif not draft.live["metadata"].get("deletionTimestamp"):
        verb = "delete"
    else:
        return None
    resource = transaction.resource
    if resource is None:
        assert draft.live is not None
        resource = draft.definition.model.from_wire(draft.live)
    return terms.actor.review(verb, resource, draft.live)


def _unavailable(unknown: bool) -> Unavailable:
    if unknown:
        return Unavailable(
            "the store does not answer; whether the write was done is not known, read before trying again"
        )
    return Unavailable("the store does not answer; nothing was written, try again")


def _check_fence(fence: Fence | None, result: TxnResult) -> None:
    """Tell a leader that leads no more from one whose object has changed.

    Raises:
        FencedOut: it leads no more.
    """
    if fence is None or not result.responses:
        return
    found = result.responses[0]
    assert isinstance(found, RangeResult)
    if not found.kvs or found.kvs[0].create_revision != fence.create_revision:
        raise FencedOut("the writer no longer leads; its write was refused")
