"""version and completion."""

import json
import os
import platform
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from vcstack.specs.errors import ApiError
from vcstack.vcctl.application import HelpfulCommand, app, command
from vcstack.vcctl.arguments import SETTINGS, OutputFormat
from vcstack.vcctl.errors import CommandError, ExitCode, exit_code_of, show_error
from vcstack.vcctl.printing import parse_output, to_yaml, write
from vcstack.vcctl.session import Session

SHELLS = ("bash", "zsh", "fish")


@command(
    "version",
    panel=SETTINGS,
    examples="""
    vcctl version
    vcctl version --client
    """,
)
async def version(
    session: Session,
    client_only: Annotated[bool, typer.Option("--client", help="Do not ask the API.")] = False,
    output: OutputFormat = None,
) -> int:
    """Show the versions of vcctl and of the API."""
    found: dict[str, str] = {"client": installed_version("vcstack"), "python": platform.python_version()}
    failure: Exception | None = None
    if not client_only:
        try:
            answer = await session.client.get_version()
            found["server"] = str(answer.get("version", answer))
            found["api"] = session.context.api_url
        except (ApiError, CommandError) as error:
            failure = error
    form = parse_output(output).format
    if form == "json":
        write(session.out, json.dumps(found, indent=2))
    elif form == "yaml":
        write(session.out, to_yaml(found).rstrip("\n"))
    else:
        for name, text in found.items():
            write(session.out, f"{name + ':':8} {text}")
    if failure is not None:
        show_error(session.err, failure)
        return exit_code_of(failure)
    return ExitCode.OK


@app.command(
    "completion",
    cls=HelpfulCommand,
    rich_help_panel=SETTINGS,
    help="Print the script that completes kinds, names and options in your shell.\n\n\b\nExamples:\n"
    "  source <(vcctl completion bash)\n"
    "  vcctl completion zsh > ~/.zfunc/_vcctl\n"
    "  vcctl completion fish > ~/.config/fish/completions/vcctl.fish",
)
def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="Your shell.")],
) -> None:
    """Print a completion script."""
    if shell not in SHELLS:
        raise typer.BadParameter(f"{shell} is not known; there are {', '.join(SHELLS)}")
    os.environ["_VCCTL_COMPLETE"] = f"source_{shell}"
    app(prog_name="vcctl", args=[])
