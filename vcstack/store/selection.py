"""What a list or watch asks for: a project, labels, fields."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vcstack.specs.registry import KindDefinition
from vcstack.specs.selectors import (
    FieldSelector,
    LabelSelector,
    Operator,
    field_text,
    parse_field_selector,
    parse_label_selector,
)

Visible = Callable[[Mapping[str, Any]], bool]
"""Tells whether the reader may see the object."""
_ALL_LABELS: Final = LabelSelector()
_ALL_FIELDS: Final = FieldSelector()
_PLAIN: Final = re.compile(r"[a-z][a-z0-9-]*")
"""What JSON writes as it is."""
_WORDS: Final = frozenset({"true", "false", "none", "null"})
"""What a selector may mean by values that JSON writes in another way."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The objects of a kind in one project (None: in all) that both selectors match."""

    project: str | None = None
    labels: LabelSelector = _ALL_LABELS
    fields: FieldSelector = _ALL_FIELDS
    visible: Visible | None = None
    """What else must be true of an object; None: nothing."""
    projects: frozenset[str] | None = None
    """Where ``visible`` can be true; None: it is not known."""

    @property
    def by_content(self) -> bool:
        """Return whether objects must be decoded to tell."""
        return bool(self.labels or self.fields or self.visible)

    @property
    def anchor(self) -> tuple[str, str] | None:
        """Return a single field and the one value that it must have, if the selection demands one.

        Hosts watch by status.host; a watcher with an anchor costs nothing for objects of other values.
        """
        return next((demand for demand in self._demands if "[*]" not in demand[0]), None)

    @property
    def _demands(self) -> list[tuple[str, str]]:
        return [(r.key, next(iter(r.values))) for r in self.fields.requirements if r.operator is Operator.IN]

    @property
    def needle(self) -> bytes:
        """Return text that the JSON of every object that matches contains; nothing when that cannot be said.

        Most objects are told from those wanted by it, without being decoded: a host lists its own 20 of 1,000.
        """
        values = (value for _, value in self._demands if _PLAIN.fullmatch(value) and value not in _WORDS)
        return max(values, key=len, default="").encode()

    def matches(self, wire: Mapping[str, Any]) -> bool:
        """Return whether the object is selected and visible; its project is not looked at."""
        if self.labels and not self.labels.matches(wire["metadata"].get("labels") or {}):
            return False
        if self.fields and not self.fields.matches(wire):
            return False
        return self.visible is None or self.visible(wire)


def parse_selection(
    definition: KindDefinition,
    project: str | None,
    labels: str,
    fields: str,
    visible: Visible | None = None,
    projects: frozenset[str] | None = None,
) -> Selection:
    """Return the selection of that text.

    Raises:
        BadRequest: if a selector cannot be read or names an unknown field.
    """
    if not labels and not fields:
        return Selection(project, visible=visible, projects=projects)
    chosen = parse_label_selector(labels), parse_field_selector(fields, definition.model)
    return Selection(project, *chosen, visible, projects)


def field_of(wire: Mapping[str, Any], path: str) -> str:
    """Return a field's value as selectors see it."""
    return field_text(wire, path)
