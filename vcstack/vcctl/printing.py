"""Objects as text: tables, YAML, JSON, names, JSONPath. Coloured on a terminal, plain when piped."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from vcstack.specs.columns import columns_of, find_value, format_cell
from vcstack.specs.jsonpath import render_template
from vcstack.specs.manifest import is_text
from vcstack.specs.meta import API_VERSION
from vcstack.specs.registry import Column, KindDefinition
from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.harmless import one_line
from vcstack.vcctl.session import Session

Wire = dict[str, Any]

FORMATS = "table, wide, json, yaml, name, jsonpath=TEMPLATE or custom-columns=HEADING:PATH,..."
GAP = "   "

STYLES = {
    **dict.fromkeys(("True", "Ready=True", "Running", "Succeeded", "Live", "created", "Enabled"), "green"),
    **dict.fromkeys(("False", "Failed", "Recreate", "Immutable", "Warning", "Cancelled", "Expired"), "red"),
    **dict.fromkeys(("Ready=False", "does not exist"), "red"),
    "Ready=Unknown": "yellow",
    **dict.fromkeys(("Unknown", "Paused", "Reboot", "Pending", "Disabled", "configured", "pruned"), "yellow"),
    **dict.fromkeys(("Stopped", "unchanged", "Normal"), "dim"),
}
"""Words that have one meaning wherever they stand in a table."""


@dataclass(frozen=True, slots=True)
class Output:
    """What -o says."""

    format: str = "table"
    argument: str = ""

    @property
    def is_table(self) -> bool:
        """Return whether rows are printed."""
        return self.format in ("table", "wide", "custom-columns")


def parse_output(text: str | None) -> Output:
    """Return the format of -o.

    Raises:
        CommandError: if there is none of that name.
    """
    if not text:
        return Output()
    name, equals, argument = text.partition("=")
    if name in ("table", "wide", "json", "yaml", "name") and not equals:
        return Output(name)
    if name in ("jsonpath", "custom-columns") and argument:
        return Output(name, argument)
    raise CommandError(f"-o {text} is no output format", hint=f"There are {FORMATS}")


def style_of(text: str) -> str:
    """Return the style of a word in a table."""
    return STYLES.get(text, "")


class Table:
    """Rows under headings, as wide as they need to be and never cut."""

    def __init__(self, headings: Sequence[str], *, show_headings: bool = True) -> None:
        self.headings = list(headings)
        self.rows: list[list[str]] = []
        self._show_headings = show_headings
        self._widths = [len(h) for h in headings] if show_headings else [0] * len(headings)

    def add(self, cells: Iterable[object]) -> None:
        """Add a row; line breaks and control characters become spaces."""
        row = [one_line(str(c)) for c in cells]
        self.rows.append(row)
        self._widths = [max(w, len(c)) for w, c in zip(self._widths, row, strict=True)]

    def print(self, console: Console) -> None:
        """Print all rows, headings first, and forget the rows: further ones keep the widths."""
        if self._show_headings:
            _print(console, self._line(self.headings, heading=True))
            self._show_headings = False
        for row in self.rows:
            _print(console, self._line(row))
        self.rows.clear()

    def _line(self, cells: list[str], *, heading: bool = False) -> Text:
        line = Text()
        for i, (cell, width) in enumerate(zip(cells, self._widths, strict=True)):
            last = i == len(cells) - 1
            line.append(cell if last else cell.ljust(width) + GAP, style="bold" if heading else style_of(cell))
        line.rstrip()
        return line


def _print(console: Console, line: Text) -> None:
    console.print(line, soft_wrap=True)


def table_columns(definition: KindDefinition, output: Output, *, with_project: bool) -> list[Column]:
    """Return the columns that -o asks for.

    Raises:
        CommandError: if custom-columns cannot be read.
    """
    if output.format != "custom-columns":
        return columns_of(definition, wide=output.format == "wide", with_project=with_project)
    columns = []
    for term in output.argument.split(","):
        name, colon, path = term.partition(":")
        if not colon or not name or not path:
            raise CommandError(f"custom-columns: {term!r} is no HEADING:PATH", hint="E.g. NAME:.metadata.name")
        columns.append(Column(name, path.strip("{}").lstrip(".")))
    return columns


def build_row(session: Session, columns: Sequence[Column], wire: Wire, *, prefix: str = "") -> list[str]:
    """Return the cells of an object; the name is prefixed where several kinds stand together."""
    now = session.clock.now()
    return [(prefix if c.path == "metadata.name" else "") + format_cell(c, wire, now) for c in columns]


def parse_path(text: str) -> str:
    """Return the dotted path of what people write: .metadata.name, {.metadata.name}, metadata.name."""
    return text.strip().removeprefix("{").removesuffix("}").lstrip(".")


def sort_objects(items: Iterable[Wire], path: str | None) -> list[Wire]:
    """Return the objects sorted by the value at a path; numbers as numbers, absent ones last."""
    if not path:
        return list(items)
    steps = parse_path(path)

    def key(wire: Wire) -> tuple[int, float, str]:
        value = find_value(wire, steps)
        if value is None:
            return 2, 0.0, ""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return 0, float(value), ""
        return 1, 0.0, str(value)

    return sorted(items, key=key)


def without_managed_fields(wire: Wire) -> Wire:
    """Return the object without its managedFields, which people seldom want to see."""
    return {**wire, "metadata": {k: v for k, v in wire["metadata"].items() if k != "managedFields"}}


def print_objects(session: Session, output: Output, items: Sequence[Wire], *, single: bool) -> None:
    """Print objects in a format that is no table: one alone as it is, others as a List."""
    value: Wire = items[0] if single else {"apiVersion": API_VERSION, "kind": "List", "items": list(items)}
    if output.format == "json":
        write(session.out, json.dumps(value, indent=2, ensure_ascii=False))
    elif output.format == "yaml":
        write(session.out, to_yaml(value).rstrip("\n"))
    elif output.format == "jsonpath":
        text = render_template(output.argument, value)
        write(session.out, text.removesuffix("\n")) if text else None
    else:
        for item in items:
            write(session.out, f"{item['kind'].lower()}/{item['metadata']['name']}")


def write(console: Console, text: str) -> None:
    """Print text as it is: byte for byte into a pipe or a file, harmless on a terminal."""
    if console.is_terminal:
        console.print(text, markup=False, highlight=False, soft_wrap=True, emoji=False)
        return
    console.file.write(text + "\n")  # rich would make spaces of tabs and drop carriage returns
    console.file.flush()


class _Dumper(yaml.SafeDumper):
    """Writes long texts as blocks and never aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: the same value twice is written twice."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML quotes what YAML 1.1 would not read as text; ours is the 1.2 core schema (1e3, 0o17).
    printable = all(c.isprintable() or c == "\n" for c in text)
    style = '"' if not printable else "|" if "\n" in text else None if is_text(text) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_yaml(value: Any) -> str:
    """Return YAML in the order of the keys."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100_000)
