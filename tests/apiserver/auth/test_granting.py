"""Nobody grants what he does not have, on whichever way: binding, role, group, key, provider."""

from typing import Any

import pytest

from tests.apiserver.auth.organization import Org, rule
from tests.fakes.manual_clock import ManualClock
from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.granting import describe, find_excess, find_excess_of
from vcstack.specs.permissions import Rule
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.store.store import Store

OWNER, MEMBER, ROOT = (Ref("User", None, n) for n in ("owner", "member", "root"))


@pytest.fixture
async def org(memory_store: Store) -> Org:
    """Domain acme with project web; owner administers the domain, member the project, root the cloud."""
    org = Org(memory_store)
    await org.put("Domain", "acme")
    await org.put("Domain", "dev", {"parent": "acme"})
    await org.put("Project", "web", {"domain": "dev"})
    await org.put("Project", "elsewhere")
    for name in ("owner", "member", "root"):
        await org.put("User", name, {"domain": "acme"})
    await org.put("ServiceAccount", "ci", {}, "web")
    await org.put("Role", "host-seer", {"rules": [rule("get", "Host")]})
    await org.bind("owner", ("User", "owner"), "domain-admin", domain="acme")
    await org.bind("member", ("User", "member"), "project-admin", "web")
    await org.bind("root", ("User", "root"), "admin")
    return org


@pytest.fixture
def index(memory_store: Store) -> AccessIndex:
    return AccessIndex(memory_store.cache, ManualClock())


def refused(
    index: AccessIndex, who: Ref, kind: str, spec: dict[str, Any], project: str | None = None, **more: Any
) -> bool:
    """Return whether that write would give more than the writer has."""
    model = get_kind(kind).model
    name = more.pop("name", "new")
    metadata = {"name": name, **({"project": project} if project else {})}
    new = model.from_wire({"metadata": metadata, "spec": spec})
    old = model.from_wire({"metadata": metadata, "spec": more["old"]}) if "old" in more else None
    return bool(find_excess(index, index.grants(who), who, new, old))


def gives(role: str, **spec: Any) -> dict[str, Any]:
    return {"subject": {"kind": "User", "name": "member"}, "role": role, **spec}


async def test_a_binding_gives_at_most_what_the_writer_has_at_that_place(org: Org, index: AccessIndex) -> None:
    assert not refused(index, MEMBER, "RoleBinding", gives("reader"), "web")
    assert not refused(index, MEMBER, "RoleBinding", gives("project-admin"), "web")
    assert refused(index, MEMBER, "RoleBinding", gives("domain-admin"), "web")
    assert refused(index, MEMBER, "RoleBinding", gives("reader"), "elsewhere")
    assert refused(index, MEMBER, "RoleBinding", gives("reader", domain="dev"))
    assert not refused(index, OWNER, "RoleBinding", gives("domain-admin", domain="dev"))
    assert not refused(index, OWNER, "RoleBinding", gives("project-admin"), "web")
    assert refused(index, OWNER, "RoleBinding", gives("reader"))
    assert refused(index, OWNER, "RoleBinding", gives("auditor", domain="acme"))
    assert refused(index, OWNER, "RoleBinding", gives("admin", domain="acme"))
    assert not refused(index, ROOT, "RoleBinding", gives("admin"))


async def test_a_role_that_is_missing_counts_as_everything(org: Org, index: AccessIndex) -> None:
    assert refused(index, OWNER, "RoleBinding", gives("later", domain="acme"))
    assert not refused(index, ROOT, "RoleBinding", gives("later"))


async def test_a_role_gives_to_all_who_have_it_anywhere(org: Org, index: AccessIndex) -> None:
    assert refused(index, OWNER, "Role", {"rules": [rule("get", "Instance")]})
    assert not refused(index, ROOT, "Role", {"rules": [rule("get", "Instance")]})


