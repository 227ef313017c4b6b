"""recordings: what was recorded of shells in instances."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from vcstack.apiclient.recordings import Recordings
from vcstack.apiclient.shellmessages import Recording
from vcstack.specs.columns import format_age
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.meta import format_time
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import app, command
from vcstack.vcctl.arguments import INSTANCES, OutputFormat
from vcstack.vcctl.completing import complete_names_of
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.printing import Table, parse_output, to_yaml, write
from vcstack.vcctl.session import Session
from vcstack.vcctl.terminal import write_raw

recordings = typer.Typer(help="Recorded shells of instances.", no_args_is_help=True)
app.add_typer(recordings, name="recordings", rich_help_panel=INSTANCES)


@command(
    "list",
    panel=INSTANCES,
    within=recordings,
    examples="""
    vcctl recordings list
    vcctl recordings list web-1 -o json
    """,
)
async def list_recordings(
    session: Session,
    instance: Annotated[
        str | None,
        typer.Argument(
            metavar="[INSTANCE]",
            help="Default all of the project, also of instances that are gone.",
            autocompletion=complete_names_of("Instance"),
            show_default=False,
        ),
    ] = None,
    output: OutputFormat = None,
) -> None:
    """List the shells that were recorded, the newest first."""
    form = parse_output(output)
    if form.format not in ("json", "yaml", "table", "wide"):
        raise CommandError("recordings can be shown as a table, as json or as yaml", code=ExitCode.USAGE)
    found = await Recordings(session.client.connection, _project(session)).list(instance)
    if form.format == "json":
        write(session.out, json.dumps([each.to_wire() for each in found], indent=2))
    elif form.format == "yaml":
        write(session.out, to_yaml([each.to_wire() for each in found]).rstrip("\n"))
    elif found:
        _print(session, found)
    else:
        session.err.print("No shell was recorded; the setting shell.recording decides.", soft_wrap=True)


@command(
    "get",
    panel=INSTANCES,
    within=recordings,
    examples="""
    vcctl recordings get ID --file web-1.cast
    vcctl recordings get ID | asciinema play -
    """,
)
async def get_recording(
    session: Session,
    recording: Annotated[str, typer.Argument(metavar="ID", help="As listed.", show_default=False)],
    file: Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="Default stdout.")] = None,
) -> None:
    """Write a recording in asciicast v2, which asciinema's players play."""
    reading = Recordings(session.client.connection, _project(session)).read(recording)
    if file is None:
        async for chunk in reading:
            write_raw(chunk)
        return
    with await asyncio.to_thread(file.open, "wb") as target:
        async for chunk in reading:
            await asyncio.to_thread(target.write, chunk)
    session.err.print(f"{file} written", soft_wrap=True, markup=False)


def _project(session: Session) -> str:
    return session.project_of(get_kind(Instance.KIND)) or ""


def _print(session: Session, found: list[Recording]) -> None:
    table = Table(["ID", "INSTANCE", "USER", "LOGIN", "AGE", "SECONDS", "BYTES", "ENDED"])
    now = session.clock.now()
    for each in found:
        ended = "broke off" if each.broken_off else "yes" if each.ended else "no"
        age = format_age(format_time(each.started_at), now)
        table.add([each.id, each.instance, each.user, each.login, age, f"{each.seconds:.0f}", str(each.bytes), ended])
    table.print(session.out)
