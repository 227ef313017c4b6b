"""Logging in by OpenID Connect: the authorization code flow with PKCE, and the device flow (RFC 8628).

    begin ──► browser ──► provider ──► browser ──► the program that began ──► complete ──► Tokens
    begin_device ──► the user, elsewhere; meanwhile: poll ... poll ──► Tokens

The program that began holds the challenge, which carries state, nonce and PKCE's verifier, sealed. A code without
it is worth nothing, and a challenge without the code neither. A code is good once; the provider sees to that.
Each provider has a redirect address of its own, so that no provider can have another one's code brought to it.
"""

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from vcstack.apiclient.ldapmessages import PASSWORD_LOGIN
from vcstack.apiserver.auth.external import (
    MOST_GROUPS,
    REFUSED,
    ExternalUser,
    ExternalUsers,
    find_provider,
    mapped_groups,
)
from vcstack.apiserver.auth.idtokens import NOT_VALID, Expected, UnknownKey, verify_id_token
from vcstack.apiserver.auth.login import MULTIPLE, Result
from vcstack.apiserver.auth.oidcprovider import Metadata, OidcProviders, ProviderClient
from vcstack.apiserver.auth.records import VoucherRecord, digest_of, equal
from vcstack.apiserver.auth.sealing import Seals
from vcstack.apiserver.auth.sessions import Client, Vouched
from vcstack.apiserver.auth.throttle import Throttle
from vcstack.clock import Clock
from vcstack.outbound.errors import BadUrl
from vcstack.outbound.urls import parse_url
from vcstack.specs.errors import Cause, Forbidden, Invalid, Unauthorized, Unavailable
from vcstack.specs.kinds.identityprovider import IdentityProvider, OIDCProvider
from vcstack.store.store import Store

