"""Roles: the built-in ones are as the cloud defines them, the others name kinds that exist."""

import asyncio

import pytest

from tests.fakes.world import World, sweep
from tests.kinds.identities import USER, bind, make_role, make_user
from vcstack.controllers import role
from vcstack.runtime.users import DELETABLE
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.role import BUILT_IN_LABEL, Role, RoleSpec
from vcstack.specs.kinds.rolebinding import RoleBinding
from vcstack.specs.permissions import ADMIN, BUILT_IN_NAMES, Rule, built_in_roles
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.store.actor import Actor


async def settle(world: World) -> None:
    """Look at the built-in roles as the controller's source has it done, then at all."""
    reconciler = world.controller(role.build).reconciler
    for name in sorted(BUILT_IN_NAMES):
        if await world.find(Role, name) is None:
            await reconciler.reconcile(None, Ref("Role", None, name))
    await world.settle(role.build)


async def test_the_built_in_roles_are_made_and_a_second_run_writes_nothing(world: World) -> None:
    await settle(world)
    found = {r.metadata.name: r for r in (await world.admin.list(Role)).items}
    assert found.keys() == BUILT_IN_NAMES
    for name, made in found.items():
        assert made.is_true("Ready")
        assert made.metadata.labels[BUILT_IN_LABEL] == "true"
        assert made.spec.rules == list(built_in_roles()[name].rules)
    assert await world.writes_of(role.build) == 0


async def test_the_source_names_all_built_in_roles(world: World) -> None:
    reconciler = world.controller(role.build).reconciler
    assert isinstance(reconciler, role.RoleReconciler)
    stream, found = reconciler.built_in(), set()
    while len(found) < len(BUILT_IN_NAMES):
        async with asyncio.timeout(60):
            found.add((await anext(stream)).name)
    await stream.aclose()
    assert found == BUILT_IN_NAMES


async def test_nobody_changes_the_rules_of_a_built_in_role(world: World) -> None:
    await settle(world)
    reader = await world.get(Role, "reader")
    reader.spec.rules = [Rule(verbs=["*"], kinds=["*"])]
    for client in (world.admin, world.system):
        with pytest.raises(Invalid) as refused:
            await client.update(reader)
        assert refused.value.causes[0].field == "spec.rules"


async def test_a_role_with_a_built_in_name_cannot_be_made_beforehand(world: World) -> None:
    with pytest.raises(Invalid):
        await world.create(Role.new("reader", RoleSpec(rules=[Rule(verbs=["*"], kinds=["*"])])))


async def test_what_was_changed_in_a_built_in_role_is_repaired(world: World) -> None:
    await settle(world)
    reader = await world.get(Role, "reader")
    reader.spec.description, reader.metadata.labels = "mine", {"team": "a"}
    await world.admin.update(reader)
    await settle(world)
    repaired = await world.get(Role, "reader")
    assert repaired.spec.description == built_in_roles()["reader"].description
    assert repaired.metadata.labels == {"team": "a", BUILT_IN_LABEL: "true"}


async def test_a_deleted_built_in_role_comes_back(world: World) -> None:
    await settle(world)
    await world.delete(await world.get(Role, ADMIN))
    await settle(world)
    await settle(world)
    assert (await world.get(Role, ADMIN)).is_true("Ready")


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"verbs": ["get"], "kinds": ["Instanse"]}, "spec.rules[0].kinds[0]"),
        ({"verbs": ["get"], "kinds": ["Instance", "nothing"]}, "spec.rules[0].kinds[1]"),
        ({"verbs": ["read"], "kinds": ["Instance"]}, "spec.rules[0].verbs[0]"),
        ({"verbs": [], "kinds": ["Instance"]}, "spec.rules[0].verbs"),
        ({"verbs": ["get"], "kinds": ["Instance"], "subresources": []}, "spec.rules[0].subresources"),
        ({"verbs": ["get"], "kinds": ["Instance"], "labelSelector": "a=b=c"}, "spec.rules[0].labelSelector"),
    ],
)
async def test_a_rule_that_would_allow_nothing_is_refused(world: World, rule: dict[str, object], field: str) -> None:
    wire = {"metadata": {"name": "mine"}, "spec": {"rules": [rule]}}
    with pytest.raises(Invalid) as refused:
        await world.store.create(get_kind("Role"), wire, actor=Actor("admin", "vcctl"))
    assert refused.value.causes[0].field == field


async def test_a_role_is_kept_while_a_binding_gives_it(world: World) -> None:
    mine = await make_role(world)
    await make_user(world)
    await bind(world, "b", USER, "alice")
    await world.delete(mine)
    await world.settle(role.build)
    held = (await world.get(Role, "seer")).find_condition(DELETABLE)
    assert held is not None
    assert "RoleBinding b" in held.message
    await world.delete(await world.get(RoleBinding, "b", None))
    await world.settle(role.build)
    assert await world.find(Role, "seer") is None


async def test_killed_between_any_two_calls_and_run_again_it_ends_the_same() -> None:
    async def scenario(world: World) -> None:
        await make_role(world)
        await world.settle(role.build)
        reader = Role.new("reader", RoleSpec(rules=list(built_in_roles()["reader"].rules)))
        await world.create(reader)
        await world.settle(role.build)
        assert (await world.get(Role, "reader")).metadata.labels == {BUILT_IN_LABEL: "true"}
        await world.delete(await world.get(Role, "seer"))
        await world.settle(role.build)
        assert await world.find(Role, "seer") is None

    assert await sweep(scenario) >= 5
