"""Logging in by OpenID Connect, with a certified provider as a process of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.apiserver.auth.world import ADMIN, HOME, PASSWORD, SYSTEM, Replica, SkewedClock
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.oidc_provider import CLIENT_ID, CLIENT_SECRET, PUBLIC_ID, OidcProvider
from vcstack.apiclient.authmessages import ChallengeKind
from vcstack.apiserver.auth.bearers import Bearers
from vcstack.apiserver.auth.challenges import Challenge
from vcstack.apiserver.auth.login import Result
from vcstack.apiserver.auth.oidc import Pending
from vcstack.apiserver.auth.routes import PREFIX
from vcstack.apiserver.auth.sessions import Tokens
from vcstack.apiserver.replies import error_reply
from vcstack.crypto.envelope import Envelopes
from vcstack.outbound.addresses import AddressPolicy, AllowedTarget
from vcstack.outbound.client import OutboundSettings
from vcstack.specs.errors import ApiError, Forbidden, Invalid, NotFound, TooManyRequests, Unauthorized, Unavailable
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

pytestmark = pytest.mark.daemons
LOOPBACK = "http://127.0.0.1:5555/oidc/corp"


class RunningClock(SkewedClock):
    """Goes on with the machine's, as the provider's does; what it measures stands still until moved."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.monotonic()) + self.skew


class Cloud(Replica):
    """With steps of logins through a provider."""

    provider: OidcProvider

    async def name_provider(self, **spec: Any) -> None:
        section = {"issuerUrl": self.provider.issuer, "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}
        section |= {"scopes": ["profile", "email", "groups"], **spec.pop("oidc", {})}
        wire = {"metadata": {"name": "corp"}, "spec": {"type": "OIDC", "oidc": section, **spec}}
        await self.store.create(get_kind("IdentityProvider"), wire, actor=ADMIN)

    async def come_back(self, user: str = "alice", redirect: str = LOOPBACK) -> tuple[str, dict[str, str]]:
        """Go through the browser; return the challenge and what the browser brings back."""
        login = await self.oidc.begin("corp", redirect)
        async with contextlib.aclosing(self.provider.browser()) as browser:
            found = await browser.log_in(login.url, user)
        return login.challenge, found

    async def log_in(self, user: str = "alice", redirect: str = LOOPBACK) -> Tokens:
        found = await self.begin_login(user, redirect)
        assert isinstance(found, Tokens)
        return found

    async def begin_login(self, user: str = "alice", redirect: str = LOOPBACK) -> Result:
        challenge, found = await self.come_back(user, redirect)
        return await self.oidc.complete(challenge, found["code"], found["state"], found["iss"], HOME)

    async def groups(self, tokens: Tokens) -> frozenset[str] | None:
        """Return the groups here that count in the session besides memberships; None: it is good no more."""
        found = await Bearers(self.store.cache, self.clock).find_fresh(self.access(tokens))
        return None if found is None else found.groups

    async def spec_of(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.store.get(get_kind(kind), None, name)).wire["spec"]
        return found


@pytest.fixture
async def cloud(
    oidc_provider: OidcProvider, memory_store: Store, memory_etcd: MemoryEtcd, envelopes: Envelopes
) -> AsyncIterator[Cloud]:
    target = AllowedTarget(network=ip_network("127.0.0.1/32"), ports=frozenset({oidc_provider.port}))
    addresses = AddressPolicy(allowed=[target])
    outbound = OutboundSettings(
        addresses=addresses, ca_file=oidc_provider.ca_file, connect_seconds=60, total_seconds=60
    )
    made = Cloud(memory_store, memory_etcd, RunningClock(), envelopes, outbound=outbound)
    made.provider = oidc_provider
    await made.start()
    yield made
    made.close()


async def test_a_login_with_a_browser_makes_the_user_and_a_session(cloud: Cloud) -> None:
    await cloud.name_provider()
    tokens = await cloud.log_in()
    access = cloud.access(tokens)
    assert (access.subject, access.methods) == ("user:corp-alice", ("oidc",))
    user = await cloud.spec_of("User", "corp-alice")
    assert (user["identityProvider"], user["externalId"]) == ("corp", "alice")
    assert (user["displayName"], user["email"]) == ("alice of the tests", "alice@example.com")
    assert await cloud.session_names() == [tokens.session]
    assert (await cloud.status_of("User", "corp-alice"))["lastLoginAt"]
    again = await cloud.log_in()
    assert cloud.access(again).uid == access.uid
    assert await cloud.login.refresh(again.refresh_token, HOME)


async def test_a_redirect_to_the_api_itself_and_a_public_client_do(cloud: Cloud) -> None:
    await cloud.name_provider(oidc={"clientId": PUBLIC_ID, "clientSecret": None})
    assert await cloud.log_in(redirect="https://cloud.example:8443/console/oidc/corp")


async def test_a_mail_address_that_is_not_verified_is_not_taken(cloud: Cloud) -> None:
    await cloud.name_provider()
    await cloud.log_in("bob")
    assert not (await cloud.spec_of("User", "corp-bob")).get("email")


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/oidc/corp",
        "http://127.0.0.1:5555/oidc/other",
        "http://127.0.0.1.evil.example:5555/oidc/corp",
        "http://localhost:5555/oidc/corp",
        "https://cloud.example:8443@evil.example/oidc/corp",
        "https://cloud.example:8443/x?y=/oidc/corp#",
        "http://cloud.example:8443/oidc/corp",
        "https://cloud.example/oidc/corp",
        "",
    ],
)
async def test_a_code_is_brought_to_the_users_machine_or_to_us_only(cloud: Cloud, uri: str) -> None:
    await cloud.name_provider()
    with pytest.raises(Invalid, match="redirectUri"):
        await cloud.oidc.begin("corp", uri)


