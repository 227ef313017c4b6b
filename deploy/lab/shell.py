"""Running commands, and waiting for things, with errors a person can read."""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.lab.errors import LabError

Completed = subprocess.CompletedProcess[str]


def run(argv: Sequence[str | Path], *, check: bool = True, stdin: str | None = None, timeout: float = 180) -> Completed:
    """Runs a command and returns its output as text; raises LabError with its words when it fails."""
    words = [str(word) for word in argv]
    shown = " ".join(words)
    shown = shown if len(shown) < 160 else f"{shown[:150].rstrip()} ..."
    try:
        done = subprocess.run(
            words, input=stdin or "", capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(words[0], f"`{shown}` gave no answer within {timeout:g} s.") from error
    except OSError as error:
        raise LabError(words[0], f"cannot be run: {error}. Does `bash deploy/install.sh` pass?") from error
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip() or "(it said nothing)"
        raise LabError(words[0], f"`{shown}` ended with {done.returncode}: {said}")
    return done


def wait_until(
    part: str, what: str, check: Callable[[], bool], *, log: Path | None = None, timeout: float = 60
) -> None:
    """Returns as soon as `check` holds; raises LabError naming the part and its log after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.01
    while not check():
        if time.monotonic() > deadline:
            raise LabError(part, f"{what} did not happen within {timeout:g} s.", log)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)
