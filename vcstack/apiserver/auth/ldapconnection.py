"""The way to a directory: connected by the guard, encrypted here, and handed to OpenLDAP's library as a socket.

The library never opens a connection by itself, so that no name is resolved twice and no referral leads anywhere;
and certificates are checked as those of all other requests to the outside.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from vcstack.outbound.client import OutboundClient
from vcstack.outbound.errors import BadUrl, NotReachable
from vcstack.outbound.urls import parse_url
from vcstack.specs.kinds.identityprovider import LDAPEncryption, LDAPProvider

DEFAULT_PORTS: Final = {"ldaps": 636, "ldap": 389}
PORTS: Final = frozenset({389, 636, 3268, 3269})
"""LDAP's, and those of Active Directory's global catalogue."""
ANSWER_LIMIT: Final = 8 * 1024 * 1024
"""Bytes that a directory may say in one conversation."""
_CHUNK: Final = 64 * 1024
_START_TLS: Final = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"
"""RFC 4511, 4.14.1: the extended request with message id 1."""
_LONGEST_REPLY: Final = 4096


@dataclass(frozen=True, slots=True)
class _Where:
    """A directory's address, taken apart."""

    host: str
    port: int
    tls_first: bool


class LdapConnections:
    """Opens them."""

    def __init__(self, outbound: OutboundClient) -> None:
        self._outbound = outbound

    @property
    def seconds(self) -> float:
        """Return how long everything may take that is said to a directory for one login."""
        return self._outbound.settings.total_seconds

    @contextlib.asynccontextmanager
    async def open(self, directory: LDAPProvider) -> AsyncIterator[socket.socket]:
        """Yield a socket on which LDAP is spoken; whoever takes it closes it.

        Raises:
            NotReachable: refused, no answer, or no TLS that can be trusted.
            BadUrl: the address cannot be used.
            ValueError: the spec's CA certificates are none.
        """
        where = _parse(directory.url)
        encrypted = directory.encryption is LDAPEncryption.TLS or where.tls_first
        context = self._outbound.tls_context(directory.ca_certificates) if encrypted else None
        made = await self._outbound.connect(where.host, where.port, ports=PORTS, encrypted=encrypted)
        try:
            if context is not None and not where.tls_first:
                await _start_tls(made, where.host)
            name = where.host if context is not None else None
            reader, writer = await asyncio.open_connection(sock=made, ssl=context, server_hostname=name)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError) as error:
            made.close()
            raise NotReachable(where.host, f"{type(error).__name__}: {error}") from error
        except BaseException:
            made.close()
            raise
        async with _relayed(reader, writer) as far_end:
            yield far_end


@contextlib.asynccontextmanager
async def _relayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[socket.socket]:
    """Yield a socket whose other end is the stream's."""
    near, far = socket.socketpair()
    near.setblocking(False)
    near_reader, near_writer = await asyncio.open_connection(sock=near)
    pumps = [
        asyncio.create_task(_pump(reader, near_writer, ANSWER_LIMIT)),
        asyncio.create_task(_pump(near_reader, writer, ANSWER_LIMIT)),
    ]
    try:
        yield far
    finally:
        # Whoever still waits on the far end reads its end now.
        for stream in (near_writer, writer):
            _break_off(stream)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        far.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> None:
    with contextlib.suppress(OSError):
        while limit > 0 and (chunk := await reader.read(_CHUNK)):
            limit -= len(chunk)
            writer.write(chunk)
            await writer.drain()
    _break_off(writer) if limit <= 0 else writer.close()


def _break_off(writer: asyncio.StreamWriter) -> None:
    # A TLS transport of Python 3.11.2 that was closed twice cannot be aborted any more; it is ending then.
    with contextlib.suppress(AttributeError):
        writer.transport.abort()


def _parse(url: str) -> _Where:
    """Return where a directory is, by the same strict reading as of every other URL. Raises BadUrl."""
    scheme, _, rest = url.partition("://")
    if scheme not in DEFAULT_PORTS:
        raise BadUrl("the address must begin with ldaps:// or ldap://")
    target = parse_url(f"https://{rest}")
    authority = rest.rstrip("/")
    written = authority.rpartition("]")[2] if "]" in authority else authority
    port = target.port if ":" in written else DEFAULT_PORTS[scheme]
    return _Where(target.host, port, scheme == "ldaps")


async def _start_tls(made: socket.socket, host: str) -> None:
    """Ask for TLS before anything else is said. Nothing is read beyond the answer: what follows it is TLS's.

    Raises NotReachable.
    """
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(made, _START_TLS)
    head = await _read(made, 2)
    length = head[1]
    if length & 0x80:
        more = await _read(made, length & 0x03)
        length = int.from_bytes(more)
    if head[0] != 0x30 or length > _LONGEST_REPLY:
        raise NotReachable(host, "its answer to StartTLS is none")
    reply = await _read(made, length)
    # The message's id, then the tag and length of an extended response, then its result code.
    rest = reply.removeprefix(b"\x02\x01\x01\x78")
    rest = rest[1 + (rest[0] & 0x7F if rest[0] & 0x80 else 0) :] if rest else rest
    if len(rest) == len(reply) or not rest.startswith(b"\x0a\x01\x00"):
        raise NotReachable(host, "it refuses StartTLS")


async def _read(made: socket.socket, count: int) -> bytes:
    loop, found = asyncio.get_running_loop(), b""
    while len(found) < count:
        part = await loop.sock_recv(made, count - len(found))
        if not part:
            raise asyncio.IncompleteReadError(found, count)
        found += part
    return found