LIFETIME: Final = timedelta(minutes=10)
LONGEST_DEVICE: Final = timedelta(minutes=30)
INTERVAL_SECONDS: Final = 5
"""RFC 8628, 3.2 and 3.5: the usual one, and what slow_down adds."""
LONGEST_INTERVAL: Final = 60
METHOD: Final = "oidc"
OFFLINE: Final = "offline_access"
"""The scope with which a provider hands out refresh tokens of its own (OpenID Connect Core, 11)."""
CODE: Final = "oidc code"
DEVICE: Final = "oidc device"
_LOOPBACK: Final = re.compile(r"http://(127\.0\.0\.1|\[::1\]):[1-9][0-9]{0,4}/oidc/([a-z0-9-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserLogin:
    """A login that a browser goes on with."""

    url: str
    state: str
    challenge: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLogin:
    """A login that goes on on another device."""

    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    challenge: str
    interval_seconds: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Pending:
    """The user is not done yet."""

    interval_seconds: int


@dataclass(frozen=True, slots=True)
class _Resolved:
    """A provider and as whom we talk to it."""

    resource: IdentityProvider
    spec: OIDCProvider
    client: ProviderClient


class OidcLogins:
    """The steps. All raise Unavailable while the provider or the store does not answer."""

    def __init__(
        self,
        store: Store,
        providers: OidcProviders,
        users: ExternalUsers,
        seals: Seals,
        throttle: Throttle,
        clock: Clock,
        own_url: str,
    ) -> None:
        self._store = store
        self._providers = providers
        self._users = users
        self._seals = seals
        self._throttle = throttle
        self._clock = clock
        self._own_url = own_url.rstrip("/")

    async def begin(self, name: str, redirect_uri: str) -> BrowserLogin:
        """Return where the browser goes. Raises NotFound, Invalid for a redirect address that is not ours."""
        self._check_redirect(name, redirect_uri)
        provider = await self._resolve(name)
        metadata = await self._providers.metadata(provider.client)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        expires_at = self._clock.now() + LIFETIME
        content = {
            "provider": name,
            "uid": provider.resource.metadata.uid,
            "state": state,
            "nonce": nonce,
            "verifier": verifier,
            "redirect": redirect_uri,
        }
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": provider.client.client_id,
            "redirect_uri": redirect_uri,
            "scope": _scope(provider.spec),
            "state": state,
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        if provider.spec.mfa_acr_values:
            query["acr_values"] = " ".join(provider.spec.mfa_acr_values)
        if OFFLINE in provider.spec.scopes:
            query["prompt"] = "consent"  # OpenID Connect Core, 11: without it there is no offline_access
        joint = "&" if urlsplit(metadata.authorization_endpoint).query else "?"
        return BrowserLogin(
            url=f"{metadata.authorization_endpoint.partition('#')[0]}{joint}{urlencode(query)}",
            state=state,
            challenge=await self._seals.seal(CODE, content, expires_at),
            expires_at=expires_at,
        )

    async def complete(self, challenge: str, code: str, state: str, issuer: str, client: Client) -> Result:
        """Return tokens for what the browser brought back, or what is left to do.

        Raises:
            Unauthorized: it is of another login, too late, or what the provider says of the user is not valid.
            Forbidden: as ``ExternalUsers.admit``.
            TooManyRequests: after too many failures.
        """
        step = await self._seals.open(CODE, challenge)
        provider = await self._resolve(step["provider"], step["uid"])
        # Counted by login: who spoils his own keeps nobody waiting who logs in by the provider from the same address.
        with self._throttle.attempt(f"oidc/{step['state']}", client.address) as attempt:
            metadata = await self._providers.metadata(provider.client)
            wrong_issuer = (
                issuer != metadata.issuer if metadata.authorization_response_iss_parameter_supported else False
            )
            if not equal(state, step["state"]) or wrong_issuer:
                raise Unauthorized("the browser comes from another login; begin it again")
            form = {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": step["redirect"],
                "code_verifier": step["verifier"],
            }
            status, answer = await self._providers.post_form(provider.client, metadata, metadata.token_endpoint, form)
            if status != 200:
                raise _refusal(provider.client.name, answer)
            tokens = await self._admit(provider, metadata, answer, step["nonce"], client)
            attempt.succeed()
        return tokens

    async def begin_device(self, name: str, client: Client) -> DeviceLogin:
        """Return what the user has to do elsewhere. Raises NotFound, Invalid where there is no device flow."""
        provider = await self._resolve(name)
        with self._throttle.attempt(f"oidc/{name}", client.address) as attempt:
            metadata = await self._providers.metadata(provider.client)
            url = metadata.device_authorization_endpoint
            if url is None:
                attempt.succeed()
                raise Invalid(f"the identity provider {name} knows no logins from devices; log in with a browser")
            form = {"scope": _scope(provider.spec)}
            status, answer = await self._providers.post_form(provider.client, metadata, url, form)
            if status != 200:
                raise _refusal(name, answer)
            login = await self._device_login(provider, answer)
            attempt.succeed()
        return login

    async def poll(self, challenge: str, client: Client) -> Result | Pending:
        """Return tokens when the user is done, or what is left to do. Raises as ``complete``."""
        step = await self._seals.open(DEVICE, challenge)
        provider = await self._resolve(step["provider"], step["uid"])
        with self._throttle.attempt(f"oidc/{digest_of(step['code'])}", client.address) as attempt:
            metadata = await self._providers.metadata(provider.client)
            form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": step["code"]}
            status, answer = await self._providers.post_form(provider.client, metadata, metadata.token_endpoint, form)
            error = answer.get("error")
            if status != 200 and error in ("authorization_pending", "slow_down"):
                attempt.succeed()
                more = INTERVAL_SECONDS if error == "slow_down" else 0
                return Pending(min(step["interval"] + more, LONGEST_INTERVAL))
            if status != 200:
                raise _refusal(provider.client.name, answer)
            tokens = await self._admit(provider, metadata, answer, "", client)
            attempt.succeed()
        return tokens

    async def _device_login(self, provider: _Resolved, answer: Any) -> DeviceLogin:
        name = provider.client.name
        texts = [answer.get(field) for field in ("device_code", "user_code", "verification_uri")]
        if not all(isinstance(text, str) and 0 < len(text) <= 2048 for text in texts):
            raise Unavailable(f"the identity provider {name} does not work as it should: it gives no code for a device")
        device_code, user_code, uri = (str(text) for text in texts)
        complete = answer.get("verification_uri_complete")
        for address in (uri, complete):
            if address is not None and not _may_be_opened(address):
                raise Unavailable(f"the identity provider {name} sends its users to an address that is not https://")
        seconds = min(_whole(answer.get("expires_in"), 600), int(LONGEST_DEVICE.total_seconds()))
        interval = min(_whole(answer.get("interval"), INTERVAL_SECONDS), LONGEST_INTERVAL)
        expires_at = self._clock.now() + timedelta(seconds=seconds)
        content = {
            "provider": name,
            "uid": provider.resource.metadata.uid,
            "code": device_code,
            "interval": interval,
        }
        return DeviceLogin(
            user_code=_printable(user_code),
            verification_uri=uri,
            verification_uri_complete=complete,
            challenge=await self._seals.seal(DEVICE, content, expires_at),
            interval_seconds=interval,
            expires_at=expires_at,
        )

    async def renew(self, resource: IdentityProvider, voucher: VoucherRecord) -> Vouched:
        """Return what the provider says of a user now, if it handed out what it takes to ask.

        Raises:
            Unauthorized, Forbidden: it vouches no more.
            Unavailable: it does not answer.
        """
        if not voucher.refresh_token:
            return Vouched(voucher, None)
        provider = _resolved(resource)
        metadata = await self._providers.metadata(provider.client)
        form = {"grant_type": "refresh_token", "refresh_token": voucher.refresh_token}
        status, answer = await self._providers.post_form(provider.client, metadata, metadata.token_endpoint, form)
        if status != 200:
            raise _refusal(provider.client.name, answer)
        found = await self._find_user(provider, metadata, answer, "", voucher.external_id)
        token = _text(answer.get("refresh_token")) or voucher.refresh_token
        renewed = voucher.model_copy(update={"refresh_token": token})
        return Vouched(renewed, mapped_groups(resource, found.groups))

    async def _admit(self, provider: _Resolved, metadata: Metadata, answer: Any, nonce: str, client: Client) -> Result:
        """Let the user in whom the token endpoint's answer is about."""
        found = await self._find_user(provider, metadata, answer, nonce)
        return await self._users.admit(
            provider.resource, found, METHOD, client, refresh_token=_text(answer.get("refresh_token"))
        )

    async def _find_user(
        self, provider: _Resolved, metadata: Metadata, answer: Any, nonce: str, known: str = ""
    ) -> ExternalUser:
        """Return what the token endpoint's answer says of the user, who is ``known`` when it is asked again."""
        id_token, access_token = answer.get("id_token"), _text(answer.get("access_token"))
        claims: dict[str, Any] = {}
        if isinstance(id_token, str):
            expected = Expected(
                issuer=provider.client.issuer,
                audience=provider.client.client_id,
                nonce=nonce,
                access_token=access_token,
                now=int(self._clock.now().timestamp()),
            )
            claims = dict(await self._verify(provider.client, id_token, expected))
        elif not known:  # when asked again it may leave it out (OpenID Connect Core, 12.2)
            raise Unauthorized(f"{NOT_VALID}: there is no ID token")
        subject = claims.get("sub", known)
        wanted = {provider.spec.username_claim}
        if provider.resource.spec.group_mapping:
            wanted.add(provider.spec.groups_claim)
        if (wanted - claims.keys() or known) and metadata.userinfo_endpoint and access_token:
            # Asked again, a token may repeat what was true when the user logged in.
            more = await self._providers.userinfo(provider.client, metadata.userinfo_endpoint, access_token)
            if more.get("sub") != subject:
                raise Unauthorized(f"{NOT_VALID}: its userinfo is about somebody else")
            claims = {**claims, **more} if known else {**more, **claims}
        if known and claims.get("sub") != known:
            raise Unauthorized(f"{NOT_VALID}: it is about somebody else")
        return _read_claims(provider.spec, claims)

    async def _verify(self, provider: ProviderClient, token: str, expected: Expected) -> Any:
        try:
            return verify_id_token(token, await self._providers.keys(provider), expected)
        except UnknownKey:
            pass  # the provider may have new ones
        try:
            return verify_id_token(token, await self._providers.keys(provider, newer=True), expected)
        except UnknownKey as error:
            raise Unauthorized(f"{NOT_VALID}: the ID token is signed with a key that it does not publish") from error

    async def _resolve(self, name: str, uid: str = "") -> _Resolved:
        """Return the provider. Raises NotFound, Invalid, Unauthorized when it is another one than at the beginning."""
        return _resolved(await find_provider(self._store, name, uid))

    def _check_redirect(self, name: str, uri: str) -> None:
        """Raises Invalid unless the browser comes back to the user's own machine or to us, as this provider's."""
        loopback = _LOOPBACK.fullmatch(uri)
        if loopback and loopback[2] == name:
            return
        try:
            parts, own = parse_url(uri), parse_url(self._own_url)
        except BadUrl:
            parts, own = None, None
        if parts and own and parts.origin == own.origin and parts.path.endswith(f"/oidc/{name}") and uri == parts.url:
            return
        raise Invalid(
            f"redirectUri must be http://127.0.0.1:PORT/oidc/{name}, http://[::1]:PORT/oidc/{name} "
            f"or an address of {self._own_url} that ends in /oidc/{name}"
        )


def _resolved(resource: IdentityProvider) -> _Resolved:
    """Return as whom we talk to the provider. Raises Invalid when it does not speak OpenID Connect."""
    name, spec = resource.metadata.name, resource.spec.oidc
    if spec is None:
        message = f"the identity provider {name} is a directory: log in with user and password"
        raise Invalid(message, causes=[Cause(field="provider", reason=PASSWORD_LOGIN, message=message)])
    client = ProviderClient(
        name=name, issuer=spec.issuer_url, client_id=spec.client_id, client_secret=spec.client_secret
    )
    return _Resolved(resource, spec, client)


def _scope(spec: OIDCProvider) -> str:
    return " ".join(dict.fromkeys(["openid", *spec.scopes]))


def _read_claims(spec: OIDCProvider, claims: dict[str, Any]) -> ExternalUser:
    """Return what the claims say of the user. Raises Forbidden."""
    verified = claims.get("email_verified") in (True, "true")
    amr = claims.get("amr")
    methods = [m for m in amr if isinstance(m, str)] if isinstance(amr, list) else []
    if claims.get("acr") in spec.mfa_acr_values:
        methods.append(MULTIPLE)
    return ExternalUser(
        external_id=str(claims["sub"]),
        user_name=_text(claims.get(spec.username_claim)),
        display_name=_text(claims.get("name")),
        email=_text(claims.get("email")) if verified else "",
        groups=_groups(spec, claims),
        methods=methods,
    )


def _groups(spec: OIDCProvider, claims: dict[str, Any]) -> frozenset[str]:
    found = claims.get(spec.groups_claim, [])
    elsewhere = claims.get("_claim_names")
    if isinstance(elsewhere, dict) and spec.groups_claim in elsewhere:
        # What Entra does beyond 200 groups: taking it for "in no group" would take memberships away.
        raise Forbidden("the identity provider says that the user is in too many groups to list them; have it say less")
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(group, str) for group in found):
        raise Forbidden(f"the identity provider's claim {spec.groups_claim} is no list of names")
    if len(found) > MOST_GROUPS:
        raise Forbidden(
            f"the identity provider says {len(found)} groups of the user, {MOST_GROUPS} at most are taken; "
            "have it say only those that matter here"
        )
    return frozenset(found)


def _refusal(name: str, answer: Any) -> Unauthorized | Unavailable:
    """Return the error for an endpoint's error."""
    error = answer.get("error")
    if error in ("invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope"):
        return Unavailable(f"the identity provider {name} does not take this cloud for its client: {error}")
    if error == "access_denied":
        return Unauthorized("the login was refused at the identity provider")
    return Unauthorized(REFUSED)


def _may_be_opened(address: Any) -> bool:
    try:
        return isinstance(address, str) and parse_url(address).scheme == "https"
    except BadUrl:
        return False


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isascii() and c.isprintable())[:64]
