"""reveal: the values of a secret, which no other command shows."""

from typing import Annotated

import typer

from vcstack.apiclient.secrets import SecretReader
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import READ
from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.printing import to_yaml, write
from vcstack.vcctl.selection import parse_objects
from vcstack.vcctl.session import Session
from vcstack.vcctl.terminal import write_raw


@command(
    "reveal",
    panel=READ,
    examples="""
    vcctl reveal db
    vcctl reveal db password
    """,
)
async def reveal(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The Secret's name.", show_default=False)],
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="Only this value, as it is.")] = None,
) -> None:
    """Show the values of a Secret. That you have read them is written down in the audit trail."""
    (secret,) = parse_objects([name], "Secret")
    values = await SecretReader(session.client.connection).read_all(
        session.project_of(get_kind("Secret")) or "", secret
    )
    if key is None:
        write(session.out, to_yaml(values).rstrip("\n"))
    elif key in values:
        write_raw(values[key].encode() + b"\n")
    else:
        known = ", ".join(sorted(values)) or "none"
        raise CommandError(f"Secret {secret} has no value {key}", hint=f"It has: {known}.")
