"""Renewal of leases. etcd has it as a stream only; all leases of a client share one.

A stream for each renewal costs three times the CPU, on both sides; with a heartbeat of every host each few
seconds that is most of what a cloud at rest does.
"""

import asyncio
import contextlib
from collections import defaultdict, deque
from typing import Final

from vcstack.store.etcd import wire
from vcstack.store.etcd.connection import REQUIRE_LEADER, Connection, Endpoint, backoff_seconds, stream_errors
from vcstack.store.etcd.errors import EtcdError, EtcdUnavailable, LeaseNotFound
from vcstack.store.etcd.grpc_library import grpc
from vcstack.store.etcd.records import Lease

_CLOSED: Final = "the etcd client is closed"


class Renewals:
    """Renews leases over one stream, which is opened when it is needed and anew when it broke."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stream: _Stream | None = None

    async def renew(self, lease_id: int, seconds: float) -> Lease:
        """Renew a lease, trying again until `seconds` have passed.

        Raises:
            LeaseNotFound: it is gone.
            EtcdUnavailable: no answer; the lease may have been renewed all the same.
        """
        endpoint = self._connection.endpoint
        try:
            async with asyncio.timeout(seconds):
                for pause in backoff_seconds(self._connection.settings):
                    endpoint = self._connection.endpoint
                    with contextlib.suppress(EtcdUnavailable):
                        return await self._renew(endpoint, lease_id)
                    self._connection.leave(endpoint)
                    await asyncio.sleep(pause)
        except TimeoutError as error:
            self._drop(endpoint)
            self._connection.leave(endpoint)
            raise EtcdUnavailable(f"lease {lease_id:x}: no renewal in {seconds} s") from error
        raise AssertionError("the pauses never end")

    async def aclose(self) -> None:
        """End the stream; renewals under way fail."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()

    async def _renew(self, endpoint: Endpoint, lease_id: int) -> Lease:
        await endpoint.settled()
        stream = self._stream
        if stream is None or stream.broken or stream.endpoint is not endpoint:
            if stream is not None:
                stream.end(EtcdUnavailable("another member is in use"))
            stream = self._stream = _Stream(endpoint)
        lease = await stream.renew(lease_id)
        if lease.ttl_seconds <= 0:
            raise LeaseNotFound(f"lease {lease_id:x} is gone")
        return lease

    def _drop(self, endpoint: Endpoint) -> None:
        """Use a stream no more that does not answer."""
        if self._stream is not None and self._stream.endpoint is endpoint:
            self._stream.end(EtcdUnavailable("etcd does not answer"))


class _Stream:
    """One open stream, until it breaks. etcd answers each renewal once, those of one lease in order."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.broken = False
        self._call = endpoint.stubs.lease_keep_alive(metadata=REQUIRE_LEADER)
        self._waiting: defaultdict[int, deque[asyncio.Future[Lease]]] = defaultdict(deque)
        self._writing = asyncio.Lock()
        self._reader = asyncio.create_task(self._read(), name="etcd-lease-renewals")

    async def renew(self, lease_id: int) -> Lease:
        """The lease as renewed. Raises EtcdError."""
        answer: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        async with self._writing:
            if self.broken:
                raise EtcdUnavailable("the stream broke before the request was written")
            self._waiting[lease_id].append(answer)
            try:
                with stream_errors():
                    await self._call.write(wire.lease_keep_alive_request(lease_id))
            except BaseException:
                self.end(EtcdUnavailable("the stream broke"))  # also when cancelled, for gRPC then drops it
                raise
        return await answer

    def end(self, error: EtcdError) -> None:
        """Break the stream; who waits gets the error."""
        if self.broken:
            return
        self.broken = True
        self._call.cancel()
        self._reader.cancel()
        for answer in (each for waiting in self._waiting.values() for each in waiting if not each.done()):
            answer.set_exception(error)
            answer.exception()  # marks it as seen, for its caller may have given up
        self._waiting.clear()

    async def aclose(self) -> None:
        self.end(EtcdUnavailable(_CLOSED))
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while True:
                with stream_errors():
                    message = await self._call.read()
                if message is grpc.aio.EOF:
                    raise EtcdUnavailable("etcd closed the stream")
                self._answer(wire.read_lease(message))
        except EtcdError as error:
            self.end(error)

    def _answer(self, lease: Lease) -> None:
        waiting = self._waiting.get(lease.id)
        if waiting is None:
            return
        answer = waiting.popleft()
        if not waiting:
            del self._waiting[lease.id]
        if not answer.done():
            answer.set_result(lease)
