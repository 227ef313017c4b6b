"""The script behind `make test`: what it runs a second time, and what it says then."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("run.sh")

# Passes when it is tried again.
UNSTEADY = """
from pathlib import Path

def test_unsteady():
    seen = Path(__file__).with_name("seen")
    assert seen.exists() or seen.touch()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    shutil.copy(SCRIPT, tmp_path / "tests")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_sound.py").write_text("def test_sound(): pass")
    return tmp_path


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", project / "tests/run.sh", "-p", "xdist", "-n", "2", *arguments],
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # the project's are not needed, and slow to import
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_suite_that_passes_is_run_once(project: Path) -> None:
    done = run(project)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("test session starts") == 1


def test_what_failed_once_only_is_named(project: Path) -> None:
    (project / "test_some.py").write_text(UNSTEADY)
    done = run(project)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("UNSTEADY: failed once and passed alone:\ntest_some.py::test_unsteady\n")
    assert "1 failed, 1 passed" in done.stdout
    assert "1 passed in" in done.stdout


def test_what_is_broken_fails_twice(project: Path) -> None:
    (project / "test_some.py").write_text(UNSTEADY + "\n\ndef test_broken(): raise AssertionError")
    done = run(project)
    assert done.returncode == 1
    assert "1 failed, 1 passed in" in done.stdout
    assert "UNSTEADY" not in done.stdout


def test_many_failures_are_no_accident(project: Path) -> None:
    (project / "test_some.py").write_text(
        "".join(UNSTEADY.replace("unsteady", f"_{n}").replace("seen", f"seen{n}") for n in range(4))
    )
    done = run(project)
    assert done.returncode == 1
    assert done.stdout.count("test session starts") == 1


def test_a_suite_that_cannot_be_read_is_not_run_again(project: Path) -> None:
    (project / "test_some.py").write_text("import nothing_of_this_name")
    done = run(project)
    assert done.returncode != 0
    assert done.stdout.count("test session starts") <= 2
    assert "UNSTEADY" not in done.stdout


def test_no_tests_at_all_are_a_failure(project: Path) -> None:
    assert run(project, "-k", "nothing_of_this_name").returncode == 5
