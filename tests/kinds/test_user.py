"""Users: named by DNS labels, and gone with all that names them."""

import pytest
from pydantic import ValidationError

from tests.fakes.world import PROJECT, World, sweep
from tests.kinds.identities import (
    GROUP,
    USER,
    add_credentials,
    begin_session,
    bind,
    binding,
    make_domain,
    make_group,
    make_key,
    make_project,
    make_role,
    make_user,
)
from vcstack.controllers import apikey, group, rolebinding, user
from vcstack.specs.errors import ClaimTaken, Invalid
from vcstack.specs.kinds.apikey import APIKey
from vcstack.specs.kinds.group import Group
from vcstack.specs.kinds.identityprovider import (
    IdentityProvider,
    IdentityProviderSpec,
    OIDCProvider,
    ProviderType,
)
from vcstack.specs.kinds.key import Key, KeySpec, policy_subjects
from vcstack.specs.kinds.rolebinding import RoleBinding
from vcstack.specs.kinds.session import Session
from vcstack.specs.kinds.user import User, UserSpec
from vcstack.specs.resource import Ref


async def test_a_user_becomes_ready_and_a_second_run_writes_nothing(world: World) -> None:
    await make_user(world)
    await world.settle(user.build)
    assert (await world.get(User, "alice")).is_true("Ready")
    assert await world.writes_of(user.build) == 0


async def test_sessions_of_who_is_disabled_do_not_come_back(world: World) -> None:
    credentials = add_credentials(world)
    for name in ("alice", "bob"):
        await make_user(world, name)
        await begin_session(world, f"s-{name}", name)
        await credentials.put(f"sessions/s-{name}", b"{}", 0)
    made = await world.get(User, "alice")
    made.spec.enabled = False
    await world.admin.update(made)
    await world.settle(user.build)
    assert await world.find(Session, "s-alice") is None
    assert await credentials.get("sessions/s-alice") is None
    await begin_session(world, "s-late", "alice")  # by a login that was under way
    await world.settle(user.build)
    assert await world.find(Session, "s-late") is None
    assert await world.find(Session, "s-bob") is not None
    assert await world.writes_of(user.build) == 0


@pytest.mark.parametrize(
    "name", ["\u0430dmin", "Alice", "alice ", "al\u200bice", "\uff41lice", "alice@example.com", "a_b", "-a"]
)
async def test_names_that_look_like_another_one_are_refused(world: World, name: str) -> None:
    with pytest.raises((Invalid, ValidationError)):
        await make_user(world, name)


@pytest.mark.parametrize(
    "email", ["a b@example.com", "a@b@c", "@example.com", "alice", "a@\u0435xample.com", "a\n@b.c"]
)
async def test_an_address_that_is_none_is_refused(email: str) -> None:
    with pytest.raises(ValidationError):
        UserSpec(email=email)


async def test_the_domain_must_exist_even_where_references_may_be_missing(world: World) -> None:
    with pytest.raises(Invalid) as refused:
        await world.create_freely(User.new("alice", UserSpec(domain="acme")))
    assert refused.value.causes[0].field == "spec.domain"


async def test_a_name_at_an_identity_provider_stands_for_one_user(world: World) -> None:
    oidc = OIDCProvider(issuer_url="https://id.example.com", client_id="cloud")
    await world.create(IdentityProvider.new("acme", IdentityProviderSpec(type=ProviderType.OIDC, oidc=oidc)))
    await make_user(world, "alice", identity_provider="acme", external_id="sub-1")
    with pytest.raises(ClaimTaken):
        await make_user(world, "bob", identity_provider="acme", external_id="sub-1")
    await make_user(world, "carol", identity_provider="acme", external_id="sub-2")
    with pytest.raises(Invalid):
        await make_user(world, "dave", external_id="sub-3")


async def make_all(world: World) -> None:
    """Alice, with everything that can name her, and bob with the same."""
    await make_project(world)
    await make_role(world)
    for name in ("alice", "bob"):
        await make_user(world, name)
    for name in ("alice", "bob"):
        await make_group(world, f"group-of-{name}", "alice", "bob")
        await bind(world, f"cloud-{name}", USER, name)
        await bind(world, f"project-{name}", USER, name, project=PROJECT)
        await begin_session(world, f"session-of-{name}", name)
        await make_key(world, f"key-of-{name}", user=name)


