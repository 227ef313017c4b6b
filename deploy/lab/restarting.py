"""Runs a program and starts it again whenever a file changed that it reads at its start only.

    restarting.py PID_FILE FILE PROGRAM [ARGUMENT ...]

For etcd, which reads its own certificate at each connection, but whom to trust at its start. Its clients wait for it,
so it must not be away for long: it may finish what it is at, and is then ended the way a crash would, which it is made
for. When the program ends by itself, so does this, and the supervisor starts both.
"""

import pathlib
import signal
import subprocess
import sys
import time

LOOK_SECONDS = 0.2
FINISH_SECONDS = 0.3
"""etcd's own orderly end takes a second, for streams that would end anyway."""
STOP_SECONDS = 5.0


def end(child: subprocess.Popen[bytes], seconds: float) -> None:
    """End the child, after that time by force."""
    child.terminate()
    try:
        child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def run(pid_file: pathlib.Path, watched: pathlib.Path, argv: list[str]) -> int:
    """Run until the program ends or we are told to; return its exit code."""
    stops: list[int] = []
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda number, frame: stops.append(number))
    while True:
        before = watched.stat().st_mtime_ns
        child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *argv])
        pid_file.write_text(f"{child.pid}\n")
        while child.poll() is None and not stops and watched.stat().st_mtime_ns == before:
            time.sleep(LOOK_SECONDS)
        if child.returncode is not None or stops:
            end(child, STOP_SECONDS)
            return child.returncode
        end(child, FINISH_SECONDS)


if __name__ == "__main__":
    sys.exit(abs(run(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:])))