async def test_a_code_is_good_once_and_with_its_own_challenge_and_state_only(cloud: Cloud) -> None:
    await cloud.name_provider()
    challenge, found = await cloud.come_back()
    other, _ = await cloud.come_back("bob")
    code, state, issuer = found["code"], found["state"], found["iss"]
    attempts = [
        (challenge, code, "other", issuer),
        (challenge, code, state, "https://evil.example"),
        (challenge, code, state, ""),
        (challenge[:-4] + "AAAA", code, state, issuer),
        ("", code, state, issuer),
        ("x" * 4096, code, state, issuer),
        (other, code, state, issuer),
    ]
    for attempt in attempts:
        cloud.clock.skip(30)
        with pytest.raises(Unauthorized):
            await cloud.oidc.complete(*attempt, HOME)
    cloud.clock.skip(60)
    assert await cloud.oidc.complete(challenge, code, state, issuer, HOME)
    with pytest.raises(Unauthorized):
        await cloud.oidc.complete(challenge, code, state, issuer, HOME)


async def test_pkce_stops_a_code_that_was_stolen_with_its_state(cloud: Cloud) -> None:
    """Somebody begins a login of his own and puts the stolen code into it."""
    await cloud.name_provider()
    _, stolen = await cloud.come_back()
    own = await cloud.oidc.begin("corp", LOOPBACK)
    with pytest.raises(Unauthorized):
        await cloud.oidc.complete(own.challenge, stolen["code"], own.state, stolen["iss"], HOME)


async def test_a_login_ends_when_it_takes_too_long(cloud: Cloud) -> None:
    await cloud.name_provider()
    challenge, found = await cloud.come_back()
    cloud.clock.skip(601)
    with pytest.raises(Unauthorized, match="too long"):
        await cloud.oidc.complete(challenge, found["code"], found["state"], found["iss"], HOME)


async def test_a_provider_of_the_same_name_does_not_go_on_with_the_old_ones_login(cloud: Cloud) -> None:
    await cloud.name_provider()
    challenge, found = await cloud.come_back()
    definition = get_kind("IdentityProvider")
    await cloud.store.delete(definition, None, "corp", actor=ADMIN)
    await cloud.store.finalize(definition, None, "corp", ["vcstack.io/in-use"], actor=SYSTEM)
    await cloud.name_provider()
    with pytest.raises(Unauthorized):
        await cloud.oidc.complete(challenge, found["code"], found["state"], found["iss"], HOME)


