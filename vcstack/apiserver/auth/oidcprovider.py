"""An OpenID Connect provider as a server: its discovery document, keys and endpoints, fetched through the guard.

Whatever it says is somebody else's text: bounded, checked, and used as an address only through the guard.
"""

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import orjson
import structlog
from pydantic import BaseModel, Field, ValidationError

from vcstack.apiserver.auth.idtokens import ProviderKeys
from vcstack.apiserver.auth.providerfaults import does_not_answer, says_nonsense
from vcstack.clock import Clock
from vcstack.outbound.client import Answer, OutboundClient
from vcstack.outbound.errors import BadUrl, NotReachable, OutboundError
from vcstack.outbound.urls import parse_url
from vcstack.specs.errors import Unavailable

WELL_KNOWN: Final = "/.well-known/openid-configuration"
KEPT_SECONDS: Final = 600.0
"""Discovery document and keys are good for that long."""
FAILURE_SECONDS: Final = 5.0
"""A provider that did not answer is not asked again before."""
KEYS_AGAIN_SECONDS: Final = 15.0
"""An unknown key makes us look for new ones that often at most."""
KEPT: Final = 256
"""Providers whose documents are kept."""
DOCUMENT_LIMIT: Final = 256 * 1024

logger = structlog.get_logger(__name__)


class Metadata(BaseModel):
    """The discovery document, as far as it matters (OpenID Connect Discovery, 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    device_authorization_endpoint: str | None = None
    token_endpoint_auth_methods_supported: list[str] = Field(default_factory=lambda: ["client_secret_basic"])
    authorization_response_iss_parameter_supported: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderClient:
    """As whom we talk to it."""

    name: str
    """The IdentityProvider, for messages."""
    issuer: str
    client_id: str
    client_secret: str | None


@dataclass(slots=True)
class _Known:
    """What is known of one issuer."""

    lock: asyncio.Lock
    metadata: Metadata | None = None
    keys: ProviderKeys | None = None
    read_at: float = 0.0
    keys_at: float = 0.0
    failed_at: float | None = None


class OidcProviders:
    """Asks providers. Everything raises Unavailable, naming the provider, when it does not answer as it should."""

    def __init__(self, outbound: OutboundClient, clock: Clock) -> None:
        self._outbound = outbound
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def metadata(self, provider: ProviderClient) -> Metadata:
        """Return the provider's discovery document."""
        known = self._remember(provider.issuer)
        async with known.lock:
            now = self._clock.monotonic()
            if known.metadata is not None and now - known.read_at < KEPT_SECONDS:
                return known.metadata
            if known.failed_at is not None and now - known.failed_at < FAILURE_SECONDS:
                raise does_not_answer(provider.name)
            try:
                document = await self._get_json(provider, provider.issuer.rstrip("/") + WELL_KNOWN)
                known.metadata = _read_metadata(provider, document)
            except Unavailable:
                known.failed_at = now
                raise
            known.failed_at, known.read_at, known.keys = None, now, None
            return known.metadata

    async def keys(self, provider: ProviderClient, *, newer: bool = False) -> ProviderKeys:
        """Return the provider's keys; ``newer``: those known lack one, so look again unless just done."""
        metadata = await self.metadata(provider)
        known = self._remember(provider.issuer)
        async with known.lock:
            now = self._clock.monotonic()
            wait = KEYS_AGAIN_SECONDS if newer else KEPT_SECONDS
            if known.keys is None or now - known.keys_at >= wait:
                document = await self._get_json(provider, metadata.jwks_uri)
                try:
                    known.keys = ProviderKeys(document)
                except ValueError as error:
                    raise says_nonsense(provider.name, f"its keys are {error}") from error
                known.keys_at = now
            return known.keys

    async def post_form(
        self, provider: ProviderClient, metadata: Metadata, url: str, form: Mapping[str, str]
    ) -> tuple[int, Mapping[str, Any]]:
        """Return status and answer of one of its endpoints for clients, as ourselves."""
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        sent = dict(form)
        if provider.client_secret is None:
            sent["client_id"] = provider.client_id
        elif "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            # RFC 6749, 2.3.1: both are form-encoded first.
            pair = f"{quote_plus(provider.client_id)}:{quote_plus(provider.client_secret)}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            sent |= {"client_id": provider.client_id, "client_secret": provider.client_secret}
        answer = await self._fetch(provider, "POST", url, headers, urlencode(sent).encode())
        if answer.status >= 500:
            raise does_not_answer(provider.name, f"it answers {answer.status}")
        return answer.status, _decode(provider, answer)

    async def userinfo(self, provider: ProviderClient, url: str, access_token: str) -> Mapping[str, Any]:
        """Return what it says of the user who has that access token."""
        headers = {"authorization": f"Bearer {access_token}", "accept": "application/json"}
        answer = await self._fetch(provider, "GET", url, headers)
        if answer.status != 200:
            raise says_nonsense(provider.name, f"its userinfo endpoint answers {answer.status}")
        return _decode(provider, answer)

    async def _get_json(self, provider: ProviderClient, url: str) -> Mapping[str, Any]:
        answer = await self._fetch(provider, "GET", url, {"accept": "application/json"})
        if answer.status != 200:
            raise says_nonsense(provider.name, f"{url} answers {answer.status}")
        return _decode(provider, answer)

    async def _fetch(
        self, provider: ProviderClient, method: str, url: str, headers: Mapping[str, str], content: bytes = b""
    ) -> Answer:
        try:
            return await self._outbound.fetch(method, url, headers=headers, content=content, limit=DOCUMENT_LIMIT)
        except NotReachable as error:
            logger.warning("identity provider not reached", provider=provider.name, host=str(error), why=error.detail)
            raise does_not_answer(provider.name, str(error)) from error
        except OutboundError as error:
            raise says_nonsense(provider.name, str(error)) from error
        except ValueError as error:
            raise says_nonsense(provider.name, "it says what cannot be sent back") from error

    def _remember(self, issuer: str) -> _Known:
        known = self._known.get(issuer)
        if known is None:
            known = self._known[issuer] = _Known(asyncio.Lock())
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(issuer)
        return known


def _read_metadata(provider: ProviderClient, document: Mapping[str, Any]) -> Metadata:
    try:
        found = Metadata.model_validate(document)
        for url in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
            _check_endpoint(url)
        for optional in (found.userinfo_endpoint, found.device_authorization_endpoint):
            if optional is not None:
                _check_endpoint(optional)
    except ValidationError as error:
        raise says_nonsense(provider.name, "its discovery document lacks what it has to have") from error
    except BadUrl as error:
        raise says_nonsense(provider.name, f"an endpoint of its discovery document: {error}") from error
    if found.issuer != provider.issuer:
        raise says_nonsense(provider.name, "its discovery document is of another issuer")
    return found


def _check_endpoint(url: str) -> None:
    """Raises BadUrl for what neither we nor a browser should be sent to."""
    if parse_url(url).scheme != "https":
        raise BadUrl("it must begin with https://")


def _decode(provider: ProviderClient, answer: Answer) -> Mapping[str, Any]:
    try:
        found = orjson.loads(answer.body)
    except ValueError as error:
        raise says_nonsense(provider.name, "its answer is no JSON") from error
    if not isinstance(found, dict):
        raise says_nonsense(provider.name, "its answer is no JSON object")
    return found
