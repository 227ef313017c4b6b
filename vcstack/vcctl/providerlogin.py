"""Logging in at an identity provider: with a browser on this machine, or on another device."""

import asyncio
import contextlib
import sys
import webbrowser
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

from rich.markup import escape

from vcstack.apiclient.auth import AuthClient, Step
from vcstack.apiclient.oidcmessages import OidcPendingReply
from vcstack.specs.errors import Unavailable
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.session import Session

PAGE: Final = "<!doctype html><title>VC Stack</title><p>{}</p>"
_LONGEST_LINE: Final = 16 * 1024
_SHOWN: Final = ("DISPLAY", "WAYLAND_DISPLAY")
_RETRY_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class _Brought:
    """What the browser brought back."""

    code: str
    state: str
    issuer: str
    error: str


async def log_in_with_browser(session: Session, auth: AuthClient, provider: str) -> Step:
    """Return tokens, or what is left to do, after a login with a browser that comes back to this machine."""
    waiting: asyncio.Future[_Brought] = asyncio.get_running_loop().create_future()
    path = f"/oidc/{provider}"
    expected = ""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            found = _read_request((await reader.readline()).decode("ascii"), path)
            # Other pages of the browser can call us as well; only the provider knows the state.
            good = found is not None and found.state == expected and not waiting.done()
            if good and found is not None:
                waiting.set_result(found)
            text = "You can close this window and go back to the terminal." if good else "This is no login of yours."
            body = PAGE.format(text).encode()
            head = "HTTP/1.1 200 OK" if good else "HTTP/1.1 404 Not Found"
            headers = f"Content-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close"
            writer.write(f"{head}\r\n{headers}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_LONGEST_LINE)
    async with server:
        port = server.sockets[0].getsockname()[1]
        begun = await auth.begin_oidc(provider, f"http://127.0.0.1:{port}{path}")
        expected = begun.state
        session.err.print("Log in with a browser on this machine:")
        session.err.print(escape(begun.authorization_url), soft_wrap=True, highlight=False)
        if sys.platform == "darwin" or any(session.environ.get(name) for name in _SHOWN):
            await asyncio.to_thread(webbrowser.open, begun.authorization_url)
        seconds = (begun.expires_at - session.clock.now()).total_seconds()
        try:
            found = await asyncio.wait_for(waiting, max(1.0, seconds))
        except TimeoutError as error:
            raise _too_late() from error
    if found.error:
        raise CommandError(f"the identity provider refused the login: {found.error}", code=ExitCode.REFUSED)
    return await auth.complete_oidc(begun.challenge, found.code, found.state, issuer=found.issuer)


async def log_in_elsewhere(session: Session, auth: AuthClient, provider: str) -> Step:
    """Return tokens, or what is left to do, after a login on another device."""
    begun = await auth.begin_device(provider)
    session.err.print("Open this address on any device, and type the code there:")
    session.err.print(escape(begun.verification_uri), soft_wrap=True, highlight=False)
    session.err.print(f"[bold]{escape(begun.user_code)}[/]", highlight=False)
    interval = begun.interval_seconds
    while session.clock.now() < begun.expires_at:
        await session.clock.sleep(interval)
        try:
            found = await auth.poll_device(begun.challenge)
        except Unavailable:
            await session.clock.sleep(_RETRY_SECONDS)
            continue
        if not isinstance(found, OidcPendingReply):
            return found
        interval = found.interval_seconds
    raise _too_late()


def _read_request(line: str, path: str) -> _Brought | None:
    """Return what the first line of an HTTP request brings, None when it is not meant for us."""
    method, _, rest = line.partition(" ")
    target, _, _ = rest.partition(" ")
    split = urlsplit(target)
    if method != "GET" or split.path != path:
        return None
    query = {name: values[0] for name, values in parse_qs(split.query).items()}
    error = "".join(c for c in query.get("error", "") if c.isprintable())[:100]
    return _Brought(query.get("code", ""), query.get("state", ""), query.get("iss", ""), error)


def _too_late() -> CommandError:
    return CommandError("nobody has logged in in time", hint="Run the command again.", code=ExitCode.REFUSED)