async def test_groups_there_count_in_the_session_as_mapped_and_make_nobody_a_member(cloud: Cloud) -> None:
    for name in ("operators", "staff", "ops"):
        await cloud.store.create(get_kind("Group"), {"metadata": {"name": name}, "spec": {}}, actor=ADMIN)
    await cloud.name_provider(groupMapping=[{"external": "ops", "group": "operators"}])
    tokens, bobs = await cloud.log_in(), await cloud.log_in("bob")
    assert await cloud.groups(tokens) == {"operators"}
    assert await cloud.groups(bobs) == set()
    for name in ("operators", "staff", "ops"):
        assert not (await cloud.spec_of("Group", name)).get("members")
    mapping = [{"external": "ops", "group": "staff"}]
    definition = get_kind("IdentityProvider")
    await cloud.store.merge_patch(definition, None, "corp", {"spec": {"groupMapping": mapping}}, actor=ADMIN)
    assert await cloud.groups(tokens) == {"staff"}


async def test_a_provider_that_is_asked_again_takes_groups_and_logins_away(cloud: Cloud) -> None:
    await cloud.store.create(get_kind("Group"), {"metadata": {"name": "operators"}, "spec": {}}, actor=ADMIN)
    scopes = ["profile", "email", "groups", "offline_access"]
    await cloud.name_provider(oidc={"scopes": scopes}, groupMapping=[{"external": "ops", "group": "operators"}])
    tokens = await cloud.log_in()
    tokens = await cloud.login.refresh(tokens.refresh_token, HOME)
    assert await cloud.groups(tokens) == {"operators"}
    cloud.provider.change("alice", {"groups": ["staff"]})
    tokens = await cloud.login.refresh(tokens.refresh_token, HOME)
    assert await cloud.groups(tokens) == set()
    cloud.provider.change("alice", {"groups": ["staff", "ops"]})
    tokens = await cloud.login.refresh(tokens.refresh_token, HOME)
    assert await cloud.groups(tokens) == {"operators"}
    cloud.provider.change("alice", {"groups": [f"g{i}" for i in range(1001)]})
    with pytest.raises(Forbidden, match="1001 groups"):
        await cloud.login.refresh(tokens.refresh_token, HOME)
    assert await cloud.session_names() == []
    cloud.provider.change("alice", None)
    tokens = await cloud.log_in("bob")
    cloud.provider.change("bob", None)
    with pytest.raises(Unauthorized):
        await cloud.login.refresh(tokens.refresh_token, HOME)
    assert await cloud.session_names() == []


async def test_while_the_provider_is_down_sessions_are_refreshed_as_they_are(cloud: Cloud) -> None:
    await cloud.store.create(get_kind("Group"), {"metadata": {"name": "operators"}, "spec": {}}, actor=ADMIN)
    scopes = ["profile", "email", "groups", "offline_access"]
    await cloud.name_provider(oidc={"scopes": scopes}, groupMapping=[{"external": "ops", "group": "operators"}])
    tokens = await cloud.log_in()
    await cloud.provider.stop()
    tokens = await cloud.login.refresh(tokens.refresh_token, HOME)
    assert await cloud.groups(tokens) == {"operators"}


async def test_a_provider_that_is_disabled_or_going_vouches_for_nobody(cloud: Cloud) -> None:
    definition = get_kind("IdentityProvider")
    await cloud.name_provider()
    tokens = await cloud.log_in()
    await cloud.store.merge_patch(definition, None, "corp", {"spec": {"enabled": False}}, actor=ADMIN)
    assert await cloud.groups(tokens) is None
    with pytest.raises(NotFound, match="to log in with"):
        await cloud.oidc.begin("corp", LOOPBACK)
    await cloud.store.merge_patch(definition, None, "corp", {"spec": {"enabled": True}}, actor=ADMIN)
    assert await cloud.groups(tokens) == set()
    await cloud.store.delete(definition, None, "corp", actor=ADMIN)
    assert await cloud.groups(tokens) is None
    with pytest.raises(Unauthorized, match="vouches for nobody"):
        await cloud.login.refresh(tokens.refresh_token, HOME)


async def test_more_groups_than_anybody_needs_are_refused_and_nothing_is_made(cloud: Cloud) -> None:
    await cloud.store.create(get_kind("Group"), {"metadata": {"name": "staff"}, "spec": {}}, actor=ADMIN)
    await cloud.name_provider(groupMapping=[{"external": "staff", "group": "staff"}])
    with pytest.raises(Forbidden, match="5000 groups"):
        await cloud.log_in("huge")
    with pytest.raises(NotFound):
        await cloud.spec_of("User", "corp-huge")