async def test_a_deleted_user_takes_along_what_names_it_and_nothing_else(world: World) -> None:
    credentials = add_credentials(world)
    await make_all(world)
    alice, bob = await world.get(User, "alice"), await world.get(User, "bob")
    for user_ in (alice, bob):
        await credentials.put(f"users/{user_.uid}/password", b"{}", 0)
    await world.delete(alice)
    await world.settle(user.build, apikey.build, group.build)
    assert await world.find(User, "alice") is None
    assert await credentials.get(f"users/{alice.uid}/password") is None
    assert await credentials.get(f"users/{bob.uid}/password") is not None
    assert [b.metadata.name for b in (await world.admin.list(RoleBinding)).items] == ["cloud-bob", "project-bob"]
    assert [s.metadata.name for s in (await world.admin.list(Session)).items] == ["session-of-bob"]
    assert [k.metadata.name for k in (await world.admin.list(APIKey)).items] == ["key-of-bob"]
    assert [g.spec.members for g in (await world.admin.list(Group)).items] == [["bob"], ["bob"]]


async def test_nothing_can_name_a_user_that_is_being_deleted(world: World) -> None:
    await make_role(world)
    await world.delete(await make_user(world))
    with pytest.raises(Invalid):
        await world.create_freely(binding("late", USER, "alice"))
    with pytest.raises(Invalid):
        await begin_session(world, "late", "alice")
    with pytest.raises(Invalid):
        await make_key(world, "late", user="alice")
    with pytest.raises(Invalid):
        await make_group(world, "late", "alice")


async def test_a_grant_that_somebody_holds_back_holds_back_the_name(world: World) -> None:
    await make_role(world)
    await make_user(world)
    made = binding("held", USER, "alice")
    made.metadata.finalizers = ["example.com/audit"]
    made = await world.create(made)
    await world.delete(await world.get(User, "alice"))
    await world.settle(user.build)
    assert (await world.get(User, "alice")).deleting, "else the next alice would have the grant"
    await world.remove_finalizers(await world.get(RoleBinding, "held", None))
    await world.settle(user.build)
    assert await world.find(User, "alice") is None


async def test_a_group_of_the_same_name_keeps_its_grants(world: World) -> None:
    await make_role(world)
    await make_user(world, "ops")
    await make_group(world, "ops")
    await bind(world, "group", GROUP, "ops")
    await world.delete(await world.get(User, "ops"))
    await world.settle(user.build, rolebinding.build)
    assert await world.find(User, "ops") is None
    assert (await world.get(RoleBinding, "group", None)).is_true("Ready")


async def test_killed_between_any_two_calls_and_run_again_it_ends_the_same() -> None:
    async def scenario(world: World) -> None:
        await make_domain(world)
        await make_all(world)
        await world.settle(user.build)
        await world.delete(await world.get(User, "alice"))
        await world.settle(user.build, apikey.build)
        assert await world.find(User, "alice") is None
        assert len((await world.admin.list(RoleBinding)).items) == 2
        assert all(g.spec.members == ["bob"] for g in (await world.admin.list(Group)).items)

    assert await sweep(scenario) > 20


async def test_a_deleted_user_is_taken_out_of_key_policies_so_that_the_next_of_the_name_is_in_none(
    world: World,
) -> None:
    await make_project(world)
    for name in ("alice", "bob"):
        await make_user(world, name)
    rules = [
        {"operations": ["encrypt"], "subjects": [{"kind": "User", "name": "alice"}]},
        {"operations": ["decrypt"], "subjects": [{"kind": "User", "name": "bob"}, {"kind": "User", "name": "alice"}]},
    ]
    for name, policy in (("both", rules), ("hers", rules[:1]), ("open", None)):
        wire = {} if policy is None else {"policy": policy}
        await world.create(Key.new(name, KeySpec.from_wire(wire), project=PROJECT))
    await world.settle(user.build)
    await world.admin.delete((await world.get(User, "alice")).ref)
    await world.settle(user.build)
    found = {key.metadata.name: key.spec.policy for key in (await world.admin.list(Key)).items}
    assert found["open"] is None
    assert found["hers"] == []  # nobody, which is not the same as everybody
    [rule] = found["both"] or []
    assert [subject.name for subject in rule.subjects] == ["bob"]
    await make_user(world)  # another one
    assert policy_subjects(await world.admin.get(Key, "both", PROJECT), "decrypt") == {Ref("User", None, "bob")}
