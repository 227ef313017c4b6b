"""Secrets: accepted, complete for their type, kept while named, readable where they should be only."""

from typing import Any

import pytest

from tests.fakes.world import PROJECT, World
from tests.fixtures.api import SYSTEM, Api, bind, create_samples, error_of
from tests.fixtures.samples import sample
from vcstack.controllers import secret
from vcstack.runtime.users import DELETABLE
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.secret import Secret, SecretKey, SecretSpec, SecretType
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


async def test_a_secret_that_an_instance_names_stays_until_it_does_no_more(world: World) -> None:
    await world.create_basics()
    made = await make(world, data={"script": "#!/bin/sh"})
    instance = await world.create_instance("web-1", user_data_secret=SecretKey(name="db", key="script"))
    await world.delete(made)
    await world.settle(secret.build)
    held = (await world.get(Secret, "db")).find_condition(DELETABLE)
    assert held is not None
    assert "Instance demo/web-1" in held.message
    instance = await world.get(Instance, "web-1")
    instance.spec.user_data_secret = None
    await world.admin.update(instance)
    await world.settle(secret.build)
    assert await world.find(Secret, "db") is None


async def test_an_instance_has_user_data_of_one_place(world: World) -> None:
    await world.create_basics()
    await make(world, data={"script": "#!/bin/sh"})
    with pytest.raises(Invalid):
        await world.create_instance("w", user_data="#!/bin/sh", user_data_secret=SecretKey(name="db", key="script"))


PATH = "/api/v1/projects/demo/secrets/db/value"


async def test_the_api_tells_the_values_by_their_subresource_only(api: Api) -> None:
    await create_samples(api, "Project", "Secret")
    async with api.raw() as client:
        assert "correct horse" not in (await client.get(PATH.removesuffix("/value"))).text
        assert (await client.get(PATH)).json() == {"values": {"password": "correct horse"}}
        assert (await client.get(PATH, params={"key": "password"})).json() == {"values": {"password": "correct horse"}}
        missing = error_of(await client.get(PATH, params={"key": "other"}))
        assert missing["code"] == 404
        assert "password" in missing["message"]
        assert error_of(await client.post(PATH))["code"] == 405
        assert error_of(await client.get(PATH.replace("/db/", "/none/")))["code"] == 404


async def test_a_host_reads_the_values_that_its_instances_name_and_no_others(api: Api) -> None:
    await create_samples(api, "Project", "Flavor", "Image", "Secret", "SSHKey", "Network", "SecurityGroup")
    more = {"spec": {"data": {"other": "not yours"}}}
    await api.store.merge_patch(get_kind("Secret"), "demo", "db", more, actor=SYSTEM)
    settings = await api.register("h1")
    wire = sample("Instance")
    wire["spec"]["userDataSecret"] = {"name": "db", "key": "password"}
    async with api.raw(settings) as host:
        assert error_of(await host.get(PATH))["code"] == 403
        await api.store.create(get_kind("Instance"), wire, actor=SYSTEM)
        assert error_of(await host.get(PATH))["code"] == 403
        await bind(api, "Instance", "web-1", "h1")
        assert (await host.get(PATH)).json()["values"] == {"password": "correct horse"}
        assert (await host.get(PATH, params={"key": "password"})).status_code == 200
        hidden = error_of(await host.get(PATH, params={"key": "other"}))
        assert (hidden["code"], "it has password" in hidden["message"]) == (404, True)
