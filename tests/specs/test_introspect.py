"""What the models say of their fields."""

import pytest

from vcstack.specs.introspect import (
    FoundReference,
    change_of,
    fields_of,
    in_order,
    iter_references,
    iter_wire_references,
    join_path,
    list_key_of,
    refers_to,
    shapes_along,
    split_path,
)
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.kinds.instance import Instance, InstanceSpec, NetworkInterface, Placement
from vcstack.specs.kinds.securitygroup import SecurityGroup, SecurityGroupRule
from vcstack.specs.kinds.subnet import AllocationRange
from vcstack.specs.kinds.task import Task
from vcstack.specs.meta import Condition, ObjectMeta, OwnerReference
from vcstack.specs.model import Change
from vcstack.specs.registry import load_kinds

SPEC = InstanceSpec(
    flavor="tiny",
    image="debian",
    network_interfaces=[
        NetworkInterface(name="eth0", network="web", security_groups=["ssh", "http"]),
        NetworkInterface(name="eth1", port="p1"),
    ],
    ssh_keys=["me"],
    placement=Placement(host="h1"),
)
EXPECTED = [
    FoundReference("spec.flavor", "Flavor", "tiny"),
    FoundReference("spec.image", "Image", "debian"),
    FoundReference("spec.networkInterfaces[0].network", "Network", "web"),
    FoundReference("spec.networkInterfaces[0].securityGroups[0]", "SecurityGroup", "ssh"),
    FoundReference("spec.networkInterfaces[0].securityGroups[1]", "SecurityGroup", "http"),
    FoundReference("spec.networkInterfaces[1].port", "Port", "p1"),
    FoundReference("spec.sshKeys[0]", "SSHKey", "me"),
    FoundReference("spec.placement.host", "Host", "h1"),
]


def test_references_are_found_with_their_paths() -> None:
    assert list(iter_references(Instance.new("web-1", SPEC, project="demo"))) == EXPECTED


def test_references_of_wire_objects_are_the_same() -> None:
    wire = Instance.new("web-1", SPEC, project="demo").to_wire()
    assert list(iter_wire_references(Instance, wire)) == EXPECTED


@pytest.mark.parametrize("spec", [None, [], "x", {"flavor": 1, "sshKeys": "me", "networkInterfaces": ["x", None]}])
def test_malformed_wire_objects_have_no_references(spec: object) -> None:
    assert list(iter_wire_references(Instance, {"spec": spec})) == []


def test_kinds_know_which_kinds_they_refer_to() -> None:
    network = {"Network", "Subnet", "SecurityGroup", "Port"}
    assert refers_to(Instance) == {"Flavor", "Image", "SSHKey", "Host", "Secret", *network}
    assert refers_to(SecurityGroup) == {"SecurityGroup"}


@pytest.mark.parametrize(
    ("model", "path", "change"),
    [
        (Instance, "spec.flavor", Change.REBOOT),
        (Instance, "spec.image", Change.RECREATE),
        (Instance, "spec.sshKeys[0]", Change.RECREATE),
        (Instance, "spec.placement.zone", Change.IMMUTABLE),
        (Instance, "spec.placement.hostSelector.disk", Change.IMMUTABLE),
        (Instance, "spec.networkInterfaces[eth0].network", Change.LIVE),
        (Instance, "metadata.labels[vcstack.io/x]", Change.LIVE),
        (Instance, "spec.nothing.here", Change.LIVE),
        (Flavor, "spec.vcpus", Change.IMMUTABLE),
        (Task, "spec.target.name", Change.IMMUTABLE),
    ],
)
def test_the_change_class_is_the_nearest_markers(model: type, path: str, change: Change) -> None:
    assert change_of(model, path) is change


def test_lists_are_keyed_by_what_tells_their_items_apart() -> None:
    assert list_key_of(Condition) == "type"
    assert list_key_of(OwnerReference) == "uid"
    assert list_key_of(SecurityGroupRule) == "name"
    assert list_key_of(AllocationRange) is None


def test_wire_names_defaults_and_shapes_are_known() -> None:
    fields = fields_of(InstanceSpec)
    assert fields["powerState"].attribute == "power_state"
    assert fields["powerState"].default == "Running"
    assert fields["placement"].default == {}
    assert fields["flavor"].default is None
    assert fields_of(ObjectMeta)["finalizers"].shape.unique


def test_paths_are_split_and_joined() -> None:
    path = join_path(join_path("metadata.labels", "vcstack.io/x"), "y")
    assert path == "metadata.labels[vcstack.io/x].y"
    assert split_path(path) == ["metadata", "labels", "vcstack.io/x", "y"]
    with pytest.raises(ValueError, match="no field path"):
        split_path("a[")


def test_the_shape_along_a_wrong_path_names_the_wrong_step() -> None:
    with pytest.raises(KeyError, match=r"spec\.flavour"):
        shapes_along(Instance, "spec.flavour.x")


def test_every_kind_can_be_walked() -> None:
    for definition in load_kinds().values():
        assert {"metadata", "spec", "status"} <= fields_of(definition.model).keys()
        refers_to(definition.model)


def test_fields_are_put_into_the_models_order() -> None:
    wire = {
        "spec": {"image": "debian", "flavor": "tiny", "networkInterfaces": [{"network": "web", "name": "eth0"}]},
        "metadata": {"labels": {"b": "1", "a": "2"}, "name": "web-1"},
        "other": 1,
        "kind": "Instance",
    }
    ordered = in_order(Instance, wire)
    assert ordered == wire
    assert list(ordered) == ["kind", "metadata", "spec", "other"]
    assert list(ordered["metadata"]) == ["name", "labels"]
    assert list(ordered["metadata"]["labels"]) == ["b", "a"]
    assert list(ordered["spec"]) == ["flavor", "image", "networkInterfaces"]
    assert list(ordered["spec"]["networkInterfaces"][0]) == ["name", "network"]
