"""The one table that all benchmarks fill."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEADINGS = ("Measure", "VC Stack", "Beside it", "Ratio", "Limit", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One measure."""

    section: str
    name: str
    ours: str
    beside: str = ""
    """What it is compared with, measured in the same run."""
    ratio: float | None = None
    limit: str = ""
    """What is asked, as words."""
    holds: bool | None = None
    """Whether the limit is kept; None when there is none."""

    def cells(self) -> Sequence[str]:
        """Return the row as text."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        verdict = "" if self.holds is None else ("ok" if self.holds else "MISSED")
        return (self.name, self.ours, self.beside, ratio, self.limit, verdict)


def render_plain(rows: Sequence[Row]) -> str:
    """Return the table for a terminal."""
    cells = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADINGS))]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def render_markdown(rows: Iterable[Row]) -> str:
    """Return the rows as a table of each section."""
    lines: list[str] = []
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            lines += ["", f"## {section}", "", f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
        lines.append(f"| {' | '.join(row.cells())} |")
    return "\n".join(lines).strip() + "\n"
