"""Server-side apply: Kubernetes' semantics on our kinds."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcstack.specs.apply import apply, track_update
from vcstack.specs.errors import Conflict, Invalid
from vcstack.specs.fieldset import from_fields_v1, to_fields_v1
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.securitygroup import SecurityGroup

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
Wire = dict[str, Any]


def instance(spec: Wire, **metadata: Any) -> Wire:
    return {
        "apiVersion": "vcstack.io/v1",
        "kind": "Instance",
        "metadata": {"project": "demo", "name": "web-1", **metadata},
        "spec": spec,
    }


def group(*rules: Wire, **metadata: Any) -> Wire:
    return {
        "apiVersion": "vcstack.io/v1",
        "kind": "SecurityGroup",
        "metadata": {"project": "demo", "name": "sg", **metadata},
        "spec": {"rules": list(rules)},
    }


def rule(name: str, **fields: Any) -> Wire:
    return {"name": name, "direction": "Ingress", **fields}


def put(live: Wire | None, applied: Wire, manager: str = "alice", *, force: bool = False, now: datetime = NOW) -> Wire:
    model = SecurityGroup if applied.get("kind") == "SecurityGroup" else Instance
    return apply(model, live, applied, manager=manager, force=force, now=now)


def patched(live: Wire, manager: str, change: Any, now: datetime = NOW) -> Wire:
    new = deepcopy(live)
    change(new)
    model = SecurityGroup if live["kind"] == "SecurityGroup" else Instance
    new["metadata"]["managedFields"] = track_update(model, live, new, manager=manager, now=now)
    return new


def owners(wire: Wire) -> dict[str, Any]:
    return {f"{e['manager']}/{e['operation']}": e["fields"] for e in wire["metadata"]["managedFields"]}


def test_a_new_object_is_what_was_applied_with_its_fields_owned() -> None:
    wire = put(None, instance({"flavor": "tiny", "image": "tiny"}, labels={"app": "web"}))
    assert wire["spec"] == {"flavor": "tiny", "image": "tiny"}
    assert owners(wire) == {
        "alice/Apply": {"f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {"f:flavor": {}, "f:image": {}}}
    }


def test_applying_the_same_again_changes_nothing() -> None:
    manifest = group(rule("ssh", portMin=22), rule("web"), labels={"a": "b"}, annotations={"x.io/y": "z"})
    once = put(None, manifest)
    assert put(once, manifest, now=LATER) == once


def test_another_value_in_a_field_of_another_manager_is_a_conflict_that_names_both() -> None:
    live = put(None, instance({"flavor": "tiny", "image": "tiny"}))
    with pytest.raises(Conflict) as caught:
        put(live, instance({"flavor": "big"}), "bob")
    [cause] = caught.value.causes
    assert cause.field == "spec.flavor"
    assert "alice" in cause.message


def test_force_takes_the_field_from_its_owner() -> None:
    live = put(None, instance({"flavor": "tiny", "image": "tiny"}))
    taken = put(live, instance({"flavor": "big"}), "bob", force=True)
    assert taken["spec"] == {"flavor": "big", "image": "tiny"}
    assert owners(taken) == {"alice/Apply": {"f:spec": {"f:image": {}}}, "bob/Apply": {"f:spec": {"f:flavor": {}}}}


def test_equal_values_are_owned_together_and_stay_when_one_owner_leaves() -> None:
    live = put(None, instance({"flavor": "tiny", "image": "tiny"}))
    both = put(live, instance({"flavor": "tiny"}), "bob")
    left = put(both, instance({"image": "tiny"}))
    assert left["spec"] == {"flavor": "tiny", "image": "tiny"}
    gone = put(left, instance({}), "bob")
    assert gone["spec"] == {"image": "tiny"}
    assert "bob/Apply" not in owners(gone)


def test_a_field_that_is_no_longer_applied_is_removed_with_its_empty_container() -> None:
    live = put(None, instance({"flavor": "tiny", "placement": {"zone": "a"}}, labels={"app": "web"}))
    less = put(live, instance({"flavor": "tiny"}))
    assert less["spec"] == {"flavor": "tiny"}
    assert "labels" not in less["metadata"]


def test_items_of_keyed_lists_are_merged_by_name() -> None:
    live = put(None, group(rule("ssh", portMin=22)))
    both = put(live, group(rule("web", portMin=80)), "bob")
    assert {r["name"] for r in both["spec"]["rules"]} == {"ssh", "web"}
    changed = put(both, group(rule("web", portMin=81)), "bob")
    assert {r["name"]: r["portMin"] for r in changed["spec"]["rules"]} == {"ssh": 22, "web": 81}
    left = put(changed, group(), "bob")
    assert left["spec"]["rules"] == [rule("ssh", portMin=22)]


def test_an_item_in_which_somebody_else_owns_a_field_stays_with_that_field() -> None:
    live = put(None, group(rule("ssh", portMin=22)))
    edited = patched(live, "bob", lambda w: w["spec"]["rules"][0].update(portMax=23))
    left = put(edited, group())
    assert left["spec"]["rules"] == [{"name": "ssh", "portMax": 23}]


def test_keyed_items_come_in_the_order_of_the_manifest() -> None:
    live = put(None, group(rule("a"), rule("b"), rule("c")))
    turned = put(live, group(rule("c"), rule("a"), rule("b")))
    assert [r["name"] for r in turned["spec"]["rules"]] == ["c", "a", "b"]


def test_atomic_lists_are_one_value() -> None:
    live = put(None, instance({"sshKeys": ["a"]}))
    with pytest.raises(Conflict):
        put(live, instance({"sshKeys": ["b"]}), "bob")
    assert put(live, instance({"sshKeys": ["b"]}))["spec"]["sshKeys"] == ["b"]


def test_an_update_takes_what_it_changes_and_leaves_the_rest() -> None:
    live = put(None, instance({"flavor": "tiny", "image": "tiny"}))
    edited = patched(live, "bob", lambda w: w["spec"].update(flavor="big"))
    assert owners(edited) == {"alice/Apply": {"f:spec": {"f:image": {}}}, "bob/Update": {"f:spec": {"f:flavor": {}}}}
    with pytest.raises(Conflict, match="bob"):
        put(edited, instance({"flavor": "tiny", "image": "tiny"}))


def test_a_managers_own_update_is_no_conflict_and_is_taken_over_by_its_apply() -> None:
    live = put(None, instance({"flavor": "tiny"}))
    edited = patched(live, "alice", lambda w: w["spec"].update(flavor="big", powerState="Stopped"))
    again = put(edited, instance({"flavor": "tiny"}))
    assert again["spec"] == {"flavor": "tiny", "powerState": "Stopped"}
    assert owners(again)["alice/Update"] == {"f:spec": {"f:powerState": {}}}


def test_an_empty_container_owns_itself_and_removes_nothing_of_others() -> None:
    live = put(None, instance({"placement": {"zone": "a"}}))
    both = put(live, instance({"placement": {}}), "bob")
    assert both["spec"] == {"placement": {"zone": "a"}}
    assert put(both, instance({}))["spec"] == {"placement": {}}


def test_filling_an_empty_container_does_not_remove_what_is_in_it() -> None:
    live = put(None, instance({"placement": {}}))
    assert put(live, instance({"placement": {"zone": "a"}}))["spec"] == {"placement": {"zone": "a"}}


def test_null_counts_as_absent() -> None:
    live = put(None, instance({"flavor": "tiny", "userData": None}))
    assert live["spec"] == {"flavor": "tiny"}


def test_finalizers_are_a_set_shared_by_managers() -> None:
    live = put(None, instance({}, finalizers=["a.io/x"]))
    both = put(live, instance({}, finalizers=["b.io/y"]), "bob")
    assert sorted(both["metadata"]["finalizers"]) == ["a.io/x", "b.io/y"]
    assert owners(both)["bob/Apply"]["f:metadata"] == {"f:finalizers": {'v:"b.io/y"': {}}}
    assert put(both, instance({}))["metadata"]["finalizers"] == ["b.io/y"]


def test_status_and_system_metadata_of_a_manifest_are_left_alone() -> None:
    live = {**put(None, instance({})), "status": {"host": "h1"}}
    live["metadata"]["uid"] = "i-1"
    again = put(live, {**instance({}, uid="i-2", generation=7), "status": {"host": "h2"}})
    assert again["status"] == {"host": "h1"}
    assert again["metadata"]["uid"] == "i-1"


def test_unknown_fields_are_carried_along_for_the_schema_to_refuse() -> None:
    live = put(None, instance({"flavour": "tiny"}, lables={}))
    again = put(live, {**instance({}), "specs": {}})
    assert live["spec"] == {"flavour": "tiny"}
    assert live["metadata"]["lables"] == {}
    assert again["specs"] == {}


@pytest.mark.parametrize("rules", [[{"direction": "Ingress"}], ["x"], [{"name": 1}], [rule("a"), rule("a")]])
def test_keyed_items_without_a_key_or_twice_are_invalid_and_name_the_field(rules: list[Any]) -> None:
    with pytest.raises(Invalid) as caught:
        put(None, group(*rules))
    assert caught.value.causes[0].field.startswith("spec.rules[")


@pytest.mark.parametrize("metadata", [None, [], "x", 1])
def test_metadata_that_is_no_object_is_invalid(metadata: Any) -> None:
    with pytest.raises(Invalid):
        put(None, {"kind": "Instance", "metadata": metadata, "spec": {}})


def test_status_writes_are_tracked_by_condition_under_their_subresource() -> None:
    old = instance({})
    condition = {"type": "Running", "status": "True", "lastTransitionTime": "2026-11-01T00:00:00Z"}
    new = {**old, "status": {"host": "h1", "conditions": [condition]}}
    listed = track_update(Instance, old, new, manager="agent", now=NOW, subresource="status")
    assert listed[0]["subresource"] == "status"
    items = listed[0]["fields"]["f:status"]["f:conditions"]['k:{"type":"Running"}']
    assert set(items) == {".", "f:type", "f:status", "f:lastTransitionTime"}


def test_a_write_that_changes_nothing_keeps_the_managed_fields() -> None:
    live = put(None, instance({"flavor": "tiny"}))
    assert track_update(Instance, live, live, manager="bob", now=LATER) == live["metadata"]["managedFields"]


names = st.sampled_from(["a", "b", "c", "d"])
rules = st.lists(
    st.fixed_dictionaries(
        {"name": names, "direction": st.sampled_from(["Ingress", "Egress"])},
        optional={"portMin": st.integers(1, 3), "protocol": st.sampled_from(["TCP", "UDP"])},
    ),
    max_size=4,
    unique_by=lambda r: r["name"],
)
labels = st.dictionaries(names, st.sampled_from(["1", "2"]), max_size=3)


@st.composite
def manifests(draw: st.DrawFn) -> Wire:
    manifest = group(*draw(rules))
    if draw(st.booleans()):
        manifest["metadata"]["labels"] = draw(labels)
    return manifest


def settled(wire: Wire) -> Wire:
    """The object without what depends on order and time."""
    spec = sorted(wire["spec"].get("rules", []), key=lambda r: r["name"])
    managed = {k: from_fields_v1(v) for k, v in owners(wire).items()}
    return {"rules": spec, "labels": wire["metadata"].get("labels"), "managed": managed}


@given(st.lists(st.tuples(st.sampled_from(["alice", "bob"]), manifests()), min_size=1, max_size=5))
def test_every_apply_is_idempotent(steps: list[tuple[str, Wire]]) -> None:
    live: Wire | None = None
    for manager, manifest in steps:
        live = put(live, manifest, manager, force=True)
        assert put(live, manifest, manager, now=LATER) == live


@given(st.lists(st.tuples(st.sampled_from(["alice", "bob"]), manifests()), min_size=1, max_size=5))
def test_after_an_apply_the_object_has_all_that_was_applied(steps: list[tuple[str, Wire]]) -> None:
    live: Wire | None = None
    for manager, manifest in steps:
        live = put(live, manifest, manager, force=True)
        found = {r["name"]: r for r in live["spec"]["rules"]} if live["spec"].get("rules") else {}
        for wanted in manifest["spec"]["rules"]:
            assert wanted.items() <= found[wanted["name"]].items()


@given(manifests(), manifests(), st.permutations([0, 1]))
def test_managers_with_disjoint_fields_commute(one: Wire, two: Wire, order: list[int]) -> None:
    for r in two["spec"]["rules"]:
        r["name"] += "-two"
    if "labels" in two["metadata"]:
        two["metadata"]["labels"] = {f"{k}-two": v for k, v in two["metadata"]["labels"].items()}
    steps = [("alice", one), ("bob", two)]
    forward, turned = None, None
    for manager, manifest in steps:
        forward = put(forward, manifest, manager)
    for index in order:
        turned = put(turned, steps[index][1], steps[index][0])
    assert forward is not None
    assert turned is not None
    assert settled(forward) == settled(turned)


@given(manifests(), manifests(), manifests())
def test_what_the_only_manager_drops_is_gone(first: Wire, second: Wire, other: Wire) -> None:
    live = put(put(None, first), second)
    fresh = put(None, second)
    assert settled(live) == settled(fresh)


@given(manifests(), manifests())
def test_what_a_manager_drops_leaves_the_others_untouched(mine: Wire, others: Wire) -> None:
    live = put(put(None, others, "bob"), mine, "alice", force=True)
    owned = owners(live).get("bob/Apply", {})
    left = put(live, group(), "alice")
    assert from_fields_v1(owned) <= from_fields_v1(owners(left).get("bob/Apply", {}))
    bobs = {p[2] for p in from_fields_v1(owned) if p[:2] == ("f:spec", "f:rules") and len(p) > 2}
    found = {f'k:{{"name":"{r["name"]}"}}' for r in left["spec"].get("rules", [])}
    assert found == bobs


@given(st.sets(st.lists(st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"']), min_size=1, max_size=4).map(tuple)))
def test_fields_v1_is_read_back_as_written(paths: set[tuple[str, ...]]) -> None:
    assert from_fields_v1(to_fields_v1(paths)) == paths
