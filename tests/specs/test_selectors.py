"""Label and field selectors."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcstack.specs.errors import BadRequest
from vcstack.specs.kinds.event import Event
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.selectors import build_matcher, parse_field_selector, parse_label_selector

LABELS = {"app": "web", "tier": "front", "vcstack.io/zone": "a"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("  ", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier=front", True),
        ("app=db", False),
        ("app!=db", True),
        ("app!=web", False),
        ("none!=x", True),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db,x)", True),
        ("app notin (web)", False),
        ("none notin (a)", True),
        ("none in (a)", False),
        ("app", True),
        ("none", False),
        ("!none", True),
        ("!app", False),
        ("vcstack.io/zone=a,app in (web,db),!none", True),
        ("app=", False),
        ("none=", False),
    ],
)
def test_label_selectors_match_as_in_kubernetes(text: str, matches: bool) -> None:
    assert parse_label_selector(text).matches(LABELS) is matches


@pytest.mark.parametrize("text", ["a=b=c", "=x", "a in b", "a in (b", "a,,b", ",", "a b", "a=$", "!", "-a", "a~b"])
def test_label_selectors_that_cannot_be_read_are_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(BadRequest, match="label selector"):
        parse_label_selector(text)


WIRE = {"metadata": {"name": "x", "labels": LABELS}, "spec": {"n": 3, "b": True}, "status": {"host": "h1"}}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("status.host=h1", True),
        ("status.host==h1,metadata.name!=y", True),
        ("status.host!=h1", False),
        ("spec.n=3", True),
        ("spec.b=true", True),
        ("status.none=", True),
        ("status.none=x", False),
    ],
)
def test_field_selectors_match_the_wire_value(text: str, matches: bool) -> None:
    assert parse_field_selector(text).matches(WIRE) is matches


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("spec.networkInterfaces[*].network=db", True),
        ("spec.networkInterfaces[*].network=x", False),
        ("spec.networkInterfaces[*].network!=x", True),
        ("spec.networkInterfaces[*].network!=web", False),
        ("spec.networkInterfaces[*].securityGroups[*]=ssh", True),
        ("spec.networkInterfaces[*].securityGroups[*]=http", False),
        ("spec.networkInterfaces[*].port=", True),
        ("metadata.ownerReferences[i-1].uid=i-1", True),
        ("metadata.ownerReferences[i-2].uid=i-2", False),
    ],
)
def test_a_path_through_a_list_asks_for_any_of_its_items(text: str, matches: bool) -> None:
    cards = [{"name": "a", "network": "web", "securityGroups": ["default", "ssh"]}, {"name": "b", "network": "db"}]
    owners = [{"kind": "Instance", "name": "x", "uid": "i-1"}]
    wire = {"metadata": {"ownerReferences": owners}, "spec": {"networkInterfaces": cards}}
    assert parse_field_selector(text, Instance).matches(wire) is matches


def test_a_field_that_the_kind_does_not_have_is_refused_with_a_suggestion() -> None:
    with pytest.raises(BadRequest, match=r"did you mean status\.host\?"):
        parse_field_selector("status.hots=h1", Instance)
    with pytest.raises(BadRequest, match="no single value"):
        parse_field_selector("spec.networkInterfaces=x", Instance)
    parse_field_selector("spec.regarding.name=web-1,metadata.name!=x", Event)


@pytest.mark.parametrize("text", ["status.host", "=x", "a=b=c", "a=b,", "a>b"])
def test_field_selectors_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="field selector"):
        parse_field_selector(text)


def test_the_value_that_a_field_must_have_is_known() -> None:
    selector = parse_field_selector("status.host=h1,metadata.name!=x")
    assert selector.required_value("status.host") == "h1"
    assert selector.required_value("metadata.name") is None
    assert selector.required_value("spec.n") is None


def test_both_selectors_together_make_one_matcher() -> None:
    matcher = build_matcher(parse_label_selector("app=web"), parse_field_selector("status.host=h1"))
    assert matcher(WIRE)
    assert not matcher({**WIRE, "metadata": {}})


def test_selectors_that_are_too_long_are_refused() -> None:
    with pytest.raises(BadRequest, match="longer than"):
        parse_label_selector("a" * 5000)


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for parse in (parse_label_selector, parse_field_selector):
        with contextlib.suppress(BadRequest):
            parse(text).matches({})  # type: ignore[operator]
