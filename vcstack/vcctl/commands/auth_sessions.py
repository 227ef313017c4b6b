"""auth sessions: where one is logged in."""

from typing import Annotated

import typer

from vcstack.apiclient.access import AccessClient
from vcstack.specs.columns import find_value
from vcstack.specs.kinds.session import Session as SessionKind
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import SETTINGS
from vcstack.vcctl.commands.auth import auth
from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.printing import Table
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.session import Session

sessions = typer.Typer(help="Where you are logged in.", no_args_is_help=True)
auth.add_typer(sessions, name="sessions")

UserOption = Annotated[
    str | None, typer.Option("--user", "-u", metavar="USER", help="Of another user, for administrators.")
]


@command(
    "list",
    panel=SETTINGS,
    within=sessions,
    examples="""
    vcctl auth sessions list
    vcctl auth sessions list --user alice
    """,
)
async def list_sessions(session: Session, user: UserOption = None) -> None:
    """List your sessions; * marks this one."""
    own, found = await _find(session, user)
    table = Table(["CURRENT", "NAME", "BEGAN", "ENDS", "METHODS", "CLIENT"])
    for wire in sorted(found, key=lambda w: str(w["spec"]["createdAt"])):
        spec, name = wire["spec"], wire["metadata"]["name"]
        methods = ", ".join(spec.get("methods") or [])
        cells = [spec["createdAt"], spec["expiresAt"], methods, spec.get("client", "")]
        table.add(["*" if name == own else "", name, *cells])
    table.print(session.out)


@command(
    "revoke",
    panel=SETTINGS,
    within=sessions,
    examples="""
    vcctl auth sessions revoke s-0123456789abcdef0123
    vcctl auth sessions revoke --others
    """,
)
async def revoke(
    session: Session,
    name: Annotated[list[str], typer.Argument(metavar="NAME", help="Sessions.", show_default=False)] = [],  # noqa: B006 - typer copies it
    others: Annotated[bool, typer.Option("--others", help="All but this one.")] = False,
    user: UserOption = None,
) -> None:
    """End sessions; their tokens are refused from that moment on."""
    if bool(name) == others:
        raise CommandError("which sessions?", hint="Name them as vcctl auth sessions list does, or add --others.")
    definition, names = get_kind(SessionKind.KIND), list(name)
    if others:
        own, found = await _find(session, user)
        names = [w["metadata"]["name"] for w in found if w["metadata"]["name"] != own]
    for each in names:
        await session.client.delete_wire(definition, each)
        session.out.print(f"session/{each} ended")


async def _find(session: Session, user: str | None) -> tuple[str, list[Wire]]:
    """Return this session's name, and the user's sessions."""
    me = await AccessClient(session.client.connection).me()
    if user is None and me["role"] != "User":
        raise CommandError(f"{me['subject']} is no user and has no sessions", hint="Add --user USER.")
    fields = f"spec.subject.kind=User,spec.subject.name={user or me['name']}"
    items = (await session.client.list_wire(get_kind(SessionKind.KIND), fields=fields)).items
    return me.get("session") or "", [w for w in items if find_value(w, "spec.subject.name") == (user or me["name"])]
