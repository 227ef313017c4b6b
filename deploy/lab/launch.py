"""Starts one program inside a node: run by the supervisor as a plain file, it becomes the program by exec.

Its argument is the program's JSON written by `deploy.lab.programs`. It stands alone (standard library only), so that a
restart costs milliseconds. What it does before the exec, and why:

- waits if the program was started less than a second ago: a program that fails at once must not spin;
- sends output straight to the log file, not through a pipe of the supervisor: a program must survive the supervisor;
- binds the listening socket, if any, while still in the machine's network namespace, and hands it over as systemd
  does (sd_listen_fds(3)), so that a program in a node is reached from outside without touching any network.
"""

import json
import os
import pathlib
import signal
import socket
import sys
import time
from typing import Any

RESTART_PAUSE_SECONDS = 1.0
LOG_LIMIT_BYTES = 32 << 20
FIRST_LISTEN_FD = 3


def pause(stamp: pathlib.Path) -> None:
    """Waits until a second has passed since the program's last start."""
    try:
        elapsed = time.time() - stamp.stat().st_mtime
        if 0 <= elapsed < RESTART_PAUSE_SECONDS:
            time.sleep(RESTART_PAUSE_SECONDS - elapsed)
    except OSError:
        pass
    stamp.touch()


def open_log(path: pathlib.Path) -> None:
    """Makes the log the program's output; a log that grew large starts afresh and its past is kept once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.rename(path.with_name(path.name + ".1"))
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for fd in (log, null):
        if fd > 2:
            os.close(fd)


def listen(address: str) -> None:
    """Listens on HOST:PORT at the descriptor that sd_listen_fds(3) promises."""
    host, _, port = address.rpartition(":")
    sock = socket.socket(socket.AF_INET)
    # A restart must get the port back at once, whatever old connections linger.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for attempt in range(50):
        try:
            sock.bind((host, int(port)))
            break
        except OSError as error:
            # The process before us may not be reaped yet; a stranger on the port is reported and retried later.
            if attempt == 49:
                sys.exit(f"cannot listen on {address}: {error}")
            time.sleep(0.1)
    sock.listen(512)
    if sock.fileno() == FIRST_LISTEN_FD:
        os.set_inheritable(FIRST_LISTEN_FD, True)
        sock.detach()
    else:
        os.dup2(sock.fileno(), FIRST_LISTEN_FD)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))


def run_beside(argv: list[str]) -> None:
    """Runs a short command next to the program, as nobody's child, so that the program never has to reap it."""
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp(argv[0], argv)
        os._exit(0)
    os.waitpid(child, 0)


def main() -> None:
    """Becomes the program described by the JSON file given."""
    spec: dict[str, Any] = json.loads(pathlib.Path(sys.argv[1]).read_text())
    open_log(pathlib.Path(spec["log"]))
    pause(pathlib.Path(spec["stamp"]))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.environ.update(spec["env"])
    if spec["listen"]:
        listen(spec["listen"])
    enter: list[str] = spec["enter"]
    if spec["beside"]:
        run_beside([*enter, *spec["beside"]])
    drop = ["setpriv", f"--reuid={spec['user']}", f"--regid={spec['user']}", "--init-groups"] if spec["user"] else []
    argv = [*enter, *drop, *spec["argv"]]
    os.chdir(spec["cwd"])
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
