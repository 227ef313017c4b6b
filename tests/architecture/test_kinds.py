"""Every kind is complete: what the generic parts derive from it is there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vcstack.specs.introspect import refers_to
from vcstack.specs.model import Model
from vcstack.specs.registry import KindDefinition, load_kinds

ROOT = Path(__file__).parents[2]
KINDS = sorted(load_kinds().values(), key=lambda d: d.kind)
EVERY_KIND = pytest.mark.parametrize("definition", KINDS, ids=lambda d: d.kind)


def models_of(model: type[Model]) -> set[type[Model]]:
    found: set[type[Model]] = set()
    stack = [model]
    while stack:
        current = stack.pop()
        if current in found:
            continue
        found.add(current)
        for field in current.model_fields.values():
            stack += _models_in(field.annotation)
    return found


def _models_in(annotation: object) -> list[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models_in(a)]


@EVERY_KIND
def test_the_kind_has_a_test_of_its_own(definition: KindDefinition) -> None:
    if definition.system_only:
        pytest.skip("written by the runtime's event recorder, tested there")
    assert (ROOT / f"tests/kinds/test_{definition.singular}.py").exists()


@EVERY_KIND
def test_every_field_says_what_it_is(definition: KindDefinition) -> None:
    silent = [
        f"{model.__name__}.{name}"
        for model in models_of(definition.model)
        for name in model.model_fields
        if not model.describe_fields().get(name)
    ]
    assert not silent


@EVERY_KIND
def test_specs_have_no_floats(definition: KindDefinition) -> None:
    spec = definition.model.model_fields["spec"].annotation
    assert isinstance(spec, type)
    floats = [
        f"{model.__name__}.{name}"
        for model in models_of(spec)
        for name, field in model.model_fields.items()
        if "float" in str(field.annotation)
    ]
    assert not floats


@EVERY_KIND
def test_references_name_kinds_that_exist(definition: KindDefinition) -> None:
    assert set(refers_to(definition.model)) <= set(load_kinds())


@EVERY_KIND
def test_a_kind_that_others_refer_to_is_held_while_used(definition: KindDefinition) -> None:
    referred = {k for d in KINDS for k in refers_to(d.model)}
    if definition.kind in referred:
        assert definition.finalizers


@EVERY_KIND
def test_the_kind_has_an_example_and_a_reference_page(definition: KindDefinition) -> None:
    if definition.system_only:
        pytest.skip("nobody writes it")
    assert (ROOT / f"docs/reference/{definition.plural}.md").exists()
    examples = "\n".join(p.read_text() for p in (ROOT / "examples").rglob("*.yaml"))
    made_by_system = {"Host", "Port", "Image"}
    assert definition.kind in made_by_system or re.search(rf"^kind: {definition.kind}$", examples, re.MULTILINE)


def test_plurals_and_prefixes_are_unique() -> None:
    assert len({d.plural for d in KINDS}) == len({d.uid_prefix for d in KINDS}) == len(KINDS)


WRITTEN_BY_HOSTS = [
    (definition, section)
    for definition in KINDS
    for section in ("status", "spec")
    if (section == "status" and definition.node_path is not None) or (section == "spec" and definition.kind == "Event")
]


@pytest.mark.parametrize(("definition", "section"), WRITTEN_BY_HOSTS, ids=lambda x: getattr(x, "kind", x))
def test_what_hosts_write_is_bounded(definition: KindDefinition, section: str) -> None:
    """A host may be broken into: nothing that it writes grows without end."""
    model: Any = definition.model.model_fields[section].annotation
    schema = model.model_json_schema(by_alias=True)
    assert not list(_find_unbounded(schema, schema.get("$defs", {}), section))


def _find_unbounded(schema: dict[str, Any], defs: dict[str, Any], path: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = {**defs[schema["$ref"].rpartition("/")[2]], **schema}
    for choice in schema.get("anyOf", ()):
        yield from _find_unbounded(choice, defs, path)
    bounds = {"string": ("maxLength", "enum", "format"), "array": ("maxItems",)}.get(schema.get("type", ""), ())
    if bounds and not any(bound in schema for bound in bounds):
        yield path
    if "items" in schema:
        yield from _find_unbounded(schema["items"], defs, f"{path}[]")
    for name, field in schema.get("properties", {}).items():
        yield from _find_unbounded(field, defs, f"{path}.{name}")
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        if "maxProperties" not in schema:
            yield path
        yield from _find_unbounded(values, defs, f"{path}{{}}")
