"""Identity providers: given the section of their type, asked now and then, and kept while users come from there."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from tests.fakes.world import World, sweep
from tests.fixtures.oidc_provider import CLIENT_ID, OidcProvider
from tests.fixtures.slapd import CLOUD_PASSWORD, PEOPLE, Slapd
from tests.kinds.identities import begin_session, give_providers, make_project, make_user
from vcstack.controllers import identityprovider, user
from vcstack.controllers.identityprovider import INTERVAL_SECONDS
from vcstack.outbound.addresses import AddressPolicy, AllowedTarget
from vcstack.outbound.client import OutboundSettings
from vcstack.runtime.users import DELETABLE
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.identityprovider import (
    ANSWERING,
    IdentityProvider,
    IdentityProviderSpec,
    LDAPEncryption,
    LDAPProvider,
    LDAPSecret,
    OIDCProvider,
    ProviderType,
)
from vcstack.specs.kinds.secret import Secret, SecretSpec
from vcstack.specs.kinds.session import Session
from vcstack.specs.kinds.user import User
from vcstack.specs.meta import Condition

SECRET = LDAPSecret(project="office", name="ldap")
OIDC = OIDCProvider(issuer_url="https://id.example.com", client_id="cloud")


def ldap(**more: Any) -> LDAPProvider:
    return LDAPProvider(**{"url": "ldaps://ldap.example.com", "user_base_dn": "dc=example,dc=com", **more})


def provider(type_: ProviderType = ProviderType.OIDC, **spec: Any) -> IdentityProvider:
    return IdentityProvider.new("acme", IdentityProviderSpec(type=type_, **spec))


@pytest.fixture
async def cloud(world: World) -> AsyncIterator[World]:
    """One that reaches no provider."""
    with give_providers(world):
        yield world


def reaching(*ports: int, **more: Any) -> OutboundSettings:
    target = AllowedTarget(network=ip_network("127.0.0.1/32"), ports=frozenset(ports))
    return OutboundSettings(addresses=AddressPolicy(allowed=[target]), **more)


async def make_secret(world: World, password: str = CLOUD_PASSWORD) -> Secret:
    await make_project(world, "office")
    return await world.create(Secret.new("ldap", SecretSpec(data={"password": password}), project="office"))


async def answering(world: World, skip: float = 0.0) -> Condition:
    """Return what the provider is said to do, once its controller has looked, that many seconds later."""
    world.clock.skip(skip)
    await world.settle(identityprovider.build)
    found = await world.get(IdentityProvider, "acme")
    condition = found.find_condition(ANSWERING)
    assert condition is not None
    assert found.is_true("Ready") == (condition.status == "True")
    return condition


@pytest.mark.daemons
async def test_a_provider_is_ready_while_its_documents_are_read_now_and_then(
    world: World, oidc_provider: OidcProvider
) -> None:
    made = await world.create(provider(oidc=OIDCProvider(issuer_url=oidc_provider.issuer, client_id=CLIENT_ID)))
    assert not made.is_true("Ready")
    with give_providers(world, reaching(oidc_provider.port, ca_file=oidc_provider.ca_file)):
        assert (await answering(world)).reason == "Answering"
        first = (await world.get(IdentityProvider, "acme")).status.answered_at
        assert first is not None
        before = world.etcd.writes
        await answering(world, INTERVAL_SECONDS / 2)
        assert world.etcd.writes == before
        await oidc_provider.stop()
        assert (await answering(world)).status == "True"  # not asked again yet
        gone = await answering(world, INTERVAL_SECONDS)
        assert (gone.status, gone.reason) == ("False", "NotAnswering")
        assert gone.message == (
            "Nobody can log in by it: 127.0.0.1 cannot be reached from here, or may not be. It is asked again."
        )
        status = (await world.get(IdentityProvider, "acme")).status
        assert (status.answered_at, status.failures) == (first, 1)
        await oidc_provider.start()
        assert (await answering(world, INTERVAL_SECONDS)).status == "True"
        later = await world.get(IdentityProvider, "acme")
        assert later.status.answered_at is not None
        assert later.status.answered_at > first
        assert later.status.failures == 0
        assert set(await world.event_reasons()) == {"NotAnswering", "Answering"}


@pytest.mark.daemons
@pytest.mark.parametrize(
    ("elsewhere", "told"), [("https://localhost:{port}", "full name is needed"), ("https://127.0.0.1:{port}/a", "404")]
)
async def test_an_address_where_there_is_no_provider_is_told(
    world: World, oidc_provider: OidcProvider, elsewhere: str, told: str
) -> None:
    oidc = OIDCProvider(issuer_url=elsewhere.format(port=oidc_provider.port), client_id=CLIENT_ID)
    await world.create(provider(oidc=oidc))
    with give_providers(world, reaching(oidc_provider.port, ca_file=oidc_provider.ca_file)):
        found = await answering(world)
        assert (found.reason, told in found.message) == ("NotUsable", True), found.message


@pytest.mark.daemons
async def test_a_directory_is_ready_when_the_cloud_may_log_in_and_sees_its_people(world: World, slapd: Slapd) -> None:
    secret = await make_secret(world, "wrong")
    section = {name: value for name, value in slapd.spec().items() if value is not None}
    await world.create(provider(ProviderType.LDAP, ldap=LDAPProvider.from_wire(section)))
    with give_providers(world, reaching(slapd.tls_port)):
        refused = await answering(world)
        assert (refused.reason, "bindDn" in refused.message) == ("NotUsable", True), refused.message
        assert "wrong" not in refused.message
        found = await world.get(Secret, "ldap", "office")
        assert found.uid == secret.uid
        found.spec.data["password"] = CLOUD_PASSWORD
        await world.admin.update(found)
        assert (await answering(world)).status == "True"  # at once: it is asked with something else
        made = await world.get(IdentityProvider, "acme")
        assert made.spec.ldap is not None
        elsewhere = made.spec.ldap.model_copy(update={"user_base_dn": f"ou=nowhere,{PEOPLE}"})
        made.spec.ldap = elsewhere
        await world.admin.update(made)
        missing = await answering(world)
        assert (missing.reason, "userBaseDn" in missing.message) == ("NotUsable", True), missing.message
        made = await world.get(IdentityProvider, "acme")
        made.spec.enabled = False
        await world.admin.update(made)
        assert (await answering(world)).reason == "Disabled"


async def test_sessions_by_one_that_is_disabled_do_not_come_back(world: World) -> None:
    await make_user(world, "alice")
    await world.create(provider(oidc=OIDC, enabled=False))
    await begin_session(world, "s-theirs", "alice", identity_provider="acme")
    await begin_session(world, "s-ours", "alice")
    with give_providers(world):
        await world.settle(identityprovider.build)
    assert await world.find(Session, "s-theirs") is None
    assert await world.find(Session, "s-ours") is not None


@pytest.mark.daemons
async def test_killed_anywhere_it_is_asked_and_told_all_the_same(slapd: Slapd) -> None:
    section = {name: value for name, value in slapd.spec().items() if value is not None}

    async def live(world: World) -> None:
        await make_secret(world)
        await world.create(provider(ProviderType.LDAP, ldap=LDAPProvider.from_wire(section)))
        with give_providers(world, reaching(slapd.tls_port)):
            assert (await answering(world)).status == "True"
            await world.delete(await world.get(IdentityProvider, "acme"))
            await world.settle(identityprovider.build)
        assert await world.find(IdentityProvider, "acme") is None

    assert await sweep(live) >= 2


async def test_one_that_was_never_reached_is_not_ready_and_is_tried_less_and_less_often(cloud: World) -> None:
    await cloud.create(provider(oidc=OIDC))
    assert (await answering(cloud)).reason == "NotAnswering"
    tries = []
    for _ in range(60):
        before = (await cloud.get(IdentityProvider, "acme")).status.failures or 0
        await answering(cloud, 10.0)
        tries.append(((await cloud.get(IdentityProvider, "acme")).status.failures or 0) - before)
    assert 4 <= sum(tries) <= 12


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


async def test_a_provider_that_users_come_from_is_kept(cloud: World) -> None:
    world = cloud
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
