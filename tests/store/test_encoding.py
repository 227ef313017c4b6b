"""Bytes are spliced, never decoded: exact for whatever strings the objects hold, converted when old."""

import dataclasses
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tests.store.objects import NETWORK
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.store.encoding import build_value, head_of, takes_of, to_json, with_revision

NASTY = st.sampled_from(
    ['","actor":{', '"metadata":{', ',"actor":{"subject":"x"}}', '","schemaVersion":9', '\\"', "é\u2028"]
)
texts = st.text(max_size=20) | NASTY
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, json_values, max_size=4)


def body_of(definition: KindDefinition, metadata: dict[str, Any], spec: Any, status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "vcstack.io/v1",
        "kind": definition.kind,
        "metadata": {"name": "web", **metadata},
        "spec": spec,
        "status": status,
    }


def encode(definition: KindDefinition, body: dict[str, Any], managed: bytes, actor: dict[str, str]) -> bytes:
    return build_value(definition, orjson.dumps(body), managed, orjson.dumps(actor))


def renamed(metadata: dict[str, Any]) -> dict[str, Any]:
    return {f"x{k}": v for k, v in metadata.items()}


@given(objects, json_values, json_values, texts, texts, st.booleans(), st.integers(1, 3), st.integers(1, 2**60))
def test_what_is_stored_comes_out_exactly(
    metadata: dict[str, Any],
    spec: Any,
    status: Any,
    subject: str,
    manager: str,
    managed: bool,
    version: int,
    revision: int,
) -> None:
    definition = dataclasses.replace(NETWORK, schema_version=version)
    body = body_of(definition, renamed(metadata), spec, status)
    actor = {"subject": subject, "manager": manager, "time": "now"}
    value = encode(definition, body, b'[{"manager":"m"}]' if managed else b"", actor)
    stored = orjson.loads(value)
    assert stored.pop("actor") == actor
    assert stored.pop("schemaVersion", 1) == version
    found = orjson.loads(to_json(definition, value, revision))
    assert found["metadata"].pop("resourceVersion") == str(revision)
    assert found == stored
    if managed:
        assert found["metadata"].pop("managedFields") == [{"manager": "m"}]
    assert found == body
    assert value.startswith(head_of("Network"))


@given(objects, st.integers(1, 10**12), st.integers(1, 10**12))
def test_the_version_of_json_can_be_replaced(metadata: dict[str, Any], first: int, second: int) -> None:
    body = body_of(NETWORK, renamed(metadata), {}, {})
    value = encode(NETWORK, body, b"", {"subject": "a", "manager": "b", "time": "c"})
    assert with_revision(NETWORK, to_json(NETWORK, value, first), second) == to_json(NETWORK, value, second)


def test_older_schemas_are_converted_step_by_step() -> None:
    def to_2(wire: dict[str, Any]) -> dict[str, Any]:
        return {**wire, "spec": {"mtu": wire["spec"]["size"]}}

    def to_3(wire: dict[str, Any]) -> dict[str, Any]:
        return {**wire, "spec": {"mtuBytes": wire["spec"]["mtu"]}}

    actor = {"subject": "a", "manager": "b", "time": "c"}
    newest = dataclasses.replace(NETWORK, schema_version=3, conversions={1: to_2, 2: to_3})
    for version, spec in ((1, {"size": 1400}), (2, {"mtu": 1400}), (3, {"mtuBytes": 1400})):
        old = dataclasses.replace(NETWORK, schema_version=version)
        value = encode(old, body_of(old, {}, spec, {}), b"", actor)
        json = to_json(newest, value, 7)
        assert orjson.loads(json)["spec"] == {"mtuBytes": 1400}
        assert orjson.loads(json)["metadata"]["resourceVersion"] == "7"
        assert "schemaVersion" not in orjson.loads(json)
        assert json.startswith(head_of("Network") + b'"resourceVersion":"7"')


def test_values_written_in_another_order_are_read_too() -> None:
    value = orjson.dumps({"metadata": {"name": "web"}, "kind": "Network", "spec": {}, "actor": {"subject": "x"}})
    json = to_json(NETWORK, value, 5)
    assert orjson.loads(json) == {
        "apiVersion": "vcstack.io/v1",
        "kind": "Network",
        "metadata": {"resourceVersion": "5", "name": "web"},
        "spec": {},
    }
    assert orjson.loads(with_revision(NETWORK, json, 6))["metadata"]["resourceVersion"] == "6"


@given(objects, json_values, texts)
def test_what_an_object_takes_is_stored_beside_it_and_comes_out_with_nothing_else(
    metadata: dict[str, Any], spec: Any, subject: str
) -> None:
    instances = get_kind("Instance")
    body = orjson.dumps(body_of(instances, renamed(metadata), spec, {"message": '},"takes":{'}))
    actor = orjson.dumps({"subject": subject, "manager": '},"takes":'})
    takes = b'{"vcpus":4}'
    value = build_value(instances, body, b"", actor, takes)
    assert takes_of(instances, value) == takes
    without = build_value(instances, body, b"", actor)
    assert takes_of(instances, without) == b""
    assert to_json(instances, value, 7) == to_json(instances, without, 7)
