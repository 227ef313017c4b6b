"""The guard: requests to where a tenant says, and to nowhere else.

A name is resolved once for a connection, every one of its addresses is judged, and the connection goes to an
address that was judged, by its number: what DNS says a moment later changes nothing. TLS still asks for the name,
and the certificate has to be for it. Connections are not kept, proxies, cookies and .netrc do not exist here, and a
redirect is a new request with all of its checks.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import httpcore2

from vcstack.outbound.addresses import Address, AddressPolicy, parse_address
from vcstack.outbound.errors import BadAnswer, BadUrl, NotReachable
from vcstack.outbound.resolver import Resolver, SystemResolver
from vcstack.outbound.urls import Target, follow, parse_url, url_host

MIB: Final = 1024 * 1024
MOST_ADDRESSES: Final = 16
"""Of one name; more are an attempt to keep us busy."""
TRIED_ADDRESSES: Final = 4
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ABOUT_THE_ORIGIN: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_OURS: Final = frozenset({"host", "accept-encoding", "connection", "user-agent", "transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundSettings:
    """What an operator may turn."""

    addresses: AddressPolicy = field(default_factory=AddressPolicy)
    ca_file: Path | None = None
    """CAs that are trusted besides the machine's."""
    connect_seconds: float = 5.0
    """For one address."""
    total_seconds: float = 15.0
    """For everything, redirects included: DNS, connecting, TLS, the whole answer."""
    concurrent: int = 64
    """Requests under way at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of several alike the last."""
    body: bytes
    url: str
    """Where it came from, after redirects."""


