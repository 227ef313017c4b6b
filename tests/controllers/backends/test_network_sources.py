"""What wakes the network controllers, in small."""

import asyncio
from typing import Any, cast

import pytest

from tests.controllers.backends.test_network_contract import NET, SWITCH
from tests.fakes.manual_clock import ManualClock, breathe
from tests.fakes.ovn_nb import FakeOvn
from vcstack.controllers.backends.network_sources import NETWORK, Throttle, Wake, build_backend
from vcstack.runtime.context import ControllerContext
from vcstack.specs.errors import FencedOut
from vcstack.specs.resource import Ref
from vcstack.store.etcd.election import Fence

A, B = Ref("Subnet", "demo", "a"), Ref("Subnet", "demo", "b")


def build_context(backend: FakeOvn, fence: Fence | None) -> ControllerContext:
    nothing = cast(Any, None)
    return ControllerContext(nothing, nothing, nothing, ManualClock(), None, {NETWORK.name: backend}, fence)


async def test_a_term_writes_under_its_token_and_an_older_one_is_refused() -> None:
    ovn = FakeOvn()
    old = build_backend(build_context(ovn, Fence(b"seat", 7)), "network")
    new = build_backend(build_context(ovn, Fence(b"seat", 9)), "network")
    await old.ensure_switch(SWITCH)
    await new.ensure_switch(SWITCH)
    assert ovn.state.fences == {"network": 9}
    with pytest.raises(FencedOut):
        await old.delete_switch(NET.uid)


async def test_without_election_nothing_is_fenced() -> None:
    ovn = FakeOvn()
    await build_backend(build_context(ovn, None), "network").ensure_switch(SWITCH)
    assert ovn.state.fences == {}


async def test_wake_gathers_keys_for_the_delay_and_yields_each_once() -> None:
    clock, woken = ManualClock(), list[Ref]()
    wake = Wake(clock, 1.0)
    handler = wake.on(lambda old, new: [new])

    async def read() -> None:
        async for ref in wake.stream():
            woken.append(ref)

    reading = asyncio.create_task(read())
    for ref in (A, B, A):
        handler(None, ref)
    await breathe()
    assert woken == []
    await clock.advance(1.0)
    assert woken == [A, B]
    handler(None, B)
    await clock.advance(1.0)
    assert woken == [A, B, B]
    reading.cancel()


async def test_a_throttle_lets_each_object_through_once_in_a_while() -> None:
    clock = ManualClock()
    throttle = Throttle(clock, 2.0)
    assert throttle.remaining("a") == 0
    throttle.note("a")
    assert (throttle.remaining("a"), throttle.remaining("b")) == (2.0, 0)
    clock.skip(1.5)
    assert throttle.remaining("a") == 0.5
    clock.skip(0.5)
    assert throttle.remaining("a") == 0
    throttle.note("a")
    throttle.forget("a")
    assert throttle.remaining("a") == 0
