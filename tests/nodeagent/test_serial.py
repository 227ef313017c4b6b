"""The serial log and the console's terminal."""

import asyncio
import os
import pty
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcstack.nodeagent.serial import Terminal, read_log, trim_log

LINE = st.binary(max_size=9).map(lambda b: b.replace(b"\n", b""))


async def read_all(path: Path, tail: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in read_log(path, tail_lines=tail, follow=False)])


@given(st.lists(LINE, max_size=12), st.booleans(), st.integers(0, 14))
def test_a_tail_is_the_last_lines_as_they_are(lines: list[bytes], ended: bool, count: int) -> None:
    text = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    path = Path(f"/tmp/vcstack-serial-{os.getpid()}")
    path.write_bytes(text)
    try:
        found = asyncio.run(read_all(path, count))
    finally:
        path.unlink()
    kept = text.split(b"\n")[:-1] if text.endswith(b"\n") else text.split(b"\n")
    last = kept[-count:] if count else []
    assert found == b"\n".join(last) + (b"\n" if text.endswith(b"\n") and last else b"")


async def test_a_long_log_is_read_whole_and_its_tail_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [f"line {i} {'x' * 50}".encode() for i in range(5000)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert await read_all(path) == path.read_bytes()
    assert (await read_all(path, 700)).splitlines() == lines[-700:]


async def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert await read_all(tmp_path / "none", 5) == b""


async def test_following_goes_on_with_what_comes_and_through_a_trim(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n" * 100)
    stream = read_log(path, tail_lines=1, follow=True)
    async with asyncio.timeout(60):
        assert await anext(stream) == b"one\n"
        with path.open("ab") as file:
            file.write(b"two\n")
        assert await anext(stream) == b"two\n"
        assert trim_log(path, limit=100)
        assert b"two" in await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]


def test_trimming_keeps_the_last_half_of_what_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(bytes(range(200)))
    assert not trim_log(path, limit=200)
    assert trim_log(path, limit=100)
    assert path.read_bytes() == bytes(range(150, 200))
    assert not trim_log(tmp_path / "none")


@pytest.mark.skipif(not Path("/dev/ptmx").exists(), reason="no terminals here")
async def test_a_console_carries_bytes_both_ways_and_ends_with_the_machine() -> None:
    machine, device = pty.openpty()
    terminal = Terminal(os.ttyname(device))
    os.close(device)
    async with asyncio.timeout(60):
        await terminal.write(b"root\r")
        assert os.read(machine, 100) == b"root\r"
        os.write(machine, b"\x1b[1mlogin:\x00\xff")
        assert await terminal.read() == b"\x1b[1mlogin:\x00\xff"
        os.close(machine)
        assert await terminal.read() == b""
    terminal.close()
