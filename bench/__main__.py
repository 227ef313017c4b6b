"""`make bench`: run the benchmarks and print one table; `python -m bench --write` puts it into docs/performance.md."""

import argparse
import importlib
import os
import sys
from pathlib import Path

from bench.machine import describe_machine
from bench.table import Row, render_markdown, render_plain

PARTS = ("api", "access", "rules", "audit", "scale", "instances", "console")
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--write", action="store_true", help=f"write the figures into {DOCUMENT.name}")
    asked = parser.parse_args()
    machine, rows, failed = describe_machine(), list[Row](), list[str]()
    for part in asked.parts or PARTS:
        print(f"measuring {part} ...", file=sys.stderr, flush=True)
        try:
            rows += importlib.import_module(f"bench.{part}").measure()
        except NotMeasured as error:
            failed.append(f"{part}: {error}")
    machine.append(f"Load average at the end: {os.getloadavg()[0]:.1f}")
    print("\n".join(machine), render_plain(rows), *(f"Not measured: {f}" for f in failed), sep="\n")
    if asked.write:
        DOCUMENT.write_text(_document(machine, rows, failed))
    missed = any(row.holds is False for row in rows)
    sys.exit(1 if missed else 0)


class NotMeasured(Exception):
    """Something that a benchmark needs is not there; the text says what."""


def _document(machine: list[str], rows: list[Row], failed: list[str]) -> str:
    notes = (Path(__file__).parent / "notes.md").read_text()
    lines = ["# Performance", "", *(f"- {line}" for line in machine), *(f"- Not measured: {f}" for f in failed)]
    return "\n".join(lines) + "\n\n" + notes.strip() + "\n\n" + render_markdown(rows)


if __name__ == "__main__":
    main()
