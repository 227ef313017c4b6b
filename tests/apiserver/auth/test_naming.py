"""Naming somebody tells nothing of who is there."""

from typing import Any

import pytest

from tests.apiserver.auth.organization import Org
from tests.fakes.manual_clock import ManualClock
from tests.store.objects import ADMIN, causes
from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.naming import find_hidden
from vcstack.apiserver.auth.places import Place
from vcstack.specs.errors import Invalid
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.store.store import Store

BINDING = get_kind("RoleBinding")


@pytest.fixture
async def org(memory_store: Store) -> Org:
    """carol administers project web in domain acme; there are users of acme, of another domain, and of the top."""
    org = Org(memory_store)
    for domain in ("acme", "other"):
        await org.put("Domain", domain)
    await org.put("Project", "web", {"domain": "acme"})
    await org.put("Project", "foreign", {"domain": "other"})
    for name, domain in (("carol", "acme"), ("colleague", "acme"), ("stranger", "other")):
        await org.put("User", name, {"domain": domain})
    await org.put("User", "operator")
    await org.put("ServiceAccount", "ci", {}, "web")
    await org.put("ServiceAccount", "ci", {}, "foreign")
    await org.put("Role", "seer")
    await org.bind("carol", ("User", "carol"), "project-admin", "web")
    return org


def binding(subject: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "b", "project": "web"}, "spec": {"subject": subject, "role": "seer"}}


def hidden(org: Org, who: str, wire: dict[str, Any]) -> dict[str, str]:
    index = AccessIndex(org.store.cache, ManualClock())
    grants = index.grants(Ref("User", None, who))
    new = BINDING.model.from_wire(wire)
    return {c.field: c.message for c in find_hidden(index, grants, new, None, home=Place(project="web"))}


@pytest.mark.parametrize(
    "subject",
    [
        {"kind": "User", "name": "stranger"},
        {"kind": "User", "name": "operator"},
        {"kind": "ServiceAccount", "name": "ci", "project": "foreign"},
    ],
)
async def test_somebody_elses_people_are_refused_in_the_words_for_missing_ones(
    org: Org, subject: dict[str, str]
) -> None:
    told = hidden(org, "carol", binding(subject))
    assert told
    await org.remove(subject["kind"], subject["name"], subject.get("project"))
    with pytest.raises(Invalid) as refused:
        await org.store.create(BINDING, binding(subject), actor=ADMIN)
    assert causes(refused) == told


@pytest.mark.parametrize(
    "subject",
    [
        {"kind": "User", "name": "colleague"},
        {"kind": "User", "name": "carol"},
        {"kind": "ServiceAccount", "name": "ci"},
        {"kind": "User", "name": "nobody"},
    ],
)
async def test_ones_own_may_be_named_and_missing_ones_are_the_stores_to_refuse(
    org: Org, subject: dict[str, str]
) -> None:
    assert not hidden(org, "carol", binding(subject))


async def test_who_may_see_them_may_name_them(org: Org) -> None:
    await org.bind("operator", ("User", "operator"), "admin")
    assert not hidden(org, "operator", binding({"kind": "User", "name": "stranger"}))
