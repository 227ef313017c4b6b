"""Log lines cannot be forged by what users send."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import structlog, logging, sys
from vcstack.programs.logs import set_up_logging
set_up_logging("info")
structlog.get_logger("test").info("request", path=sys.argv[1], number=3)
logging.getLogger("library").warning("says %s", sys.argv[1])
"""


@pytest.mark.parametrize(
    "text", ['x"}\n{"event":"forged"}', "a\rb", "a\u2028b", "a\u202eb", "a\x1b[2Jb", "a\x85b", "a\x7fb"]
)
def test_whatever_a_user_sends_stays_within_its_line(text: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, text], capture_output=True, check=True)
    lines = done.stderr.decode("ascii").splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    entry, other = (json.loads(line) for line in lines)
    assert (entry["event"], entry["path"], entry["number"]) == ("request", text, 3)
    assert other["event"] == f"says {text}"
