"""Who uses an object: found from the references of all kinds."""

import pytest

from tests.fakes.world import PROJECT, World
from vcstack.runtime.errors import WaitingFor
from vcstack.runtime.users import DELETABLE, candidates_of, ensure_unused, find_users, name_some, read_users, user_kinds
from vcstack.specs.kinds.image import Image, ImageFormat, ImageSpec
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.port import Port, PortSpec
from vcstack.specs.kinds.securitygroup import (
    Direction,
    SecurityGroup,
    SecurityGroupRule,
    SecurityGroupSpec,
)
from vcstack.specs.resource import Ref


def test_user_kinds_follow_from_the_marks_on_fields() -> None:
    assert {k.KIND for k in user_kinds("Network")} == {"Instance", "Port", "Subnet"}
    assert {k.KIND for k in user_kinds("SecurityGroup")} == {"Instance", "Port", "SecurityGroup"}
    assert user_kinds("Task") == ()


async def both(world: World, ref: Ref) -> list[Ref]:
    """The answer of informers and of consistent reads, which have to agree."""
    find_users(world.informers, ref)
    world.informers.of(Image)
    await world.informers.relist()
    found = find_users(world.informers, ref)
    assert found == await read_users(world.admin, ref)
    return found


async def test_users_of_all_kinds_are_found(world: World) -> None:
    await world.create_basics()
    instance = await world.create_instance("web-1")
    port = await world.create(Port.new("p1", PortSpec(network="web"), project=PROJECT))
    users = await both(world, Ref("Network", PROJECT, "web"))
    assert users == [instance.ref, port.ref, Ref("Subnet", PROJECT, "web-v4")]
    assert await both(world, Ref("Network", PROJECT, "other")) == []


async def test_a_projects_own_image_shadows_the_public_one_of_its_name(world: World) -> None:
    await world.create_basics()
    public, own = Ref("Image", None, "tiny"), Ref("Image", PROJECT, "tiny")
    instance = await world.create_instance("web-1")
    assert await both(world, public) == [instance.ref]
    await world.create(Image.new("tiny", ImageSpec(format=ImageFormat.RAW), project=PROJECT))
    assert await both(world, public) == []
    assert await both(world, own) == [instance.ref]


async def test_an_object_does_not_hold_itself_and_two_that_go_do_not_hold_each_other(world: World) -> None:
    await world.create_basics()
    rule = SecurityGroupRule(name="in", direction=Direction.INGRESS, remote_security_group="a")
    await world.create(SecurityGroup.new("a", SecurityGroupSpec(rules=[rule]), project=PROJECT))
    other = await world.create(SecurityGroup.new("b", SecurityGroupSpec(rules=[rule]), project=PROJECT))
    ref = Ref("SecurityGroup", PROJECT, "a")
    assert await both(world, ref) == [other.ref]
    await world.delete(other)
    assert await both(world, ref) == []


async def test_a_user_that_the_informer_does_not_know_yet_still_holds(world: World) -> None:
    await world.create_basics()
    find_users(world.informers, Ref("Flavor", None, "tiny"))
    await world.informers.relist()
    await world.create_instance("web-1")
    flavor = (await world.admin.list(user_kinds("Flavor")[0])).items[0]
    assert isinstance(flavor, Instance)
    target = await world.admin.get(Image, "tiny")
    with pytest.raises(WaitingFor, match="Instance demo/web-1"):
        await ensure_unused(world.context, target)
    held = (await world.admin.get(Image, "tiny")).find_condition(DELETABLE)
    assert held is not None
    assert held.reason == "InUse"


async def test_references_without_a_project_stand_for_global_objects(world: World) -> None:
    await world.create_basics()
    instance = await world.create_instance("web-1")
    assert candidates_of(instance) == {
        Ref("Flavor", None, "tiny"),
        Ref("Image", PROJECT, "tiny"),
        Ref("Image", None, "tiny"),
        Ref("Network", PROJECT, "web"),
    }


def test_a_sentence_names_the_first_few() -> None:
    refs = [Ref("Instance", "demo", f"i{n}") for n in range(10)]
    assert name_some(refs[:2]) == "Instance demo/i0, Instance demo/i1"
    assert name_some(refs).endswith("Instance demo/i7 and 2 more")
