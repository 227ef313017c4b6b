"""Query parameters: only the known ones, each at most once, each of its type."""

import difflib
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import parse_qsl

from vcstack.specs.errors import BadRequest, Cause

PARAMETER_LIMIT = 32
TRUE = ("true", "1")
T = TypeVar("T")

WRITE = frozenset({"dryRun", "missingReferences", "fieldManager"})
APPLY = WRITE | {"force"}
DELETE = frozenset({"dryRun", "propagationPolicy", "uid", "resourceVersion", "fieldManager"})
LIST = frozenset({"labelSelector", "fieldSelector", "limit", "continue"})
LENT = frozenset({"shared", "watch"})
"""Of a list of what others share with the project."""
WATCH = frozenset(
    {"watch", "labelSelector", "fieldSelector", "resourceVersion", "allowWatchBookmarks", "timeoutSeconds"}
)
WATCH_LENT = frozenset({"shared", "watch", "resourceVersion", "allowWatchBookmarks", "timeoutSeconds"})
GET = frozenset({"atRevision"})
HISTORY = frozenset({"limit", "before"})
LOG = frozenset({"tail", "follow"})
PROVIDERS = frozenset({"domain"})
NONE: frozenset[str] = frozenset()


class Query:
    """The parameters of one request."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    @classmethod
    def parse(cls, raw: bytes) -> "Query":
        """Return the parameters of a query string. Raises BadRequest for one given twice or not UTF-8."""
        if not raw:
            return cls({})
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, max_num_fields=PARAMETER_LIMIT, errors="strict"
            )
        except ValueError as error:  # UnicodeError is one
            raise BadRequest(f"the query string cannot be read: {error}") from error
        values: dict[str, str] = {}
        for name, value in pairs:
            if name in values:
                raise refuse(name, "is given twice")
            values[name] = value
        return cls(values)

    def only(self, known: frozenset[str]) -> "Query":
        """Return itself. Raises BadRequest when there is a parameter that is not known here."""
        for name in self._values:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known)) or 'none'}"
                raise refuse(name, f"is not known here; {hint}")
        return self

    def text(self, name: str) -> str | None:
        """Return the value, None when it is absent or empty."""
        return self._values.get(name) or None

    def flag(self, name: str) -> bool:
        """Return whether it is true; absent is false."""
        return self._convert(name, _to_bool) or False

    def count(self, name: str, *, most: int = 2**53, least: int = 0) -> int | None:
        """Return a decimal number in the range, None when it is absent."""

        def convert(text: str) -> int:
            if not text.isascii() or not text.isdigit() or len(text) > 19 or not least <= int(text) <= most:
                raise ValueError(f"must be a number from {least} to {most}")
            return int(text)

        return self._convert(name, convert)

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        """Return one of the choices, None when it is absent."""

        def convert(text: str) -> str:
            if text not in choices:
                raise ValueError(f"must be {' or '.join(choices)}, not {text[:80]!r}")
            return text

        return self._convert(name, convert)

    def dry_run(self) -> bool:
        """Return whether everything but the write is to be done."""
        return self.choice("dryRun", ("All",)) is not None

    def allow_missing_references(self) -> bool:
        """Return whether what fields refer to may come later."""
        return self.choice("missingReferences", ("Allow", "Refuse")) == "Allow"

    def _convert(self, name: str, convert: Callable[[str], T]) -> T | None:
        text = self.text(name)
        if text is None:
            return None
        try:
            return convert(text)
        except ValueError as error:
            raise refuse(name, str(error)) from error


def is_dry_run(raw: bytes) -> bool:
    """Return whether the query string asks for a dry run, read as whoever answers it reads it: what merely looks like
    it may change something. False for one that will be refused."""
    return _given(raw, "dryRun") == "All"


def is_watch(raw: bytes) -> bool:
    """Return whether the query string asks for a watch, in whatever way it is written."""
    return _given(raw, "watch") in TRUE


def refuse(name: str, message: str) -> BadRequest:
    """Return the error that blames a query parameter."""
    cause = Cause(field=f"query.{name[:80]}", reason="ParameterInvalid", message=message)
    return BadRequest(f"query parameter {name[:80]!r} {message}", causes=[cause])


def _given(raw: bytes, name: str) -> str | None:
    if not raw:
        return None
    try:
        return Query.parse(raw).text(name)
    except BadRequest:
        return None


def _to_bool(text: str) -> bool:
    if text not in (*TRUE, "false", "0"):
        raise ValueError(f"must be true or false, not {text[:80]!r}")
    return text in TRUE
