"""Moments on the command line: a time, or how long ago."""

from datetime import UTC, datetime, timedelta

from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.session import Session
from vcstack.vcctl.waiting import parse_duration


def parse_moment(session: Session, text: str) -> datetime:
    """Return the time of 2026-11-22T08:00:00Z, 90s, 72h or 30d; without a zone it is UTC.

    Raises:
        CommandError: if it cannot be read.
    """
    try:
        time = datetime.fromisoformat(text)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except ValueError:
        days = text.removesuffix("d")
        if days != text and days.isdigit() and len(days) < 6:
            return session.clock.now() - timedelta(days=int(days))
        try:
            return session.clock.now() - timedelta(seconds=parse_duration(text))
        except (CommandError, OverflowError) as error:
            hint = "Write 2026-11-22T08:00:00Z, or how long ago: 90s, 2h, 7d."
            raise CommandError(f"{text!r} is neither a time nor how long ago", hint=hint) from error
