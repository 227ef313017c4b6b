"""kubectl's JSONPath templates: ``{.items[*].metadata.name}{"\\n"}`` with range and end. Pure."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from vcstack.specs.errors import BadRequest

_PART = re.compile(r"\{((?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^{}\"'])*)\}|([^{}]+)|(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def render_template(template: str, wire: Any) -> str:
    """Return the template's text for the wire object; what is absent gives nothing.

    Raises:
        BadRequest: if the template cannot be read.
    """
    text, rest = _render(_split(template), wire, wire)
    if rest:
        raise BadRequest("jsonpath: {end} without {range ...}")
    return text


def find_all(expression: str, wire: Any) -> list[Any]:
    """Return all values that one expression (``.status.host``, with or without braces) selects.

    Raises:
        BadRequest: if the expression cannot be read.
    """
    return [match.value for match in _compiled(expression.strip().removeprefix("{").removesuffix("}")).find(wire)]


@lru_cache(maxsize=128)
def _compiled(expression: str) -> Any:
    # Imported when needed: it takes a tenth of a second, which every start of vcctl would feel.
    from jsonpath_ng.exceptions import JSONPathError
    from jsonpath_ng.ext.parser import parse as parse_path

    path = expression.strip()
    path = (
        path if path.startswith("$") else f"$.{path.removeprefix('@').lstrip('.')}" if path[:2] != ".." else f"${path}"
    )
    path = "$" if path == "$." else path.replace("$.[", "$[")
    # kubectl escapes dots in keys with a backslash; jsonpath-ng quotes them.
    path = re.sub(r"\.((?:[\w/-]|\\\.)*\\\.(?:[\w/-]|\\\.)*)", lambda m: "." + _quoted(m[1]), path)
    try:
        return parse_path(path)
    except (JSONPathError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise BadRequest(f"jsonpath: {expression!r} cannot be read ({reason}); write e.g. {{.status.host}}") from None


def _quoted(key: str) -> str:
    plain = key.replace("\\.", ".")
    return f'"{plain}"'


Part = tuple[str, str]
"""(literal | path | range | end, its text)."""


def _split(template: str) -> list[Part]:
    parts: list[Part] = []
    for match in _PART.finditer(template):
        inside, literal, stray = match.groups()
        if stray is not None:
            raise BadRequest(f"jsonpath: {stray!r} at {match.start()} is not matched; paths stand in braces")
        if literal is not None:
            parts.append(("literal", literal))
        else:
            parts.append(_classify(inside.strip()))
    return parts


def _classify(inside: str) -> Part:
    if inside[:1] in ("'", '"'):
        return "literal", re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), inside[1:-1])
    if inside == "end":
        return "end", ""
    if inside.startswith("range "):
        return "range", inside.removeprefix("range ").strip()
    return "path", inside


def _render(parts: Sequence[Part], current: Any, root: Any) -> tuple[str, Sequence[Part]]:
    """Return the text up to the matching end, and the parts from that end on."""
    text = ""
    while parts:
        (kind, value), parts = parts[0], parts[1:]
        if kind == "end":
            return text, [("end", ""), *parts]
        if kind == "literal":
            text += value
        elif kind == "path":
            source = root if value.startswith("$") else current
            text += " ".join(_text(m.value) for m in _compiled(value).find(source))
        else:
            body, rest = parts, _skip(parts)
            for match in _compiled(value).find(current):
                text += _render(body, match.value, root)[0]
            parts = rest
    return text, parts


def _skip(parts: Sequence[Part]) -> Sequence[Part]:
    """Return the parts behind the matching end."""
    depth = 1
    for index, (kind, _) in enumerate(parts):
        depth += {"range": 1, "end": -1}.get(kind, 0)
        if depth == 0:
            return parts[index + 1 :]
    raise BadRequest("jsonpath: {range ...} without {end}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
