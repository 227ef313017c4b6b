"""What of a request may be written down: no secrets, no control characters, no more than is useful."""

import re
from typing import Any, Final

import orjson

from vcstack.specs.registry import KindDefinition
from vcstack.specs.sensitive import redact

REMOVED: Final = "(removed)"
TEXT_LIMIT: Final = 256
"""Longest text of a record's own fields."""
VALUE_LIMIT: Final = 1024
"""Longest text within a body."""
BODY_LIMIT: Final = 16 * 1024
"""A longer one is left out."""
DEPTH_LIMIT: Final = 24
_SECRET_NAME: Final = re.compile(
    r"(?i)pass(word|wd|phrase)?$|secret|token|credential|private_?key|^key(Material|Data)$|userdata|^(string)?data$"
    r"|^code$|otp|seed$|^value$|apikey$|authorization|cookie"
)
"""Fields by whose name nobody can tell that they hold none; better one too many. Kinds mark theirs besides."""
_SECRET_TEXT: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY|\beyJ[\w-]{8,}\.[\w-]{8,}\.|://[^/\s:@]*:[^/\s@]+@")
_ODD: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
"""Control characters, line and paragraph separators, what turns the direction of text, half characters."""


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return the text as one harmless line of bounded length."""
    if text.isascii() and text.isprintable() and len(text) <= limit:
        return text
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return _ODD.sub("\ufffd", text)


def clean_body(definition: KindDefinition, body: dict[str, Any]) -> dict[str, Any] | str:
    """Return the body of a write to an object without secrets; a word on why it is left out, if it is."""
    try:
        found = _clean(redact(definition.model, body), "", 0)
    except (TypeError, ValueError, RecursionError):
        return "left out: it cannot be read"
    if len(orjson.dumps(found)) > BODY_LIMIT:
        return f"left out: larger than {BODY_LIMIT} bytes"
    return dict(found)


def _clean(value: Any, name: str, depth: int) -> Any:
    if depth > DEPTH_LIMIT:
        return "(too deep)"
    if name and value not in (None, "", [], {}) and not isinstance(value, bool) and _SECRET_NAME.search(name):
        return REMOVED
    if isinstance(value, dict):
        return {clean(str(key)): _clean(item, str(key), depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, "", depth + 1) for item in value]
    if isinstance(value, str):
        return REMOVED if _SECRET_TEXT.search(value) else clean(value, VALUE_LIMIT)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -(2**53) <= value <= 2**53 else str(value)[:32]
    return value if isinstance(value, float) else clean(str(value))
