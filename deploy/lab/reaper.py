"""Keeps libvirtd running and reaps the guests it leaves behind: run by the supervisor as a plain file.

libvirt starts QEMU as a daemon and, when it ends one, polls until the process is gone. A daemon belongs to the nearest
child subreaper, else to process 1, which may reap slowly (seen: 1.2 to 2.3 s for each guest). This process is that
subreaper, reaps at once, and outlives libvirtd, so guests keep it as their parent when libvirtd is killed.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1  # prctl(2)
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None)


def start(argv: list[str]) -> int:
    """Starts libvirtd and returns its pid."""
    pid = os.fork()
    if pid == 0:
        # libvirtd must never outlive this process: the next one would find its pid file locked.
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        os.execvp(argv[0], argv)
    return pid


def main() -> None:
    """Runs the given command until told to stop, starting it again whenever it ends."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stopping = False
    child = start(sys.argv[1:])

    def stop(signum: int, _: object) -> None:
        nonlocal stopping
        stopping = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signum)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    started = time.monotonic()
    while not stopping:
        try:
            pid, _ = os.wait()
        except ChildProcessError:
            pid = child
        if pid != child or stopping:
            continue
        # At once after a long life, slowly when it fails again and again.
        time.sleep(0.1 if time.monotonic() - started > 5 else 1)
        if not stopping:
            child, started = start(sys.argv[1:]), time.monotonic()
    # Told to stop: the pid file is libvirtd's until it is gone.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
