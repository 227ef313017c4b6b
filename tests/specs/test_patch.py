"""Merge patches."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcstack.specs.patch import create_merge_patch, merge_patch, merge_status_patch

RFC_7386_EXAMPLES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7386_EXAMPLES)
def test_the_examples_of_rfc_7386_hold(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_patching_twice_is_patching_once(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


without_null = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), without_null, max_size=3)


@given(objects, objects)
def test_the_patch_between_two_objects_makes_one_of_the_other(old: Any, new: Any) -> None:
    assert merge_patch(old, create_merge_patch(old, new)) == new
    assert create_merge_patch(old, old) == {}


def condition(type_: str, status: str, time: str, **more: str) -> dict[str, str]:
    return {"type": type_, "status": status, "lastTransitionTime": time, **more}


def test_conditions_merge_by_type() -> None:
    status = {"host": "h1", "conditions": [condition("A", "True", "1"), condition("B", "True", "1")]}
    merged = merge_status_patch(status, {"conditions": [condition("B", "False", "2"), condition("C", "True", "2")]})
    assert merged == {
        "host": "h1",
        "conditions": [condition("A", "True", "1"), condition("B", "False", "2"), condition("C", "True", "2")],
    }


def test_the_transition_time_stays_while_the_status_does() -> None:
    merged = merge_status_patch(
        {"conditions": [condition("A", "True", "1", reason="X")]},
        {"conditions": [condition("A", "True", "2", reason="Y")]},
    )
    assert merged == {"conditions": [condition("A", "True", "1", reason="Y")]}


def test_other_status_fields_are_merge_patched() -> None:
    assert merge_status_patch({"a": 1, "b": {"c": 1, "d": 2}}, {"a": None, "b": {"c": 3}}) == {"b": {"c": 3, "d": 2}}


def test_conditions_that_are_null_are_removed() -> None:
    assert merge_status_patch({"conditions": [condition("A", "True", "1")]}, {"conditions": None}) == {}


@pytest.mark.parametrize("wrong", ["x", None, {}, {"type": 1}, {"type": {}}])
def test_a_malformed_condition_is_kept_for_the_schema_to_refuse(wrong: Any) -> None:
    assert wrong in merge_status_patch({}, {"conditions": [wrong]})["conditions"]
