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
    OIDCProvider,
    ProviderType,
)
from vcstack.specs.kinds.user import User

OIDC = OIDCProvider(issuer_url="https://id.example.com", client_id="cloud")


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
