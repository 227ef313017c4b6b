"""Moments on the command line: a time, or how long ago."""

from datetime import UTC, datetime, timedelta

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
        return session.clock.now() - timedelta(seconds=parse_duration(text))
