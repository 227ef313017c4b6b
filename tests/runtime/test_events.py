"""Events: counted instead of repeated, bounded, and never in the way."""

import asyncio

from prometheus_client import CollectorRegistry

from tests.fakes.manual_clock import breathe
from tests.fakes.world import World
from vcstack.runtime import events
from vcstack.runtime.events import EventRecorder, event_name
from vcstack.runtime.metrics import RuntimeMetrics
from vcstack.specs.errors import Unavailable
from vcstack.specs.kinds.event import Event, EventType
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.meta import MESSAGE_LIMIT


async def stored(world: World) -> list[Event]:
    return list((await world.admin.list(Event)).items)


async def test_an_event_is_recorded_about_its_object(world: World) -> None:
    await world.create_basics()
    made = await world.create_instance("web-1")
    world.events.warning(made, "Unschedulable", "No host fits.")
    await world.events.flush()
    event = (await stored(world))[0]
    assert event.metadata.project == "demo"
    assert (event.spec.regarding.kind, event.spec.regarding.uid) == ("Instance", made.uid)
    assert (event.spec.type, event.spec.reason, event.spec.count) == (EventType.WARNING, "Unschedulable", 1)
    assert event.spec.first_time == event.spec.last_time == world.clock.now()


async def test_a_message_that_is_too_long_is_cut(world: World) -> None:
    await world.create_basics()
    world.events.normal(await world.get(Flavor, "tiny"), "Seen", "It was seen. " * 10_000)
    await world.events.flush()
    assert len((await stored(world))[0].spec.message) == MESSAGE_LIMIT


async def test_the_same_again_is_counted(world: World) -> None:
    await world.create_basics()
    flavor = await world.get(Flavor, "tiny")
    for _ in range(3):
        world.events.normal(flavor, "Seen", "It was seen.")
    await world.events.flush()
    began = world.clock.now()
    world.clock.skip(20.0)
    world.events.normal(flavor, "Seen", "It was seen.")
    await world.events.flush()
    event = (await stored(world))[0]
    assert event.spec.count == 4
    assert (event.spec.first_time, event.spec.last_time) == (began, world.clock.now())


async def test_a_restarted_process_counts_on_in_the_same_event(world: World) -> None:
    await world.create_basics()
    flavor = await world.get(Flavor, "tiny")
    for _ in range(2):
        recorder = EventRecorder(world.system, "vc-management", world.clock)
        recorder.normal(flavor, "Seen", "It was seen.")
        await recorder.flush()
    assert [e.spec.count for e in await stored(world)] == [2]


async def test_two_that_count_at_once_lose_nothing(world: World) -> None:
    await world.create_basics()
    flavor = await world.get(Flavor, "tiny")
    recorders = [EventRecorder(world.system, "vc-management", world.clock) for _ in range(2)]
    for _ in range(3):
        for recorder in recorders:
            recorder.normal(flavor, "Seen", "It was seen.")
        await asyncio.gather(*(r.flush() for r in recorders))
        world.clock.skip(20.0)
    assert [e.spec.count for e in await stored(world)] == [6]


async def test_other_words_are_another_event(world: World) -> None:
    await world.create_basics()
    flavor = await world.get(Flavor, "tiny")
    world.events.normal(flavor, "Seen", "It was seen.")
    world.events.normal(flavor, "Seen", "It was seen twice.")
    await world.events.flush()
    assert len(await stored(world)) == 2
    assert event_name("a", "b", "c") != event_name("a", "b", "d")


async def test_a_repeated_event_is_written_at_most_every_ten_seconds(world: World) -> None:
    await world.create_basics()
    flavor = await world.get(Flavor, "tiny")
    running = asyncio.create_task(world.events.run())
    for _ in range(50):
        world.events.warning(flavor, "Failing", "Again.")
        await world.clock.advance(0.1)
    assert (await stored(world))[0].spec.count == 1
    await world.clock.advance(10.0)
    await breathe(200)
    assert (await stored(world))[0].spec.count == 50
    running.cancel()


async def test_more_than_can_wait_are_dropped_and_counted(world: World) -> None:
    await world.create_basics()
    flavor = await world.get(Flavor, "tiny")
    registry = CollectorRegistry()
    recorder = EventRecorder(world.system, "vc-management", world.clock, metrics=RuntimeMetrics(registry))
    for n in range(events.PENDING_LIMIT + 5):
        recorder.normal(flavor, "Seen", f"{n}")
    assert registry.get_sample_value("vcstack_events_dropped_total", {"reason": "full"}) == 5.0


async def test_a_store_that_is_away_costs_the_event_only(world: World) -> None:
    await world.create_basics()
    flavor = await world.get(Flavor, "tiny")

    def fail(call: str, phase: str) -> None:
        raise Unavailable("away")

    world.events.normal(flavor, "Seen", "It was seen.")
    world.etcd.hook = fail  # type: ignore[assignment]
    await world.events.flush()
    world.etcd.hook = lambda call, phase: None
    world.events.normal(flavor, "Seen", "It was seen.")
    await world.events.flush()
    assert [e.spec.count for e in await stored(world)] == [1]
