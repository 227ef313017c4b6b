"""One pool of HTTP/1.1 connections to the API: TLS, identity, retries of what is safe to repeat, errors."""

import contextlib
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import httpx2
import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from vcstack.apiclient import tls
from vcstack.apiclient.faults import NotSent, OutcomeUnknown, read_error, transport_error
from vcstack.apiclient.paths import API_ROOT
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.clock import Clock, SystemClock
from vcstack.specs.errors import ApiError, RateLimited, Unauthorized, Unavailable

OnWait = Callable[[int, str], None]
"""Told for how many seconds a request waits, with the server's reason."""
OnWarning = Callable[[str], None]
"""Told what the server warns of, though it does what is asked."""
Params = Mapping[str, str | int | None]
Content = bytes | AsyncIterator[bytes] | None

SAFE_METHODS = frozenset({"GET", "HEAD"})
KEEPALIVE_SECONDS = 20.0
"""Shorter than the server's, so that no request is sent into a connection that is being closed."""
SWITCHING_PROTOCOLS = 101
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_YAML = "application/apply-patch+yaml"
APPLY_JSON = "application/apply-patch+json"
AUTH_ROOT = f"{API_ROOT}/auth/"
_WARNING = re.compile(r'299 \S+ "(.*)"')
RETRY_AFTER = "retry-after"
_backoff = wait_exponential_jitter(multiplier=0.1, max=2.0, jitter=0.1)


class Credentials(Protocol):
    """Gives the token of each request, where it does not stay the same (``vcstack.apiclient.credentials``)."""

    async def token(self, *, refused: str = "") -> str:
        """Return the token to send, another one than that which the server refused. Raises ApiError."""

    async def aclose(self) -> None:
        """Close what it uses."""


class Connection:
    """Sends requests as one identity. Safe to share between tasks of one event loop."""

    def __init__(
        self,
        settings: ConnectionSettings,
        *,
        credentials: Credentials | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        on_wait: OnWait | None = None,
        on_warning: OnWarning | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self._on_wait = on_wait
        self._on_warning = on_warning
        self._clock = clock or SystemClock()
        self._credentials = credentials
        self._transport = transport
        self._stamp: tls.Stamp = ()
        self._client: httpx2.AsyncClient | None = None
        self._retired: list[httpx2.AsyncClient] = []
        self._in_flight: dict[int, int] = {}

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; what is in flight breaks."""
        clients = [*self._retired, *([self._client] if self._client else [])]
        self._retired, self._client = [], None
        for client in clients:
            await client.aclose()
        if self._credentials is not None:
            await self._credentials.aclose()

    async def authorization(self, *, refused: str = "") -> dict[str, str]:
        """Return the header that says who asks, where it does not stay the same; for websockets."""
        if self._credentials is None:
            return {}
        return {"authorization": f"Bearer {await self._credentials.token(refused=refused)}"}

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        content: Content = None,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        accept_codes: frozenset[int] = frozenset(),
        anonymous: bool = False,
    ) -> httpx2.Response:
        """Return the answer, its body read; safe methods are repeated, others only if nothing was done.

        Raises:
            ApiError: what the server says, or Unavailable if it cannot be asked.
        """

        async def once() -> httpx2.Response:
            sending = self.stream(
                method, path, params=params, content=content, content_type=content_type, headers=headers,
                timeout_seconds=timeout_seconds, accept_codes=accept_codes, anonymous=anonymous,
            )  # fmt: skip
            async with sending as response:
                await self._read(response, path)
                if self._on_warning is not None and "warning" in response.headers:
                    for text in read_warnings(response.headers.get_list("warning")):
                        self._on_warning(text)
                return response

        repeatable = content is None or isinstance(content, bytes)
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.settings.attempts if repeatable else 1),
            wait=_wait_before_repeating,
            sleep=self._clock.sleep,
            retry=retry_if_exception(lambda e: _may_repeat(method, e, self.settings.patience_seconds)),
            reraise=True,
        )
        return await retrying(once)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        content: Content = None,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        accept_codes: frozenset[int] = frozenset(),
        anonymous: bool = False,
    ) -> AsyncIterator[httpx2.Response]:
        """Yield the answer with its body unread. Error answers are raised, but for accept_codes.

        What is refused because a limit on requests is reached was not begun: it is sent again when the server says,
        as long as patience lasts.

        ``anonymous`` is for what everybody may ask, also who is not logged in.
        """
        given = {**({"content-type": content_type} if content is not None else {}), **(headers or {})}
        query = {k: str(v) for k, v in (params or {}).items() if v is not None}
        authorization = {} if anonymous else await self.authorization()
        client = await self._current_client()

        def build() -> httpx2.Request:
            return client.build_request(
                method,
                path,
                params=query,
                content=content,
                headers={**given, **authorization},
                timeout=self._timeout(timeout_seconds),
            )

        key = id(client)
        self._in_flight[key] = self._in_flight.get(key, 0) + 1
        patience, repeatable = self.settings.patience_seconds, content is None or isinstance(content, bytes)
        try:
            while True:
                response = await self._send(client, build())
                if authorization and self._may_ask_again(response, path, content):
                    await response.aclose()
                    authorization = await self.authorization(refused=authorization["authorization"].partition(" ")[2])
                    response = await self._send(client, build())
                wait = await self._find_wait(response, path, patience) if repeatable else 0
                if not wait:
                    break
                await response.aclose()
                patience -= wait
                await self._clock.sleep(wait * random.uniform(1.0, 1.1))  # noqa: S311 (not all at once)
            try:
                if response.status_code >= 400 and response.status_code not in accept_codes:
                    raise _read_answer(response, await self._read(response, path))
                yield response
            finally:
                await response.aclose()
        finally:
            self._in_flight[key] -= 1
            await self._close_retired()

    def _may_ask_again(self, response: httpx2.Response, path: str, content: Content) -> bool:
        """Return whether another token may help: a refused one has done nothing, whatever the method.

        Where logging in is at stake it is rather the password that was refused, and must not be tried twice.
        """
        refused = response.status_code == Unauthorized.CODE
        return refused and not path.startswith(AUTH_ROOT) and (content is None or isinstance(content, bytes))

    async def _find_wait(self, response: httpx2.Response, path: str, patience: float) -> int:
        """Return after how many seconds to send again what a limit on requests refused; 0: not at all."""
        if response.status_code != RateLimited.CODE:
            return 0
        error = _read_answer(response, await self._read(response, path))
        wait = error.details.retry_after_seconds
        if not isinstance(error, RateLimited) or wait is None or wait > patience:
            return 0
        wait = max(1, wait)
        if self._on_wait is not None:
            self._on_wait(wait, error.message)
        return wait

    def url(self, path: str) -> str:
        """Return the absolute URL of a path."""
        return self.settings.api_url.rstrip("/") + path

    async def current_client(self) -> httpx2.AsyncClient:
        """Return the HTTP client with today's certificates, for websockets."""
        return await self._current_client()

    async def _send(self, client: httpx2.AsyncClient, request: httpx2.Request) -> httpx2.Response:
        try:
            return await client.send(request, stream=True)
        except httpx2.TransportError as error:
            raise transport_error(error, str(request.url)) from error

    async def _read(self, response: httpx2.Response, path: str) -> bytes:
        try:
            return await response.aread()
        except httpx2.TransportError as error:
            raise transport_error(error, self.url(path)) from error

    def _timeout(self, seconds: float | None) -> httpx2.Timeout:
        settings = self.settings
        read = settings.request_timeout_seconds if seconds is None else seconds
        return httpx2.Timeout(read, connect=settings.connect_timeout_seconds)

    async def _current_client(self) -> httpx2.AsyncClient:
        stamp = tls.stamp_of(self.settings)
        if self._client is not None and stamp == self._stamp:
            return self._client
        fresh = self._build_client()
        if self._client is not None:
            self._retired.append(self._client)
        self._client, self._stamp = fresh, stamp
        await self._close_retired()
        return fresh

    def _build_client(self) -> httpx2.AsyncClient:
        token = tls.read_token(self.settings)
        try:
            verify = True if self._transport else tls.build_context(self.settings)
        except OSError as error:  # ssl.SSLError is one
            raise NotSent(f"cannot read the TLS files for {self.settings.api_url}: {error}") from error
        return httpx2.AsyncClient(
            base_url=self.settings.api_url,
            verify=verify,
            transport=self._transport,
            trust_env=False,
            http2=False,
            event_hooks={"response": [_read_refused_upgrade]},
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=32, keepalive_expiry=KEEPALIVE_SECONDS
            ),
            headers={
                "user-agent": self.settings.user_agent,
                "accept": JSON,
                **({"authorization": f"Bearer {token}"} if token else {}),
            },
        )

    async def _close_retired(self) -> None:
        idle = [c for c in self._retired if not self._in_flight.get(id(c))]
        self._retired = [c for c in self._retired if c not in idle]
        for client in idle:
            self._in_flight.pop(id(client), None)
            await client.aclose()