class OutboundClient:
    """Makes guarded requests."""

    def __init__(self, settings: OutboundSettings | None = None, resolver: Resolver | None = None) -> None:
        self.settings = settings or OutboundSettings()
        self._own_resolver = None if resolver else SystemResolver()
        self._resolver: Resolver = resolver or self._own_resolver or SystemResolver()
        self._tls = _tls_context(self.settings.ca_file)
        self._free = asyncio.Semaphore(self.settings.concurrent)

    def close(self) -> None:
        """Let go of threads."""
        if self._own_resolver:
            self._own_resolver.close()

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        limit: int = MIB,
        redirects: int = 0,
    ) -> Answer:
        """Return the answer, whatever its status.

        Args:
            method: GET, POST, ...
            url: as the tenant wrote it.
            headers: besides Host, User-Agent and Accept-Encoding, which are set here.
            content: the body.
            limit: how large an answer may be, in bytes.
            redirects: how many are followed, of a GET or HEAD only; credentials stay with their origin.

        Raises:
            BadUrl: the URL, or that of a redirect, cannot be used.
            NotReachable: refused, or no answer in time.
            BadAnswer: too large, encoded, or one redirect too many.
        """

        async def read(response: httpcore2.Response, target: Target) -> Answer:
            return await _read(response, target, limit)

        async with _within(self.settings.total_seconds, url_host(url)), self._free:
            return await self._follow(method, url, headers, content, redirects, read)

    async def greet(self, url: str) -> None:
        """See whether a request could be made there, and make none: connect, with TLS's handshake, and hang up.

        Raises:
            BadUrl: the URL cannot be used.
            NotReachable: refused, no answer in time, or no TLS that can be trusted.
        """
        target = parse_url(url)
        backend, seconds = self._backend_for(target), self.settings.connect_seconds
        with _talking_to(target.host):
            async with _within(self.settings.total_seconds, target.host), self._free:
                stream = await backend.connect_tcp(target.host, target.port, seconds)
                try:
                    if target.scheme == "https":
                        stream = await stream.start_tls(self._tls, target.host, seconds)
                finally:
                    await stream.aclose()

    async def download(
        self,
        url: str,
        sink: Callable[[bytes], Awaitable[None]],
        *,
        headers: Mapping[str, str] | None = None,
        limit: int,
        redirects: int,
        total_seconds: float,
        idle_seconds: float,
    ) -> Answer:
        """Give what a GET brings to ``sink``, piece by piece, when the status is 200; return the answer without that.

        It does not count among the requests under way: who downloads says how many there are at once.

        Args:
            url: as the tenant wrote it.
            sink: takes the pieces.
            headers: as of ``fetch``; credentials stay with their origin.
            limit: how much it may bring, in bytes.
            redirects: how many are followed.
            total_seconds: for everything.
            idle_seconds: how long nothing may come.

        Raises:
            BadUrl, NotReachable, BadAnswer: as ``fetch``.
        """

        async def read(response: httpcore2.Response, target: Target) -> Answer:
            if response.status != 200:
                return await _read(response, target, MIB)
            found = _headers_of(response, target)
            announced = found.get("content-length", "")
            if announced.isdigit() and int(announced) > limit:
                raise _too_large(target, limit)
            come = 0
            async for part in response.aiter_stream():
                come += len(part)
                if come > limit:
                    raise _too_large(target, limit)
                await sink(part)
            return Answer(status=response.status, headers=found, body=b"", url=target.url)

        async with _within(total_seconds, url_host(url)):
            return await self._follow("GET", url, headers, b"", redirects, read, idle_seconds)

    async def _follow(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        content: bytes,
        redirects: int,
        read: Callable[[httpcore2.Response, Target], Awaitable[Answer]],
        idle_seconds: float | None = None,
    ) -> Answer:
        """Make the request, and those that redirects lead to."""
        target = parse_url(url)
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        if _OURS & sent.keys():
            raise ValueError(f"these headers are set by the guard: {sorted(_OURS & sent.keys())}")
        left = redirects if method in ("GET", "HEAD") else 0
        while True:
            answer = await self._once(method, target, sent, content, read, idle_seconds)
            if answer.status not in REDIRECTS or "location" not in answer.headers:
                return answer
            if left == 0:
                raise BadAnswer(f"{target.host} answers with a redirect, which is not followed")
            left -= 1
            following = follow(target, answer.headers["location"])
            if following.origin != target.origin:
                sent = {name: value for name, value in sent.items() if name not in _ABOUT_THE_ORIGIN}
            target = following

    async def connect(self, host: str, port: int, *, ports: frozenset[int], encrypted: bool) -> socket.socket:
        """Return a connection for another protocol than HTTP, to an address that was judged like all others.

        Args:
            host: a name or address as ``parse_url`` gives it.
            port: its port.
            ports: those of public addresses that the protocol has; exceptions of the operator name their own.
            encrypted: False where an operator has to have allowed plain text.

        Raises:
            NotReachable: refused, or no answer in time.
        """
        policy = replace(self.settings.addresses, ports=ports)
        backend = _GuardedBackend(self._resolver, policy, not encrypted)
        last = "it has no address"
        for address in (await backend.judged(host, port))[:TRIED_ADDRESSES]:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            made = socket.socket(family, socket.SOCK_STREAM)
            made.setblocking(False)
            try:
                async with asyncio.timeout(self.settings.connect_seconds):
                    await asyncio.get_running_loop().sock_connect(made, (str(address), port))
                return made
            except (OSError, TimeoutError) as error:
                made.close()
                last = f"{address}: {type(error).__name__} {error}"
            except BaseException:
                made.close()
                raise
        raise NotReachable(host, last)

    async def find_addresses(self, host: str, port: int, *, ports: frozenset[int], encrypted: bool) -> list[Address]:
        """Return the host's addresses, judged, for a program that connects by itself to one of them by its number.

        Raises:
            NotReachable: one of them is refused, or there is none.
        """
        policy = replace(self.settings.addresses, ports=ports)
        backend = _GuardedBackend(self._resolver, policy, not encrypted)
        async with _within(self.settings.total_seconds, host):
            return (await backend.judged(host, port))[:TRIED_ADDRESSES]

    def tls_context(self, ca_certificates: str | None = None) -> ssl.SSLContext:
        """Return how TLS is spoken to the outside, with these CAs instead of those that are trusted always.

        Raises ValueError for what are no certificates.
        """
        if ca_certificates is None:
            return self._tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cadata=ca_certificates)
        except ssl.SSLError as error:
            raise ValueError("no certificates in PEM") from error
        return context

    def _backend_for(self, target: Target) -> "_GuardedBackend":
        """Return what connects there. Raises BadUrl for plain HTTP where none is allowed."""
        plain = target.scheme == "http"
        if plain and not any(allowed.plain_http for allowed in self.settings.addresses.allowed):
            raise BadUrl("the address must begin with https://")
        return _GuardedBackend(self._resolver, self.settings.addresses, plain)

    async def _once(
        self,
        method: str,
        target: Target,
        headers: Mapping[str, str],
        content: bytes,
        read: Callable[[httpcore2.Response, Target], Awaitable[Answer]],
        idle_seconds: float | None,
    ) -> Answer:
        backend = self._backend_for(target)
        async with httpcore2.AsyncConnectionPool(
            ssl_context=self._tls, max_connections=1, max_keepalive_connections=0, network_backend=backend
        ) as pool:
            request = httpcore2.Request(
                method=method,
                url=httpcore2.URL(
                    scheme=target.scheme.encode(),
                    host=target.host.encode(),
                    port=target.port,
                    target=target.path.encode(),
                ),
                headers=_headers(target, headers, content, method),
                content=content,
                extensions={"timeout": {"connect": self.settings.connect_seconds, "read": idle_seconds}},
            )
            with _talking_to(target.host):
                response = await pool.handle_async_request(request)
                try:
                    return await read(response, target)
                finally:
                    await response.aclose()


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections to addresses that the policy lets through."""

    def __init__(self, resolver: Resolver, policy: AddressPolicy, plain_http: bool) -> None:
        self._resolver = resolver
        self._policy = policy
        self._plain_http = plain_http
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to one of the host's addresses. Raises NotReachable."""
        last = "it has no address"
        for address in (await self.judged(host, port))[:TRIED_ADDRESSES]:
            try:
                return await self._sockets.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = f"{address}: {type(error).__name__} {error}"
        raise NotReachable(host, last)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse."""
        raise NotReachable(path, "sockets of files are not for requests to the outside")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def judged(self, host: str, port: int) -> list[Address]:
        """Return the host's addresses; one that is refused refuses them all."""
        literal = parse_address(host)
        if literal is not None:
            addresses: list[Address | None] = [literal]
        else:
            try:
                addresses = [parse_address(text) for text in await self._resolver.resolve(host)]
            except (OSError, UnicodeError) as error:
                raise NotReachable(host, f"no address: {error}") from error
        if len(addresses) > MOST_ADDRESSES:
            raise NotReachable(host, f"it has {len(addresses)} addresses")
        judged = []
        for address in addresses:
            if address is None:
                raise NotReachable(host, "its address cannot be read")
            refusal = self._policy.refusal(address, port, plain_http=self._plain_http)
            allowed = self._policy.allows(address, port, plain_http=self._plain_http)
            if not refusal and not allowed and is_own(address):
                refusal = "it is this machine's"
            if refusal:
                raise NotReachable(host, f"{address}:{port} refused: {refusal}")
            judged.append(address)
        return judged


