"""pydantic's findings as causes that people understand: the field as they wrote it, and what to write instead."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from vcstack.specs.errors import Cause
from vcstack.specs.introspect import Shape, fields_of, join_path
from vcstack.specs.meta import TIME_PATTERN
from vcstack.specs.model import LABEL_PATTERN, LENT_PATTERN, Model
from vcstack.specs.permissions import Verb

MAX_CAUSES: Final = 20
_SHOWN: Final = 60

_PATTERNS: Final[Mapping[str, str]] = {
    LABEL_PATTERN: "is no DNS label: use lower-case letters, digits and '-', a letter or digit at both ends, "
    "at most 63 characters",
    LENT_PATTERN: "is no name: write NAME, or PROJECT/NAME for what another project shares, each a DNS label",
    r"^[^\x00-\x08\x0b-\x1f\x7f]*$": "has control characters; remove them",
    r"^[^\x00]*$": "has a NUL character; remove it",
    TIME_PATTERN: "is no time of RFC 3339; write e.g. 2026-01-02T03:04:05Z",
    r"^sha256:[0-9a-f]{64}$": "is no digest; write sha256: and 64 lower-case hexadecimal digits",
    r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$": "is no label value: use letters, digits, '-', '_', '.', "
    "a letter or digit at both ends, at most 63 characters",
    r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$": "is no label key: write NAME or "
    "DOMAIN/NAME with letters, digits, '-', '_', '.', at most 63 characters each",
    r"^(\*|[A-Z][A-Za-z0-9]{0,62})$": "is no kind: write it as manifests do, e.g. Instance, or * for all",
    r"^[A-Z][A-Za-z0-9]{0,62}$": "is no kind: write it as manifests do, e.g. Instance",
    rf"^(\*|{'|'.join(Verb)})$": f"is no verb: use {', '.join(Verb)}, or * for all",
    r"^(\*|[a-z]{1,63})$": "is no subresource: use lower-case letters, e.g. console, or * for all",
    r"^[A-Za-z0-9*]([A-Za-z0-9 ._@-]{0,62}[A-Za-z0-9])?$": "is no common name: use letters, digits, spaces, '.', '_', "
    "'@' and '-', a letter or digit at both ends (or * at the beginning), at most 64 characters",
    r"^(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$": "is no DNS name: write e.g. "
    "www.example.org or *.example.org in lower case",
    r"^[A-Za-z0-9_]([A-Za-z0-9_/.-]{0,198}[A-Za-z0-9_-])?$": "is no name of a branch or tag: use letters, digits, '_', "
    "'/', '.' and '-', at most 200 characters",
    r"^[0-9a-f]{40}([0-9a-f]{24})?$": "is no commit: write all its 40 or 64 lower-case hexadecimal digits",
    r"^(https?|ssh)://[^\s@]*(@[^\s@]*)?$": "is no address: write e.g. https://git.example/team/cloud.git or "
    "ssh://git@git.example/team/cloud.git",
    r"^$|^[A-Za-z0-9_][A-Za-z0-9_. -]*(/[A-Za-z0-9_][A-Za-z0-9_. -]*)*$": "is no path in the repository: write e.g. "
    "clusters/prod, without / at either end and without parts that begin with '.'",
    r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$": "is no key of a secret: use letters, digits, '.', '_' and "
    "'-', a letter or digit at both ends",
    r"^\s*-----BEGIN PGP PUBLIC KEY BLOCK-----": "is no public key of OpenPGP: give it as gpg --export --armor does",
    r"^(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+( \S*)?$": "is no public key of SSH: give the one line of its .pub "
    "file, whose comment has no spaces",
    r"^ldaps?://[A-Za-z0-9.\[\]:-]+/?$": "is no address: write e.g. ldaps://ldap.example",
    r"^\([ -~]{1,1000}\)$": "is no filter: write it in parentheses, e.g. (uid={user})",
    r"^[A-Za-z][A-Za-z0-9-]{0,63}$": "is no name of an attribute: use letters, digits and '-', a letter first",
    r"^https://[A-Za-z0-9.\[\]:-]+(/[!-~]*)?$": "is no address: write e.g. https://login.example",
    r"^[!-~]{1,255}$": "has characters other than those of ASCII without spaces, or more than 255",
    r"^https?://[A-Za-z0-9.\[\]:-]+(/[!-~]*)?$": "is no address: write e.g. https://images.example/debian.qcow2",
    r"^[A-Za-z0-9]{1,128}$": "is no reason of events: use letters and digits, e.g. ContentLost",
    r"^([!-?A-~]{1,64}@[A-Za-z0-9.-]{1,189})?$": "is no e-mail address: write NAME@DOMAIN",
}

_TYPES: Final[Mapping[str, str]] = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "datetime_type": "must be a time, e.g. 2026-01-02T03:04:05Z",
    "datetime_parsing": "must be a time, e.g. 2026-01-02T03:04:05Z",
    "datetime_from_date_parsing": "must be a time, e.g. 2026-01-02T03:04:05Z",
}

Finding = Mapping[str, Any]
Worder = Callable[[Finding, type[Model]], tuple[str, str]]


def causes_of(error: ValidationError, model: type[Model]) -> list[Cause]:
    """Return what was found, at most MAX_CAUSES of it, with the paths that the wire has.

    Unknown fields come first: a misspelt one explains why another one is missing.
    """
    errors: Sequence[Finding] = error.errors(include_url=False)
    findings = sorted(errors, key=lambda finding: finding["type"] != "extra_forbidden")[:MAX_CAUSES]
    return [_cause_of(finding, model) for finding in findings]


def _cause_of(finding: Finding, model: type[Model]) -> Cause:
    kind = finding["type"]
    if kind in _TYPES:
        reason, message = "FieldValueInvalid", f"{_TYPES[kind]}, not {_name_type(finding['input'])}"
    else:
        reason, message = _WORDERS.get(kind, _as_is)(finding, model)
    return Cause(field=path_of(finding["loc"]), reason=reason, message=message)


def path_of(location: Sequence[str | int]) -> str:
    """Return pydantic's location as a field path."""
    path = ""
    for step in location:
        if step == "[key]":  # pydantic's word for a map's key
            continue
        path = f"{path}[{step}]" if isinstance(step, int) else join_path(path, step)
    return path


