"""The application: how a coroutine becomes a command with the options that all commands share."""

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Concatenate, ParamSpec

import typer
from typer.core import TyperCommand, TyperGroup

from vcstack.specs.errors import ApiError
from vcstack.vcctl.completing import complete_contexts, complete_projects
from vcstack.vcctl.errors import CommandError, ExitCode, exit_code_of, show_error
from vcstack.vcctl.session import GlobalOptions, Session, open_session

P = ParamSpec("P")
Command = Callable[Concatenate[Session, P], Awaitable[int | None]]

SHARED_PANEL = "Options of all commands"
ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project",
        "-p",
        metavar="PROJECT",
        help="The project; default the context's.",
        autocompletion=complete_projects,
        rich_help_panel=SHARED_PANEL,
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        help="The context; default the current one.",
        autocompletion=complete_contexts,
        rich_help_panel=SHARED_PANEL,
    ),
]

EXIT_CODES = (
    "Exit codes: 0 done; 1 differences found, or no (diff, auth); 2 command line; 3 refused by the API; 4 not found; "
    "5 API unreachable; 6 timeout; 7 what was waited for failed; 8 local file or configuration; 9 a fault of vcctl; "
    "130 interrupted."
)


class _PlainFlags:
    """Help pages say of a flag what it does, not that it is a <bool>."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, flags without the name of a type."""
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
        return params


class HelpfulCommand(_PlainFlags, TyperCommand):
    """A command."""


class HelpfulGroup(_PlainFlags, TyperGroup):
    """A command that has commands below it."""


app = typer.Typer(
    cls=HelpfulGroup,
    name="vcctl",
    help="Drives a VC Stack cloud: what you want is a manifest, what is so is a status.\n\n" + EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(ctx: typer.Context, project: ProjectOption = None, context: ContextOption = None) -> None:
    """Keep the options given before the command."""
    ctx.obj = GlobalOptions(project=project, context=context)


def command(
    name: str, *, panel: str, examples: str = "", within: typer.Typer = app, hidden: bool = False
) -> Callable[[Command[P]], Command[P]]:
    """Register a coroutine as a command; its parameters after the session are options and arguments.

    ``examples`` are shown in the help, one a line. The coroutine's result is the exit code (None: 0).
    """

    def register(function: Command[P]) -> Command[P]:
        text = _help(function, examples)
        within.command(name, cls=HelpfulCommand, help=text, rich_help_panel=panel, hidden=hidden)(_wrap(function))
        return function

    return register


def _help(function: Callable[..., Any], examples: str) -> str:
    # Paragraphs are as wide as the terminal, not as the source.
    text = "\n\n".join(p.replace("\n", " ") for p in (inspect.getdoc(function) or "").split("\n\n"))
    lines = [line.strip().replace("[", "\\[") for line in examples.strip().splitlines()]
    return text + ("\n\n\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines) if lines else "")


def _wrap(function: Callable[..., Awaitable[int | None]]) -> Callable[..., None]:
    """Return the plain function that typer calls: with the shared options, in an event loop."""
    _, *own = inspect.signature(function, eval_str=True).parameters.values()

    def run(ctx: typer.Context, **given: Any) -> None:
        before = ctx.obj if isinstance(ctx.obj, GlobalOptions) else GlobalOptions()
        project, context = given.pop("project"), given.pop("context")
        session = open_session(GlobalOptions(project or before.project, context or before.context))
        raise typer.Exit(execute(session, lambda: function(session, **given)))

    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter("project", keyword, default=None, annotation=ProjectOption),
        inspect.Parameter("context", keyword, default=None, annotation=ContextOption),
    ]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *(p.replace(kind=keyword) for p in own), *shared]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def execute(session: Session, call: Callable[[], Awaitable[int | None]]) -> int:
    """Run a command to its end and return the exit code; errors are shown, never raised."""

    async def main() -> int:
        try:
            return await call() or ExitCode.OK
        finally:
            await session.aclose()

    try:
        return asyncio.run(main())
    except BaseExceptionGroup as group:
        return _conclude(session, _first(group))
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - whatever it is, people get a sentence
        return _conclude(session, error)


def _conclude(session: Session, error: BaseException) -> int:
    """Show what ended the command and return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        session.err.print("Interrupted.")
        return ExitCode.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # Whoever read the output has seen enough; nothing more must be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.OK
    if not isinstance(error, ApiError | CommandError | OSError):
        if not isinstance(error, Exception) or session.environ.get("VCCTL_DEBUG"):
            raise error
        error = CommandError(
            f"vcctl failed by a fault of its own ({type(error).__name__}: {error})",
            hint="Please report it with the output of the same command under VCCTL_DEBUG=1.",
            code=ExitCode.FAULT,
        )
    show_error(session.err, error)
    return exit_code_of(error)


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
