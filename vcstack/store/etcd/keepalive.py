"""Renewal of a lease. etcd has it as a stream only, so one renewal is a short stream."""

import asyncio
import contextlib

import grpc.aio

from vcstack.store.etcd import wire
from vcstack.store.etcd.connection import REQUIRE_LEADER, Connection, Endpoint, backoff_seconds, stream_errors
from vcstack.store.etcd.errors import EtcdUnavailable, LeaseNotFound
from vcstack.store.etcd.records import Lease


async def keepalive_once(connection: Connection, lease_id: int, seconds: float) -> Lease:
    """Renew a lease, trying again until `seconds` have passed.

    Raises:
        LeaseNotFound: it is gone.
        EtcdUnavailable: no answer; the lease may have been renewed all the same.
    """
    endpoint = connection.endpoint
    try:
        async with asyncio.timeout(seconds):
            for pause in backoff_seconds(connection.settings):
                endpoint = connection.endpoint
                with contextlib.suppress(EtcdUnavailable):
                    return await _renew(endpoint, lease_id)
                connection.leave(endpoint)
                await asyncio.sleep(pause)
    except TimeoutError as error:
        connection.leave(endpoint)
        raise EtcdUnavailable(f"lease {lease_id:x}: no renewal in {seconds} s") from error
    raise AssertionError("the pauses never end")


async def _renew(endpoint: Endpoint, lease_id: int) -> Lease:
    await endpoint.settled()
    call = endpoint.stubs.lease_keep_alive(metadata=REQUIRE_LEADER)
    try:
        with stream_errors():
            await call.write(wire.lease_keep_alive_request(lease_id))
            answer = await call.read()
    finally:
        call.cancel()
    if answer is grpc.aio.EOF:
        raise EtcdUnavailable("etcd closed the stream")
    lease = wire.read_lease(answer)
    if lease.ttl_seconds <= 0:
        raise LeaseNotFound(f"lease {lease_id:x} is gone")
    return lease
