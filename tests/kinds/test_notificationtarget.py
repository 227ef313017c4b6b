"""Notification targets: what is sent, in which order, what happens when it does not work, and killed anywhere."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.world import PROJECT, World, sweep
from tests.fixtures.etcd import eventually
from tests.fixtures.receiver import Received, Receiver
from tests.kinds.identities import make_project
from vcstack.controllers import notificationtarget
from vcstack.controllers.backends.secrets import SECRETS
from vcstack.controllers.notificationtarget import (
    BATCH,
    BATCH_SECONDS,
    GREET_SECONDS,
    PAUSE_SECONDS,
    SENDING,
    SLOW_SECONDS,
    SLOW_WORKERS,
    SUSPENDED_SECONDS,
    WORKERS,
    read_key,
    sign,
)
from vcstack.runtime.reconciler import Result
from vcstack.specs.conditions import READY
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.event import Event, EventSpec
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.notificationtarget import (
    DELIVERING,
    NotificationTarget,
    NotificationTargetSpec,
    NotificationTargetStatus,
)
from vcstack.specs.kinds.secret import Secret, SecretSpec
from vcstack.specs.meta import format_time
from vcstack.specs.resource import Ref
from vcstack.store.secretvalues import SecretValues

URL = "https://a.example"
SECRET = "a key of the tests"


def build(name: str = "hook", project: str | None = PROJECT, **spec: Any) -> NotificationTarget:
    return NotificationTarget.new(name, NotificationTargetSpec.from_wire(spec), project=project)


def give(world: World, receiver: Receiver) -> None:
    world.backends[SENDING.name] = receiver.client()
    world.backends[SECRETS.name] = SecretValues(world.store)


@pytest.fixture
async def cloud(world: World, receiver: Receiver) -> AsyncIterator[World]:
    """A project with a Secret, and a receiver that may be reached."""
    give(world, receiver)
    await make_project(world)
    await make_secret(world)
    yield world
    world.backends[SENDING.name].close()


async def make_secret(world: World, **data: str) -> None:
    await world.admin.create(Secret.new("hook", SecretSpec(data={"key": SECRET, **data}), project=PROJECT))


async def happen(
    world: World, about: str, message: str, *, project: str | None = PROJECT, again: bool = False, **spec: Any
) -> None:
    """Have something happen, as the cloud writes it."""
    now = format_time(world.clock.now())
    name = f"ev-{hashlib.sha256(f'{about}{message}'.encode()).hexdigest()[:20]}"
    if again:
        event = await world.system.get(Event, name, project)
        event.spec.count += 1
        await world.system.update(event)
        return
    wire = {
        "regarding": {"kind": "Network", "name": about, "uid": f"uid-{about}"},
        "type": "Normal",
        "reason": "Changed",
        "message": message,
        "actor": "tests",
        "firstTime": now,
        "lastTime": now,
        **spec,
    }
    await world.system.create(Event.new(name, EventSpec.from_wire(wire), project=project))


async def settle(world: World, seconds: float = 2.0) -> None:
    """Let what is due be sent."""
    for _ in range(6):
        world.clock.skip(seconds)
        await world.settle(notificationtarget.build)


async def status(world: World, name: str = "hook", project: str | None = PROJECT) -> NotificationTargetStatus:
    return (await world.admin.get(NotificationTarget, name, project)).status


async def reason(world: World, name: str = "hook") -> str:
    found = {c.type: c.reason for c in (await status(world, name)).conditions}
    return found[DELIVERING]


def told(receiver: Receiver) -> list[str]:
    return [request.json["data"]["message"] for request in receiver.requests]


def per_object(receiver: Receiver) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for request in receiver.requests:
        data = request.json["data"]
        lines = found.setdefault(data["regarding"]["name"], [])
        if data["message"] not in lines:
            lines.append(data["message"])
    return found


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (build(), "spec.url"),
        (build(url=URL, urlSecret={"name": "hook", "key": "key"}), "spec.url"),
        (build(project=None, url=URL, signingSecret={"name": "s", "key": "k"}), "spec.signingSecret.project"),
        (build(url=URL, signingSecret={"project": "other", "name": "s", "key": "k"}), "spec.signingSecret.project"),
        (build(url=URL, signingSecret={"name": "nowhere", "key": "k"}), "spec.signingSecret.name"),
        (build(url=URL, events={"kinds": ["Netwerk"]}), "spec.events.kinds[0]"),
    ],
)
async def test_what_makes_no_sense_is_refused(cloud: World, wanted: NotificationTarget, field: str) -> None:
    with pytest.raises(Invalid) as error:
        await cloud.admin.create(wanted)
    assert field in [c.field for c in error.value.causes]


async def test_what_happens_from_then_on_is_sent_signed_and_once(cloud: World, receiver: Receiver) -> None:
    await happen(cloud, "old", "before")
    await cloud.admin.create(build(url=f"{receiver.url}/in?a=1", signingSecret={"name": "hook", "key": "key"}))
    await settle(cloud)
    await happen(cloud, "blue", "made")
    await happen(cloud, "red", "elsewhere", project=None)
    await settle(cloud)
    assert told(receiver) == ["made"]
    [request] = receiver.requests
    assert request.path == "/in?a=1"
    sent = request.json
    assert sent["data"]["regarding"] == {"kind": "Network", "name": "blue", "uid": "uid-blue"}
    assert (sent["target"], sent["data"]["project"]) == ({"project": PROJECT, "name": "hook"}, PROJECT)
    assert request.headers["webhook-id"] == sent["id"]
    signed = f"{sent['id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    assert request.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    found = await status(cloud)
    assert (found.delivered, found.pending, found.failures) == (1, 0, 0)
    assert found.delivered_at is not None
    assert {c.type: c.status for c in found.conditions}["Ready"] == "True"
    cloud.restart()  # who goes on after us knows what was sent
    await settle(cloud)
    assert told(receiver) == ["made"]
    await happen(cloud, "blue", "made", again=True)
    await settle(cloud)
    assert [request.json["data"]["count"] for request in receiver.requests] == [1, 2]
    assert len({request.json["id"] for request in receiver.requests}) == 2


def test_a_signature_is_that_of_the_specification() -> None:
    """The example of standardwebhooks.com."""
    key = read_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_kinds_reasons_types_and_labels_choose_what_is_sent(cloud: World, receiver: Receiver) -> None:
    network = await cloud.admin.create(Network.new("blue", NetworkSpec(), project=PROJECT, labels={"env": "prod"}))
    selections = {
        "kinds": {"kinds": ["Network"]},
        "reasons": {"reasons": ["Lost"]},
        "types": {"types": ["Warning"]},
        "labels": {"labelSelector": "env=prod"},
        "both": {"kinds": ["Network"], "types": ["Warning"]},
    }
    for name, events in selections.items():
        await cloud.admin.create(build(name, url=f"{receiver.url}/{name}", events=events))
    await settle(cloud)
    await happen(cloud, "red", "n")
    await happen(cloud, "red", "w", type="Warning")
    await happen(cloud, "disk", "l", regarding={"kind": "Image", "name": "disk"}, reason="Lost", type="Warning")
    await happen(cloud, "blue", "p", regarding={"kind": "Network", "name": "blue", "uid": network.uid})
    await happen(cloud, "blue", "f", regarding={"kind": "Network", "name": "blue", "uid": "a former one"})
    await settle(cloud)
    found: dict[str, list[str]] = {}
    for request in receiver.requests:
        found.setdefault(request.path[1:], []).append(request.json["data"]["message"])
    assert {name: sorted(messages) for name, messages in found.items()} == {
        "kinds": ["f", "n", "p", "w"],
        "reasons": ["l"],
        "types": ["l", "w"],
        "labels": ["p"],
        "both": ["w"],
    }


async def test_a_target_of_the_cloud_is_told_everything(cloud: World, receiver: Receiver) -> None:
    await cloud.admin.create(
        build(project=None, url=receiver.url, signingSecret={"project": PROJECT, "name": "hook", "key": "key"})
    )
    await settle(cloud)
    await happen(cloud, "blue", "in a project")
    await happen(cloud, "h1", "outside", project=None, regarding={"kind": "Host", "name": "h1"})
    await settle(cloud)
    assert sorted(told(receiver)) == ["in a project", "outside"]


async def test_while_the_receiver_is_away_events_wait_and_come_in_order(cloud: World, receiver: Receiver) -> None:
    await cloud.admin.create(build(url=receiver.url))
    await settle(cloud)
    await receiver.stop()
    for n in range(3):
        for about in ("blue", "red"):
            await happen(cloud, about, f"{about} {n}")
    await settle(cloud)
    found = await status(cloud)
    assert (found.pending, found.delivered) == (6, None)
    assert found.failures
    assert found.failed_at is not None
    assert found.failure == "127.0.0.1 cannot be reached from here, or may not be"
    assert await reason(cloud) == "Unreachable"
    assert {c.type: c.status for c in found.conditions}["Ready"] == "False"
    tried = found.failures
    await settle(cloud, 0)  # it is not tried all the time
    assert (await status(cloud)).failures == tried
    await receiver.start()
    await settle(cloud, 600)
    assert per_object(receiver) == {name: [f"{name} {n}" for n in range(3)] for name in ("blue", "red")}
    found = await status(cloud)
    assert (found.pending, found.failures, found.delivered) == (0, 0, 6)
    assert await reason(cloud) == "Reachable"


@pytest.mark.parametrize("code", [500, 401, 404, 429, 302])
async def test_an_answer_that_is_no_yes_is_a_failure_and_a_redirect_is_not_followed(
    cloud: World, receiver: Receiver, code: int
) -> None:
    receiver.answer = lambda request: (code, {"location": f"{receiver.url}/elsewhere"}, b"internal details")
    await cloud.admin.create(build(url=f"{receiver.url}/in", signingSecret={"name": "hook", "key": "key"}))
    await settle(cloud)
    await happen(cloud, "blue", "made")
    await settle(cloud)
    assert {request.path for request in receiver.requests} == {"/in"}
    found = await status(cloud)
    assert found.failures
    assert found.failure is not None
    assert "details" not in found.failure
    assert await reason(cloud) == "DeliveryFailed"
    assert receiver.greetings == 1  # that it can be reached is no news, and proves nothing
    receiver.answer = lambda request: (200, {}, b"")
    await settle(cloud, 600)
    assert (await status(cloud)).delivered == 1
    assert len({request.json["id"] for request in receiver.requests}) == 1


async def test_what_the_receiver_calls_bad_is_counted_and_does_not_hold_up_the_rest(
    cloud: World, receiver: Receiver
) -> None:
    receiver.answer = lambda request: (422 if b"bad" in request.body else 200, {}, b"")
    await cloud.admin.create(build(url=receiver.url))
    await settle(cloud)
    await happen(cloud, "blue", "bad")
    await happen(cloud, "blue", "good")
    await settle(cloud)
    assert told(receiver) == ["bad", "good"]
    found = await status(cloud)
    assert (found.delivered, found.refused, found.failures) == (1, 1, 0)


async def test_one_object_that_does_not_go_through_holds_up_itself_only(cloud: World, receiver: Receiver) -> None:
    receiver.answer = lambda request: (500 if b"uid-blue" in request.body else 200, {}, b"")
    await cloud.admin.create(build(url=receiver.url))
    await settle(cloud)
    await happen(cloud, "blue", "first")
    await settle(cloud, 600)
    await happen(cloud, "red", "other")
    await settle(cloud, 600)
    assert "other" in told(receiver)
    cloud.restart()
    receiver.requests.clear()
    await settle(cloud, 600)
    assert set(told(receiver)) == {"first"}  # what went through is not sent again


async def test_of_a_backlog_that_is_too_long_the_oldest_go(cloud: World, receiver: Receiver) -> None:
    await cloud.admin.create(build(url=receiver.url, backlogLimit=2, suspended=True))
    await settle(cloud)
    for n in range(5):
        await happen(cloud, "blue", f"event {n}")
    await settle(cloud, SUSPENDED_SECONDS)
    found = await status(cloud)
    assert (found.pending, found.dropped) == (2, 3)
    assert await reason(cloud) == "Suspended"
    assert receiver.requests == []
    target = await cloud.admin.get(NotificationTarget, "hook", PROJECT)
    target.spec.suspended = False
    await cloud.admin.update(target)
    await settle(cloud)
    assert told(receiver) == ["event 3", "event 4"]
    assert (await status(cloud)).dropped == 3


async def test_many_events_go_batch_by_batch(cloud: World, receiver: Receiver) -> None:
    await cloud.admin.create(build(url=receiver.url))
    await settle(cloud)
    for n in range(BATCH + 5):
        await happen(cloud, f"n{n % 7}", f"event {n}")
    await settle(cloud)
    assert len(told(receiver)) == BATCH + 5
    assert (await status(cloud)).delivered == BATCH + 5


async def test_a_batch_ends_in_time_however_slow_the_receiver_is(cloud: World, receiver: Receiver) -> None:
    await cloud.admin.create(build(url=receiver.url))
    await settle(cloud)
    for n in range(10):
        await happen(cloud, "blue", f"change {n}")

    def answer(request: Received) -> tuple[int, dict[str, str], bytes]:
        cloud.clock.skip(BATCH_SECONDS / 2)
        return 204, {}, b""

    receiver.answer = answer
    cloud.clock.skip(PAUSE_SECONDS)
    await cloud.informers.relist()
    target = await cloud.admin.get(NotificationTarget, "hook", PROJECT)
    again = await cloud.controller(notificationtarget.build).reconciler.reconcile(target, target.ref)
    assert again == Result(requeue_after=PAUSE_SECONDS)
    assert len(told(receiver)) == 2, "the rest has its turn after other targets"
    await settle(cloud)
    assert told(receiver) == [f"change {n}" for n in range(10)]


async def test_slow_receivers_of_one_project_leave_others_room(cloud: World, receiver: Receiver) -> None:
    names = [f"slow-{n:02}" for n in range(WORKERS)]
    for name in names:
        await cloud.admin.create(build(name, url=receiver.url))
    await make_project(cloud, "other")
    await cloud.admin.create(build("quick", "other", url=receiver.url))
    await settle(cloud)

    def answer(request: Received) -> tuple[int, dict[str, str], bytes]:
        cloud.clock.skip(SLOW_SECONDS)
        return 204, {}, b""

    receiver.answer = answer
    await happen(cloud, "blue", "first")
    await settle(cloud)
    assert len(told(receiver)) == len(names)
    receiver.requests.clear()
    receiver.hold = asyncio.Event()
    await happen(cloud, "blue", "second")
    await happen(cloud, "red", "made", project="other")
    cloud.clock.skip(PAUSE_SECONDS)
    await cloud.informers.relist()
    reconciler = cloud.controller(notificationtarget.build).reconciler

    async def reconcile(name: str, project: str) -> Result | None:
        target = await cloud.admin.get(NotificationTarget, name, project)
        return await reconciler.reconcile(target, target.ref)

    async with asyncio.TaskGroup() as group:
        turns = [group.create_task(reconcile(name, PROJECT)) for name in names]
        quick = group.create_task(reconcile("quick", "other"))
        try:
            await eventually(lambda: len(receiver.requests) + sum(turn.done() for turn in turns) > WORKERS)
            done = [turn.result() for turn in turns if turn.done()]
        finally:
            receiver.hold.set()
    assert done == [Result(requeue_after=PAUSE_SECONDS)] * (WORKERS - SLOW_WORKERS)
    assert quick.result() is not None
    await settle(cloud)
    assert told(receiver).count("second") == len(names)


async def test_a_secret_address_is_read_at_each_delivery_and_shown_nowhere(cloud: World, receiver: Receiver) -> None:
    await cloud.admin.create(build(urlSecret={"name": "hook", "key": "url"}))
    await settle(cloud)
    await happen(cloud, "blue", "made")
    await settle(cloud)
    assert "value url of the Secret hook is not there" in str((await status(cloud)).failure)
    secret = await cloud.admin.get(Secret, "hook", PROJECT)
    secret.spec.data["url"] = f"{receiver.url}/xoxb-token\n"
    await cloud.admin.update(secret)
    await settle(cloud, 600)
    assert [request.path for request in receiver.requests] == ["/xoxb-token"]
    target = await cloud.admin.get(NotificationTarget, "hook", PROJECT)
    assert "xoxb" not in target.to_json().decode()
    await receiver.stop()
    await happen(cloud, "blue", "lost")
    await settle(cloud, 600)
    assert (await status(cloud)).failure == "the receiver cannot be reached from here, or may not be"


async def test_a_receiver_is_reached_before_anything_is_sent_and_again_now_and_then(
    cloud: World, receiver: Receiver
) -> None:
    """Ready is an observation: it takes a connection, and of a target that is sent nothing one now and then."""
    await receiver.stop()
    made = await cloud.admin.create(build(url=receiver.url))
    assert made.find_condition(READY) is None or not made.is_true(READY)
    await settle(cloud)
    found = await status(cloud)
    assert (await reason(cloud), found.reached_at) == ("Unreachable", None)
    assert {c.type: c.message for c in found.conditions}[READY] == (
        "It is tried again: 127.0.0.1 cannot be reached from here, or may not be."
    )
    assert found.failures
    await receiver.start()
    await settle(cloud, GREET_SECONDS)
    first = await status(cloud)
    assert (await reason(cloud), first.failures) == ("Reachable", 0)
    assert first.reached_at is not None
    assert {c.type: c.status for c in first.conditions}[READY] == "True"
    await eventually(lambda: receiver.greetings > 0, 60)
    await settle(cloud)
    assert (await status(cloud)).reached_at == first.reached_at  # not all the time
    greetings = receiver.greetings
    await settle(cloud, GREET_SECONDS)
    await eventually(lambda: receiver.greetings > greetings, 60)
    later = (await status(cloud)).reached_at
    assert later is not None
    assert later > first.reached_at
    await receiver.stop()
    await settle(cloud, GREET_SECONDS)
    assert await reason(cloud) == "Unreachable"
    assert receiver.requests == []  # nobody was sent anything for that


async def test_an_address_that_cannot_be_used_is_told_before_anything_happens(cloud: World, receiver: Receiver) -> None:
    secret = await cloud.admin.get(Secret, "hook", PROJECT)
    secret.spec.data["url"] = "ftp://xoxb-token@example.com/"
    await cloud.admin.update(secret)
    await cloud.admin.create(build(urlSecret={"name": "hook", "key": "url"}))
    await settle(cloud)
    assert (await reason(cloud), (await status(cloud)).failure) == (
        "AddressUnusable",
        "the address must begin with https://",
    )


@pytest.mark.parametrize(
    "url", ["https://10.0.0.1/", "https://169.254.169.254/latest", "https://[::1]/", "https://127.1/"]
)
async def test_an_address_inside_is_not_reached(cloud: World, receiver: Receiver, url: str) -> None:
    await cloud.admin.create(build(url=url))
    await settle(cloud)
    await happen(cloud, "blue", "made")
    await settle(cloud)
    found = await status(cloud)
    assert found.failures
    assert "refused" not in str(found.failure)  # what is behind it is not told


@pytest.mark.parametrize(
    ("value", "told_of"),
    [("whsec_\u00e9", "is no base64"), ("whsec_a", "is no base64"), ("", "is empty"), (" ", "is empty")],
)
async def test_a_key_that_cannot_sign_is_told_and_nothing_goes_unsigned(
    cloud: World, receiver: Receiver, value: str, told_of: str
) -> None:
    await cloud.admin.create(Secret.new("signs", SecretSpec(data={"key": value}), project=PROJECT))
    await cloud.admin.create(build(url=receiver.url, signingSecret={"name": "signs", "key": "key"}))
    await settle(cloud)
    await happen(cloud, "blue", "made")
    await settle(cloud)
    found = await status(cloud)
    assert await reason(cloud) == "AddressUnusable"
    assert told_of in (found.failure or "")
    assert not receiver.requests


async def test_what_is_said_of_a_target_is_not_sent_to_itself(cloud: World, receiver: Receiver) -> None:
    made = await cloud.admin.create(build(url=receiver.url))
    await cloud.admin.create(build("other", url=f"{receiver.url}/other"))
    await settle(cloud)
    regarding = {"kind": "NotificationTarget", "name": "hook", "uid": made.uid}
    await happen(cloud, "hook", "failed", regarding=regarding)
    await settle(cloud)
    assert [request.path for request in receiver.requests] == ["/other"]


async def test_a_target_that_is_gone_is_told_nothing(cloud: World, receiver: Receiver) -> None:
    await cloud.admin.create(build(url=receiver.url))
    await settle(cloud)
    await cloud.admin.delete(Ref(NotificationTarget.KIND, PROJECT, "hook"))
    await happen(cloud, "blue", "made")
    await settle(cloud)
    assert receiver.requests == []


async def test_killed_anywhere_everything_arrives_in_order_and_what_comes_twice_has_one_id(receiver: Receiver) -> None:
    flaky = 0

    def sometimes(request: Received) -> tuple[int, dict[str, str], bytes]:
        nonlocal flaky
        flaky += 1
        return (503 if flaky % 3 == 0 else 200), {}, b""

    async def scenario(world: World) -> None:
        give(world, receiver)
        await make_project(world)
        await make_secret(world)
        receiver.requests.clear()
        receiver.answer = sometimes
        target = build(url=receiver.url, signingSecret={"name": "hook", "key": "key"})
        await world.admin.create(target)
        await settle(world)
        for n in range(3):
            for about in ("blue", "red"):
                await happen(world, about, f"{about} {n}")
            await settle(world)
        await settle(world, 600)
        assert per_object(receiver) == {name: [f"{name} {n}" for n in range(3)] for name in ("blue", "red")}
        ids = {request.json["data"]["message"]: request.json["id"] for request in receiver.requests}
        for request in receiver.requests:
            assert request.json["id"] == ids[request.json["data"]["message"]]
        found = await status(world)
        assert (found.pending, found.dropped) == (0, None)
        world.backends[SENDING.name].close()

    assert await sweep(scenario) >= 6
