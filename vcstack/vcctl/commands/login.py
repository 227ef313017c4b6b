"""login, logout, whoami: as whom vcctl speaks."""

import json
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from vcstack.apiclient.access import AccessClient
from vcstack.apiclient.auth import AuthClient, Step
from vcstack.apiclient.authmessages import TokensReply
from vcstack.apiclient.credentials import HeldSession, hold
from vcstack.apiclient.ldapmessages import PASSWORD_LOGIN
from vcstack.specs.columns import format_duration
from vcstack.specs.errors import ApiError, Invalid, Unauthorized
from vcstack.specs.kinds.session import Session as SessionKind
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import SETTINGS, OutputFormat
from vcstack.vcctl.asking import ask_line, ask_secret, can_ask
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.identities import Means
from vcstack.vcctl.loggingin import Proving, complete
from vcstack.vcctl.printing import Table, parse_output, to_yaml, write
from vcstack.vcctl.providerlogin import log_in_elsewhere, log_in_with_browser
from vcstack.vcctl.session import Session

Provider = Annotated[str | None, typer.Option("--provider", metavar="NAME", help="Log in at this identity provider.")]
Device = Annotated[
    bool, typer.Option("--device", help="With a browser on another device: type a code there that is printed here.")
]
User = Annotated[
    str | None, typer.Option("--user", "-u", metavar="USER", help="Who logs in; default who did so last here.")
]


@command(
    "login",
    panel=SETTINGS,
    examples="""
    vcctl login --user alice
    vcctl login --context prod
    vcctl login --provider corp
    vcctl login --provider corp --device
    vcctl login --provider office --user alice
    """,
)
async def login(session: Session, user: User = None, provider: Provider = None, device: Device = False) -> None:
    """Log in with a password, and a code where a second factor is enrolled; or at an identity provider: with a browser,
    or with the password that a directory (LDAP) knows.

    With the one-time secret of an administrator as password it asks for a new one. The session is kept in
    ~/.config/vcstack/credentials/, readable by you only, for all commands with this context, and renewed by them
    until it ends. Without a terminal the answers are read from stdin, one a line.
    """
    if device and not provider:
        raise CommandError("--device is of a login at an identity provider", hint="Add --provider NAME.")
    if device and user:
        raise CommandError("--user and --device exclude each other", hint="The provider asks who you are.")
    file = session.identities.open_session_file()
    auth = session.identities.connect_anonymously()
    async with auth.connection:
        with Proving(hint="") if provider else Proving():
            if provider:
                step = await _log_in_there(session, auth, provider, user, device)
                tokens = await complete(session, auth, step, device="")
            else:
                user, tokens = await _log_in_here(session, auth, file.read(), user)
            me = await _ask_me(session, tokens)
            user = str(me["name"])
        async with file.locked():
            before = file.read()
            file.write(_kept(session, before, user, tokens))
        await _end(session, before)
    until = _local(tokens.session_expires_at) if tokens.session_expires_at else "it is revoked"
    session.err.print(
        f"Logged in to {escape(session.context.api_url)} as {escape(user)}, until {until} at the latest.",
        soft_wrap=True,
    )
    if me.get("notice"):
        session.err.print(escape(me["notice"]), soft_wrap=True)
    if session.identities.means is not Means.SESSION:
        session.err.print(
            f"[yellow]Commands still use {session.identities.means}[/]: unset it to use this login.", soft_wrap=True
        )


async def _log_in_there(session: Session, auth: AuthClient, provider: str, user: str | None, device: bool) -> Step:
    """Return the tokens, or what is left to do, after an identity provider: in a browser, or by a directory."""
    if not user:
        try:
            return await (log_in_elsewhere if device else log_in_with_browser)(session, auth, provider)
        except Invalid as error:
            if device or not any(cause.reason == PASSWORD_LOGIN for cause in error.causes):
                raise
        user = _ask_user(session, "")
    try:
        return await auth.login_by_directory(provider, user, ask_secret(f"Password of {user} at {provider}"))
    except Unauthorized as error:
        hint = f"The password is the one at {provider}; who forgot it asks there."
        raise CommandError(error.message, hint=hint, code=ExitCode.REFUSED) from error


async def _log_in_here(
    session: Session, auth: AuthClient, held: HeldSession | None, user: str | None
) -> tuple[str, TokensReply]:
    """Return who logged in with a password, and the tokens."""
    if held is not None and held.api_url != session.context.api_url:
        held = None
    user = user or _ask_user(session, held.user if held else "")
    device = held.devices.get(user, "") if held else ""
    step = await auth.login(user, ask_secret(f"Password of {user}"), device=device)
    return user, await complete(session, auth, step, device=device)


async def _ask_me(session: Session, tokens: TokensReply) -> dict[str, Any]:
    """Return who it is, as an identity provider may have said, and what there is to be told."""
    async with session.identities.connect_with(tokens.access_token) as connection:
        return await AccessClient(connection).me()


