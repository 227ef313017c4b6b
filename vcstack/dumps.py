"""Memory of our programs is never written to disk: it has keys, tokens and secrets in plain."""

import ctypes
import os
import resource
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""prctl(2). Without it the kernel writes no core file, nor hands one to a program such as systemd-coredump, which
takes no notice of the limit; and nobody of the same user can attach a debugger."""


def forbid_dumps() -> None:
    """Let no core file of this process be written, whatever it ends by. Raises OSError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # programs that we start inherit this, and not the other
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
