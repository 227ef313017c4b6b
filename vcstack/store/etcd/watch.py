"""A watch that comes back by itself and neither loses nor doubles an event."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Self

from vcstack.store.etcd import wire
from vcstack.store.etcd.connection import (
    REQUIRE_LEADER,
    Connection,
    Endpoint,
    backoff_seconds,
    stream_errors,
)
from vcstack.store.etcd.errors import Compacted, EtcdError, EtcdRefused, EtcdUnavailable
from vcstack.store.etcd.grpc_library import grpc
from vcstack.store.etcd.ops import Get, prefix_end
from vcstack.store.etcd.records import Event, WatchBatch


class Watch:
    """The changes of all keys under a prefix, as an async iterator of batches.

    It lives through etcd's restarts, freezes and cut connections by opening again after the last revision
    it delivered. A batch has whole revisions only, so what one transaction wrote arrives together.
    Nothing is buffered here: a consumer that is slow makes etcd hold back (HTTP/2 flow control) and etcd
    then reads from its history. A `__anext__` that was cancelled, by a timeout for instance, loses
    nothing: call it again. One consumer a watch. Use it as an async context manager, or `aclose` it.

    Raises from the iteration:
        Compacted: the revisions after the last one delivered are gone, or the store was replaced by one
            with a shorter history; list again.
        EtcdRefused: etcd does not allow the watch.
        EtcdUnavailable: the client was closed.
    """

    def __init__(self, connection: Connection, prefix: bytes, start_revision: int, *, prev_kv: bool) -> None:
        if start_revision < 1:
            raise ValueError("a watch starts at revision 1 or later; take the listing's revision + 1")
        self.revision = start_revision - 1
        """The last revision that was delivered in full."""
        self._connection = connection
        self._prefix = prefix
        self._prev_kv = prev_kv
        self._stream: _Stream | None = None
        self._backoff: Iterator[float] | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        while not self._closed:
            try:
                batch = await self._read()
            except EtcdUnavailable:
                if not self._connection.is_open:
                    raise
                await self._pause()
            except EtcdError:
                await self.aclose()
                raise
            else:
                if batch is not None:
                    self._backoff = None
                    self.revision = batch.revision
                    return batch
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the watch; an iteration under way stops."""
        self._closed = True
        self._drop()

    async def _read(self) -> WatchBatch | None:
        if self._stream is None:
            self._stream = await self._open()
        if self._closed:  # while it was being opened
            self._drop()
            return None
        try:
            return await self._stream.read(self.revision)
        except BaseException:
            self._drop()  # also when cancelled, for gRPC then drops the stream
            raise

    async def _open(self) -> "_Stream":
        # From the last revision seen instead of the one after it, what was seen is dropped again: when
        # exactly the first revision wanted has been compacted, etcd 3.4 lets the watch start there and
        # silently leaves out the deletions of that revision (etcd issue 18089).
        first = max(self.revision, 1)
        request = wire.watch_request(self._prefix, prefix_end(self._prefix), first, prev_kv=self._prev_kv)
        try:
            async with asyncio.timeout(self._connection.settings.request_timeout_seconds):
                stream = await _Stream.open(self._connection.endpoint, request)
                if stream.opened_at < self.revision:
                    await self._check_history(stream)
                return stream
        except TimeoutError as error:
            raise EtcdUnavailable("the watch was not opened in time") from error

    async def _check_history(self, stream: "_Stream") -> None:
        """Tell a member that lags behind, which is fine, from a store that was set back, which is not."""
        try:
            response = await self._connection.call("range", wire.range_request(Get(b"\0")), writes=False)
            if response.header.revision < self.revision:
                raise Compacted(f"the store is at {response.header.revision}, {self.revision} was seen before")
        except BaseException:
            stream.cancel()
            raise

    async def _pause(self) -> None:
        if self._closed:
            return
        if self._backoff is None:
            self._backoff = backoff_seconds(self._connection.settings)
        self._connection.leave(self._connection.endpoint)
        await asyncio.sleep(next(self._backoff))

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None


class _Stream:
    """One open watch stream, until it breaks."""

    def __init__(self, call: Any, opened_at: int) -> None:
        self._call = call
        self._held: list[Event] = []
        self.opened_at = opened_at

    @classmethod
    async def open(cls, endpoint: Endpoint, request: wire.Message) -> "_Stream":
        await endpoint.settled()
        call = endpoint.stubs.watch(metadata=REQUIRE_LEADER)
        stream = cls(call, 0)
        try:
            with stream_errors():
                await call.write(request)
            stream.opened_at = (await stream._receive()).header.revision
        except BaseException:
            call.cancel()
            raise
        return stream

    def cancel(self) -> None:
        self._call.cancel()

    async def read(self, seen: int) -> WatchBatch | None:
        """The next batch after revision `seen`; None if this message had nothing new."""
        response = await self._receive()
        if not response.events:
            # Periodic only: etcd sends it in order with the events. Progress that was asked for may
            # overtake them on 3.4.23 (etcd issue 15220), so we do not ask.
            return WatchBatch((), response.header.revision) if response.header.revision > seen else None
        events = self._held + [wire.read_event(each) for each in response.events]
        if response.fragment:
            events, self._held = _split_last_revision(events)
        else:
            self._held = []
        events = [each for each in events if each.kv.mod_revision > seen]
        return WatchBatch(tuple(events), events[-1].kv.mod_revision) if events else None

    async def _receive(self) -> wire.Message:
        with stream_errors():
            response = await self._call.read()
        if response is grpc.aio.EOF:
            raise EtcdUnavailable("etcd closed the watch")
        if response.compact_revision:
            raise Compacted("the watched revision was compacted", response.compact_revision)
        if response.canceled and "permission denied" in response.cancel_reason:
            raise EtcdRefused(response.cancel_reason, grpc.StatusCode.PERMISSION_DENIED)
        if response.canceled:
            raise EtcdUnavailable(f"etcd cancelled the watch: {response.cancel_reason}")
        return response


def _split_last_revision(events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
    """Complete revisions, and the last one, whose other events may be in the next fragment."""
    last = events[-1].kv.mod_revision
    cut = next(index for index, each in enumerate(events) if each.kv.mod_revision == last)
    return list(events[:cut]), list(events[cut:])
