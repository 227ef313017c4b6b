"""auth key: API keys and their secrets, for programs."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from vcstack.apiclient.access import AccessClient
from vcstack.apiclient.auth import AuthClient
from vcstack.apiclient.authmessages import KeySecretReply
from vcstack.apiclient.credentials import ApiKey
from vcstack.pki.files import PRIVATE, write_atomically
from vcstack.specs.errors import ApiError
from vcstack.specs.kinds.apikey import APIKey
from vcstack.specs.meta import API_VERSION, format_time
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import SETTINGS
from vcstack.vcctl.commands.auth import auth
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.printing import write
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.session import Session
from vcstack.vcctl.waiting import parse_duration

key = typer.Typer(help="API keys: secrets with which programs call the API.", no_args_is_help=True)
auth.add_typer(key, name="key")

NEVER = "never"
KeyName = Annotated[str, typer.Argument(metavar="NAME", help="The APIKey's name.", show_default=False)]
ServiceAccount = Annotated[
    str | None,
    typer.Option("--service-account", metavar="NAME", help="As which service account of the project it acts."),
]
Out = Annotated[
    Path | None, typer.Option("--to", metavar="FILE", help="Write the secret to a file of mode 0600 instead.")
]


@command(
    "create",
    panel=SETTINGS,
    within=key,
    examples="""
    vcctl auth key create ci --service-account ci -p demo --to ci.key
    vcctl auth key create laptop --expires-in 30d --network 192.0.2.0/24
    """,
)
async def create(
    session: Session,
    name: KeyName,
    service_account: ServiceAccount = None,
    user: Annotated[str | None, typer.Option("--user", metavar="USER", help="For whom it acts; default you.")] = None,
    expires_in: Annotated[
        str, typer.Option("--expires-in", metavar="DURATION", help="E.g. 12h, 30d or never.")
    ] = "90d",
    network: Annotated[
        list[str],
        typer.Option("--network", metavar="CIDR", help="Where it may be used from; may be repeated. Default anywhere."),
    ] = [],  # noqa: B006 - typer copies it
    to: Out = None,
) -> None:
    """Make an API key and print KEYID:SECRET, once. Rules that narrow it are given by a manifest of kind APIKey."""
    if service_account and user:
        raise CommandError("--service-account and --user do not go together")
    definition = get_kind(APIKey.KIND)
    project = _project_of(session) if service_account else None
    owner = {"serviceAccount": service_account} if service_account else {"user": user or await _own_name(session)}
    spec: Wire = {**owner}
    if network:
        spec["sourceNetworks"] = list(network)
    if expires_in != NEVER:
        spec["expiresAt"] = format_time(_end_of(session.clock.now(), expires_in))
    metadata = {"name": name, **({"project": project} if project else {})}
    wire = {"apiVersion": API_VERSION, "kind": definition.kind, "metadata": metadata, "spec": spec}
    await session.client.create_wire(definition, wire)
    try:
        issued = await AuthClient(session.client.connection).issue_key_secret(name, project=project)
    except ApiError as error:
        place = f" -p {project}" if project else ""
        raise CommandError(
            f"the key {name} is made, but it has no secret yet: {error.message}",
            hint=f"vcctl auth key rotate {name}{place} makes one.",
            code=ExitCode.REFUSED,
        ) from error
    _show(session, issued, to)


@command(
    "rotate",
    panel=SETTINGS,
    within=key,
    examples="""
    vcctl auth key rotate laptop
    vcctl auth key rotate ci -p demo --to ci.key
    """,
)
async def rotate(session: Session, name: KeyName, to: Out = None) -> None:
    """Make another secret of an API key and print KEYID:SECRET, once.

    The one before it stays good for the key's overlapSeconds, a day by default. Keys of service accounts need -p.
    """
    client = AuthClient(session.client.connection)
    _show(session, await client.issue_key_secret(name, project=session.options.project), to)


def _show(session: Session, issued: KeySecretReply, to: Path | None) -> None:
    text = str(ApiKey(issued.key_id, issued.secret))
    if issued.previous_until is not None:
        session.err.print(f"The secret before this one is good until {issued.previous_until:%Y-%m-%d %H:%M} UTC.")
    if issued.expires_at is not None:
        session.err.print(
            f"This secret ends at {issued.expires_at:%Y-%m-%d %H:%M} UTC, as your right to have it does. "
            "Who has that for good makes one that stays.",
            soft_wrap=True,
        )
    if to is not None:
        write_atomically(to, text.encode() + b"\n", PRIVATE)
        session.err.print(f"Written to {escape(str(to))}; use it with VCSTACK_API_KEY_FILE={escape(str(to))}.")
        return
    session.err.print("For $VCSTACK_API_KEY or a file that $VCSTACK_API_KEY_FILE names. It is not shown again:")
    write(session.out, text)


def _project_of(session: Session) -> str:
    if session.default_project is None:
        raise CommandError("a service account lives in a project, and none is given", hint="Add -p PROJECT.")
    return session.default_project


async def _own_name(session: Session) -> str:
    me = await AccessClient(session.client.connection).me()
    if me["role"] != "User":
        raise CommandError(f"{me['subject']} is no user", hint="Add --user USER or --service-account NAME -p PROJECT.")
    return str(me["name"])


def _end_of(now: datetime, text: str) -> datetime:
    """Return when a key ends: days, or what other durations are written like."""
    days = text.removesuffix("d")
    seconds = int(days) * 86400.0 if text.endswith("d") and days.isdecimal() else parse_duration(text)
    if not 0 < seconds <= 100 * 366 * 86400:
        raise CommandError(f"{text!r} is no time for a key to last", hint="Write e.g. 12h, 30d or never.")
    return (now + timedelta(seconds=seconds)).replace(microsecond=0)
