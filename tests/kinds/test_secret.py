"""Secrets: accepted, complete for their type, kept while named, readable where they should be only."""

from typing import Any

import pytest

from tests.fakes.world import PROJECT, World
from vcstack.controllers import secret
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.secret import Secret, SecretSpec, SecretType
from vcstack.specs.registry import get_kind
from vcstack.specs.sensitive import is_stand_in

PRIVATE = "-----BEGIN PRIVATE KEY-----"


async def make(world: World, name: str = "db", **spec: Any) -> Secret:
    if await world.find(Project, PROJECT, None) is None:
        await world.create(Project.new(PROJECT, ProjectSpec()))
    return await world.create(Secret.new(name, SecretSpec(**spec), project=PROJECT))


async def test_a_secret_becomes_ready_and_a_second_run_writes_nothing(world: World) -> None:
    await make(world, data={"password": "correct horse"})
    await world.settle(secret.build)
    made = await world.get(Secret, "db")
    assert made.is_true("Ready")
    assert is_stand_in(made.spec.data["password"])
    assert await world.writes_of(secret.build) == 0


@pytest.mark.parametrize(
    ("type_", "data", "missing"),
    [
        (SecretType.BASIC_AUTH, {"username": "app"}, ["spec.data.password"]),
        (SecretType.SSH_PRIVATE_KEY, {}, ["spec.data.privateKey"]),
        (SecretType.TLS, {"key": PRIVATE}, ["spec.data.certificate", "spec.data.privateKey"]),
    ],
)
async def test_a_type_says_which_values_it_needs(
    world: World, type_: SecretType, data: dict[str, str], missing: list[str]
) -> None:
    with pytest.raises(Invalid) as refused:
        await make(world, type=type_, data=data)
    assert [c.field for c in refused.value.causes] == missing
    assert PRIVATE not in refused.value.message


async def test_its_type_never_changes(world: World) -> None:
    made = await make(world, data={"username": "app", "password": "x"})
    made.spec.type = SecretType.BASIC_AUTH
    with pytest.raises(Invalid):
        await world.admin.update(made)


async def test_a_controller_that_writes_it_back_keeps_its_values(world: World) -> None:
    made = await make(world, data={"password": "correct horse"})
    made.metadata.labels["seen"] = "yes"
    await world.admin.update(made)
    found = await world.store.reveal(get_kind("Secret"), PROJECT, "db")
    assert found["spec"]["data"] == {"password": "correct horse"}


async def test_a_deleted_secret_that_nobody_names_is_gone(world: World) -> None:
    await world.delete(await make(world))
    await world.settle(secret.build)
    assert await world.find(Secret, "db") is None