async def test_a_user_made_before_is_the_one_and_others_are_refused_where_that_is_wished(cloud: Cloud) -> None:
    await cloud.name_provider(newUsers="Refuse")
    await cloud.user("al", password="", identityProvider="corp", externalId="alice")
    assert cloud.access(await cloud.log_in()).subject == "user:al"
    with pytest.raises(Forbidden, match="nobody has made a User"):
        await cloud.log_in("bob")


async def test_a_disabled_user_stays_out(cloud: Cloud) -> None:
    await cloud.name_provider()
    await cloud.user("al", password="", identityProvider="corp", externalId="alice", enabled=False)
    with pytest.raises(Unauthorized, match="may not log in"):
        await cloud.log_in()


@pytest.mark.parametrize(
    ("factor", "claims", "outcome"),
    [
        ("Either", {}, ChallengeKind.ENROL_MFA),
        ("Either", {"amr": ["pwd", "otp", "mfa"]}, ("oidc", "pwd", "otp", "mfa")),
        ("Either", {"amr": ["pwd"]}, ChallengeKind.ENROL_MFA),
        ("Either", {"acr": "urn:strong"}, ("oidc", "mfa")),
        ("Either", {"acr": "urn:weak"}, ChallengeKind.ENROL_MFA),
        ("Ours", {"amr": ["pwd", "mfa"]}, ChallengeKind.ENROL_MFA),
        ("Theirs", {"amr": ["mfa"]}, ("oidc", "mfa")),
        ("Theirs", {}, None),
    ],
)
async def test_whose_second_factor_counts_is_said_by_the_provider_object(
    cloud: Cloud, factor: str, claims: dict[str, Any], outcome: ChallengeKind | tuple[str, ...] | None
) -> None:
    await cloud.name_provider(secondFactor=factor, oidc={"mfaAcrValues": ["urn:strong"]})
    assert "acr_values=urn%3Astrong" in (await cloud.oidc.begin("corp", LOOPBACK)).url
    await cloud.user("al", password="", identityProvider="corp", externalId="alice", mfaRequired=True)
    cloud.provider.change("alice", claims)
    if outcome is None:
        with pytest.raises(Unauthorized, match="second factor"):
            await cloud.begin_login()
        return
    found = await cloud.begin_login()
    if isinstance(found, Tokens):
        assert cloud.access(found).methods == outcome
        return
    assert found.kind is outcome
    secret = (await cloud.login.begin_enrolment(found.token)).secret
    done = await cloud.login.confirm_enrolment(found.token, cloud.code(secret), HOME)
    assert done.tokens is not None
    methods = cloud.access(done.tokens).methods
    assert methods[0] == "oidc"
    assert {"otp", "mfa"} <= set(methods)
    again = await cloud.begin_login()
    assert isinstance(again, Challenge)
    assert again.kind is ChallengeKind.VERIFY_MFA


async def test_a_provider_that_cannot_be_asked_again_is_believed_for_an_hour(cloud: Cloud) -> None:
    await cloud.name_provider()
    tokens = await cloud.log_in()
    began = cloud.clock.now()
    assert tokens.session_expires_at is not None
    assert timedelta(minutes=59) < tokens.session_expires_at - began <= timedelta(hours=1)
    wire = {"metadata": {"name": "short"}, "spec": {"setting": "sessions.lifetimeUnasked", "value": "15m"}}
    await cloud.store.create(get_kind("Setting"), wire, actor=ADMIN)
    short = await cloud.log_in()
    assert short.session_expires_at is not None
    assert short.session_expires_at - cloud.clock.now() <= timedelta(minutes=15)
    tokens = await cloud.login.refresh(tokens.refresh_token, HOME)
    assert tokens.session_expires_at <= began + timedelta(hours=1)
    cloud.clock.skip(3600)
    with pytest.raises(Unauthorized):
        await cloud.login.refresh(tokens.refresh_token, HOME)
    assert tokens.session not in await cloud.session_names()