async def test_a_group_gives_to_its_new_members(org: Org, index: AccessIndex) -> None:
    await org.put("Group", "ops")
    assert not refused(index, OWNER, "Group", {"members": ["member"]}, name="ops")
    await org.bind("ops", ("Group", "ops"), "host-seer")
    assert refused(index, OWNER, "Group", {"members": ["member"]}, name="ops")
    assert not refused(index, OWNER, "Group", {"members": ["member"]}, name="ops", old={"members": ["member", "root"]})
    assert not refused(index, ROOT, "Group", {"members": ["member"]}, name="ops")


async def test_a_provider_gives_to_whom_it_says(org: Org, index: AccessIndex) -> None:
    await org.put("Group", "ops")
    await org.bind("ops", ("Group", "ops"), "admin")
    spec = {
        "type": "OIDC",
        "oidc": {"issuerUrl": "https://id.example.com", "clientId": "c"},
        "groupMapping": [{"external": "x", "group": "ops"}],
    }
    missing = {**spec, "groupMapping": [{"external": "x", "group": "later"}]}
    for giving in (spec, missing):
        assert refused(index, OWNER, "IdentityProvider", giving)
        assert not refused(index, ROOT, "IdentityProvider", giving)


async def test_a_provider_fills_only_groups_that_its_writer_may_fill(org: Org, index: AccessIndex) -> None:
    """What the group above is given later would be its people's, too."""
    await org.put("Role", "providers", {"rules": [rule("*", "IdentityProvider Group")]})
    await org.put("User", "clerk", {"domain": "dev"})
    await org.bind("clerk", ("User", "clerk"), "providers", domain="dev")
    await org.put("Group", "above", {"domain": "acme"})
    await org.put("Group", "own", {"domain": "dev"})
    clerk = Ref("User", None, "clerk")

    def mapping(group: str, **more: Any) -> dict[str, Any]:
        oidc = {"issuerUrl": "https://id.example.com", "clientId": "c"}
        return {"type": "OIDC", "oidc": oidc, "groupMapping": [{"external": "x", "group": group}], **more}

    assert refused(index, clerk, "IdentityProvider", mapping("above"))
    assert refused(index, clerk, "IdentityProvider", mapping("above"), old=mapping("own"))
    assert not refused(index, clerk, "IdentityProvider", mapping("own"))
    assert not refused(index, clerk, "IdentityProvider", mapping("above", offered=True), old=mapping("above"))


async def test_a_provider_is_told_no_secret_that_its_writer_may_not_read(org: Org, index: AccessIndex) -> None:
    """The password is sent to where the writer says."""
    await org.put("Project", "lab", {"domain": "acme"})
    secret = {"project": "web", "name": "ldap"}
    ldap = {"url": "ldaps://ldap.example.com", "userBaseDn": "dc=x", "bindDn": "cn=x", "bindPassword": secret}
    spec = {"type": "LDAP", "ldap": ldap}
    assert not refused(index, OWNER, "IdentityProvider", spec)
    assert refused(
        index, OWNER, "IdentityProvider", {**spec, "ldap": {**ldap, "bindPassword": {**secret, "project": "elsewhere"}}}
    )
    await org.put("Role", "providers", {"rules": [rule("*", "IdentityProvider"), rule("get", "Secret")]})
    await org.put("User", "clerk", {"domain": "acme"})
    await org.bind("clerk", ("User", "clerk"), "providers", domain="acme")
    assert refused(index, Ref("User", None, "clerk"), "IdentityProvider", spec)


