"""Quotas: which limits make sense, and that they are accepted."""

import pytest

from tests.fakes.world import PROJECT, World
from tests.kinds.identities import make_domain, make_project
from vcstack.controllers import quota
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.quota import WITHIN_LIMITS, Quota, QuotaSpec
from vcstack.specs.registry import load_kinds, quota_names


def build(name: str, project: str | None = None, domain: str | None = None, **limits: int) -> Quota:
    return Quota.new(name, QuotaSpec(domain=domain, limits=limits or {"instances": 1}), project=project)


async def test_quotas_of_a_project_a_domain_and_the_cloud_become_ready(world: World) -> None:
    await make_project(world)
    await make_domain(world)
    await world.admin.create(build("a", PROJECT, instances=10, vcpus=20, memoryMiB=4096))
    await world.admin.create(build("b", domain="acme", users=3))
    await world.admin.create(build("c"))
    await world.settle(quota.build)
    assert all(q.is_true("Ready") for q in (await world.admin.list(Quota)).items)
    assert await world.writes_of(quota.build) == 0


async def test_what_is_in_use_is_observed_and_more_than_a_lowered_limit_is_told(world: World) -> None:
    await make_project(world)
    await world.admin.create(build("q", PROJECT, networks=2, ports=1))
    for name in ("a", "b"):
        await world.create(Network.new(name, NetworkSpec(), project=PROJECT))
    await world.settle(quota.build)
    before = await world.get(Quota, "q")
    assert before.status.used == {"networks": 2, "ports": 0}
    assert before.is_true(WITHIN_LIMITS)
    lowered = before.model_copy(update={"spec": QuotaSpec(limits={"networks": 1})})
    await world.admin.update(lowered)
    await world.settle(quota.build)
    after = await world.get(Quota, "q")
    assert after.status.used == {"networks": 2}
    told = after.find_condition(WITHIN_LIMITS)
    assert told is not None
    assert (told.status, told.reason) == ("False", "OverLimit")
    assert "networks: 2 of 1 in use" in told.message
    assert after.is_true("Ready")
    assert await world.writes_of(quota.build) == 0


async def test_what_is_there_from_before_it_was_measured_is_counted_when_a_limit_comes_even_above_it(
    world: World,
) -> None:
    await world.create_basics()
    await world.create_host("h1")
    await world.bind(await world.create_instance("web-1"), "h1")
    key = b"/vcstack/instances/demo/web-1"
    value = world.etcd.snapshot()[key]
    await world.etcd.put(key, value[: value.index(b',"takes":')] + b"}")
    await world.store.cache.fresh()
    await world.admin.create(build("q", PROJECT, vcpus=0, instances=5))
    await world.settle(quota.build)
    observed = await world.get(Quota, "q")
    flavor = await world.get(Flavor, "tiny", project=None)
    assert observed.status.used == {"instances": 1, "vcpus": flavor.spec.vcpus}
    assert not observed.is_true(WITHIN_LIMITS)
    assert b',"takes":' in world.etcd.snapshot()[key]
    assert await world.writes_of(quota.build) == 0


@pytest.mark.parametrize(
    ("wanted", "field", "word"),
    [
        (build("q", PROJECT, domain="acme"), "spec.domain", "left out"),
        (build("q", domain="nowhere"), "spec.domain", "there is no Domain nowhere"),
        (build("q", PROJECT, instence=1), "spec.limits", "what can be: "),
        (build("q", PROJECT, events=1), "spec.limits", "events cannot be limited"),
    ],
    ids=["domain-in-project", "missing-domain", "unknown-name", "kind-that-does-not-count"],
)
async def test_what_makes_no_sense_is_refused(world: World, wanted: Quota, field: str, word: str) -> None:
    await make_project(world)
    await make_domain(world)
    with pytest.raises(Invalid) as error:
        await world.admin.create(wanted)
    assert [c.field for c in error.value.causes] == [field]
    assert word in error.value.causes[0].message


def test_a_limit_below_nothing_is_no_limit() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        QuotaSpec(limits={"instances": -1})


def test_what_is_the_systems_own_or_passes_by_itself_does_not_count() -> None:
    uncounted = {d.plural for d in load_kinds().values()} - set(quota_names())
    assert {"events", "tasks", "sessions", "quotas", "hosts", "flavors"} <= uncounted
    assert {"instances", "ports", "images", "apikeys", "projects", "users", "vcpus"} <= set(quota_names())
