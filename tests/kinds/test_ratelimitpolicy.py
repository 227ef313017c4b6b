"""Rate limit policies: which make sense, and that their status says who applies what."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from tests.fakes.world import PROJECT, World
from tests.kinds.identities import make_project
from vcstack.controllers import ratelimitpolicy
from vcstack.controllers.ratelimitpolicy import RateLimitPolicyReconciler
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.ratelimitpolicy import (
    APPLIED,
    Per,
    RateLimit,
    RateLimitPolicy,
    RateLimitPolicySpec,
    RouteClass,
    Seats,
    Sender,
    SenderKind,
)

LIMIT = RateLimit(name="all", per=Per.SUBJECT, requests_per_minute=60)
Live = Mapping[str, Mapping[str, int]]


class Workers:
    """The live API workers, as the test says."""

    def __init__(self) -> None:
        self.told: list[Live] = []

    async def live_workers(self) -> AsyncIterator[Live]:
        for live in self.told:
            yield live


@pytest.fixture
def workers(world: World) -> Workers:
    found = Workers()
    world.backends["apiworkers"] = found
    world.restart()
    return found


async def tell(world: World, workers: Workers, live: Live) -> list[str]:
    """Have the controller hear it; return the names of the policies that it looks at for that."""
    workers.told = [live]
    controller = world.controller(ratelimitpolicy.build)
    await world.informers.relist()
    assert isinstance(controller.reconciler, RateLimitPolicyReconciler)
    woken = [ref.name async for ref in controller.reconciler.follow_workers()]
    await world.settle(ratelimitpolicy.build)
    return woken


async def make(world: World, name: str = "some", **spec: Any) -> RateLimitPolicy:
    spec.setdefault("limits", [LIMIT])
    return await world.create(RateLimitPolicy.new(name, RateLimitPolicySpec(**spec)))


async def read(world: World, name: str = "some") -> RateLimitPolicy:
    return await world.get(RateLimitPolicy, name, None)


async def test_a_policy_is_ready_when_all_workers_apply_its_newest_generation(world: World, workers: Workers) -> None:
    policy = await make(world)
    assert await tell(world, workers, {"a": {policy.uid: 1}, "b": {}}) == ["some"]
    found = await read(world)
    assert not found.is_true("Ready")
    condition = found.find_condition(APPLIED)
    assert condition is not None
    assert condition.message == "Not yet applied by b."
    assert found.status.applied == "1/2"

    assert await tell(world, workers, {"a": {policy.uid: 1}, "b": {policy.uid: 1}}) == ["some"]
    found = await read(world)
    assert found.is_true("Ready")
    assert [(w.name, w.generation) for w in found.status.workers] == [("a", 1), ("b", 1)]
    assert await tell(world, workers, {"a": {policy.uid: 1}, "b": {policy.uid: 1}}) == []


async def test_a_change_is_not_ready_until_the_workers_say_so(world: World, workers: Workers) -> None:
    policy = await make(world)
    await tell(world, workers, {"a": {policy.uid: 1}})
    policy = await read(world)
    policy.spec.limits[0].requests_per_minute = 30
    await world.admin.update(policy)
    await world.settle(ratelimitpolicy.build)
    assert not (await read(world)).is_true("Ready")
    await tell(world, workers, {"a": {policy.uid: 2}})
    assert (await read(world)).is_true("Ready")


async def test_a_worker_that_is_gone_is_waited_for_no_more(world: World, workers: Workers) -> None:
    policy = await make(world)
    await tell(world, workers, {"a": {policy.uid: 1}, "dead": {}})
    await tell(world, workers, {"a": {policy.uid: 1}})
    found = await read(world)
    assert found.is_true("Ready")
    assert found.status.applied == "1/1"


async def test_without_workers_nothing_is_applied(world: World, workers: Workers) -> None:
    await make(world)
    await tell(world, workers, {})
    found = await read(world)
    assert not found.is_true("Ready")
    assert found.status.applied == "0/0"


async def test_before_the_workers_are_heard_of_nothing_is_said(world: World, workers: Workers) -> None:
    await make(world)
    await world.settle(ratelimitpolicy.build)
    assert (await read(world)).status.conditions == []


async def test_a_policy_that_nobody_changed_costs_no_writes(world: World, workers: Workers) -> None:
    policy = await make(world)
    await tell(world, workers, {"a": {policy.uid: 1}})
    world.restart()
    before = world.etcd.writes
    await tell(world, workers, {"a": {policy.uid: 1}})
    assert world.etcd.writes == before


def logins(per: Per) -> RateLimit:
    return RateLimit(name="logins", per=per, routes=[RouteClass.READ, RouteClass.LOGIN], requests_per_minute=60)


@pytest.mark.parametrize(
    ("spec", "field", "word"),
    [
        ({"limits": []}, "spec.limits", "is empty"),
        ({"limits": [LIMIT, LIMIT]}, "spec.limits[1].name", "twice"),
        ({"limits": [logins(Per.SUBJECT)]}, "spec.limits[0].routes[1]", "Login has no effect here"),
        (
            {"subject": Sender(kind=SenderKind.USER, name="a"), "limits": [logins(Per.ADDRESS)]},
            "spec.limits[0].routes[1]",
            "without subject, project and domain",
        ),
        ({"domain": "nowhere"}, "spec.domain", "there is no Domain nowhere"),
        ({"project": "nowhere"}, "spec.project", "there is no Project nowhere"),
        ({"subject": Sender(kind=SenderKind.SERVICE_ACCOUNT, name="ci")}, "spec.subject.project", "is missing"),
        ({"subject": Sender(kind=SenderKind.USER, name="a", project=PROJECT)}, "spec.subject.project", "left out"),
        ({"subject": Sender(kind=SenderKind.HOST, name="h1"), "seats": Seats.OPERATORS}, "spec.seats", "left out"),
    ],
    ids=[
        "says-nothing",
        "same-name",
        "logins-of-subjects",
        "logins-of-one",
        "no-domain",
        "no-project",
        "account-without-project",
        "user-in-project",
        "host",
    ],
)
async def test_what_makes_no_sense_is_refused(world: World, spec: dict[str, Any], field: str, word: str) -> None:
    await make_project(world)
    with pytest.raises(Invalid) as error:
        await make(world, **spec)
    assert [c.field for c in error.value.causes] == [field]
    assert word in error.value.causes[0].message


def test_a_rate_of_nothing_is_no_rate() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        RateLimit(name="none", per=Per.SUBJECT, requests_per_minute=0)
