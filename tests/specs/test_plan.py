"""What differs, and what the change takes."""

from typing import Any

from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.securitygroup import SecurityGroup
from vcstack.specs.model import Change
from vcstack.specs.plan import FieldChange, compare, worst


def instance(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web-1"}, "spec": spec}


def rules(*items: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"rules": list(items)}}


def test_equal_objects_have_no_differences() -> None:
    assert compare(Instance, instance(flavor="tiny"), instance(flavor="tiny")) == []


def test_each_difference_says_what_it_takes() -> None:
    old = instance(flavor="tiny", image="a", placement={"zone": "x"})
    new = instance(flavor="big", image="b", placement={"zone": "y"}, powerState="Stopped")
    assert compare(Instance, old, new) == [
        FieldChange("spec.flavor", Change.REBOOT, "tiny", "big"),
        FieldChange("spec.image", Change.RECREATE, "a", "b"),
        FieldChange("spec.powerState", Change.LIVE, None, "Stopped"),
        FieldChange("spec.placement.zone", Change.IMMUTABLE, "x", "y"),
    ]
    assert worst(compare(Instance, old, new)) is Change.IMMUTABLE
    assert worst([]) is Change.LIVE


def test_items_are_matched_by_name() -> None:
    old = rules({"name": "ssh", "portMin": 22}, {"name": "web", "portMin": 80})
    new = rules({"name": "web", "portMin": 81}, {"name": "dns", "portMin": 53})
    assert compare(SecurityGroup, old, new) == [
        FieldChange("spec.rules[ssh]", Change.LIVE, {"name": "ssh", "portMin": 22}, None),
        FieldChange("spec.rules[web].portMin", Change.LIVE, 80, 81),
        FieldChange("spec.rules[dns]", Change.LIVE, None, {"name": "dns", "portMin": 53}),
    ]


def test_another_order_of_items_is_a_change_of_the_list() -> None:
    old, new = rules({"name": "a"}, {"name": "b"}), rules({"name": "b"}, {"name": "a"})
    assert compare(SecurityGroup, old, new) == [FieldChange("spec.rules", Change.LIVE, ["a", "b"], ["b", "a"])]


def test_lists_that_cannot_be_matched_are_one_value() -> None:
    old, new = rules({"name": "a"}, {"name": "a"}), rules({"name": "b"})
    assert [c.path for c in compare(SecurityGroup, old, new)] == ["spec.rules"]


def test_spelling_out_a_default_is_live_even_where_changes_are_immutable() -> None:
    old, new = instance(), instance(placement={}, sshKeys=[])
    assert {c.change for c in compare(Instance, old, new)} == {Change.LIVE}


def test_a_default_object_is_compared_field_by_field() -> None:
    assert compare(Instance, instance(), instance(placement={"zone": "a"})) == [
        FieldChange("spec.placement.zone", Change.IMMUTABLE, None, "a")
    ]


def test_labels_and_annotations_count_and_keys_with_dots_stand_in_brackets() -> None:
    old = {"metadata": {"labels": {"app": "a"}}, "spec": {}}
    new = {"metadata": {"labels": {"app": "b"}, "annotations": {"x.io/y": "z"}}, "spec": {}}
    assert [c.path for c in compare(Instance, old, new)] == ["metadata.labels.app", "metadata.annotations[x.io/y]"]


def test_a_new_object_differs_in_all_that_it_gives() -> None:
    assert [c.path for c in compare(Instance, None, instance(flavor="tiny", image="a"))] == [
        "spec.flavor",
        "spec.image",
    ]


def test_unknown_fields_are_shown_as_they_are() -> None:
    assert compare(Instance, instance(), instance(flavour=1)) == [FieldChange("spec.flavour", Change.LIVE, None, 1)]
