"""Channels to etcd's members, and the call that knows when it may be repeated.

One channel an endpoint; the first one that works is used until it fails, then the next. A read is repeated
until its time is up. A write is repeated only while it is certain that etcd has not seen it.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from vcstack.store.etcd.errors import EtcdError, EtcdUnavailable, NoAnswer, OutcomeUnknown, classify
from vcstack.store.etcd.grpc_library import grpc
from vcstack.store.etcd.settings import EtcdSettings
from vcstack.store.etcd.wire import Message, Stubs

# etcd then answers "no leader" at once instead of letting a call hang on a member cut off from the others.
REQUIRE_LEADER: Final = grpc.aio.Metadata(("hasleader", "true"))

# How often a connecting channel is looked at. grpc.aio can wait for the change, but a waiter that is
# cancelled stays in gRPC's core until the state changes.
_CONNECT_POLL_SECONDS: Final = 0.02


def backoff_seconds(settings: EtcdSettings) -> Iterator[float]:
    """Pauses that double up to the maximum, each somewhere in its upper half so that callers spread out."""
    pause = settings.backoff_min_seconds
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
        pause = min(pause * 2, settings.backoff_max_seconds)


def asked_to_cancel() -> bool:
    """Whether somebody cancelled this task.

    grpc.aio reports a channel that was closed under a call as a cancellation, too, one that nobody asked
    for; passed on, it would end the caller's task without a trace.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextmanager
def stream_errors() -> Iterator[None]:
    """Turns what grpc.aio raises from a stream into our errors."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise classify(error.code(), error.details() or "", writes=False) from error
    except asyncio.InvalidStateError as error:
        raise EtcdUnavailable("the stream broke before the request was written") from error
    except asyncio.CancelledError as error:
        if asked_to_cancel():
            raise
        raise EtcdUnavailable("the channel was closed") from error


def _channel_options(settings: EtcdSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_receive_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", int(settings.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", int(settings.ping_timeout_seconds * 1000)),
        # Without this one a frozen etcd is noticed after a minute only: it is the timeout of the ping
        # itself, 60 s by default, whatever the keepalive says.
        ("grpc.http2.ping_timeout_ms", int(settings.ping_timeout_seconds * 1000)),
        # A quiet watch sends no data, and by default pings stop after two without any.
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", int(settings.backoff_min_seconds * 1000)),
        ("grpc.max_reconnect_backoff_ms", int(settings.backoff_max_seconds * 1000)),
        # The name misleads: it is the time one attempt to connect may take, 20 s by default.
        ("grpc.min_reconnect_backoff_ms", int(settings.ping_timeout_seconds * 1000)),
        # Two clients of one process do not share a connection, nor each other's failures.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def _credentials(settings: EtcdSettings) -> grpc.ChannelCredentials | None:
    if settings.ca_file is None:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=settings.ca_file.read_bytes(),
        private_key=settings.key_file.read_bytes() if settings.key_file else None,
        certificate_chain=settings.cert_file.read_bytes() if settings.cert_file else None,
    )


class Endpoint:
    """One member and the channel to it."""

    def __init__(self, address: str, settings: EtcdSettings, credentials: grpc.ChannelCredentials | None):
        options = _channel_options(settings)
        self.address = address
        self.channel = (
            grpc.aio.insecure_channel(address, options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options)
        )
        self.stubs = Stubs(self.channel)

    @property
    def is_ready(self) -> bool:
        """Whether the channel is connected."""
        return self.channel.get_state() is grpc.ChannelConnectivity.READY

    async def settled(self) -> None:
        """Wait until the channel is connected or has failed to; a failed one refuses calls at once."""
        while self.channel.get_state(try_to_connect=True) not in (  # noqa: ASYNC110 (see the constant)
            grpc.ChannelConnectivity.READY,
            grpc.ChannelConnectivity.TRANSIENT_FAILURE,
            grpc.ChannelConnectivity.SHUTDOWN,
        ):
            await asyncio.sleep(_CONNECT_POLL_SECONDS)


class Connection:
    """The way to etcd, whichever member it leads to."""

    def __init__(self, settings: EtcdSettings) -> None:
        self.settings = settings
        self._endpoints: list[Endpoint] = []
        self._current = 0
        self.silent: set[Endpoint] = set()
        """Members that left a call without an answer for its whole time, since the last answer of any."""
        self._ending: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Make the channels; connecting happens with the first call. Needs the running loop.

        Reads the certificates anew, so that a client opened after a renewal uses the new ones.
        """
        credentials = await asyncio.to_thread(_credentials, self.settings)
        self._endpoints = [Endpoint(each, self.settings, credentials) for each in self.settings.endpoints]

    async def renew(self) -> None:
        """Make the channels anew with the certificates as they are now; calls under way end on the old ones.

        Those are closed when no call can still be on them. Streams end then, and are opened anew by who has them.
        """
        before = self._endpoints
        await self.open()
        task = asyncio.create_task(self._end(before), name="etcd-old-channels")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, endpoints: list[Endpoint]) -> None:
        try:
            await asyncio.sleep(2 * self.settings.request_timeout_seconds)
        finally:
            for endpoint in endpoints:
                await endpoint.channel.close()

    async def close(self) -> None:
        """Drop all channels; calls under way fail with EtcdUnavailable or OutcomeUnknown."""
        for task in tuple(self._ending):
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        endpoints, self._endpoints = self._endpoints, []
        for endpoint in endpoints:
            await endpoint.channel.close()

    @property
    def is_open(self) -> bool:
        """Whether calls can be made at all."""
        return bool(self._endpoints)

    @property
    def endpoint(self) -> Endpoint:
        """The member in use.

        Raises:
            EtcdUnavailable: the connection is not open.
        """
        if not self._endpoints:
            raise EtcdUnavailable("the etcd client is closed")
        return self._endpoints[self._current % len(self._endpoints)]

    @property
    def all_silent(self) -> bool:
        """Whether no member is left that may answer."""
        return self.silent.issuperset(self._endpoints)

    def leave(self, endpoint: Endpoint) -> None:
        """Turn to the next member, unless another caller has left this one already."""
        if self._endpoints and self.endpoint is endpoint:
            self._current = (self._current + 1) % len(self._endpoints)

    async def call(self, method: str, request: Message, *, writes: bool) -> Message:
        """One unary call, by the name of its method in Stubs.

        Args:
            method: an attribute of Stubs.
            request: its protobuf message.
            writes: whether a second execution could differ from one.

        Raises:
            EtcdUnavailable: no answer in time, and nothing was applied.
            OutcomeUnknown: a write was sent and its answer was lost.
            NoAnswer: likewise, and no other member is left that might know.
            EtcdError: etcd refused, see the error tree.
        """
        attempt = _Attempt(self, method, request, writes=writes)
        seconds = self.settings.request_timeout_seconds
        end = asyncio.get_running_loop().time() + seconds
        endpoint = self.endpoint
        if endpoint.is_ready:
            # As a rule one try does, and gRPC keeps its time for less than asyncio's timeout costs.
            with suppress(EtcdUnavailable):
                return await attempt.once(endpoint, seconds)
        try:
            async with asyncio.timeout_at(end):
                return await attempt.until_answered()
        except TimeoutError as error:
            raise attempt.timed_out() from error


