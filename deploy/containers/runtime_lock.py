"""Prints the part of requirements.lock that runs in production: what pyproject.toml's dependencies need, no extras.

    python3 deploy/containers/runtime_lock.py            all of it
    python3 deploy/containers/runtime_lock.py NAME...    these packages only

The lock says of each package by which it came (`# via`), so nothing is resolved anew. Standard library only: it runs
where nothing is installed yet.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def normalize(name: str) -> str:
    """Return a package's name as PEP 503 has it, without extras."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


def read_lock(text: str) -> dict[str, tuple[str, set[str]]]:
    """Return by package its lines in the lock, and which packages it came by."""
    found: dict[str, tuple[str, set[str]]] = {}
    for part in re.split(r"(?m)^(?=[A-Za-z0-9])", text):
        if part.strip():
            name = normalize(re.split(r"[=\s;]", part, maxsplit=1)[0])
            via = part.partition("# via")[2]
            by = {normalize(line.strip(" #").partition(" ")[0]) for line in via.splitlines() if line.strip(" #")}
            found[name] = (part, by)
    return found


def runtime(lock: dict[str, tuple[str, set[str]]], wanted: set[str]) -> list[str]:
    """Return the packages that the wanted ones need, themselves included."""
    needed = set(wanted)
    before: set[str] = set()
    while needed != before:
        before = set(needed)
        needed |= {name for name, (_, by) in lock.items() if by & needed}
    return [name for name in lock if name in needed]


def main() -> None:
    """Print it."""
    lock = read_lock((ROOT / "requirements.lock").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {normalize(re.split(r"[<>=!~; ]", each, maxsplit=1)[0]) for each in project["dependencies"]}
    names = [normalize(each) for each in sys.argv[1:]] or runtime(lock, direct)
    missing = [name for name in names if name not in lock]
    if missing:
        sys.exit(f"not in requirements.lock: {', '.join(missing)}")
    sys.stdout.writelines(lock[name][0] for name in names)


if __name__ == "__main__":
    main()