def read_warnings(headers: Sequence[str]) -> Iterator[str]:
    """Yield the texts of ``warning`` headers (RFC 7234, section 5.5)."""
    for found in (_WARNING.fullmatch(header) for header in headers):
        if found is not None:
            yield re.sub(r"\\(.)", r"\1", found[1])


def decode(response: httpx2.Response) -> dict[str, Any]:
    """Return the answer's JSON object."""
    value: dict[str, Any] = orjson.loads(response.content)
    return value


async def _read_refused_upgrade(response: httpx2.Response) -> None:
    """Read the error answer to a websocket's handshake: nobody can any more once it is raised."""
    if "upgrade" in response.request.headers and response.status_code != SWITCHING_PROTOCOLS:
        await response.aread()


def _read_answer(response: httpx2.Response, body: bytes) -> ApiError:
    """Return the error that an answer stands for; a proxy may say when to try again in the header only."""
    error = read_error(response.status_code, body)
    after = response.headers.get(RETRY_AFTER, "")
    if error.details.retry_after_seconds is None and after.isascii() and after.isdigit():
        error.details.retry_after_seconds = int(after)
    return error


def _may_repeat(method: str, error: BaseException, patience: float) -> bool:
    if isinstance(error, NotSent):
        return True
    if method not in SAFE_METHODS or not isinstance(error, Unavailable):
        return False
    after = error.details.retry_after_seconds
    return isinstance(error, OutcomeUnknown) or (after is not None and after <= patience)


def _wait_before_repeating(state: RetryCallState) -> float:
    """Return how long to wait: longer each time, and as long as the server says."""
    error = state.outcome.exception() if state.outcome is not None else None
    after = error.details.retry_after_seconds if isinstance(error, ApiError) else None
    return max(float(after or 0), _backoff(state))
