"""What a server trusts and shows, found out by a real handshake with it. Nothing is believed that was not seen."""

import asyncio
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from vcstack.pki.authority import Issued
from vcstack.pki.files import PRIVATE, write_atomically

TIMEOUT_SECONDS: Final = 5.0
HTTP: Final = b"GET /health HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"
"""For etcd: with TLS 1.3 a client's certificate is refused only after the handshake, so something is asked."""
OVSDB: Final = b'{"method":"echo","params":[],"id":0}'


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that asks for client certificates."""

    name: str
    """As people know it."""
    host: str
    port: int
    question: bytes
    """What it answers to whomever it has accepted."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a server did."""

    accepted: bool
    """Whether it answered us: it trusts the authority of our certificate."""
    certificate: x509.Certificate | None
    """What it showed."""


async def probe(endpoint: Endpoint, credential: Issued) -> Seen:
    """Return what the server does with that certificate. Raises OSError when it does not answer at all."""
    context = await asyncio.to_thread(_context_with, credential)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
    except (ssl.SSLError, ConnectionResetError):
        return Seen(False, None)
    except TimeoutError as error:
        raise OSError(f"no answer in {TIMEOUT_SECONDS:g} s") from error
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        certificate = x509.load_der_x509_certificate(shown)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                writer.write(endpoint.question)
                await writer.drain()
                return Seen(bool(await reader.read(64)), certificate)
        except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
            return Seen(False, certificate)
        except TimeoutError as error:
            raise OSError(f"no answer in {TIMEOUT_SECONDS:g} s") from error
    finally:
        writer.transport.abort()


def _context_with(credential: Issued) -> ssl.SSLContext:
    """A context that shows the certificate and takes any server's: who that is will be looked at, nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with tempfile.TemporaryDirectory() as folder:  # the ssl module reads keys from files only
        cert, key = Path(folder) / "crt", Path(folder) / "key"
        write_atomically(cert, credential.cert, PRIVATE)
        write_atomically(key, credential.key, PRIVATE)
        context.load_cert_chain(cert, key)
    return context
