"""Places that tenants and projects share."""

import pytest

from tests.fakes.world import World
from tests.kinds.identities import make_domain, make_project
from vcstack.runtime.places import Holder, Holders, Places


def holder(tenant: str, project: str = "p") -> Holder:
    return Holder(("domain", tenant), project)


def take_all(places: Places, *holders: Holder) -> list[int]:
    """Have them all ask again and again, each before the next one; return what each got."""
    got = []
    for asking in holders:
        got.append(0)
        while places.take(asking):
            got[-1] += 1
    return got


def test_one_tenant_alone_comes_to_half_of_all_and_one_project_to_a_quarter() -> None:
    assert take_all(Places(8), *(holder("acme", f"p{n}") for n in range(9))) == [2, 1, 1] + [0] * 6
    assert take_all(Places(8), holder("acme")) == [2]


def test_who_has_none_gets_one_while_tenants_that_came_before_took_all_they_could() -> None:
    places = Places(8)
    for n, got in enumerate((4, 2, 1, 1)):
        assert sum(take_all(places, *(holder(f"tenant-{n}", f"p{p}") for p in range(9)))) == got
    assert not places.take(holder("late"))
    # What becomes free goes to who has none, not to who has most.
    places.give_back(holder("tenant-0", "p0"))
    assert not places.take(holder("tenant-0", "p8"))
    assert not places.take(holder("tenant-3", "p8"))
    assert places.take(holder("late"))


def test_all_places_are_given_out_where_many_ask() -> None:
    for total in range(1, 17):
        assert sum(take_all(Places(total), *(holder(f"tenant-{n}") for n in range(total)))) == total


def test_what_is_given_back_leaves_nothing() -> None:
    places = Places(8)
    for _ in range(3):
        assert take_all(places, holder("acme")) == [2]
        for _ in range(2):
            places.give_back(holder("acme"))
        assert places.taken == 0


@pytest.mark.parametrize(
    ("project", "tenant"),
    [
        ("deep", ("domain", "acme")),
        ("flat", ("domain", "acme")),
        ("alone", ("project", "alone")),
        ("missing", ("project", "missing")),
        (None, ("project", "")),
    ],
)
async def test_a_tenant_is_the_domain_at_the_top_or_a_project_in_none(
    world: World, project: str | None, tenant: tuple[str, str]
) -> None:
    await make_domain(world, "acme")
    await make_domain(world, "acme-shops", "acme")
    await make_domain(world, "acme-shops-east", "acme-shops")
    await make_project(world, "deep", domain="acme-shops-east")
    await make_project(world, "flat", domain="acme")
    await make_project(world, "alone")
    holders = Holders(world.context)
    await world.informers.relist()
    assert holders.find(project) == Holder(tenant, project or "")
