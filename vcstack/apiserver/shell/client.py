"""The client of a guest's SSH server: a login by certificate, and one terminal. The only place that knows asyncssh.

What is at the other end belongs to a tenant. It may say and do anything: it gets a terminal's bytes and nothing else of
us, no agent, no forwarding, no environment, no password, and no file of this machine is read for it.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import asyncssh
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vcstack.apiserver.racing import first_of
from vcstack.apiserver.tunnels import HostStream
from vcstack.pki.ssh import issue_login, make_private_key, private_text
from vcstack.specs.errors import ApiError, Forbidden, Unavailable

READ_BYTES: Final = 32 * 1024
"""One message to the client; below the limit of 64 KiB of messages."""
WINDOW_BYTES: Final = 256 * 1024
"""What a guest may send before it is read: it bounds what one shell takes of our memory."""
LOGIN_SECONDS: Final = 30.0
"""OpenSSH asks for the name of who comes before it lets in, which takes its time where there is no DNS."""
ALIVE_SECONDS: Final = 15.0
END_SECONDS: Final = 2.0
TERMINAL: Final = "xterm-256color"
KILLED: Final = 255
"""What OpenSSH's own client ends with when a signal ended the command."""
_STRANGE: Final = re.compile(r"[^ -~]+")
SAID_LIMIT: Final = 60


@dataclass(frozen=True, slots=True)
class Login:
    """As whom, and what says so."""

    name: str
    """The name in the guest."""
    key_id: str
    """Who it really is, for the guest's log."""
    authority: bytes = field(repr=False)
    """The private key that guests trust."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How the shell or command ended."""

    status: int
    signal: str = ""


@dataclass(frozen=True, slots=True)
class Size:
    """Of a terminal, in characters."""

    columns: int
    rows: int


class Link:
    """Carries bytes between the host's stream and the socket that the library speaks over."""

    def __init__(self, stream: HostStream, ours: socket.socket) -> None:
        self._stream = stream
        self._socket = ours
        self.error: ApiError | None = None
        """What the host said was wrong; that the connection broke is its consequence."""

    async def run(self) -> None:
        """Carry until either side ends."""
        reader, writer = await asyncio.open_connection(sock=self._socket)
        try:
            await first_of(self._to_guest(reader), self._from_guest(writer))
        except ApiError as error:
            self.error = error
        except OSError:
            return  # the library has let go
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _to_guest(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(READ_BYTES):
            await self._stream.send(data)

    async def _from_guest(self, writer: asyncio.StreamWriter) -> None:
        while data := await self._stream.receive():
            writer.write(data)
            await writer.drain()

    @contextlib.contextmanager
    def telling(self, login: str = "") -> Iterator[None]:
        """Tell the library's errors apart.

        Raises:
            Forbidden: the guest does not let this login in.
            Unavailable: all else; and what the host said.
        """
        try:
            yield
        except asyncssh.PermissionDenied as error:
            said = f"the guest lets {login} not in: is there that user, and does it trust the project's SSH authority?"
            raise Forbidden(said) from error
        except TimeoutError as error:
            raise Unavailable("the instance's SSH server does not answer; is the guest still starting?") from error
        except (asyncssh.ConnectionLost, OSError) as error:
            raise self.error or Unavailable("the connection to the instance's SSH server broke") from error
        except (asyncssh.Error, ValueError) as error:
            said = f"the instance's SSH server refuses: {_clean(str(error))[:SAID_LIMIT]}"
            raise self.error or Unavailable(said) from error


class Terminal:
    """One open terminal."""

    def __init__(self, process: "asyncssh.SSHClientProcess[bytes]", link: Link) -> None:
        self._process = process
        self._link = link

    async def read(self) -> bytes:
        """Return the next bytes; b"" at the end. Raises Unavailable when the connection broke."""
        with self._link.telling():
            return await self._process.stdout.read(READ_BYTES)

    async def read_stderr(self) -> bytes:
        """Return what a command without a terminal writes there; b"" at the end, and where there is a terminal."""
        with self._link.telling():
            return await self._process.stderr.read(READ_BYTES)

    async def write(self, data: bytes) -> None:
        """Send what was typed, as fast as it is taken."""
        with self._link.telling():
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    def end_input(self) -> None:
        """Say that nothing more will be written."""
        with self._link.telling():
            self._process.stdin.write_eof()

    def resize(self, size: Size) -> None:
        """Tell the guest how large the terminal is now."""
        with self._link.telling():
            self._process.change_terminal_size(size.columns, size.rows)

    async def end(self) -> Exit:
        """Return how it ended, once all was read. Raises Unavailable when the guest did not say."""
        with self._link.telling():
            await self._process.wait_closed()
        if self._process.exit_signal is not None:
            return Exit(KILLED, _clean(self._process.exit_signal[0])[:SAID_LIMIT])
        if self._process.exit_status is None:
            raise self._link.error or Unavailable("the connection to the instance's SSH server broke")
        return Exit(self._process.exit_status)


@contextlib.asynccontextmanager
async def open_terminal(
    stream: HostStream, login: Login, size: Size | None, command: str | None, now: datetime
) -> AsyncIterator[Terminal]:
    """Log in over the stream and yield a terminal with a shell, or with the command; no size: without a terminal.

    Raises:
        Forbidden: the guest does not let this login in.
        Unavailable: there is no SSH server, or none that we understand; or what the host says.
    """
    theirs, ours = socket.socketpair()
    link = Link(stream, ours)
    carrying = asyncio.create_task(link.run(), name="shell-link")
    connection: asyncssh.SSHClientConnection | None = None
    try:
        with link.telling(login.name):
            connection = await _connect(theirs, login, now)
            process = await connection.create_process(
                command,
                term_type=TERMINAL if size is not None else None,
                term_size=(size.columns, size.rows) if size is not None else (),
                encoding=None,
                window=WINDOW_BYTES,
            )
        yield Terminal(process, link)
    finally:
        if connection is not None:
            connection.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await connection.wait_closed()
            connection.abort()
        theirs.close()
        carrying.cancel()
        await asyncio.gather(carrying, return_exceptions=True)


async def _connect(theirs: socket.socket, login: Login, now: datetime) -> asyncssh.SSHClientConnection:
    secret = make_private_key()
    public = Ed25519PrivateKey.from_private_bytes(secret).public_key()
    certificate = issue_login(login.authority, public, login=login.name, key_id=login.key_id, now=now)
    key = asyncssh.import_private_key(private_text(secret)), asyncssh.import_certificate(certificate)
    return await asyncssh.connect(
        "instance",
        sock=theirs,
        config=None,
        username=login.name,
        client_keys=[key],
        # The way ends at the guest's own port, by the rules of its network: there is nobody else to answer.
        known_hosts=None,
        agent_path=None,
        gss_host=None,
        preferred_auth="publickey",
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        compression_algs=["none"],
        client_version="VCStack",
        connect_timeout=LOGIN_SECONDS,
        login_timeout=LOGIN_SECONDS,
        keepalive_interval=ALIVE_SECONDS,
    )


def _clean(said: str) -> str:
    """What the guest says goes to people's terminals and logs: nothing but printable ASCII."""
    return _STRANGE.sub(" ", said).strip()
