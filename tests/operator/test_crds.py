"""The definitions are what Kubernetes takes: structural, complete, and without a place for secrets."""

from collections.abc import Iterator
from typing import Any

import pytest

from vcstack.operator.crds import build_crd, build_roles, custom_kinds, to_json_path
from vcstack.operator.schemas import SECRET_KEY_REF
from vcstack.specs.introspect import fields_of
from vcstack.specs.registry import Scope, get_kind, load_kinds

TYPELESS = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string")
KINDS = [d.kind for d in custom_kinds()]


def schema_of(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = build_crd(get_kind(kind))["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walk(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from walk(schema[key], f"{path}[]")


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_structural(kind: str) -> None:
    for path, schema in walk(schema_of(kind)):
        assert "type" in schema or any(schema.get(key) for key in TYPELESS), path
        known = {"type", "description", "properties", "items", "additionalProperties", "required", "format", "enum"}
        known |= {"pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "minProperties"}
        known |= {"maxProperties", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", *TYPELESS}
        assert schema.keys() <= known, path
        assert schema.get("format") in (None, "int64", "date-time"), path
        assert not ("properties" in schema and "additionalProperties" in schema), path
        assert set(schema.get("required", ())) <= schema.get("properties", {}).keys(), path


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_has_every_field_of_spec_and_status(kind: str) -> None:
    model = get_kind(kind).model
    for section in ("spec", "status"):
        inner = fields_of(model)[section].shape.model
        assert inner is not None
        assert fields_of(inner).keys() <= schema_of(kind)["properties"][section]["properties"].keys()


def test_no_kind_has_a_status_field_where_the_operator_writes_its_own() -> None:
    for definition in custom_kinds():
        status = fields_of(definition.model)["status"].shape.model
        assert status is not None
        assert "vcstack" not in fields_of(status)


def test_no_text_of_a_secret_fits_anywhere() -> None:
    value = schema_of("Secret")["properties"]["spec"]["properties"]["data"]["additionalProperties"]
    assert value["type"] == "object"
    assert value["required"] == [SECRET_KEY_REF]


def test_status_refuses_nothing_that_may_be_observed() -> None:
    for path, schema in walk(schema_of("Instance")["properties"]["status"]):
        if "conditions" not in path:
            assert not schema.keys() & {"enum", "pattern", "maxLength", "required", "maximum"}, path


def test_what_only_the_system_writes_has_no_definition() -> None:
    assert "Event" in load_kinds()
    assert not {"Event", "Session"} & set(KINDS)


def test_kinds_that_are_global_always_are_not_namespaced() -> None:
    for definition in custom_kinds():
        wanted = "Cluster" if definition.scope is Scope.GLOBAL else "Namespaced"
        assert build_crd(definition)["spec"]["scope"] == wanted


def test_paths_of_columns_are_those_of_kubectl() -> None:
    assert to_json_path("status.conditions[Ready].status") == '.status.conditions[?(@.type=="Ready")].status'
    assert to_json_path("status.addresses[*].address") == ".status.addresses[*].address"
    assert to_json_path("spec.rules[web].ports[0]") == '.spec.rules[?(@.name=="web")].ports[0]'


def test_the_operator_may_not_make_or_delete_custom_resources() -> None:
    cluster, own = build_roles()
    ours = [rule for rule in cluster["rules"] if rule["apiGroups"] == ["vcstack.io"]]
    assert {verb for rule in ours for verb in rule["verbs"]} == {"get", "list", "watch", "patch"}
    assert all("*" not in rule["verbs"] and "*" not in rule["resources"] for rule in cluster["rules"] + own["rules"])
    assert "secrets" not in own["rules"][0]["resources"]