async def test_events_go_to_where_their_readers_send_them_and_no_secret_that_the_writer_may_not_read(
    org: Org, index: AccessIndex
) -> None:
    await org.put("Role", "hooker", {"rules": [rule("*", "NotificationTarget")]})
    await org.put("Role", "listener", {"rules": [rule("*", "NotificationTarget"), rule("list watch", "Event")]})
    for name in ("few", "more"):
        await org.put("User", name, {"domain": "acme"})
    few, more = (Ref("User", None, name) for name in ("few", "more"))
    await org.bind("few", ("User", "few"), "hooker", "web")
    await org.bind("more", ("User", "more"), "listener", "web")
    plain: dict[str, Any] = {"url": "https://hooks.example.com/"}
    signed = {**plain, "signingSecret": {"name": "s", "key": "k"}}
    hidden = {"urlSecret": {"name": "s", "key": "k"}}
    assert refused(index, few, "NotificationTarget", plain, "web")
    assert not refused(index, more, "NotificationTarget", plain, "web")
    for spec in (signed, hidden):
        assert refused(index, more, "NotificationTarget", spec, "web")
        assert not refused(index, MEMBER, "NotificationTarget", spec, "web")
    elsewhere = {**plain, "signingSecret": {"project": "elsewhere", "name": "s", "key": "k"}}
    assert refused(index, OWNER, "NotificationTarget", plain)
    assert refused(index, OWNER, "NotificationTarget", elsewhere)
    assert not refused(index, ROOT, "NotificationTarget", elsewhere)


async def test_a_public_image_sends_no_secret_that_its_writer_may_not_read(org: Org, index: AccessIndex) -> None:
    await org.put("Role", "publisher", {"rules": [rule("*", "Image")]})
    await org.put("User", "clerk", {"domain": "acme"})
    await org.bind("clerk", ("User", "clerk"), "publisher")
    clerk = Ref("User", None, "clerk")
    source: dict[str, Any] = {"url": "https://images.example.com/x"}
    named = {**source, "secret": {"project": "web", "name": "s"}}
    assert not refused(index, clerk, "Image", {"format": "Raw", "source": source})
    assert refused(index, clerk, "Image", {"format": "Raw", "source": named})
    assert not refused(index, ROOT, "Image", {"format": "Raw", "source": named})
    own = {**source, "secret": {"name": "s"}}  # as an instance there may have it
    assert not refused(index, clerk, "Image", {"format": "Raw", "source": own}, "web")


async def test_a_users_key_is_made_by_the_user(org: Org, index: AccessIndex) -> None:
    assert not refused(index, MEMBER, "APIKey", {"user": "member"})
    assert refused(index, OWNER, "APIKey", {"user": "member"}), "the member may be given more tomorrow"
    assert not refused(index, ROOT, "APIKey", {"user": "member"})


async def test_a_key_of_a_service_account_gives_what_that_may_even_while_it_is_disabled(
    org: Org, index: AccessIndex
) -> None:
    assert not refused(index, MEMBER, "APIKey", {"serviceAccount": "ci"}, "web")
    await org.bind("ci", ("ServiceAccount", "ci", "web"), "reader", "elsewhere")
    assert refused(index, MEMBER, "APIKey", {"serviceAccount": "ci"}, "web")
    await org.put("ServiceAccount", "ci", {"enabled": False}, "web")
    assert refused(index, MEMBER, "APIKey", {"serviceAccount": "ci"}, "web")


async def test_a_key_gives_no_more_than_its_own_rules(org: Org, index: AccessIndex) -> None:
    limit = [Rule(verbs=["get", "create"], kinds=["RoleBinding", "Instance"])]
    held = index.grants(MEMBER).restricted("key", limit)
    new = get_kind("RoleBinding").model.from_wire(
        {"metadata": {"name": "n", "project": "web"}, "spec": gives("reader")}
    )
    assert find_excess(index, held, MEMBER, new, None)


async def test_what_is_refused_is_told_in_words(org: Org, index: AccessIndex) -> None:
    excess = find_excess_of(index, index.grants(MEMBER), OWNER)
    told = describe(excess, most=1)
    assert told.startswith("nobody grants what he does not have: ")
    assert "in domain acme and " in told
    assert not find_excess_of(index, index.grants(OWNER), MEMBER)
