"""The import rules of docs/architecture.md hold."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_imports_point_down() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_packages_re_export_nothing() -> None:
    loud = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "vcstack").rglob("__init__.py")
        if any(line.startswith(("import ", "from ")) for line in path.read_text().splitlines())
    ]
    assert not loud
