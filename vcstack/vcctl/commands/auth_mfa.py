"""auth mfa: the second factor of whoever is logged in."""

from typing import Annotated

import typer

from vcstack.apiclient.access import AccessClient
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import SETTINGS
from vcstack.vcctl.asking import ask_line, ask_secret
from vcstack.vcctl.commands.auth import auth, own_login
from vcstack.vcctl.loggingin import Proving, show_enrolment, show_recovery_codes, with_code
from vcstack.vcctl.session import Session

mfa = typer.Typer(help="Your second factor: an authenticator app that shows codes.", no_args_is_help=True)
auth.add_typer(mfa, name="mfa")

Replace = Annotated[
    bool, typer.Option("--replace", help="One is enrolled already: it is asked for a code, and replaced.")
]


@command(
    "enrol",
    panel=SETTINGS,
    within=mfa,
    examples="""
    vcctl auth mfa enrol
    vcctl auth mfa enrol --replace
    """,
)
async def enrol(session: Session, replace: Replace = False) -> None:
    """Enrol a second factor: shows a QR code, asks for the first code, prints recovery codes."""
    client, device = own_login(session)
    with Proving():
        password = await _ask_password(session)
        present = _ask_code(session) if replace else ""
        show_enrolment(session, await client.enrol(password, present, device=device))
        codes = await with_code(session, client.confirm)
    show_recovery_codes(session, "Second factor enrolled.", codes)


@command("disable", panel=SETTINGS, within=mfa, examples="vcctl auth mfa disable")
async def disable(session: Session) -> None:
    """Log in without a second factor from now on, where that is allowed."""
    client, device = own_login(session)
    with Proving():
        await client.disable_mfa(await _ask_password(session), _ask_code(session), device=device)
    session.err.print("The second factor is removed; its recovery codes are good no more.")


@command("recovery-codes", panel=SETTINGS, within=mfa, examples="vcctl auth mfa recovery-codes")
async def recovery_codes(session: Session) -> None:
    """Print new recovery codes; the old ones are good no more."""
    client, device = own_login(session)
    with Proving():
        codes = await client.renew_recovery_codes(await _ask_password(session), _ask_code(session), device=device)
    show_recovery_codes(session, "The old recovery codes are good no more.", codes)


def _ask_code(session: Session) -> str:
    return ask_line(session, "Code of the authenticator, or a recovery code").replace(" ", "")


async def _ask_password(session: Session) -> str:
    """Return the password; nothing of who has none here, having logged in at an identity provider."""
    me = await AccessClient(session.client.connection).me()
    return "" if {"oidc", "ldap"} & set(me.get("methods") or ()) else ask_secret("Password")
