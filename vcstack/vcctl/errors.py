"""Errors as people see them: what is wrong, why, what to do; and the exit codes."""

from enum import IntEnum

from rich.console import Console
from rich.markup import escape

from vcstack.apiclient.faults import BadCredential, LoggedOut, NotSent, OutcomeUnknown
from vcstack.specs.errors import (
    ApiError,
    Conflict,
    Forbidden,
    NotFound,
    PolicyDenied,
    QuotaExceeded,
    Unauthorized,
    Unavailable,
)


class ExitCode(IntEnum):
    """What the program ends with."""

    OK = 0
    DIFFERENCE = 1
    """What is compared differs (diff, auth plan), or the answer is no (auth can-i)."""
    USAGE = 2
    """The command line cannot be read."""
    REFUSED = 3
    """The API refused the request: invalid, forbidden, in conflict."""
    NOT_FOUND = 4
    """There is no such object."""
    UNREACHABLE = 5
    """The API does not answer, or not with a certificate that is trusted."""
    TIMEOUT = 6
    """What was waited for did not happen in time."""
    FAILED = 7
    """What was waited for can no longer happen: a task failed."""
    LOCAL = 8
    """A manifest, the configuration or a file here cannot be read or written."""
    FAULT = 9
    """A fault of vcctl itself."""
    INTERRUPTED = 130
    """Ctrl-C."""


class CommandError(Exception):
    """The command cannot go on: a sentence, what to do about it, and the exit code."""

    def __init__(self, message: str, *, hint: str = "", code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


def exit_code_of(error: Exception) -> ExitCode:
    """Return what the program ends with for an error."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, NotFound):
        return ExitCode.NOT_FOUND
    if isinstance(error, Unavailable):
        return ExitCode.UNREACHABLE
    if isinstance(error, ApiError):
        return ExitCode.REFUSED if error.CODE < 500 else ExitCode.UNREACHABLE
    return ExitCode.LOCAL if isinstance(error, OSError) else ExitCode.FAULT


def hint_of(error: Exception) -> str:
    """Return what the user can do, empty when the message says it all."""
    if isinstance(error, CommandError):
        return error.hint
    if isinstance(error, LoggedOut):
        return "Log in with vcctl login."
    if isinstance(error, BadCredential):
        return "vcctl auth key create and vcctl auth key rotate print one."
    if isinstance(error, Unauthorized):
        return "vcctl config view says which token or certificate was shown; vcctl login shows another one."
    if isinstance(error, PolicyDenied):
        return "vcctl describe policy NAME says what holds; the manifest has to be changed."
    if isinstance(error, QuotaExceeded):
        return "vcctl quota shows all limits, and what takes most of them."
    if isinstance(error, Forbidden):
        return "vcctl auth can-i --list says what you may do; ask who runs the project or the cloud for more."
    if isinstance(error, NotSent | OutcomeUnknown):
        return "Is the cloud up (`make status`)? Which API is asked is shown by `vcctl config view`."
    if isinstance(error, NotFound) and error.details.kind == "Project" and error.causes:
        return "vcctl get projects lists those that you see; -p names another one."
    if isinstance(error, Conflict) and any(c.reason == "FieldManagerConflict" for c in error.causes):
        return "Take the fields over with --force-conflicts, or leave them out of the manifest."
    if isinstance(error, OSError) and error.filename:
        return "Which files are used is shown by `vcctl config view`."
    return ""


def describe_error(error: Exception) -> list[str]:
    """Return the error's lines: the sentence, then each field that was refused."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return [f"{error.filename}: {error.strerror}"]
    if not isinstance(error, ApiError | CommandError):
        return [str(error) or type(error).__name__]
    causes = error.causes if isinstance(error, ApiError) else []
    if len(causes) == 1 or isinstance(error, QuotaExceeded):  # the sentence may say it without the field
        causes = [cause for cause in causes if cause.message not in error.message]
    lines = [f"{cause.field}: {cause.message}" for cause in causes]
    return [error.message, *(f"  {line}" for line in lines if line not in error.message)]


def show_error(console: Console, error: Exception, *, prefix: str = "") -> None:
    """Print the error for people."""
    first, *rest = describe_error(error)
    console.print(f"[bold red]Error:[/] {escape(prefix + first)}", soft_wrap=True, highlight=False)
    for line in rest:
        console.print(escape(line), soft_wrap=True, highlight=False)
    if hint := hint_of(error):
        console.print(f"[yellow]Hint:[/] {escape(hint)}", soft_wrap=True, highlight=False)
