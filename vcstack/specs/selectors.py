"""Label and field selectors as in Kubernetes, parsed once and matched often. Pure."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from vcstack.specs.columns import find_value
from vcstack.specs.errors import BadRequest
from vcstack.specs.introspect import fields_of, shapes_along, split_path
from vcstack.specs.model import Model
from vcstack.specs.resource import AnyResource

MAX_LENGTH = 4096
"""Characters of a selector."""


class Operator(StrEnum):
    """How a requirement compares."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    NOT_EXISTS = "!exists"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a selector; all terms must hold."""

    key: str
    """A label's key or a field's path."""
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, value: str | None) -> bool:
        """Return whether it holds for the value (None: the key is absent).

        As in Kubernetes an absent key satisfies != and notin.
        """
        if self.operator is Operator.EXISTS:
            return value is not None
        if self.operator is Operator.NOT_EXISTS:
            return value is None
        return (value in self.values) == (self.operator is Operator.IN)


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A parsed label selector; without requirements it selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the labels satisfy it."""
        return all(r.holds(labels.get(r.key)) for r in self.requirements)

    def __bool__(self) -> bool:
        return bool(self.requirements)


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """A parsed field selector; without requirements it selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, wire: Mapping[str, Any]) -> bool:
        """Return whether the wire object satisfies it; an absent field is the empty string.

        A path through all items of a list, ``a[*].b=x``, asks for any item that has the value, ``!=`` for none.
        """
        return all(_holds(r, wire) for r in self.requirements)

    def required_value(self, path: str) -> str | None:
        """Return the one value that the field must have, or None when it is left open."""
        for requirement in self.requirements:
            if requirement.key == path and requirement.operator is Operator.IN:
                return next(iter(requirement.values))
        return None

    def __bool__(self) -> bool:
        return bool(self.requirements)


def field_text(wire: Mapping[str, Any], path: str) -> str:
    """Return the field's value as it is written in a selector: absent is the empty string."""
    return _text(find_value(wire, path))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _holds(requirement: Requirement, wire: Mapping[str, Any]) -> bool:
    value = find_value(wire, requirement.key)
    if not isinstance(value, list):
        return requirement.holds(_text(value))
    wanted = requirement.operator is Operator.IN
    return any((text in requirement.values) for text in _texts(value) or [""]) is wanted


def _texts(values: list[Any]) -> list[str]:
    """Return the texts of nested lists' leaves."""
    return [t for v in values for t in (_texts(v) if isinstance(v, list) else [_text(v)])]


_KEY = re.compile(r"([A-Za-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_SET = re.compile(r"(?P<key>\S+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUALITY = re.compile(r"(?P<key>[^=!]+?)\s*(?P<operator>==|=|!=)\s*(?P<value>[^=!]*)")


@lru_cache(maxsize=512)
def parse_label_selector(text: str) -> LabelSelector:
    """Return the selector: ``app=web,tier!=db,zone in (a, b),env notin (x),key,!key``.

    Raises:
        BadRequest: if it cannot be read; the message shows the term and what is allowed.
    """
    return LabelSelector(tuple(_parse_label_term(t) for t in _split(text, "label")))


def _parse_label_term(term: str) -> Requirement:
    if match := _SET.fullmatch(term):
        values = [v.strip() for v in match["values"].split(",")]
        operator = Operator.IN if match["operator"] == "in" else Operator.NOT_IN
        return _checked(term, match["key"], operator, values)
    if match := _EQUALITY.fullmatch(term):
        operator = Operator.NOT_IN if match["operator"] == "!=" else Operator.IN
        return _checked(term, match["key"].strip(), operator, [match["value"].strip()])
    if term.startswith("!"):
        return _checked(term, term[1:].strip(), Operator.NOT_EXISTS, [])
    return _checked(term, term, Operator.EXISTS, [])


def _checked(term: str, key: str, operator: Operator, values: list[str]) -> Requirement:
    if not _KEY.fullmatch(key) or not all(_VALUE.fullmatch(v) for v in values):
        raise BadRequest(
            f"label selector: {term!r} cannot be read; write key=value, key!=value, key in (a,b), key notin (a,b), "
            "key or !key"
        )
    return Requirement(key, operator, frozenset(values))


def parse_field_selector(text: str, model: type[AnyResource] | None = None) -> FieldSelector:
    """Return the selector: ``status.host=h1,metadata.name!=x``. With a model its fields must exist.

    Raises:
        BadRequest: if it cannot be read or names a field that the kind does not have.
    """
    selector = _parse_fields(text)
    if model is not None:
        for requirement in selector.requirements:
            _check_field(requirement.key, model)
    return selector


@lru_cache(maxsize=512)
def _parse_fields(text: str) -> FieldSelector:
    requirements = []
    for term in _split(text, "field"):
        match = _EQUALITY.fullmatch(term)
        if match is None:
            raise BadRequest(f"field selector: {term!r} cannot be read; write field=value or field!=value")
        operator, key = Operator.NOT_IN if match["operator"] == "!=" else Operator.IN, match["key"].strip()
        try:
            split_path(key)
        except ValueError as error:
            raise BadRequest(f"field selector: {error}") from error
        requirements.append(Requirement(key, operator, frozenset([match["value"].strip()])))
    return FieldSelector(tuple(requirements))


def _check_field(path: str, model: type[AnyResource]) -> None:
    try:
        shape = shapes_along(model, path)[-1]
    except (KeyError, ValueError, IndexError):
        close = difflib.get_close_matches(path, list(_leaf_paths(model)), n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; see vcctl explain {model.KIND.lower()}"
        raise BadRequest(f"field selector: {model.KIND} has no field {path!r}{hint}") from None
    if shape.model or shape.items or shape.values:
        raise BadRequest(f"field selector: {path!r} is no single value; select by a field that is")


def _leaf_paths(model: type[Model], prefix: str = "", depth: int = 0) -> Iterator[str]:
    for name, field in fields_of(model).items():
        if field.shape.model and depth < 4:
            yield from _leaf_paths(field.shape.model, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}"


def _split(text: str, which: str) -> list[str]:
    """Return the comma-separated terms; commas in parentheses do not separate."""
    if len(text) > MAX_LENGTH:
        raise BadRequest(f"{which} selector: longer than {MAX_LENGTH} characters")
    if not text.strip():
        return []
    terms = [t.strip() for t in re.split(r",(?![^()]*\))", text)]
    if "" in terms:
        raise BadRequest(f"{which} selector: {text!r} has an empty term; remove the extra comma")
    return terms


Matcher = Callable[[Mapping[str, Any]], bool]


def build_matcher(labels: LabelSelector, fields: FieldSelector) -> Matcher:
    """Return a function from a wire object to whether both selectors hold."""

    def matches(wire: Mapping[str, Any]) -> bool:
        return labels.matches((wire.get("metadata") or {}).get("labels") or {}) and fields.matches(wire)

    return matches
