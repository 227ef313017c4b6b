"""Refusals name the field as people wrote it and say what to write instead."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.store.objects import FLAVOR, IMAGE, INSTANCE, NETWORK, SUBNET, TINY, causes, create, make_project, wire
from vcstack.specs.errors import Invalid
from vcstack.specs.registry import KindDefinition, get_kind, load_kinds
from vcstack.store.store import Store
from vcstack.store.wording import _PATTERNS, MAX_CAUSES

INTERFACE: dict[str, Any] = {"name": "eth0", "network": "web"}


def spec(**changes: Any) -> dict[str, Any]:
    return {"flavor": "tiny", "image": "tiny", **changes}


@pytest.mark.parametrize(
    ("definition", "body", "field", "words"),
    [
        (INSTANCE, wire("a", spec(flavour="x")), "spec.flavour", "did you mean flavor?"),
        (INSTANCE, wire("a", spec(power_state="x")), "spec.power_state", "did you mean powerState?"),
        (
            INSTANCE,
            wire("a", spec(networkInterfaces=[{**INTERFACE, "adress": "x"}])),
            "spec.networkInterfaces[0].adress",
            "did you mean address?",
        ),
        (INSTANCE, wire("a", spec(zzz=1)), "spec.zzz", "known are flavor, image, powerState"),
        (INSTANCE, wire("a", {"flavor": "tiny"}), "spec.image", "is required"),
        (INSTANCE, wire("A_b", spec()), "metadata.name", "is no DNS label"),
        (INSTANCE, wire("a", spec(flavor="x/y")), "spec.flavor", "is no DNS label"),
        (INSTANCE, wire("a", spec(flavor="a" * 64)), "spec.flavor", "at most 63"),
        (INSTANCE, wire("a", spec(powerState="running")), "spec.powerState", "use 'Running', 'Stopped' or 'Paused'"),
        (INSTANCE, wire("a", spec(userData="a\0b")), "spec.userData", "NUL"),
        (INSTANCE, wire("a", spec(networkInterfaces={})), "spec.networkInterfaces", "must be a list, not an object"),
        (INSTANCE, wire("a", spec(sshKeys=["ok", 5])), "spec.sshKeys[1]", "must be a string, not the number 5"),
        (INSTANCE, wire("a", spec(), labels={"a b": "x"}), "metadata.labels.a b", "is no label key"),
        (INSTANCE, wire("a", spec(), labels={"a": "x y"}), "metadata.labels.a", "is no label value"),
        (INSTANCE, wire("a", spec(), lables={}, unknown=1), "metadata.unknown", "is no known field"),
        (FLAVOR, wire("a", {**TINY, "vcpus": "2"}, project=None), "spec.vcpus", "whole number, not the string '2'"),
        (FLAVOR, wire("a", {**TINY, "vcpus": 1.5}, project=None), "spec.vcpus", "whole number, not the number 1.5"),
        (FLAVOR, wire("a", {**TINY, "vcpus": True}, project=None), "spec.vcpus", "not true or false"),
        (FLAVOR, wire("a", {**TINY, "vcpus": 0}, project=None), "spec.vcpus", "must be at least 1, not 0"),
        (FLAVOR, wire("a", {**TINY, "vcpus": 999}, project=None), "spec.vcpus", "must be at most 256, not 999"),
        (NETWORK, wire("a", {"mtuBytes": "big"}), "spec.mtuBytes", "whole number"),
        (SUBNET, wire("a", {"network": "web", "cidr": "10.0.0.1/24"}), "spec.cidr", "write 10.0.0.0/24"),
        (SUBNET, wire("a", {"network": "web", "cidr": "10.0.0.0/31"}), "spec.cidr", "from /8 to /30"),
        (
            IMAGE,
            wire("a", {"format": "QCOW2", "digest": "md5:1"}, project=None),
            "spec.digest",
            "64 lower-case hexadecimal",
        ),
        (IMAGE, wire("a", {"format": "QCOW2", "description": "\x1b[2J"}, project=None), "spec.description", "control"),
    ],
)
async def test_the_cause_names_field_and_fix(
    memory_store: Store, definition: KindDefinition, body: dict[str, Any], field: str, words: str
) -> None:
    await make_project(memory_store)
    with pytest.raises(Invalid) as error:
        await create(memory_store, definition, body)
    assert words in causes(error)[field]
    assert error.value.details.kind == definition.kind


SETTING, POLICY = get_kind("Setting"), get_kind("Policy")


@pytest.mark.parametrize("value", ["x" * 5000, ["a"], 1.5, {"a": 1}], ids=["long", "list", "fraction", "object"])
async def test_a_value_of_several_types_is_refused_once(memory_store: Store, value: Any) -> None:
    with pytest.raises(Invalid) as error:
        await create(memory_store, SETTING, wire("a", {"setting": "login.notice", "value": value}, project=None))
    found = "must be true or false, a whole number, or a text of at most 4096 characters"
    assert causes(error) == {"spec.value": found}


async def test_a_kind_in_small_letters_is_told_how_it_is_written(memory_store: Store) -> None:
    spec = {"matches": {"kinds": ["instances"]}, "requireLabels": []}
    with pytest.raises(Invalid) as error:
        await create(memory_store, POLICY, wire("a", spec, project=None))
    found = "'instances' is no kind: write it as manifests do, e.g. Instance, or * for all"
    assert causes(error) == {"spec.matches.kinds[0]": found}


async def test_too_few_is_not_too_long(memory_store: Store) -> None:
    with pytest.raises(Invalid) as error:
        await create(memory_store, get_kind("Quota"), wire("a", {"limits": {}}, project=None))
    [cause] = error.value.causes
    assert (cause.reason, cause.message) == ("FieldValueInvalid", "must have at least 1 item, not 0")


def patterns_of(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for name, below in schema.items():
            if name != "x-vcstack-depends-on":  # a hint for editors; settings say themselves what they take
                yield from patterns_of(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from patterns_of(below)


def test_no_pattern_is_shown_to_people_instead_of_words() -> None:
    found = {pattern for d in load_kinds().values() for pattern in patterns_of(d.model.model_json_schema())}
    assert found
    assert found <= set(_PATTERNS)


async def test_top_level_fields_that_do_not_exist_are_refused(memory_store: Store) -> None:
    with pytest.raises(Invalid) as error:
        await create(memory_store, FLAVOR, {**wire("a", TINY, project=None), "specs": {}, "actor": {"subject": "x"}})
    assert causes(error)["specs"] == "is no known field; did you mean spec?"
    assert "actor" in causes(error)


async def test_all_faults_are_told_at_once_but_not_without_end(memory_store: Store) -> None:
    await make_project(memory_store)
    many = {f"unknown{i}": 1 for i in range(100)}
    with pytest.raises(Invalid) as error:
        await create(memory_store, INSTANCE, wire("a", {**many}))
    assert len(error.value.causes) == MAX_CAUSES
    assert f"(and {MAX_CAUSES - 1} more)" in error.value.message


async def test_long_values_are_not_echoed_in_full(memory_store: Store) -> None:
    await make_project(memory_store)
    with pytest.raises(Invalid) as error:
        await create(memory_store, INSTANCE, wire("a", spec(flavor="X" * 60_000)))
    assert len(error.value.message) < 500


async def test_a_misspelt_field_comes_before_what_it_explains(memory_store: Store) -> None:
    await make_project(memory_store)
    with pytest.raises(Invalid) as error:
        await create(memory_store, INSTANCE, wire("a", {"flavour": "tiny", "image": "tiny"}))
    assert list(causes(error)) == ["spec.flavour", "spec.flavor"]
    assert "spec.flavour: is no known field; did you mean flavor? (and 1 more)" in str(error.value)
