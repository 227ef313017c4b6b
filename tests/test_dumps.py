"""No core file of our programs is ever written."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ABORTING = "import os; os.abort()"
FORBIDDING = f"from vcstack.dumps import forbid_dumps; forbid_dumps(); {ABORTING}"
DUMPABLE = "import ctypes, sys; sys.stdout.write(str(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)))"


def dumped(folder: Path, code: str) -> bool:
    """Return whether the kernel dumped the memory of a Python that ends by SIGABRT."""
    # Not through a fork of this process with its threads: a shell sets the limit and becomes the program.
    script = f"ulimit -c unlimited; exec {sys.executable} -c '{code}'"
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"cd {folder}; {script}"], dict(os.environ))
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGABRT
    return os.WCOREDUMP(status)


def test_a_program_that_forbids_it_leaves_no_core_file(tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("core files cannot be allowed here")
    assert not dumped(tmp_path, FORBIDDING)
    assert list(tmp_path.iterdir()) == []


def test_the_same_program_would_leave_one_otherwise(tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("core files cannot be allowed here")
    assert dumped(tmp_path, ABORTING)


def test_it_is_neither_dumpable_nor_may_it_write_a_core_file() -> None:
    limit = "import resource; sys.stdout.write(str(resource.getrlimit(resource.RLIMIT_CORE)))"
    code = f"from vcstack.dumps import forbid_dumps; forbid_dumps(); {DUMPABLE}; {limit}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0(0, 0)"


@pytest.mark.parametrize("module", ["vcstack.programs.management", "vcstack.programs.compute"])
def test_the_programs_forbid_it_before_they_do_anything(module: str, tmp_path: Path) -> None:
    """The program is run up to its help page; what it is then is told at the exit."""
    code = f"import atexit, sys; atexit.register(lambda: exec({DUMPABLE!r})); sys.argv = ['p', '--help']\n"
    code += f"import {module} as m\nm.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith("usage:"), done.stderr
    assert done.stdout.endswith("0")


def test_vcctl_writes_no_core_file(tmp_path: Path) -> None:
    code = "import atexit, resource, sys\natexit.register(lambda: print(resource.getrlimit(resource.RLIMIT_CORE)))\n"
    code += "sys.argv = ['vcctl', '--help']\nfrom vcstack.vcctl.main import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.endswith("(0, 0)\n"), done.stderr
