"""Sensitive fields: found, hidden, and hidden too where somebody has misplaced them."""

from typing import Any

import pytest

from vcstack.specs.kinds.network import Network
from vcstack.specs.kinds.secret import Secret
from vcstack.specs.registry import load_kinds
from vcstack.specs.sensitive import has_sensitive, is_stand_in, iter_sensitive, redact

STAND_IN = "***:0123456789ab"


def test_kinds_without_such_fields_are_told_at_once() -> None:
    assert has_sensitive(Secret)
    assert not has_sensitive(Network)
    assert redact(Network, {"spec": {"mtuBytes": 1400}}) == {"spec": {"mtuBytes": 1400}}


@pytest.mark.parametrize(("text", "expected"), [("***", True), (STAND_IN, True), ("***:xyz", False), ("x", False)])
def test_a_stand_in_has_one_form(text: str, expected: bool) -> None:
    assert is_stand_in(text) is expected


def test_values_are_found_with_their_paths() -> None:
    wire = {"spec": {"type": "Opaque", "data": {"a": "1", "b.c": "2", "gone": None}}}
    assert list(iter_sensitive(Secret, wire)) == [("spec.data.a", "1"), ("spec.data[b.c]", "2")]


@pytest.mark.parametrize(
    "spec", [{"data": {"a": "hunter2"}}, {"data": "hunter2"}, {"dta": {"a": "hunter2"}}, "hunter2"]
)
def test_nothing_is_left_of_them_however_they_were_given(spec: Any) -> None:
    assert "hunter2" not in str(redact(Secret, {"metadata": {"name": "s"}, "spec": spec}))


def test_stand_ins_are_no_secret() -> None:
    assert redact(Secret, {"spec": {"data": {"a": STAND_IN}}}) == {"spec": {"data": {"a": STAND_IN}}}


def test_every_kind_can_be_asked() -> None:
    assert {d.kind for d in load_kinds().values() if has_sensitive(d.model)} == {"IdentityProvider", "Secret"}