def _as_is(finding: Finding, model: type[Model]) -> tuple[str, str]:
    return "FieldValueInvalid", str(finding["msg"])


def _unknown(finding: Finding, model: type[Model]) -> tuple[str, str]:
    *above, name = finding["loc"]
    known = _fields_at(model, above)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    lower = [k for k in known if k.lower() == str(name).replace("_", "").lower()]
    if lower or close:
        return "UnknownField", f"is no known field; did you mean {(lower or close)[0]}?"
    listed = ", ".join(known)
    return "UnknownField", f"is no known field; known are {listed}" if listed else "is no known field"


def _fields_at(model: type[Model], location: Sequence[str | int]) -> list[str]:
    """Return the names that may stand there."""
    shape = Shape(model=model)
    for step in location:
        if isinstance(step, int) and shape.items:
            shape = shape.items
        elif shape.model and step in fields_of(shape.model):
            shape = fields_of(shape.model)[str(step)].shape
        else:
            return []
    return list(fields_of(shape.model)) if shape.model else []


def _missing(finding: Finding, model: type[Model]) -> tuple[str, str]:
    return "FieldValueRequired", "is required"


def _pattern(finding: Finding, model: type[Model]) -> tuple[str, str]:
    pattern = finding["ctx"]["pattern"]
    known = _PATTERNS.get(pattern)
    return "FieldValueInvalid", f"{_show(finding['input'])} {known or f'does not match {pattern}'}"


def _enum(finding: Finding, model: type[Model]) -> tuple[str, str]:
    expected = str(finding["ctx"]["expected"])
    return "FieldValueNotSupported", f"{_show(finding['input'])} is not supported; use {expected}"


def _value_error(finding: Finding, model: type[Model]) -> tuple[str, str]:
    return "FieldValueInvalid", str(finding["ctx"]["error"])


def _bound(words: str, key: str) -> Worder:
    def word(finding: Finding, model: type[Model]) -> tuple[str, str]:
        return "FieldValueInvalid", f"must be {words} {finding['ctx'][key]}, not {_show(finding['input'])}"

    return word


def _length(words: str, key: str, unit: str) -> Worder:
    reason = "FieldValueTooLong" if key == "max_length" else "FieldValueInvalid"

    def word(finding: Finding, model: type[Model]) -> tuple[str, str]:
        bound = finding["ctx"][key]
        return reason, f"must have {words} {bound} {unit}{'' if bound == 1 else 's'}, not {len(finding['input'])}"

    return word


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _name_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the string {_show(value)}"
        case list():
            return "a list"
        case _:
            return "an object"


_WORDERS: Final[Mapping[str, Worder]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "string_pattern_mismatch": _pattern,
    "enum": _enum,
    "literal_error": _enum,
    "value_error": _value_error,
    "greater_than_equal": _bound("at least", "ge"),
    "greater_than": _bound("above", "gt"),
    "less_than_equal": _bound("at most", "le"),
    "less_than": _bound("below", "lt"),
    "string_too_long": _length("at most", "max_length", "character"),
    "string_too_short": _length("at least", "min_length", "character"),
    "too_long": _length("at most", "max_length", "item"),
    "too_short": _length("at least", "min_length", "item"),
}
