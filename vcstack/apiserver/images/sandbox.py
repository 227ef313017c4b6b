"""Runs a tool on content that nobody trusts: without network, rights or room to do harm.

As root: in a network namespace of its own, as nobody, without the chance to gain rights. Otherwise: in user
and network namespaces. Either way with limits on memory, CPU, files and time. The tool runs in the content's
folder and names it relatively, because nobody may not walk there.
"""

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from vcstack.specs.errors import Unavailable

MEMORY_BYTES = 1 << 30
"""qemu-img check keeps the refcounts of the whole image: 512 MiB for the largest that we accept."""
CPU_SECONDS = 60
WALL_SECONDS = 90.0
OUTPUT_BYTES = 1 << 20
WRITTEN_BYTES = 0
"""Largest file that the tool may write: none."""
NOBODY = "65534"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    code: int
    """The exit code; negative: the signal that ended it (a limit was reached)."""
    output: bytes
    errors: str


def build_command(*command: str) -> list[str]:
    """Return the command line that runs the command confined."""
    limits = [
        "prlimit",
        f"--as={MEMORY_BYTES}",
        f"--cpu={CPU_SECONDS}",
        f"--fsize={WRITTEN_BYTES}",
        "--nofile=64",
        "--nproc=64",
        "--core=0",
    ]
    if os.geteuid() == 0:
        confined = ["unshare", "--net", "setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
        confined += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    else:
        confined = ["unshare", "--user", "--net"]
    return [*confined, *limits, *command]


async def run_confined(*command: str, folder: Path) -> Outcome:
    """Return how the command ended. Raises Unavailable when the sandbox itself cannot be made."""
    try:
        process = await asyncio.create_subprocess_exec(
            *build_command(*command),
            cwd=folder,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"images cannot be inspected here: {error}") from error
    try:
        async with asyncio.timeout(WALL_SECONDS):
            assert process.stdout is not None
            assert process.stderr is not None
            output, errors = await asyncio.gather(_drain(process.stdout), _drain(process.stderr))
            code = await process.wait()
    except TimeoutError:
        code, output, errors = -1, b"", b"it took too long"
    finally:
        await _end(process)
    return Outcome(code, output, errors.decode("utf-8", "replace").strip())


async def _drain(stream: asyncio.StreamReader) -> bytes:
    """Return the beginning of the output; the rest is read and dropped."""
    kept = b""
    while chunk := await stream.read(65536):
        kept += chunk[: max(0, OUTPUT_BYTES - len(kept))]
    return kept


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
