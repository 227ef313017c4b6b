"""Names of users from outside."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcstack.apiserver.auth.external import ExternalUser, check_groups, name_candidates
from vcstack.specs.errors import Forbidden
from vcstack.specs.model import LABEL_PATTERN

NAME = re.compile(LABEL_PATTERN)
CYRILLIC_A = "\N{CYRILLIC SMALL LETTER A}"


def user(name: str, external_id: str = "42") -> ExternalUser:
    return ExternalUser(external_id=external_id, user_name=name)


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("alice", "corp-alice"),
        ("Alice.Liddell", "corp-alice-liddell"),
        ("alice@example.com", "corp-alice"),
        ("admin", "corp-admin"),
        ("a--b__c", "corp-a-b-c"),
    ],
)
def test_a_name_says_where_the_user_comes_from(given_name: str, name: str) -> None:
    assert name_candidates("corp", user(given_name))[0] == name


@pytest.mark.parametrize(
    "given_name",
    [f"{CYRILLIC_A}lice", "al\u0131ce", "\uff41lice", "alice\u200b", "al ice", "", "\u00e9", "-", "a" * 129],
)
def test_what_only_looks_like_a_name_becomes_a_number(given_name: str) -> None:
    names = name_candidates("corp", user(given_name))
    assert len(names) == 1
    assert re.fullmatch(r"corp-[0-9a-f]{20}", names[0])


@given(
    st.from_regex(LABEL_PATTERN, fullmatch=True), st.one_of(st.text(max_size=150), st.from_regex(r"[A-Za-z0-9._@-]+"))
)
def test_every_candidate_is_a_name_of_this_provider(provider: str, text: str) -> None:
    for name in name_candidates(provider, user(text)):
        assert NAME.fullmatch(name)
        assert name.startswith(provider[:40].rstrip("-"))


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_two_users_never_have_the_same_last_candidate(one: str, other: str) -> None:
    last = [name_candidates("corp", user("alice", external_id))[-1] for external_id in (one, other)]
    assert (last[0] == last[1]) == (one == other)


def test_huge_groups_are_refused() -> None:
    check_groups([f"g{i}" for i in range(1000)])
    for groups in ([f"g{i}" for i in range(1001)], ["g" * 1025]):
        with pytest.raises(Forbidden):
            check_groups(groups)
