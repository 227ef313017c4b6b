"""Domains: a tree without cycles, kept while anything lies in them."""

import pytest

from tests.fakes.world import World, sweep
from tests.kinds.identities import USER, bind, make_domain, make_project, make_role, make_user
from vcstack.controllers import domain, project
from vcstack.runtime.users import DELETABLE
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.domain import Domain, DomainSpec
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.user import User


async def test_a_domain_becomes_ready_and_a_second_run_writes_nothing(world: World) -> None:
    await make_domain(world)
    await world.settle(domain.build)
    assert (await world.get(Domain, "acme")).is_true("Ready")
    assert await world.writes_of(domain.build) == 0


async def test_a_lost_condition_is_written_again(world: World) -> None:
    await make_domain(world)
    await world.settle(domain.build)
    await world.set_status(await world.get(Domain, "acme"), false=["Accepted"])
    await world.settle(domain.build)
    assert (await world.get(Domain, "acme")).is_true("Ready")


async def test_its_parent_must_exist_even_where_references_may_be_missing(world: World) -> None:
    with pytest.raises(Invalid) as refused:
        await world.create_freely(Domain.new("dev", DomainSpec(parent="acme")))
    assert [(c.field, c.reason) for c in refused.value.causes] == [("spec.parent", "FieldValueNotFound")]


async def test_it_is_not_its_own_parent(world: World) -> None:
    with pytest.raises(Invalid) as refused:
        await world.create_freely(Domain.new("acme", DomainSpec(parent="acme")))
    assert [c.field for c in refused.value.causes] == ["spec.parent"]


async def test_a_cycle_cannot_be_made_of_an_existing_tree(world: World) -> None:
    await make_domain(world)
    await make_domain(world, "dev", "acme")
    acme = await world.get(Domain, "acme")
    acme.spec.parent = "dev"
    with pytest.raises(Invalid) as refused:
        await world.admin.update(acme)
    assert refused.value.causes[0].reason == "FieldValueImmutable"


async def test_a_parent_that_is_being_deleted_takes_no_children(world: World) -> None:
    acme = await make_domain(world)
    await world.delete(acme)
    with pytest.raises(Invalid):
        await world.create_freely(Domain.new("dev", DomainSpec(parent="acme")))


async def test_a_tree_goes_from_the_leaves_up(world: World) -> None:
    await make_domain(world)
    await make_domain(world, "dev", "acme")
    await make_project(world, "web", domain="dev")
    for name in ("acme", "dev"):
        await world.delete(await world.get(Domain, name))
    await world.settle(domain.build)
    held = {n: (await world.get(Domain, n)).find_condition(DELETABLE) for n in ("acme", "dev")}
    assert all(c is not None and c.reason == "InUse" for c in held.values())
    assert "Domain dev" in (held["acme"].message if held["acme"] else "")
    assert "Project web" in (held["dev"].message if held["dev"] else "")
    await world.delete(await world.get(Project, "web"))
    await world.settle(project.build, domain.build)
    assert await world.find(Project, "web") is None
    assert await world.find(Domain, "dev") is None
    assert await world.find(Domain, "acme") is None


async def test_users_and_grants_in_a_domain_hold_it(world: World) -> None:
    await make_domain(world)
    await make_role(world)
    await make_user(world, domain="acme")
    await bind(world, "b", USER, "alice", domain="acme")
    await world.delete(await world.get(Domain, "acme"))
    await world.settle(domain.build)
    held = (await world.get(Domain, "acme")).find_condition(DELETABLE)
    assert held is not None
    assert "RoleBinding b" in held.message
    assert "User alice" in held.message


async def test_what_lies_in_a_domain_stays_there(world: World) -> None:
    await make_domain(world)
    await make_domain(world, "other")
    await make_project(world, "web", domain="acme")
    await make_user(world, domain="acme")
    for found in (await world.get(Project, "web"), await world.get(User, "alice")):
        found.spec.domain = "other"
        with pytest.raises(Invalid):
            await world.admin.update(found)


async def test_killed_between_any_two_calls_and_run_again_it_ends_the_same() -> None:
    async def scenario(world: World) -> None:
        await make_domain(world)
        await make_domain(world, "dev", "acme")
        await world.settle(domain.build)
        for name in ("acme", "dev"):
            await world.delete(await world.get(Domain, name))
        await world.settle(domain.build)
        assert await world.find(Domain, "dev") is None
        assert await world.find(Domain, "acme") is None

    assert await sweep(scenario) > 5
