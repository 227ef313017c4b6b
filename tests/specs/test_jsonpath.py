"""JSONPath templates."""

import pytest

from vcstack.specs.errors import BadRequest
from vcstack.specs.jsonpath import find_all, render_template

WIRE = {
    "kind": "InstanceList",
    "items": [
        {
            "metadata": {"name": "a", "labels": {"x.io/y": "1"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "B", "status": "False"}], "n": 3},
        },
        {"metadata": {"name": "b"}},
    ],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.kind}", "InstanceList"),
        ("{.items[*].metadata.name}", "a b"),
        ("{.items[0].status.n}", "3"),
        ("{.items[-1:].metadata.name}", "b"),
        ("{..name}", "a b"),
        ('{.items[0].status.conditions[?(@.type=="Ready")].status}', "True"),
        ("{.items[0].metadata.labels.x\\.io/y}", "1"),
        ("{.items[1].metadata}", '{"name":"b"}'),
        ("{.nothing}", ""),
        ('{range .items[*]}{.metadata.name}{"\\t"}{.status.n}{"\\n"}{end}', "a\t3\nb\t\n"),
        ("{range .items[*]}<{range .status.conditions[*]}{.type};{end}>{end}", "<Ready;B;><>"),
        ("{range .items[*]}{$.kind}/{.metadata.name} {end}", "InstanceList/a InstanceList/b "),
        ("name: {.items[0].metadata.name}!", "name: a!"),
    ],
)
def test_templates_are_rendered(template: str, text: str) -> None:
    assert render_template(template, WIRE) == text


@pytest.mark.parametrize("template", ["{.a", "}", "{.items[}", "{range .items[*]}", "{end}"])
def test_templates_that_cannot_be_read_are_refused(template: str) -> None:
    with pytest.raises(BadRequest, match="jsonpath"):
        render_template(template, WIRE)


def test_expressions_may_be_written_with_or_without_braces() -> None:
    assert find_all("{.items[0].status.n}", WIRE) == find_all(".items[0].status.n", WIRE) == [3]
