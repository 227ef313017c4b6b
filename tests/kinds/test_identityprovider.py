"""Identity providers: given the section of their type, and kept while users come from there."""

from typing import Any

import pytest
from pydantic import ValidationError

from tests.fakes.world import World
from tests.kinds.identities import make_user
from vcstack.controllers import identityprovider, user
from vcstack.runtime.users import DELETABLE
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.identityprovider import (
    IdentityProvider,
    IdentityProviderSpec,
    LDAPEncryption,
    LDAPProvider,
    LDAPSecret,
    OIDCProvider,
    ProviderType,
)
from vcstack.specs.kinds.user import User

SECRET = LDAPSecret(project="office", name="ldap")
OIDC = OIDCProvider(issuer_url="https://id.example.com", client_id="cloud")


def ldap(**more: Any) -> LDAPProvider:
    return LDAPProvider(**{"url": "ldaps://ldap.example.com", "user_base_dn": "dc=example,dc=com", **more})


def provider(type_: ProviderType = ProviderType.OIDC, **spec: Any) -> IdentityProvider:
    return IdentityProvider.new("acme", IdentityProviderSpec(type=type_, **spec))


async def test_a_provider_becomes_ready_and_a_second_run_writes_nothing(world: World) -> None:
    await world.create(provider(oidc=OIDC))
    await world.settle(identityprovider.build)
    assert (await world.get(IdentityProvider, "acme")).is_true("Ready")
    assert await world.writes_of(identityprovider.build) == 0


@pytest.mark.parametrize(
    ("type_", "spec", "field"),
    [
        (ProviderType.OIDC, {}, "spec.oidc"),
        (ProviderType.OIDC, {"oidc": OIDC, "domain": "acme"}, "spec.domain"),
        (ProviderType.OIDC, {"oidc": OIDC, "ldap": ldap()}, "spec.ldap"),
        (ProviderType.LDAP, {"oidc": OIDC}, "spec.ldap"),
        (ProviderType.LDAP, {"ldap": ldap(), "oidc": OIDC}, "spec.oidc"),
        (ProviderType.LDAP, {"ldap": ldap(user_filter="(uid=*)")}, "spec.ldap.userFilter"),
        (ProviderType.LDAP, {"ldap": ldap(group_filter="(member=*)")}, "spec.ldap.groupFilter"),
        (ProviderType.LDAP, {"ldap": ldap(bind_dn="cn=x")}, "spec.ldap.bindPassword"),
        (ProviderType.LDAP, {"ldap": ldap(bind_password=SECRET)}, "spec.ldap.bindDn"),
        (ProviderType.LDAP, {"ldap": ldap(bind_dn="cn=x", bind_password=SECRET)}, "spec.ldap.bindPassword.name"),
        (ProviderType.LDAP, {"ldap": ldap(encryption=LDAPEncryption.NONE)}, "spec.ldap.encryption"),
        (
            ProviderType.LDAP,
            {"ldap": ldap(group_filter="(memberUid={user})", nested_group_levels=1)},
            "spec.ldap.nestedGroupLevels",
        ),
    ],
)
async def test_what_does_not_fit_its_type_is_refused(
    world: World, type_: ProviderType, spec: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await world.create_freely(provider(type_, **spec))
    assert field in [c.field for c in refused.value.causes]


@pytest.mark.parametrize("url", ["http://id.example.com", "https://user:pw@id.example.com", "https://", "file:///etc"])
def test_an_issuer_is_reached_by_https_and_brings_no_credentials(url: str) -> None:
    with pytest.raises(ValidationError):
        OIDCProvider(issuer_url=url, client_id="cloud")


@pytest.mark.parametrize("url", ["http://ldap.example.com", "ldaps://u:p@ldap.example.com", "ldaps://", "ldapi:///x"])
def test_a_directory_is_reached_by_ldap_and_brings_no_credentials(url: str) -> None:
    with pytest.raises(ValidationError):
        ldap(url=url)


async def test_another_directory_or_way_to_tell_entries_apart_is_another_provider(world: World) -> None:
    await world.create(provider(ProviderType.LDAP, ldap=ldap()))
    made = await world.get(IdentityProvider, "acme")
    for changes, field in (
        ({"url": "ldaps://evil.example.com"}, "spec.ldap.url"),
        ({"id_attribute": "description"}, "spec.ldap.idAttribute"),
    ):
        spec = made.spec.model_copy(update={"ldap": ldap(**changes)})
        with pytest.raises(Invalid) as refused:
            await world.client.update(made.model_copy(update={"spec": spec}))
        assert [c.field for c in refused.value.causes] == [field]


async def test_a_provider_that_users_come_from_is_kept(world: World) -> None:
    await world.create(provider(oidc=OIDC))
    alice = await make_user(world, identity_provider="acme", external_id="sub-1")
    await world.delete(await world.get(IdentityProvider, "acme"))
    await world.settle(identityprovider.build)
    held = (await world.get(IdentityProvider, "acme")).find_condition(DELETABLE)
    assert held is not None
    assert "User alice" in held.message
    await world.delete(alice)
    await world.settle(user.build, identityprovider.build)
    assert await world.find(User, "alice") is None
    assert await world.find(IdentityProvider, "acme") is None


async def test_another_issuer_is_another_provider(world: World) -> None:
    """Whoever may change a provider would else say who its users are, and be sent the client secret."""
    await world.create(provider(oidc=OIDC))
    made = await world.get(IdentityProvider, "acme")
    elsewhere = OIDC.model_copy(update={"issuer_url": "https://evil.example.com"})
    spec = made.spec.model_copy(update={"oidc": elsewhere})
    with pytest.raises(Invalid) as refused:
        await world.client.update(made.model_copy(update={"spec": spec}))
    assert [c.field for c in refused.value.causes] == ["spec.oidc.issuerUrl"]