async def test_two_pages_that_refresh_at_once_ask_the_provider_once_and_go_on(cloud: Cloud) -> None:
    """Its own refresh tokens are good once: asked with one twice it would end what it gave."""
    await cloud.store.create(get_kind("Group"), {"metadata": {"name": "operators"}, "spec": {}}, actor=ADMIN)
    scopes = ["profile", "email", "groups", "offline_access"]
    await cloud.name_provider(oidc={"scopes": scopes}, groupMapping=[{"external": "ops", "group": "operators"}])
    tokens = await cloud.log_in()
    for _ in range(3):
        pages = [cloud.login.refresh(tokens.refresh_token, HOME) for _ in range(4)]
        found = await asyncio.gather(*pages)
        assert len({each.refresh_token for each in found}) == 1
        tokens = found[0]
    cloud.provider.change("alice", {"groups": ["staff"]})
    tokens = await cloud.login.refresh(tokens.refresh_token, HOME)
    assert await cloud.groups(tokens) == set()
    assert (await cloud.status_of("User", "corp-alice")).get("externalGroups", []) == []


async def test_a_name_that_is_taken_goes_to_nobody_else(cloud: Cloud) -> None:
    await cloud.name_provider()
    await cloud.user("corp-alice")
    subject = cloud.access(await cloud.log_in()).subject
    assert subject.startswith("user:corp-alice-")


async def test_a_device_logs_in_while_the_user_agrees_elsewhere(cloud: Cloud) -> None:
    await cloud.name_provider()
    login = await cloud.oidc.begin_device("corp", HOME)
    assert login.verification_uri == f"{cloud.provider.issuer}/device"
    assert isinstance(await cloud.oidc.poll(login.challenge, HOME), Pending)
    assert login.verification_uri_complete is not None
    browser = cloud.provider.browser()
    await browser.log_in_elsewhere(login.verification_uri_complete, "alice")
    await browser.aclose()
    tokens = await cloud.oidc.poll(login.challenge, HOME)
    assert isinstance(tokens, Tokens)
    assert cloud.access(tokens).subject == "user:corp-alice"
    with pytest.raises(Unauthorized):
        await cloud.oidc.poll(login.challenge, HOME)
    with pytest.raises(Unauthorized):
        await cloud.oidc.complete(login.challenge, "", "", "", HOME)


async def test_new_keys_of_the_provider_are_taken_when_a_token_names_one(cloud: Cloud) -> None:
    await cloud.name_provider()
    await cloud.log_in()
    await cloud.provider.stop()
    await cloud.provider.start()
    cloud.clock.skip(20)  # keys are looked for again at most every 15 seconds
    assert await cloud.log_in()


async def test_while_the_provider_is_down_others_log_in_and_the_error_says_so(cloud: Cloud) -> None:
    await cloud.name_provider()
    await cloud.user("carol")
    await cloud.provider.stop()
    with pytest.raises(Unavailable, match="identity provider corp does not answer"):
        await cloud.oidc.begin("corp", LOOPBACK)
    assert await cloud.tokens_of("carol", PASSWORD)
    await cloud.provider.start()
    with pytest.raises(Unavailable):  # asked again after five seconds only
        await cloud.oidc.begin("corp", LOOPBACK)
    cloud.clock.skip(6)
    assert await cloud.log_in()


async def test_who_waits_for_a_device_while_the_provider_is_down_has_not_failed(cloud: Cloud) -> None:
    await cloud.name_provider()
    login = await cloud.oidc.begin_device("corp", HOME)
    await cloud.provider.stop()
    for _ in range(10):
        with pytest.raises(Unavailable):
            await cloud.oidc.poll(login.challenge, HOME)
    await cloud.provider.start()
    assert await cloud.log_in()


async def test_who_spoils_logins_keeps_nobody_waiting_behind_the_same_address(cloud: Cloud) -> None:
    await cloud.name_provider()
    spoiled = await cloud.oidc.begin("corp", LOOPBACK)
    for _ in range(5):
        with pytest.raises(Unauthorized):
            await cloud.oidc.complete(spoiled.challenge, "x", "of another login", "", HOME)
    with pytest.raises(TooManyRequests):
        await cloud.oidc.complete(spoiled.challenge, "x", "of another login", "", HOME)
    assert await cloud.log_in()


async def test_a_provider_that_goes_down_during_a_login_costs_that_login_only(cloud: Cloud) -> None:
    await cloud.name_provider()
    challenge, found = await cloud.come_back()
    await cloud.provider.stop()
    with pytest.raises(Unavailable, match="does not answer"):
        await cloud.oidc.complete(challenge, found["code"], found["state"], found["iss"], HOME)


