"""gRPC, told before it is loaded that this process does not go on after a fork.

By default it has handlers that run in a child between fork and exec. uvloop starts programs that way, and when
a call is just under way they end the child with SIGABRT: of 300 programs started beside a busy client 3 did
not run. We fork only to start other programs, which need none of it.
"""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

import grpc
import grpc.aio

__all__ = ["grpc"]
