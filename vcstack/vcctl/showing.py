"""Differences of objects, field by field, with what each change takes."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from vcstack.specs.columns import format_value
from vcstack.specs.model import Change
from vcstack.specs.plan import FieldChange
from vcstack.vcctl.printing import style_of, to_yaml

EXPLAINED = {
    Change.LIVE: "comes into force at once",
    Change.REBOOT: "comes into force with the next stop and start or vcctl reboot",
    Change.RECREATE: "comes into force with vcctl rebuild, which loses the root disk",
    Change.IMMUTABLE: "is refused: the field never changes; make another object instead",
}


def print_changes(console: Console, changes: Sequence[FieldChange], *, new: bool = False) -> None:
    """Print the differences; what is gone with -, what is new with +. What a change takes is no matter of a new one."""
    for change in changes:
        line = f"  [bold]{escape(change.path)}[/]"
        if not new:
            line += f"  [{style_of(change.change.value)}]{change.change.value.lower()}[/]"
            line += f" [dim]{EXPLAINED[change.change]}[/]" if change.change is not Change.LIVE else ""
        console.print(line, soft_wrap=True)
        _print_value(console, "-", change.old, "red")
        _print_value(console, "+", change.new, "green")


def _print_value(console: Console, sign: str, value: object, style: str) -> None:
    if value is None:
        return
    nested = isinstance(value, dict | list) or "\n" in str(value)
    text = to_yaml(value).rstrip("\n") if isinstance(value, dict | list) else format_value(value)
    for line in text.splitlines() if nested else [text]:
        console.print(f"    [{style}]{sign} {escape(line)}[/]", soft_wrap=True)
