"""Projects: given a default group, and emptied in order before they go."""

import pytest

from tests.fakes.world import PROJECT, World, sweep
from tests.kinds.identities import make_project
from vcstack.controllers import flavor, project
from vcstack.controllers.project import build_default_group, contained_kinds
from vcstack.runtime.users import DELETABLE
from vcstack.specs.errors import Invalid, QuotaExceeded
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.quota import Quota
from vcstack.specs.kinds.securitygroup import SecurityGroup
from vcstack.specs.kinds.setting import Setting, SettingSpec
from vcstack.specs.kinds.subnet import Subnet


async def test_a_project_becomes_ready_with_its_default_group(world: World) -> None:
    await world.create(Project.new(PROJECT, ProjectSpec()))
    await world.settle(project.build)
    assert (await world.get(Project, PROJECT)).is_true("Ready")
    group = await world.get(SecurityGroup, "default")
    directions = {r.direction: r for r in group.spec.rules}
    assert directions["Egress"].remote_cidr is None
    assert directions["Egress"].remote_security_group is None
    assert directions["Ingress"].remote_security_group == "default"


async def test_a_second_run_writes_nothing(world: World) -> None:
    await world.create(Project.new(PROJECT, ProjectSpec()))
    await world.settle(project.build)
    assert await world.writes_of(project.build) == 0


async def test_a_deleted_default_group_is_made_anew(world: World) -> None:
    await world.create(Project.new(PROJECT, ProjectSpec()))
    await world.settle(project.build)
    group = await world.get(SecurityGroup, "default")
    await world.delete(group)
    await world.settle(project.build)
    held = (await world.get(Project, PROJECT)).find_condition("DefaultsCreated")
    assert held is not None
    assert held.reason == "DefaultGroupDeleting"
    await world.remove_finalizers(await world.get(SecurityGroup, "default"))
    await world.settle(project.build)
    assert (await world.get(SecurityGroup, "default")).uid != group.uid
    assert (await world.get(Project, PROJECT)).is_true("Ready")


async def test_a_default_group_that_the_user_changed_is_left_as_it_is(world: World) -> None:
    await world.create(Project.new(PROJECT, ProjectSpec()))
    await world.settle(project.build)
    group = await world.get(SecurityGroup, "default")
    group.spec.rules = []
    await world.admin.update(group)
    await world.settle(project.build)
    assert (await world.get(SecurityGroup, "default")).spec.rules == []


async def test_a_deleted_project_is_emptied_from_the_top_and_names_what_is_left(world: World) -> None:
    await world.create_basics()
    await world.settle(project.build)
    await world.create_instance("web-1")
    await world.delete(await world.get(Project, PROJECT))
    await world.settle(project.build)
    assert (await world.get(Instance, "web-1")).deleting
    assert not (await world.get(Network, "web")).deleting, "the instance still uses it"
    held = (await world.get(Project, PROJECT)).find_condition(DELETABLE)
    assert held is not None
    assert "Instance demo/web-1" in held.message

    for kind, name in ((Instance, "web-1"), (Subnet, "web-v4"), (SecurityGroup, "default"), (Network, "web")):
        found: Instance | Subnet | SecurityGroup | Network = await world.get(kind, name)
        assert found.deleting
        await world.remove_finalizers(found)
        await world.settle(project.build)
    assert await world.find(Project, PROJECT) is None


async def test_other_projects_and_global_objects_are_untouched(world: World) -> None:
    await world.create_basics()
    await world.create(Project.new("other", ProjectSpec()))
    await world.settle(project.build, flavor.build)
    await world.delete(await world.get(Project, "other"))
    await world.settle(project.build)
    await world.remove_finalizers(await world.get(SecurityGroup, "default", "other"))
    await world.settle(project.build)
    assert await world.find(Project, "other") is None
    assert not (await world.get(SecurityGroup, "default")).deleting
    assert not (await world.get(Network, "web")).deleting


def test_all_kinds_of_projects_are_emptied_users_before_what_they_use() -> None:
    order = [d.kind for d in contained_kinds()]
    assert {"Instance", "Port", "Network", "Subnet", "SecurityGroup", "Image", "SSHKey", "Task"} <= set(order)
    assert order.index("Instance") < order.index("Port") < order.index("Subnet") < order.index("Network")


def test_the_default_group_fits_its_own_rules() -> None:
    assert build_default_group("demo").metadata.project == "demo"


async def test_killed_between_any_two_calls_and_run_again_it_ends_the_same() -> None:
    async def scenario(world: World) -> None:
        await world.create(Project.new(PROJECT, ProjectSpec()))
        await world.settle(project.build)
        assert (await world.get(Project, PROJECT)).is_true("Ready")
        await world.delete(await world.get(Project, PROJECT))
        await world.settle(project.build)
        await world.remove_finalizers(await world.get(SecurityGroup, "default"))
        await world.settle(project.build)
        assert await world.find(Project, PROJECT) is None

    assert await sweep(scenario) > 10


async def set_value(world: World, setting: str, value: str, domain: str | None = None) -> None:
    spec = SettingSpec(setting=setting, value=value, domain=domain)
    await world.admin.create(Setting.new(setting.lower().replace(".", "-"), spec))


@pytest.mark.parametrize(("value", "names"), [("Outgoing", ["egress"]), ("Open", ["egress", "ingress"])])
async def test_what_the_default_group_lets_in_is_a_setting(world: World, value: str, names: list[str]) -> None:
    await set_value(world, "network.defaultGroup", value)
    await make_project(world)
    await world.settle(project.build)
    group = await world.admin.get(SecurityGroup, "default", "demo")
    assert [rule.name for rule in group.spec.rules] == names


async def test_where_no_default_group_is_wished_none_is_made_or_taken_away(world: World) -> None:
    await make_project(world, "before")
    await world.settle(project.build)
    await set_value(world, "network.defaultGroup", "None")
    await make_project(world)
    await world.settle(project.build)
    assert {g.metadata.project for g in (await world.admin.list(SecurityGroup)).items} == {"before"}
    assert (await world.admin.get(Project, "demo")).is_true("DefaultsCreated")


async def test_a_new_project_gets_the_default_quota_once_in_its_own_transaction(world: World) -> None:
    await make_project(world, "before")
    await world.settle(project.build)
    await set_value(world, "projects.defaultQuota", "networks=1, instances=3, vcpus=6")
    made = await make_project(world)
    [quota] = (await world.admin.list(Quota)).items
    assert quota.metadata.resource_version == made.metadata.resource_version
    await world.admin.create(Network.new("one", NetworkSpec(), project="demo"))
    with pytest.raises(QuotaExceeded):
        await world.admin.create(Network.new("two", NetworkSpec(), project="demo"))
    await world.settle(project.build)
    [quota] = (await world.admin.list(Quota)).items
    assert (quota.metadata.project, quota.metadata.name) == ("demo", "default")
    assert quota.spec.limits == {"networks": 1, "instances": 3, "vcpus": 6}
    await world.admin.delete(quota.ref)
    await world.settle(project.build)
    assert (await world.admin.list(Quota)).items == []


@pytest.mark.parametrize("value", ["instances", "instances=-1", "instances=1,instances=2", "nothing=3", "instances=1;"])
async def test_a_default_quota_that_cannot_be_is_refused(world: World, value: str) -> None:
    with pytest.raises(Invalid):
        await set_value(world, "projects.defaultQuota", value)
