"""What needs no etcd: ranges, settings, the reading of errors, the sharing of reads."""

import asyncio

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.etcd import eventually
from vcstack.store.etcd.coalesce import CoalescedRead
from vcstack.store.etcd.errors import (
    Compacted,
    EtcdError,
    EtcdRefused,
    EtcdUnavailable,
    OutcomeUnknown,
    RequestTooLarge,
    StorageFull,
    classify,
)
from vcstack.store.etcd.ops import prefix_end
from vcstack.store.etcd.settings import EtcdSettings

Code = grpc.StatusCode


@given(prefix=st.binary(max_size=4), key=st.binary(max_size=8))
def test_the_end_of_a_prefix_divides_its_keys_from_all_others(prefix: bytes, key: bytes) -> None:
    end = prefix_end(prefix)
    in_range = prefix <= key and (end == b"\0" or key < end)
    assert in_range is key.startswith(prefix)


@pytest.mark.parametrize(
    ("code", "details", "read", "write"),
    [
        (Code.UNAVAILABLE, "failed to connect to all addresses; x", EtcdUnavailable, EtcdUnavailable),
        (Code.UNAVAILABLE, "etcdserver: no leader", EtcdUnavailable, EtcdUnavailable),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests", EtcdUnavailable, EtcdUnavailable),
        (Code.UNAVAILABLE, "Socket closed", EtcdUnavailable, OutcomeUnknown),
        (Code.UNAVAILABLE, "etcdserver: leader changed", EtcdUnavailable, OutcomeUnknown),
        (Code.UNAVAILABLE, "etcdserver: request timed out", EtcdUnavailable, OutcomeUnknown),
        (Code.UNAVAILABLE, "etcdserver: server stopped", EtcdUnavailable, OutcomeUnknown),
        (Code.INTERNAL, "Received RST_STREAM with error code 2", EtcdUnavailable, OutcomeUnknown),
        (Code.UNKNOWN, "anything new", EtcdUnavailable, OutcomeUnknown),
        (
            Code.RESOURCE_EXHAUSTED,
            "CLIENT: Received message larger than max (2 vs. 1)",
            RequestTooLarge,
            OutcomeUnknown,
        ),
        (
            Code.RESOURCE_EXHAUSTED,
            "grpc: received message larger than max (2 vs. 1)",
            RequestTooLarge,
            RequestTooLarge,
        ),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", StorageFull, StorageFull),
        (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", Compacted, Compacted),
        (Code.PERMISSION_DENIED, "etcdserver: permission denied", EtcdRefused, EtcdRefused),
    ],
)
def test_a_write_is_only_called_unapplied_where_that_is_certain(
    code: grpc.StatusCode, details: str, read: type[EtcdError], write: type[EtcdError]
) -> None:
    assert type(classify(code, details, writes=False)) is read
    assert type(classify(code, details, writes=True)) is write


@pytest.mark.parametrize("endpoints", [(), ("https://127.0.0.1:2379",), ("localhost",)])
def test_endpoints_that_could_only_fail_later_are_refused(endpoints: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        EtcdSettings(endpoints=endpoints)


class SlowRead:
    """A read that answers its own number when it is told to."""

    def __init__(self) -> None:
        self.started = 0
        self.may_end = asyncio.Semaphore(0)
        self.error: EtcdError | None = None

    async def __call__(self) -> int:
        self.started += 1
        number = self.started
        await self.may_end.acquire()
        if self.error is not None:
            raise self.error
        return number


class TestCoalescedRead:
    async def test_who_comes_while_a_read_is_under_way_shares_the_next(self) -> None:
        read = SlowRead()
        shared = CoalescedRead(read)
        first = [asyncio.create_task(shared()) for _ in range(3)]
        await eventually(lambda: read.started == 1)
        later = [asyncio.create_task(shared()) for _ in range(100)]
        await asyncio.sleep(0.01)
        assert read.started == 1
        read.may_end.release()
        assert await asyncio.gather(*first) == [1, 1, 1]
        read.may_end.release()
        assert set(await asyncio.gather(*later)) == {2}
        assert read.started == 2

    async def test_an_error_goes_to_all_who_share_it_and_to_nobody_else(self) -> None:
        read = SlowRead()
        shared = CoalescedRead(read)
        read.error = EtcdUnavailable("away")
        asking = [asyncio.create_task(shared()) for _ in range(3)]
        read.may_end.release()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(answer) for answer in answers] == [EtcdUnavailable] * 3
        read.error = None
        read.may_end.release()
        assert await shared() == 2

    async def test_one_who_gives_up_does_not_end_it_for_the_others(self) -> None:
        read = SlowRead()
        shared = CoalescedRead(read)
        patient, impatient = asyncio.create_task(shared()), asyncio.create_task(shared())
        await eventually(lambda: read.started == 1)
        impatient.cancel()
        read.may_end.release()
        assert await patient == 1

    async def test_closing_ends_those_who_wait(self) -> None:
        read = SlowRead()
        shared = CoalescedRead(read)
        under_way = asyncio.create_task(shared())
        await eventually(lambda: read.started == 1)
        queued = asyncio.create_task(shared())
        await asyncio.sleep(0)
        await shared.aclose()
        answers = await asyncio.gather(under_way, queued, return_exceptions=True)
        assert [type(answer) for answer in answers] == [EtcdUnavailable] * 2
