"""Asking before something is lost."""

import sys

import typer

from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.session import Session


def confirm(session: Session, question: str, *, yes: bool) -> None:
    """Return when the user agrees.

    Raises:
        CommandError: if the user does not, or cannot be asked.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Nobody can be asked here.", hint="Add --yes if you are sure.")
    if not typer.confirm(question, err=True):
        raise CommandError("nothing was done", hint="")
