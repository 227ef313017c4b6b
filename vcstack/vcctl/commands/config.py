"""config: contexts, that is which API, who you are, and which project is meant."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from vcstack.specs.errors import NotFound
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import app, command
from vcstack.vcctl.arguments import SETTINGS
from vcstack.vcctl.completing import complete_contexts, complete_projects
from vcstack.vcctl.contexts import Context, save_contexts
from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.identities import locate_session
from vcstack.vcctl.printing import Table, to_yaml, write
from vcstack.vcctl.session import Session

config = typer.Typer(help="Contexts: which API, who you are, which project is meant.", no_args_is_help=True)
app.add_typer(config, name="config", rich_help_panel=SETTINGS)

ContextName = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=complete_contexts, show_default=False, help="A context.")
]


@command("get-contexts", panel=SETTINGS, within=config, examples="vcctl config get-contexts")
async def get_contexts(session: Session) -> None:
    """List the contexts; * marks the current one."""
    file = session.contexts.file
    if not file.contexts:
        session.contexts.choose(None)
    table = Table(["CURRENT", "NAME", "API", "PROJECT"])
    for context in file.contexts:
        table.add(
            ["*" if context.name == file.current_context else "", context.name, context.api_url, context.project or ""]
        )
    table.print(session.out)


@command("use-context", panel=SETTINGS, within=config, examples="vcctl config use-context lab")
async def use_context(session: Session, name: ContextName) -> None:
    """Make a context the current one."""
    session.contexts.choose(name)
    session.contexts.file.current_context = name
    save_contexts(session.contexts)
    session.out.print(f"The current context is {escape(name)}.", soft_wrap=True)


@command(
    "set-context",
    panel=SETTINGS,
    within=config,
    examples="""
    vcctl config set-context lab --api-url https://10.98.0.1:8443 --ca-file ca.crt --token-file admin-token
    vcctl config set-context prod --api-url https://cloud.example:8443 --ca-file ca.crt
    vcctl config set-context lab -p demo
    """,
)
async def set_context(
    session: Session,
    name: ContextName,
    api_url: Annotated[str | None, typer.Option("--api-url", metavar="URL", help="https://HOST:PORT")] = None,
    ca_file: Annotated[Path | None, typer.Option("--ca-file", metavar="FILE", help="The CA to trust.")] = None,
    token_file: Annotated[Path | None, typer.Option("--token-file", metavar="FILE", help="Your token.")] = None,
    cert_file: Annotated[Path | None, typer.Option("--cert-file", metavar="FILE", help="Your certificate.")] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", metavar="FILE", help="Its key.")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", metavar="FILE", help="An API key, of vcctl auth key create.")
    ] = None,
) -> None:
    """Add a context or change one. -p sets its project."""
    found = session.contexts.file.find(name)
    given = {"ca_file": ca_file, "token_file": token_file, "cert_file": cert_file, "key_file": key_file}
    given["api_key_file"] = api_key_file
    changes: dict[str, str] = {k: str(v.expanduser().resolve()) for k, v in given.items() if v is not None}
    if session.options.project:
        changes["project"] = session.options.project
    if api_url:
        changes["api_url"] = _check_url(api_url)
    if found is None and api_url is None:
        raise CommandError(f"context {name} is new", hint="Give it an --api-url, e.g. https://10.98.0.1:8443")
    before = found.model_dump() if found is not None else {"name": name}
    context = Context.model_validate({**before, **changes})
    file = session.contexts.file
    file.contexts = [context if c.name == name else c for c in file.contexts] if found else [*file.contexts, context]
    file.current_context = file.current_context or name
    save_contexts(session.contexts)
    session.out.print(
        f"Context {escape(name)} {'changed' if found else 'added'} in {session.contexts.path}.", soft_wrap=True
    )


def _check_url(url: str) -> str:
    if not url.startswith("https://"):
        raise CommandError(f"{url} is no https URL", hint="The API speaks TLS only: https://HOST:PORT")
    return url.rstrip("/")


@command("delete-context", panel=SETTINGS, within=config, examples="vcctl config delete-context lab")
async def delete_context(session: Session, name: ContextName) -> None:
    """Forget a context, and who is logged in with it here. To end that session too: vcctl logout first."""
    file = session.contexts.file
    session.contexts.choose(name)
    locate_session(session.contexts, name, session.environ).unlink(missing_ok=True)
    file.contexts = [c for c in file.contexts if c.name != name]
    file.current_context = None if file.current_context == name else file.current_context
    save_contexts(session.contexts)
    session.out.print(f"Context {escape(name)} deleted.", soft_wrap=True)


@command("use-project", panel=SETTINGS, within=config, examples="vcctl config use-project demo")
async def use_project(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="PROJECT", autocompletion=complete_projects, show_default=False)],
) -> None:
    """Set the project that is meant when no -p is given."""
    context = session.context
    try:
        await session.client.get_wire(get_kind("Project"), name)
    except NotFound:
        session.err.print(f"Project {escape(name)} does not exist yet; it is set all the same.", soft_wrap=True)
    context.project = name
    save_contexts(session.contexts)
    session.out.print(f"Context {escape(context.name)} now means project {escape(name)}.", soft_wrap=True)


@command("view", panel=SETTINGS, within=config, examples="vcctl config view")
async def view(session: Session) -> None:
    """Show the context file and where it is. Tokens are in files of their own and are not shown."""
    write(session.out, f"# {session.contexts.path}")
    write(session.out, to_yaml(session.contexts.file.to_wire()).rstrip("\n"))
