"""Role bindings: what they name is told when it is missing, and they go at their time."""

from typing import Any

import pytest

from tests.fakes.world import PROJECT, World, sweep
from tests.kinds.identities import (
    ACCOUNT,
    GROUP,
    USER,
    bind,
    binding,
    hours,
    make_account,
    make_domain,
    make_group,
    make_project,
    make_role,
    make_user,
)
from vcstack.controllers import role, rolebinding
from vcstack.runtime.reconciler import Result
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.rolebinding import RoleBinding, RoleBindingSpec


async def make_world(world: World) -> None:
    await make_project(world)
    await make_role(world)
    await make_user(world)
    await make_group(world, "ops", "alice")
    await make_account(world)


async def test_bindings_of_all_subjects_and_scopes_become_ready(world: World) -> None:
    await make_world(world)
    await make_domain(world)
    await bind(world, "a", USER, "alice")
    await bind(world, "b", GROUP, "ops", domain="acme")
    await bind(world, "c", ACCOUNT, "ci", project=PROJECT)
    await bind(world, "d", ACCOUNT, "ci", home=PROJECT)
    await world.settle(rolebinding.build)
    assert all(b.is_true("Ready") for b in (await world.admin.list(RoleBinding)).items)
    assert await world.writes_of(rolebinding.build) == 0


@pytest.mark.parametrize(
    ("name", "project", "spec", "field"),
    [
        ("b", PROJECT, {"domain": "acme"}, "spec.domain"),
        ("b", None, {"domain": "nowhere"}, "spec.domain"),
        ("b", None, {"home": PROJECT}, "spec.subject.project"),
        ("b", None, {"kind": ACCOUNT}, "spec.subject.project"),
        ("b", None, {"subject": "nobody"}, "spec.subject.name"),
        ("b", PROJECT, {"kind": ACCOUNT, "subject": "nobody"}, "spec.subject.name"),
        ("b", PROJECT, {"kind": GROUP, "subject": "alice"}, "spec.subject.name"),
    ],
)
async def test_what_makes_no_sense_is_refused_even_where_references_may_be_missing(
    world: World, name: str, project: str | None, spec: dict[str, Any], field: str
) -> None:
    await make_world(world)
    await make_domain(world)
    kind, subject = spec.pop("kind", USER), spec.pop("subject", "alice")
    with pytest.raises(Invalid) as refused:
        await world.create_freely(binding(name, kind, subject, project=project, **spec))
    assert field in [c.field for c in refused.value.causes]


async def test_a_missing_role_is_refused_or_told_until_it_is_there(world: World) -> None:
    await make_user(world)
    with pytest.raises(Invalid) as refused:
        await bind(world, "b", USER, "alice")
    assert refused.value.causes[0].field == "spec.role"
    await world.create_freely(binding("b", USER, "alice"))
    await world.settle(rolebinding.build)
    told = (await world.get(RoleBinding, "b", None)).find_condition("Accepted")
    assert told is not None
    assert (told.status, told.reason) == ("False", "RoleNotFound")
    assert "Role seer" in told.message
    await make_role(world)
    await world.settle(rolebinding.build)
    assert (await world.get(RoleBinding, "b", None)).is_true("Ready")


async def test_only_its_expiry_can_be_changed(world: World) -> None:
    await make_world(world)
    await make_user(world, "bob")
    await make_role(world, "other")
    made = await bind(world, "b", USER, "alice", expires_at=hours(1))
    made.spec.expires_at = hours(2)
    made = await world.admin.update(made)
    assert made.spec.expires_at == hours(2)
    for change in ({"role": "other"}, {"subject": made.spec.subject.model_copy(update={"name": "bob"})}):
        with pytest.raises(Invalid) as refused:
            await world.admin.update(made.model_copy(update={"spec": made.spec.model_copy(update=change)}))
        assert refused.value.causes[0].reason == "FieldValueImmutable"


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_an_expiry_that_cannot_be_shown_in_utc_is_refused(text: str) -> None:
    """It could be stored, and then no policy on bindings could be evaluated any more, of whosoever."""
    wire = {"subject": {"kind": "User", "name": "alice"}, "role": "seer", "expiresAt": text}
    with pytest.raises(ValueError, match="expiresAt"):
        RoleBindingSpec.from_wire(wire)
    shown = RoleBindingSpec.from_wire({**wire, "expiresAt": "9999-12-31T23:59:59Z"}).to_wire()
    assert shown["expiresAt"] == "9999-12-31T23:59:59Z"


@pytest.mark.parametrize("text", ["2026-11-01T12:00:00", "tomorrow", "2026-11-01", 1, "2026-13-01T00:00:00Z"])
def test_an_expiry_without_an_offset_or_that_is_none_is_refused(text: object) -> None:
    wire = {"subject": {"kind": "User", "name": "alice"}, "role": "seer", "expiresAt": text}
    with pytest.raises(ValueError, match="expiresAt"):
        RoleBindingSpec.from_wire(wire)


async def test_a_binding_goes_at_its_time_and_not_before(world: World) -> None:
    await make_world(world)
    made = await bind(world, "b", USER, "alice", expires_at=hours(1))
    await bind(world, "stays", USER, "alice")
    await world.settle(rolebinding.build)
    reconciler = world.controller(rolebinding.build).reconciler
    assert await reconciler.reconcile(await world.get(RoleBinding, "b", None), made.ref) == Result(3600.0)
    world.clock.skip(3599)
    await world.settle(rolebinding.build)
    assert await world.find(RoleBinding, "b", None) is not None
    world.clock.skip(1)
    await world.settle(rolebinding.build)
    assert [b.metadata.name for b in (await world.admin.list(RoleBinding)).items] == ["stays"]


async def test_killed_between_any_two_calls_and_run_again_it_ends_the_same() -> None:
    async def scenario(world: World) -> None:
        await make_world(world)
        await bind(world, "b", USER, "alice", expires_at=hours(1))
        await bind(world, "stays", USER, "alice")
        await world.settle(rolebinding.build, role.build)
        world.clock.skip(3600)
        await world.settle(rolebinding.build, role.build)
        left = (await world.admin.list(RoleBinding)).items
        assert [(b.metadata.name, b.is_true("Ready")) for b in left] == [("stays", True)]

    assert await sweep(scenario) > 3