class _Attempt:
    """The tries of one call; it remembers whether etcd may have seen one of them."""

    def __init__(self, connection: Connection, method: str, request: Message, *, writes: bool) -> None:
        self._connection = connection
        self._method = method
        self._request = request
        self._writes = writes
        self._sent_to: Endpoint | None = None
        self._last: EtcdError | None = None

    async def until_answered(self) -> Message:
        """Try again and again. Raises EtcdError."""
        for pause in backoff_seconds(self._connection.settings):
            endpoint = self._connection.endpoint
            await endpoint.settled()
            with suppress(EtcdUnavailable):
                return await self.once(endpoint)
            await asyncio.sleep(pause)
        raise AssertionError("the pauses never end")

    async def once(self, endpoint: Endpoint, seconds: float | None = None) -> Message:
        """One try, without end unless told; a member that does not answer is left. Raises EtcdError."""
        self._sent_to = endpoint
        method = getattr(endpoint.stubs, self._method)
        try:
            answer = await method(self._request, metadata=REQUIRE_LEADER, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            if seconds is not None and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise self.timed_out() from error
            self._sent_to = None
            self._last = classify(error.code(), error.details() or "", writes=self._writes)
            if isinstance(self._last, EtcdUnavailable | OutcomeUnknown):
                self._connection.leave(endpoint)
            raise self._last from error
        except asyncio.CancelledError as error:
            if asked_to_cancel():
                raise
            raise classify(grpc.StatusCode.CANCELLED, "the channel was closed", writes=self._writes) from error
        if self._connection.silent:
            self._connection.silent.clear()
        return answer

    def timed_out(self) -> EtcdError:
        """The error after the time is up."""
        seconds = self._connection.settings.request_timeout_seconds
        if self._sent_to is not None:
            self._connection.leave(self._sent_to)
            self._connection.silent.add(self._sent_to)
            if self._writes:
                kind = NoAnswer if self._connection.all_silent else OutcomeUnknown
                last = f"; before that: {self._last}" if self._last else ""
                return kind(f"{self._method}: sent to {self._sent_to.address}, no answer in {seconds} s{last}")
        return EtcdUnavailable(f"{self._method}: no answer in {seconds} s; last: {self._last or 'connecting'}")