@pytest.mark.parametrize("shift", [timedelta(hours=1), timedelta(days=30)])
@pytest.mark.parametrize("sign", [1, -1])
async def test_while_our_clock_or_the_providers_is_wrong_its_logins_are_refused_and_others_go_on(
    cloud: Cloud, shift: timedelta, sign: int
) -> None:
    await cloud.name_provider()
    await cloud.user("carol")
    right = cloud.clock.skew
    cloud.clock.skew = right + sign * shift
    with pytest.raises(Unauthorized, match="what the identity provider says is not valid"):
        await cloud.log_in()
    assert await cloud.tokens_of("carol", PASSWORD)
    cloud.clock.skew = right
    assert await cloud.log_in()


async def test_a_wrong_client_secret_is_told_as_the_operators_fault(cloud: Cloud) -> None:
    await cloud.name_provider(oidc={"clientSecret": "another one"})
    with pytest.raises(Unavailable, match="invalid_client"):
        await cloud.log_in()


async def test_the_client_secret_is_not_shown(cloud: Cloud) -> None:
    await cloud.name_provider()
    stored = await cloud.store.get(get_kind("IdentityProvider"), None, "corp")
    assert CLIENT_SECRET.encode() not in stored.json
    assert stored.wire["spec"]["oidc"]["clientSecret"].startswith("***:")


async def test_another_issuer_than_the_one_asked_is_refused(cloud: Cloud) -> None:
    await cloud.name_provider(oidc={"issuerUrl": f"{cloud.provider.issuer}/"})
    with pytest.raises(Unavailable, match="another issuer"):
        await cloud.oidc.begin("corp", LOOPBACK)


async def test_there_is_no_login_with_what_is_not_there(cloud: Cloud) -> None:
    for attempt in (cloud.oidc.begin_device("corp", HOME), cloud.oidc.begin("corp", LOOPBACK)):
        with pytest.raises(NotFound, match="to log in with"):
            await attempt


async def test_a_provider_inside_is_not_reached_unless_the_operator_allows_it(
    oidc_provider: OidcProvider, memory_store: Store, memory_etcd: MemoryEtcd, envelopes: Envelopes
) -> None:
    strict = Cloud(memory_store, memory_etcd, SkewedClock(), envelopes)
    strict.provider = oidc_provider
    await strict.start()
    await strict.name_provider()
    with pytest.raises(Unavailable, match="does not answer"):
        await strict.oidc.begin("corp", LOOPBACK)
    strict.close()


async def test_the_whole_login_over_http(cloud: Cloud) -> None:
    async def answer(request: Request) -> Response:
        try:
            return await cloud.routes.answer(request)
        except ApiError as error:
            return error_reply(error)

    application = Starlette(routes=[Route(PREFIX + "{path:path}", answer, methods=["GET", "POST"])])
    transport = httpx2.ASGITransport(application, client=("192.0.2.10", 50000))
    await cloud.name_provider()
    async with httpx2.AsyncClient(base_url="https://cloud.example:8443" + PREFIX, transport=transport) as http:
        begun = (await http.post("oidc/begin", json={"provider": "corp", "redirectUri": LOOPBACK})).json()
        browser = cloud.provider.browser()
        found = await browser.log_in(begun["authorizationUrl"], "alice")
        assert found["state"] == begun["state"]
        body = {"challenge": begun["challenge"], "code": found["code"], "state": found["state"]}
        tokens = (await http.post("oidc/complete", json={**body, "issuer": found["iss"]})).json()
        assert cloud.tokens.verify(tokens["accessToken"]).subject == "user:corp-alice"
        assert tokens["refreshToken"]
        device = (await http.post("oidc/device", json={"provider": "corp"})).json()
        pending = (await http.post("oidc/poll", json={"challenge": device["challenge"]})).json()
        assert pending == {"pending": True, "intervalSeconds": device["intervalSeconds"]}
        await browser.log_in_elsewhere(device["verificationUriComplete"], "alice")
        assert (await http.post("oidc/poll", json={"challenge": device["challenge"]})).json()["accessToken"]
        await browser.aclose()
        for path, refused in (("oidc/begin", 422), ("oidc/nothing", 404)):
            assert (await http.post(path, json={"provider": "corp", "redirectUri": "x"})).status_code == refused
