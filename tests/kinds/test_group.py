"""Groups: hold users, each once, and go with their grants."""

import pytest
from pydantic import ValidationError

from tests.fakes.world import World
from tests.kinds.identities import GROUP, USER, bind, give_providers, make_group, make_role, make_user
from vcstack.controllers import group, identityprovider
from vcstack.runtime.users import DELETABLE
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.group import MAX_MEMBERS, Group, GroupSpec
from vcstack.specs.kinds.identityprovider import (
    GroupMapping,
    IdentityProvider,
    IdentityProviderSpec,
    OIDCProvider,
    ProviderType,
)
from vcstack.specs.kinds.rolebinding import RoleBinding


async def test_a_group_becomes_ready_and_a_second_run_writes_nothing(world: World) -> None:
    await make_user(world)
    await make_group(world, "ops", "alice")
    await world.settle(group.build)
    assert (await world.get(Group, "ops")).is_true("Ready")
    assert await world.writes_of(group.build) == 0


async def test_members_must_be_users_that_exist_even_where_references_may_be_missing(world: World) -> None:
    await make_group(world, "ops")
    with pytest.raises(Invalid) as refused:
        await world.create_freely(Group.new("nested", GroupSpec(members=["ops"])))
    assert refused.value.causes[0].field == "spec.members[0]"


async def test_nobody_is_in_it_twice_and_there_are_not_too_many(world: World) -> None:
    await make_user(world)
    with pytest.raises(Invalid) as refused:
        await make_group(world, "ops", "alice", "alice")
    assert refused.value.causes[0].reason == "Duplicate"
    with pytest.raises(ValidationError):
        GroupSpec(members=[f"user-{n}" for n in range(MAX_MEMBERS + 1)])


async def test_a_deleted_group_takes_along_its_grants_and_no_others(world: World) -> None:
    await make_role(world)
    await make_user(world, "ops")
    await make_group(world, "ops", "ops")
    await bind(world, "of-group", GROUP, "ops")
    await bind(world, "of-user", USER, "ops")
    await world.delete(await world.get(Group, "ops"))
    await world.settle(group.build)
    assert await world.find(Group, "ops") is None
    assert [b.metadata.name for b in (await world.admin.list(RoleBinding)).items] == ["of-user"]


async def test_a_group_that_an_identity_provider_fills_is_kept(world: World) -> None:
    await make_group(world, "ops")
    oidc = OIDCProvider(issuer_url="https://id.example.com", client_id="cloud")
    mapping = [GroupMapping(external="Ops", group="ops")]
    spec = IdentityProviderSpec(type=ProviderType.OIDC, oidc=oidc, group_mapping=mapping)
    provider = await world.create(IdentityProvider.new("acme", spec))
    await world.delete(await world.get(Group, "ops"))
    await world.settle(group.build)
    held = (await world.get(Group, "ops")).find_condition(DELETABLE)
    assert held is not None
    assert "IdentityProvider acme" in held.message
    await world.delete(provider)
    with give_providers(world):
        await world.settle(identityprovider.build, group.build)
    assert await world.find(Group, "ops") is None
