"""Reading YAML and JSON safely."""

import contextlib
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vcstack.specs.manifest import BODY_LIMITS, Limits, ManifestError, load_documents, load_json


def load(text: str | bytes, **limits: int) -> list[dict[str, Any]]:
    return load_documents(text, source="web.yaml", limits=Limits(**limits))


def test_documents_are_read_and_empty_ones_left_out() -> None:
    assert load("a: 1\n---\n---\n# nothing\n---\nb: [x, {c: d}]\n") == [{"a": 1}, {"b": ["x", {"c": "d"}]}]
    assert load("") == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("tRue", "tRue"),
        ("2026-11-01", "2026-11-01"),
        ("22:22:22", "22:22:22"),
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("0x10", 16),
        ("0o17", 15),
        ("017", 17),
        ("1_000", "1_000"),
        ("+5", 5),
        ("-3", -3),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("10.0.0.1", "10.0.0.1"),
        ("~", None),
        ("null", None),
        ("", None),
        ('"12"', "12"),
        ("!!str 12", "12"),
        ("!!int '12'", 12),
        ("!!float 1", 1.0),
        ("=", "="),
        ("|\n  x\n  y\n", "x\ny\n"),
    ],
)
def test_scalars_are_of_the_core_schema(text: str, value: Any) -> None:
    [document] = load(f"a: {text}")
    assert document["a"] == value
    assert type(document["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "web.yaml:3:1", "occurs twice"),
        ("a:\n- 1: x\n", "web.yaml:2:3", "no string"),
        ("a: &x [*x]", "web.yaml:1:8", "part of"),
        ("a: *x", "web.yaml:1:4", "no anchor"),
        ("a: !!python/object/apply:os.system [x]", "web.yaml:1:4", "not allowed"),
        ("a: !x y", "web.yaml:1:4", "not allowed"),
        ("a: !!binary aGk=", "web.yaml:1:4", "not allowed"),
        ("a: .inf", "web.yaml:1:4", "quotes"),
        ("a: 1e999", "web.yaml:1:4", "too large"),
        ("a: 99999999999999999999", "web.yaml:1:4", "64 bits"),
        ("a: " + "9" * 5000, "web.yaml:1:4", "64 bits"),
        ("a: !!int x", "web.yaml:1:4", "is no int"),
        ("a:\n\t- b", "web.yaml:2:1", "cannot start"),
        ("a: [1", "web.yaml:2:1", "did not find"),
        ("- a\n", "web.yaml:1", "must be an object"),
        ("<<: 1\n", "web.yaml:1:1", "<<"),
        ("? [a]\n: b", "web.yaml:1:3", "no string"),
    ],
)
def test_faults_name_place_and_reason(text: str, place: str, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load(text)
    assert caught.value.message.startswith(f"{place}: ")
    assert says in caught.value.message


def test_control_characters_and_bad_encodings_are_refused() -> None:
    for raw in ("a: \x01", b"a: \xff", "a: \ud800"):
        with pytest.raises(ManifestError):
            load(raw)


def test_merge_keys_are_followed() -> None:
    assert load("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n") == [{"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}]


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(ManifestError, match="aliases counted in full"):
        load("\n".join(lines))


def test_aliases_cannot_hide_depth() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 60)]
    with pytest.raises(ManifestError, match="nested deeper"):
        load("\n".join(lines))


@pytest.mark.parametrize(
    ("text", "limits", "says"),
    [
        ("a: " + "[" * 40 + "]" * 40, {}, "nested deeper"),
        ("a: {" * 4 + "}" * 4, {"max_depth": 3}, "nested deeper"),
        ("a: xxxxxxx", {"max_bytes": 5}, "at most 5"),
        ("---\na: 1\n---\nb: 1\n", {"max_documents": 1}, "more than 1 documents"),
        ("a: [1,2,3]", {"max_nodes": 3}, "more than 3 values"),
        ("a: &a 1\nb: *a\nc: *a", {"max_aliases": 1}, "more than 1 aliases"),
    ],
)
def test_limits_hold(text: str, limits: dict[str, int], says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        load(text, **limits)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ManifestError):
        load(text)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_what_json_writes_is_read_back(value: dict[str, Any]) -> None:
    raw = json.dumps(value).encode()
    assert load_json(raw) == value


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_what_yaml_writes_is_read_back(value: dict[str, Any]) -> None:
    text = yaml.safe_dump(value, allow_unicode=False, default_style='"')
    assert load(text) == [value]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"a" :1,"a":2}',
        b'{"a":[{"b":":"},{"c":1,"c":2}]}',
        b'{"a":NaN}',
        b'{"a":"\\ud800"}',
        b'{"a":1e999}',
        b"[" * 5000,
        b'{"a":99999999999999999999999}',
        b"[]x",
        b"",
        b"\xff",
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b" " * (BODY_LIMITS.max_bytes + 1),
    ],
)
def test_json_that_is_not_strict_is_refused(raw: bytes) -> None:
    with pytest.raises(ManifestError):
        load_json(raw)
