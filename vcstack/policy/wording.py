"""What is wrong with an expression, in the words of who writes one. The library's own are its parser's."""

import difflib
import re
from typing import Final

VARIABLES: Final = ("object", "oldObject", "request")
FUNCTIONS: Final = (
    *("size", "has", "all", "exists", "exists_one", "filter", "map", "matches", "startsWith", "endsWith", "contains"),
    *("int", "uint", "double", "string", "bytes", "bool", "type", "dyn", "timestamp", "duration"),
    *("getFullYear", "getMonth", "getDayOfMonth", "getHours", "getMinutes", "getSeconds"),
)
"""Of the language's standard library (cel-spec, List of Standard Definitions, and its macros)."""
LONGEST: Final = 300

_FAULT: Final = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?(.*)")
_UNRECOGNIZED: Final = re.compile(r"token recognition error at: '(.*)'$")
_UNDECLARED: Final = re.compile(r"undeclared reference to '([^']*)'")
_UNEXPECTED: Final = re.compile(r"(?:mismatched|extraneous) input '(.*)' expecting (.*)$")
_NOT_VIABLE: Final = re.compile(r"no viable alternative at input '(.*)'$")
_MISSING: Final = re.compile(r"missing '(.*)' at '(.*)'$")
_OVERLOAD: Final = re.compile(r"found no matching overload for '([^']*)' applied to '([^']*)'")
_RESERVED: Final = re.compile(r"reserved identifier: (.*)$")
_OPERATOR: Final = re.compile(r"_?(\W+)_")
_END: Final = "<EOF>"


def explain(expression: str, said: str) -> str:
    """Return the library's message about an expression as a sentence that says where, what, and what to write."""
    faults = [m for m in map(_FAULT.fullmatch, said.splitlines()) if m]
    if not faults:
        return _one_line(said)
    lines = expression.splitlines() or [""]

    def read(fault: re.Match[str]) -> tuple[int, int, str]:
        # Columns are counted from 1, of the fault's own line.
        line, column, what = int(fault[1]), int(fault[2]), fault[3]
        source = lines[line - 1] if line <= len(lines) else ""
        return line, column, _explain_one(what, source, column - 1)

    # A function that there is not makes its arguments unknown too, and is told after them.
    found = sorted(map(read, faults), key=lambda each: "no function" not in each[2])
    line, column, what = found[0]
    where = f"line {line}, character {column}" if len(lines) > 1 else f"character {column}"
    return _one_line(f"{where}: {what}")


def _explain_one(what: str, source: str, at: int) -> str:
    if found := _UNDECLARED.search(what):
        return _explain_name(found[1], source, at)
    if found := _UNRECOGNIZED.fullmatch(what):
        return _explain_unrecognized(found[1])
    if found := _MISSING.fullmatch(what):
        return f"{found[1]} is missing"
    if found := _UNEXPECTED.fullmatch(what):
        if found[1] == _END:
            return "the expression ends in the middle"
        wanted = "an operator such as && || ! == != < > in" if found[2] == _END else "a value"
        return f"{found[1]} cannot stand here; {wanted} is expected"
    if found := _NOT_VIABLE.fullmatch(what):
        return f"{found[1]} cannot stand here"
    if found := _OVERLOAD.search(what):
        operator = _OPERATOR.fullmatch(found[1])
        return f"{operator[1] if operator else found[1]} does not take {found[2]}"
    if found := _RESERVED.fullmatch(what):
        return f"{found[1]} is a reserved word; there are no statements, only one value: true or false"
    return what


def _explain_name(name: str, source: str, at: int) -> str:
    is_called = source[at : at + 1] == "(" or source[at + len(name) :].lstrip().startswith("(")
    if is_called:
        return f"there is no function {name}{_hint(name, FUNCTIONS)}"
    return f"there is no {name.partition('.')[0]}; expressions know {', '.join(VARIABLES[:-1])} and {VARIABLES[-1]}"


def _explain_unrecognized(text: str) -> str:
    if text.startswith("="):
        return "= compares nothing; write =="
    if text[:1] in ("'", '"'):
        return "the text that begins here does not end; a quote is missing"
    return f"{text} means nothing here"


def _hint(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name[:80], known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _one_line(text: str) -> str:
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:LONGEST]
