"""The steps of a login as people meet them: password, first password, second factor."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

from vcstack.apiclient.auth import AuthClient, Step
from vcstack.apiclient.authmessages import ChallengeKind, ChallengeReply, EnrolmentReply, TokensReply
from vcstack.apiclient.faults import LoggedOut
from vcstack.specs.errors import Invalid, TooManyRequests, Unauthorized
from vcstack.vcctl.asking import ask_line, ask_new_password, can_ask
from vcstack.vcctl.errors import CommandError, ExitCode, show_error
from vcstack.vcctl.printing import write
from vcstack.vcctl.session import Session

ATTEMPTS = 3
"""How often a code may be typed wrongly before the command ends."""
FORGOTTEN = "Who forgot the password asks an administrator for: vcctl auth reset-user USER"
T = TypeVar("T")


class Proving:
    """Shows a refused proof as what it is, and not as a token that was not accepted."""

    def __init__(self, hint: str = FORGOTTEN) -> None:
        self._hint = hint

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Unauthorized) and not isinstance(error, LoggedOut):
            raise CommandError(error.message, hint=self._hint, code=ExitCode.REFUSED) from error
        if isinstance(error, TooManyRequests):
            seconds = error.details.retry_after_seconds
            hint = f"Wait {seconds} s." if seconds else "Wait a little."
            raise CommandError(error.message, hint=hint, code=ExitCode.REFUSED) from error


async def complete(session: Session, auth: AuthClient, step: Step, *, device: str) -> TokensReply:
    """Return the tokens that a login ends with, asking for what is still missing."""
    while isinstance(step, ChallengeReply):
        challenge = step.challenge
        if step.kind is ChallengeKind.SET_PASSWORD:
            session.err.print("This was the one-time secret: set a password now, of at least 12 characters.")
            step = await set_new_password(
                session,
                lambda new, c=challenge: auth.set_password(c, new, device=device),  # type: ignore[misc]
            )
        elif step.kind is ChallengeKind.VERIFY_MFA:
            step = await with_code(session, lambda code, c=challenge: auth.verify_mfa(c, code, device=device))  # type: ignore[misc]
        else:
            session.err.print("A second factor is demanded of this user: enrol one now.")
            show_enrolment(session, await auth.begin_enrolment(challenge))
            enrolled = await with_code(
                session,
                lambda code, c=challenge: auth.confirm_enrolment(c, code, device=device),  # type: ignore[misc]
            )
            show_recovery_codes(session, "Second factor enrolled.", enrolled.recovery_codes)
            if enrolled.tokens is None:
                raise CommandError("the API gave no tokens", code=ExitCode.REFUSED)
            step = enrolled.tokens
    return step


async def set_new_password(session: Session, setting: Callable[[str], Awaitable[T]]) -> T:
    """Ask for a new password until it is good enough, and return what setting it gives."""
    while True:
        try:
            return await setting(ask_new_password())
        except Invalid as error:
            if not can_ask():
                raise
            show_error(session.err, error)


async def with_code(session: Session, proving: Callable[[str], Awaitable[T]]) -> T:
    """Ask for a code, a few times if need be, and return what it is good for."""
    for attempt in range(ATTEMPTS):
        code = ask_line(session, "Code of the authenticator").replace(" ", "")
        try:
            return await proving(code)
        except Unauthorized as error:
            if not can_ask() or attempt == ATTEMPTS - 1:
                raise
            show_error(session.err, CommandError(error.message))
    raise AssertionError("unreachable")


def show_enrolment(session: Session, enrolment: EnrolmentReply) -> None:
    """Show a second factor's secret: as a QR code on a terminal, and to be typed."""
    from vcstack.vcctl.qrcodes import draw

    if session.err.is_terminal:
        session.err.file.write(draw(enrolment.uri))
    session.err.print("Scan this with an authenticator app, or type its secret there:")
    for text in (enrolment.secret, enrolment.uri):
        session.err.print(text, markup=False, highlight=False, soft_wrap=True)


def show_recovery_codes(session: Session, done: str, codes: list[str]) -> None:
    """Show recovery codes, which nobody can show again, and what was done."""
    session.err.print(
        f"{done} {len(codes)} recovery codes, each good once instead of a code; they are not shown "
        "again. Keep them apart from the password:",
        soft_wrap=True,
    )
    for code in codes:
        write(session.out, code)
