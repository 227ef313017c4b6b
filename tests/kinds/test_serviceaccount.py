"""Service accounts: go with their keys and grants, wherever those are, and with their project."""

from tests.fakes.world import PROJECT, World
from tests.kinds.identities import ACCOUNT, bind, make_account, make_key, make_project, make_role
from vcstack.controllers import apikey, project, rolebinding, serviceaccount
from vcstack.specs.kinds.apikey import APIKey
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.rolebinding import RoleBinding
from vcstack.specs.kinds.securitygroup import SecurityGroup
from vcstack.specs.kinds.serviceaccount import ServiceAccount


async def make_two(world: World) -> None:
    """The account ci in two projects, with a key, a grant at home and one outside."""
    await make_role(world)
    for name in (PROJECT, "other"):
        await make_project(world, name)
        await make_account(world, "ci", name)
        await make_key(world, "ci", name, service_account="ci")
        await bind(world, "home", ACCOUNT, "ci", project=name)
        await bind(world, f"cloud-{name}", ACCOUNT, "ci", home=name)


async def test_an_account_becomes_ready_and_a_second_run_writes_nothing(world: World) -> None:
    await make_two(world)
    await world.settle(serviceaccount.build)
    assert (await world.get(ServiceAccount, "ci")).is_true("Ready")
    assert await world.writes_of(serviceaccount.build) == 0


async def test_a_deleted_account_takes_along_keys_and_grants_but_not_those_of_its_namesake(world: World) -> None:
    await make_two(world)
    await world.delete(await world.get(ServiceAccount, "ci"))
    await world.settle(serviceaccount.build, apikey.build)
    assert await world.find(ServiceAccount, "ci") is None
    left = [(b.metadata.project, b.metadata.name) for b in (await world.admin.list(RoleBinding)).items]
    assert left == [(None, "cloud-other"), ("other", "home")]
    assert [k.metadata.project for k in (await world.admin.list(APIKey)).items] == ["other"]


async def test_a_deleted_project_takes_along_accounts_keys_and_grants(world: World) -> None:
    await make_two(world)
    builds = (project.build, serviceaccount.build, apikey.build, rolebinding.build)
    await world.settle(*builds)
    await world.delete(await world.get(Project, PROJECT))
    await world.settle(*builds)
    await world.remove_finalizers(await world.get(SecurityGroup, "default"))
    await world.settle(*builds)
    assert await world.find(Project, PROJECT) is None
    left = [(b.metadata.project, b.metadata.name) for b in (await world.admin.list(RoleBinding)).items]
    assert left == [(None, "cloud-other"), ("other", "home")]
