"""quota: how much may be used, how much is, and by whom."""

import json
from functools import partial
from typing import Annotated, Any

import typer

from vcstack.applying.concurrency import gather
from vcstack.applying.sets import project_in
from vcstack.specs.errors import NotFound
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import READ, OutputFormat
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.printing import Table, parse_output, to_yaml, write
from vcstack.vcctl.reading import Place, Wire, list_objects
from vcstack.vcctl.session import Session


@command(
    "quota",
    panel=READ,
    examples="""
    vcctl quota
    vcctl quota --project demo
    vcctl quota --domain acme
    vcctl quota --all
    """,
)
async def quota(
    session: Session,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="NAME", help="Quotas of a domain instead of the project's.")
    ] = None,
    everywhere: Annotated[bool, typer.Option("--all", help="All quotas that you may see.")] = False,
    output: OutputFormat = None,
) -> int:
    """Show each limit with how much of it is in use, and what takes most of it.

    Limits of all levels hold at once: those of the project, of its domain, of the domains above and of the whole cloud.
    Of a limit that others share what this project takes of it is marked (mine). With --domain the projects and domains
    that take most of a domain's limits are shown.
    """
    if domain and everywhere:
        raise CommandError("--all and --domain do not go together", hint="Name one of them.")
    definition = get_kind("Quota")
    project = None if domain or everywhere else session.default_project
    if project is not None:
        in_force = await session.client.subresource("GET", get_kind("Project"), project, "usage")
        return _show(session, in_force["items"], output, f"In project {project} no quota holds.")
    wires = await list_objects(session, [Place(definition, None)])
    if domain is not None:
        wires = [w for w in wires if project_in(w) is None and w["spec"].get("domain") == domain]
    usages = await gather(partial(_usage, session, definition, wire) for wire in wires)
    failures = [u for u in usages if isinstance(u, Exception) and not isinstance(u, NotFound)]
    if failures:
        raise failures[0]
    found = [u for u in usages if not isinstance(u, Exception)]
    nothing = f"There is no quota of domain {domain} that you may see; those of domains above it may hold there."
    return _show(session, found, output, nothing if domain else "There is no quota that you may see.")


def _show(session: Session, found: list[Wire], output: str | None, nothing: str) -> int:
    form = parse_output(output)
    if form.format not in ("json", "yaml", "table", "wide"):
        raise CommandError("quota can be shown as a table, as json or as yaml", code=ExitCode.USAGE)
    if form.format == "json":
        write(session.out, json.dumps(found, indent=2))
    elif form.format == "yaml":
        write(session.out, to_yaml(found).rstrip("\n"))
    elif found:
        _print(session, found)
    else:
        session.err.print(nothing, soft_wrap=True)
    return ExitCode.OK


async def _usage(session: Session, definition: KindDefinition, wire: Wire) -> Wire:
    return await session.client.subresource(
        "GET", definition, wire["metadata"]["name"], "usage", project=project_in(wire)
    )


def _print(session: Session, usages: list[Wire]) -> None:
    table = Table(["QUOTA", "OF", "LIMITED", "USED", "LIMIT", "LARGEST"])
    for usage in usages:
        place = f"project {usage['project']}" if usage.get("project") else f"domain {usage.get('domain')}"
        where = place if usage.get("project") or usage.get("domain") else "the whole cloud"
        for item in usage["items"]:
            used = f"{item['used']} (mine)" if usage.get("shared") else item["used"]
            table.add([usage["name"], where, item["name"], used, item["limit"], _largest(item)])
    table.print(session.out)


def _largest(item: dict[str, Any]) -> str:
    return ", ".join(f"{h['kind'].lower()}/{h['name']} {h['amount']}" for h in item["largest"][:3])