@contextlib.asynccontextmanager
async def _within(seconds: float, host: str) -> AsyncIterator[None]:
    """Allow so much time for what is done with the host. Raises NotReachable."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise NotReachable(host, "it took too long") from error


@contextlib.contextmanager
def _talking_to(host: str) -> Iterator[None]:
    """Raise NotReachable for the network's errors."""
    try:
        yield
    except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, OSError) as error:
        raise NotReachable(host, f"{type(error).__name__}: {error}") from error


async def _read(response: httpcore2.Response, target: Target, limit: int) -> Answer:
    headers = _headers_of(response, target)
    body = bytearray()
    async for part in response.aiter_stream():
        body += part
        if len(body) > limit:
            raise _too_large(target, limit)
    return Answer(status=response.status, headers=headers, body=bytes(body), url=target.url)


def _too_large(target: Target, limit: int) -> BadAnswer:
    return BadAnswer(f"the answer of {target.host} is larger than {limit} bytes")


def _headers_of(response: httpcore2.Response, target: Target) -> dict[str, str]:
    """Return the headers, names in lower case. Raises BadAnswer for what is encoded."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        # A few bytes that unpack to gigabytes are no concern of whoever unpacks nothing.
        raise BadAnswer(f"{target.host} answers in the encoding {encoding[:32]!r}, which was not asked for")
    return headers


def _headers(target: Target, given: Mapping[str, str], content: bytes, method: str) -> list[tuple[str, str]]:
    headers = [("host", target.authority), ("user-agent", "vcstack"), ("accept-encoding", "identity")]
    headers += [("connection", "close"), *given.items()]
    if content or method not in ("GET", "HEAD"):
        headers.append(("content-length", str(len(content))))
    for _, value in headers:
        if not value.isascii() or not value.isprintable():
            raise ValueError("a header's value has characters that headers do not have")
    return headers


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context


def is_own(address: Address) -> bool:
    """Return whether the address is one of this machine: the kernel would then talk from it to itself."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # of UDP: nothing is sent
            return parse_address(probe.getsockname()[0]) == address
    except OSError:
        return False  # there is no way to it
