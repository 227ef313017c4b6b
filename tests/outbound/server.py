"""An HTTPS server that answers as a test wants, and a resolver whose answers change."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

from vcstack.outbound.addresses import AddressPolicy, AllowedTarget
from vcstack.outbound.client import OutboundClient, OutboundSettings
from vcstack.pki.authority import CertificateAuthority

NAMES = ("provider.example", "other.example", "127.0.0.1")


@dataclass
class Server:
    """Listens on the loopback.

    Attributes:
        requests: what was sent, head and body as they came.
        answer: what is sent back to a request, and then the connection is closed.
        server_names: what clients asked for in TLS.
    """

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)
    answer: Callable[[bytes], bytes | Sequence[bytes]] = lambda request: ok(b"hello")
    silent: bool = False

    def url(self, host: str = "provider.example", path: str = "/", scheme: str = "https") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(h[15:]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")), 0)
            request = head + await reader.readexactly(length)
            self.requests.append(request)
            if self.silent:
                await reader.read()
            answer = self.answer(request)
            for part in [answer] if isinstance(answer, bytes) else answer:
                writer.write(part)
                await writer.drain()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.close()
            await writer.wait_closed()


class ChangingResolver:
    """Answers each question with the next answer, the last one for ever, and counts."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, host: str) -> list[str]:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if not answer:
            raise OSError("no such name")
        return answer


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def redirect(location: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@contextlib.asynccontextmanager
async def running(folder: Path, *, tls: bool = True, names: Sequence[str] = NAMES) -> AsyncIterator[Server]:
    """Run a server whose certificate is for those names; its CA is ``folder/ca.crt``."""
    server = Server()
    context = None
    if tls:
        authority = CertificateAuthority.create("test CA")
        issued = authority.issue_server("provider", names, hours=1)
        (folder / "ca.crt").write_bytes(authority.cert_pem)
        (folder / "server.crt").write_bytes(issued.cert)
        (folder / "server.key").write_bytes(issued.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        context.sni_callback = lambda _socket, name, _context: server.server_names.append(name)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


def client_of(
    server: Server,
    folder: Path,
    resolver: ChangingResolver | None = None,
    *,
    network: str = "127.0.0.1/32",
    plain_http: bool = False,
    seconds: float = 60,
) -> OutboundClient:
    """Return a client for whom the server's address and port are allowed, and nothing else that is private."""
    target = AllowedTarget(network=ip_network(network), ports=frozenset({server.port}), plain_http=plain_http)
    ca_file = folder / "ca.crt"
    settings = OutboundSettings(
        addresses=AddressPolicy(allowed=[target]),
        ca_file=ca_file if ca_file.exists() else None,
        connect_seconds=60,
        total_seconds=seconds,
    )
    return OutboundClient(settings, resolver or ChangingResolver(["127.0.0.1"]))
