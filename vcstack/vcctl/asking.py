"""Asking: before something is lost, and for what must not stand on a command line."""

import getpass
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


def can_ask() -> bool:
    """Return whether a person is there, who may be asked once more."""
    return sys.stdin.isatty()


def ask_secret(what: str) -> str:
    """Return what is typed without echo, or where there is no terminal the next line of stdin.

    Raises:
        CommandError: if there is no line.
    """
    return getpass.getpass(f"{what}: ") if can_ask() else _read_line(what)


def ask_line(session: Session, what: str) -> str:
    """Return what is typed, or where there is no terminal the next line of stdin.

    Raises:
        CommandError: if there is no line.
    """
    if can_ask():
        session.err.print(f"{what}: ", end="", markup=False, highlight=False)
    return _read_line(what).strip()


def ask_new_password() -> str:
    """Return a password that was typed twice alike.

    Raises:
        CommandError: if it was not, or there is nothing to read.
    """
    while True:
        password = ask_secret("New password")
        if not can_ask() or getpass.getpass("The same again: ") == password:
            return password
        typer.echo("The two are not the same; once more.", err=True)


def _read_line(what: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise CommandError(f"{what} is missing", hint="Use a terminal, or give the answers on stdin, one a line.")
    return line.removesuffix("\n").removesuffix("\r")
