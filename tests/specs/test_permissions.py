"""Access rules: what they allow, and that nobody can grant what he does not have."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vcstack.specs.permissions import (
    ADMIN,
    ANY,
    AUDITOR,
    BUILT_IN_NAMES,
    DOMAIN_ADMIN,
    MEMBER,
    PROJECT_ADMIN,
    READER,
    Permission,
    Rule,
    Verb,
    allows,
    built_in_roles,
    covers,
    expand,
)
from vcstack.specs.registry import get_kind, load_kinds

KINDS = ["Instance", "Port", "RoleBinding"]
SUBRESOURCES = ["", "log", "console"]
LABELS = [{}, {"env": "dev"}, {"env": "prod"}, {"env": "dev", "team": "a"}]
SELECTORS = ["", "env=dev", "env!=prod", "env=dev,team=a", "env", "!team", "env in (dev,prod)"]

rules = st.builds(
    Rule,
    verbs=st.lists(st.sampled_from([ANY, "get", "list", "create"]), min_size=1, max_size=2),
    kinds=st.lists(st.sampled_from([ANY, *KINDS]), min_size=1, max_size=2),
    subresources=st.none() | st.lists(st.sampled_from([ANY, "log", "console"]), min_size=1, max_size=2),
    label_selector=st.sampled_from(SELECTORS),
)
rule_lists = st.lists(rules, max_size=4)
ASKED = list(itertools.product(["get", "list", "create", "delete"], KINDS, SUBRESOURCES, LABELS))


def allowed(given_rules: list[Rule]) -> set[int]:
    return {i for i, (v, k, s, labels) in enumerate(ASKED) if allows(given_rules, v, get_kind(k), s, labels)}


@settings(max_examples=400, deadline=None)
@given(rule_lists, rule_lists)
def test_what_is_covered_is_had(have: list[Rule], want: list[Rule]) -> None:
    if not covers(have, want):
        assert allowed(want) <= allowed(have)


@settings(max_examples=100, deadline=None)
@given(rule_lists, rule_lists)
def test_rules_cover_themselves_and_more_rules_cover_no_less(have: list[Rule], more: list[Rule]) -> None:
    assert not covers(have, have)
    assert not covers([*more, *have], have)
    assert set(covers([*have, *more], more)) == set()


@settings(max_examples=200, deadline=None)
@given(rule_lists)
def test_what_is_expanded_is_what_is_allowed(given_rules: list[Rule]) -> None:
    found = expand(given_rules, lambda definition: ["log", "console"])
    for verb, kind, subresource in itertools.product(["get", "delete"], KINDS, SUBRESOURCES):
        always = allows(given_rules, verb, get_kind(kind), subresource)
        assert always == (Permission(verb, kind, subresource) in found)
        if not any(p[:3] == (verb, kind, subresource) for p in found):
            assert not any(allows(given_rules, verb, get_kind(kind), subresource, labels) for labels in LABELS)


@settings(max_examples=200, deadline=None)
@given(rule_lists)
def test_unknown_labels_never_allow_more_than_any_labels_would(given_rules: list[Rule]) -> None:
    for verb, kind, subresource in itertools.product(["get", "create"], KINDS, SUBRESOURCES):
        if allows(given_rules, verb, get_kind(kind), subresource):
            assert all(allows(given_rules, verb, get_kind(kind), subresource, labels) for labels in LABELS)


def test_a_rule_on_subresources_says_nothing_of_the_object_and_the_other_way_round() -> None:
    instance = get_kind("Instance")
    plain, sub = Rule(verbs=["get"], kinds=["Instance"]), Rule(verbs=["get"], kinds=["Instance"], subresources=[ANY])
    assert allows([plain], "get", instance)
    assert not allows([plain], "get", instance, "console")
    assert allows([sub], "get", instance, "console")
    assert not allows([sub], "get", instance)


def test_all_kinds_that_there_are_do_not_make_up_for_those_to_come() -> None:
    each = [Rule(verbs=["get"], kinds=list(load_kinds()))]
    assert covers(each, [Rule(verbs=["get"], kinds=[ANY])]) == [Permission("get", ANY)]
    assert not covers([Rule(verbs=list(Verb), kinds=["Port"])], [Rule(verbs=[ANY], kinds=["Port"])])


def test_what_is_missing_is_told_in_words() -> None:
    want = [Rule(verbs=["get"], kinds=["Instance"], subresources=["log"], label_selector="env=dev")]
    assert [str(p) for p in covers([], want)] == ["get Instance/log where env=dev"]


@pytest.mark.parametrize(
    "wire",
    [
        {"verbs": ["get"], "kinds": ["instance"]},
        {"verbs": ["GET"], "kinds": ["Instance"]},
        {"verbs": ["get"], "kinds": ["Instance"], "subresources": ["../log"]},
        {"verbs": ["get"], "kinds": ["Instance"], "labelSelector": "a in b"},
        {"verbs": ["get"], "kinds": ["Inst\u0430nce"]},
        {"verbs": ["get"], "kinds": ["Instance\n"]},
        {"verbs": ["get"]},
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(wire: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rule.from_wire(wire)


def may(role: str, verb: str, kind: str, subresource: str = "") -> bool:
    return allows(built_in_roles()[role].rules, verb, get_kind(kind), subresource)


def test_each_built_in_role_can_be_granted_by_those_above_it() -> None:
    above = {
        ADMIN: BUILT_IN_NAMES,
        DOMAIN_ADMIN: {DOMAIN_ADMIN, PROJECT_ADMIN, MEMBER, READER},
        PROJECT_ADMIN: {PROJECT_ADMIN, MEMBER, READER},
        MEMBER: {MEMBER, READER},
        READER: {READER},
        AUDITOR: {AUDITOR, READER},
    }
    for have, want in itertools.product(BUILT_IN_NAMES, BUILT_IN_NAMES):
        granted = not covers(built_in_roles()[have].rules, built_in_roles()[want].rules)
        assert granted == (want in above[have]), (have, want)


def test_built_in_roles_allow_what_their_names_say() -> None:
    assert may(ADMIN, "delete", "Host")
    assert may(DOMAIN_ADMIN, "create", "User")
    assert may(DOMAIN_ADMIN, "delete", "Session")
    assert not may(DOMAIN_ADMIN, "create", "Role")
    assert not may(DOMAIN_ADMIN, "get", "Host")
    assert may(PROJECT_ADMIN, "create", "RoleBinding")
    assert may(PROJECT_ADMIN, "update", "APIKey", "secret")
    assert not may(PROJECT_ADMIN, "delete", "Project")
    assert may(MEMBER, "create", "Instance")
    assert may(MEMBER, "update", "Instance", "console")
    assert may(MEMBER, "get", "Flavor")
    assert not may(MEMBER, "get", "RoleBinding")
    assert not may(MEMBER, "get", "APIKey")
    assert may(READER, "watch", "Instance")
    assert may(READER, "get", "Instance", "history")
    assert may(AUDITOR, "list", "RoleBinding")


def test_readers_and_auditors_change_nothing_and_look_into_no_guest() -> None:
    for role, kind in itertools.product((READER, AUDITOR), load_kinds()):
        assert not any(may(role, verb, kind) for verb in ("create", "update", "delete"))
        subresources = [
            s for v in Verb for s in ("log", "console", "content", "value", "secret") if may(role, v, kind, s)
        ]
        assert not subresources


def test_nobody_but_the_administrator_touches_what_carries_the_cloud() -> None:
    for role in BUILT_IN_NAMES - {ADMIN}:
        for kind in ("Host", "Flavor", "Role", "IdentityProvider"):
            assert not any(may(role, verb, kind) for verb in ("create", "update", "delete")), (role, kind)