def _ask_user(session: Session, last: str) -> str:
    if not can_ask():
        if last:
            return last
        raise CommandError("who logs in?", hint="Add --user USER.")
    user = ask_line(session, f"User [{last}]" if last else "User") or last
    if not user:
        raise CommandError("who logs in?", hint="Add --user USER.")
    return user


def _kept(session: Session, before: HeldSession | None, user: str, tokens: TokensReply) -> HeldSession:
    url = session.context.api_url
    devices = dict(before.devices) if before is not None and before.api_url == url else {}
    if tokens.device_token:
        devices[user] = tokens.device_token
    return HeldSession(api_url=url, user=user, tokens=hold(tokens, session.clock.now()), devices=devices)


async def _end(session: Session, before: HeldSession | None) -> None:
    """End the session that this one takes the place of; that it has ended already does not matter."""
    if before is None or before.api_url != session.context.api_url or before.tokens is None:
        return
    auth = session.identities.connect_anonymously()
    async with auth.connection:
        try:
            await auth.logout(before.tokens.refresh_token)
        except ApiError:
            return


@command(
    "logout",
    panel=SETTINGS,
    examples="""
    vcctl logout
    vcctl logout --everywhere
    """,
)
async def logout(
    session: Session,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="End all your sessions, those of other machines too.")
    ] = False,
) -> None:
    """End the session, here and on the API server at once.

    What else the context names (a token, a certificate) is used again from then on.
    """
    file = session.identities.open_session_file()
    if not session.identities.has_session():
        session.err.print("Nobody is logged in with this context.")
        return
    if everywhere:
        if session.identities.means is not Means.SESSION:
            raise CommandError(f"commands use {session.identities.means}", hint="Unset it, then log out.")
        await _end_others(session)
    async with file.locked():
        held = file.read()
        if held is None:
            return
        ended = await _end_own(session, held)
        file.write(held.model_copy(update={"logged_out": True, "tokens": None}))
    session.err.print(f"{escape(held.user)} is logged out{'' if ended else '; the session had ended before'}.")
    if session.identities.means is not Means.SESSION:
        session.err.print(f"Commands use {session.identities.means} now.")


async def _end_own(session: Session, held: HeldSession) -> bool:
    if held.tokens is None:
        return False
    auth = session.identities.connect_anonymously()
    async with auth.connection:
        try:
            await auth.logout(held.tokens.refresh_token)
        except Unauthorized:
            return False
    return True


async def _end_others(session: Session) -> None:
    me = await AccessClient(session.client.connection).me()
    definition = get_kind(SessionKind.KIND)
    fields = f"spec.subject.kind=User,spec.subject.name={me['name']}"
    for wire in (await session.client.list_wire(definition, fields=fields)).items:
        if wire["metadata"]["name"] != me.get("session"):
            await session.client.delete_wire(definition, wire["metadata"]["name"])


@command(
    "whoami",
    panel=SETTINGS,
    examples="""
    vcctl whoami
    vcctl whoami -o json
    """,
)
async def whoami(session: Session, output: OutputFormat = None) -> None:
    """Show as whom vcctl speaks: user, groups, roles by project, and when the session ends."""
    form = parse_output(output).format
    if form not in ("table", "json", "yaml"):
        raise CommandError(f"-o {output} is no format of whoami", hint="There are json and yaml.")
    me = await AccessClient(session.client.connection).me()
    ends = _session_ends(session)
    if ends is not None:
        me["sessionExpiresAt"] = ends.isoformat()
    if form == "json":
        write(session.out, json.dumps(me, indent=2, ensure_ascii=False))
    elif form == "yaml":
        write(session.out, to_yaml(me).rstrip("\n"))
    else:
        _print_me(session, me, ends)


def _session_ends(session: Session) -> datetime | None:
    if session.identities.means is not Means.SESSION:
        return None
    held = session.identities.open_session_file().read()
    return held.tokens.session_expires_at if held is not None and held.tokens is not None else None


def _print_me(session: Session, me: dict[str, Any], ends: datetime | None) -> None:
    write(session.out, f"{me['subject']} at {session.context.api_url}, by {session.identities.means}")
    if me["groups"]:
        write(session.out, f"groups: {', '.join(me['groups'])}")
    if ends is not None:
        left = format_duration(max(0, int((ends - session.clock.now()).total_seconds())))
        write(session.out, f"session: {me.get('session') or ''}, ends {_local(ends)} (in {left})")
    if me.get("notice"):
        write(session.out, f"notice: {me['notice']}")
    if me.get("restriction"):
        write(session.out, "the API key allows only a part of this: see vcctl auth can-i --list")
    if not me["roles"]:
        write(session.out, "no roles: ask who runs the project or the cloud for a RoleBinding")
        return
    table = Table(["ROLE", "WHERE", "UNTIL"])
    for given in me["roles"]:
        place = f"project {given['project']}" if given.get("project") else ""
        place = place or (f"domain {given['domain']} and below" if given.get("domain") else "the whole cloud")
        table.add([given["role"], place, given.get("expiresAt") or ""])
    table.print(session.out)


def _local(time: datetime) -> str:
    return time.astimezone().strftime("%Y-%m-%d %H:%M")
