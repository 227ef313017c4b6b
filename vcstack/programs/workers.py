"""More processes that serve the API: children with the role api, kept alive, ended with their parent.

Each child ends by itself when its standard input closes, so that none outlives a parent that was killed.
"""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import structlog

from vcstack.apiserver.limits.shared import SharedTable
from vcstack.apiserver.server import LISTEN_FDS_START

logger = structlog.get_logger(__name__)

RESTART_SECONDS = 1.0
STOP_SECONDS = 20.0
WORKER_VARIABLE = "VCSTACK_API_WORKER"
"""Set in children: they start no children of their own and end with their standard input."""
BUCKETS_VARIABLE = "VCSTACK_API_BUCKETS"
"""The descriptor of the limits' buckets, which parent and children share."""


async def run_worker(config: Path, number: int, inherited: int, limits: SharedTable, stop: asyncio.Event) -> None:
    """Keep one child running until stop is set.

    Args:
        config: the settings file.
        number: its number among the children.
        inherited: how many sockets systemd has passed on.
        limits: the memory of the limits; what a child noted there is emptied when it has ended.
        stop: ends it.
    """
    while not stop.is_set():
        process = await _start(config, number, inherited, limits.fd)
        logger.info("API worker started", worker=number, pid=process.pid)
        exited, stopping = asyncio.ensure_future(process.wait()), asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({exited, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            await _end(process)
            await asyncio.gather(exited, stopping, return_exceptions=True)
            limits.forget_process(number)
        if not stop.is_set():
            logger.error("API worker ended, it is started again", worker=number, code=process.returncode)
            await asyncio.sleep(RESTART_SECONDS)


async def _start(config: Path, number: int, inherited: int, buckets: int) -> asyncio.subprocess.Process:
    environment = {k: v for k, v in os.environ.items() if k not in ("LISTEN_PID", "LISTEN_FDS")}
    environment |= {WORKER_VARIABLE: str(number), BUCKETS_VARIABLE: str(buckets)}
    if inherited:
        environment["LISTEN_FDS"] = str(inherited)
    command = (sys.executable, "-m", "vcstack.programs.management", "serve", "--config", str(config), "--roles", "api")
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        env=environment,
        pass_fds=(*range(LISTEN_FDS_START, LISTEN_FDS_START + inherited), buckets),
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def stop_with_parent(stop: asyncio.Event) -> None:
    """Set stop when standard input closes: the parent is gone."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    stop.set()
