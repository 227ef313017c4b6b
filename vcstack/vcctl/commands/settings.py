"""settings: what counts somewhere, and where each value is from."""

import json
from typing import Annotated, Any

import typer

from vcstack.specs.settings import SettingScope
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import READ, OutputFormat
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.printing import Table, parse_output, to_yaml, write
from vcstack.vcctl.session import Session


@command(
    "settings",
    panel=READ,
    examples="""
    vcctl settings
    vcctl settings --project demo -o wide
    vcctl settings --domain acme
    vcctl settings --cloud
    """,
)
async def settings(
    session: Session,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="NAME", help="Those of a domain instead of the project's.")
    ] = None,
    cloud: Annotated[bool, typer.Option("--cloud", help="Those of the whole cloud.")] = False,
    output: OutputFormat = None,
) -> int:
    """Show all settings as they count in the project, and which Setting says so; without one it is the default.

    With -o wide also what each does, its limits, and where it can be set. Set one with a manifest of kind Setting:
    vcctl explain setting.spec.
    """
    if domain and cloud:
        raise CommandError("--cloud and --domain are two places", hint="Name one of them.")
    project = None if domain or cloud else session.default_project
    form = parse_output(output)
    if form.format not in ("json", "yaml", "table", "wide"):
        raise CommandError("settings can be shown as a table, as json or as yaml", code=ExitCode.USAGE)
    found = await session.client.effective_settings(project=project, domain=None if cloud else domain)
    if form.format == "json":
        write(session.out, json.dumps(found, indent=2, ensure_ascii=False))
    elif form.format == "yaml":
        write(session.out, to_yaml(found).rstrip("\n"))
    else:
        _print(session, found["items"], wide=form.format == "wide")
    return ExitCode.OK


def _print(session: Session, items: list[dict[str, Any]], *, wide: bool) -> None:
    table = Table(["SETTING", "VALUE", "FROM", *(["VALUES", "SET FOR", "DELEGATED", "WHAT IT DOES"] if wide else [])])
    for item in items:
        more = [item["limits"], ", ".join(item["scopes"]), item["delegation"], item["description"]] if wide else []
        table.add([item["setting"], _text(item["value"]), _source(item), *more])
    table.print(session.out)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _source(item: dict[str, Any]) -> str:
    if not item.get("name"):
        return "default"
    place = "cloud" if item["source"] == SettingScope.CLOUD else f"{item['source'].lower()} {item['place']}"
    over = f"; stricter than {item['overrules']}" if item.get("overrules") else ""
    return f"{place} (setting {item['name']}{', locked' if item.get('locked') else ''}){over}"
