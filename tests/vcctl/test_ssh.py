"""ssh: a shell and commands in a guest, through the tunnel of a host, by vcctl as it is run."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import serving
from tests.fixtures.guest import SshGuest, Way, leading_to
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.sshd import LOGIN
from tests.vcctl.harness import Hands, Vcctl
from tests.vcctl.scene import set_scene
from tests.vcctl.test_serial import run
from vcstack.specs.errors import Unavailable
from vcstack.specs.kinds.instance import Instance
from vcstack.store.mirror.database import open_engine
from vcstack.store.mirror.recordings import RecordingArchive
from vcstack.store.store import Store
from vcstack.vcctl.errors import ExitCode
from vcstack.vcctl.terminal import TildeEscape

SSH = ("ssh", "web-1", "--user", LOGIN)


@pytest.fixture
async def way(vcctl: Vcctl, hands: Hands, guest: SshGuest) -> AsyncIterator[Way]:
    """The instance is on a host whose tunnel leads to an SSH server that trusts the project's authority."""
    await set_scene(vcctl, hands)
    await vcctl.api.register("h9")
    await hands.client.patch_status(await hands.get(Instance, "web-1"), {"host": "h9"})
    async with vcctl.api.raw() as client:
        guest.trust((await client.get("/api/v1/projects/demo/sshauthority")).json()["publicKey"])
    async with leading_to(vcctl.api, guest.port) as found:
        yield found


class Terminal:
    """A terminal at which vcctl ssh was typed."""

    def __init__(self, vcctl: Vcctl, *words: str) -> None:
        self.ours, theirs = pty.openpty()
        self.theirs = theirs
        self.shown = b""
        self.resize(90, 20)
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from vcstack.vcctl.main import main; main()", *words],
            env={**os.environ, **vcctl.environ}, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def type(self, text: str) -> None:
        """Type it as soon as keys go to the shell."""
        while termios.tcgetattr(self.theirs)[3] & termios.ICANON:
            await asyncio.sleep(0.02)
        os.write(self.ours, text.encode())

    async def until(self, word: bytes) -> None:
        """Wait until it is shown; what was shown up to there is not looked at again."""
        while word not in self.shown:
            self.shown += await asyncio.to_thread(os.read, self.ours, 4096)
        self.shown = self.shown.partition(word)[2]

    async def end(self) -> int:
        return await asyncio.to_thread(self.process.wait)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.mark.usefixtures("way")
async def test_a_command_has_its_own_input_output_errors_and_status(vcctl: Vcctl) -> None:
    script = "sed s/o/0/; echo told >&2; exit 3"
    code, out, err = await run(vcctl, *SSH, "--", script, stdin=b"one\ntwo\n")
    assert (code, out) == (3, b"0ne\ntw0\n")
    assert err == b"told\n"


@pytest.mark.usefixtures("way")
async def test_much_can_be_piped_through_and_nothing_is_lost(vcctl: Vcctl) -> None:
    much = os.urandom(3_000_000)
    code, out, err = await run(vcctl, *SSH, "--", "cat", stdin=much)
    assert (code, err) == (0, b"")
    assert out == much


@pytest.mark.usefixtures("way")
async def test_a_shell_has_the_terminals_size_and_ends_with_its_status(vcctl: Vcctl) -> None:
    with contextlib.closing(Terminal(vcctl, *SSH)) as terminal:
        async with asyncio.timeout(150):
            await terminal.type("stty size; echo is-$((6*7))\r")
            await terminal.until(b"20 90\r\nis-42")
            terminal.resize(111, 33)
            terminal.process.send_signal(signal.SIGWINCH)
            # How soon the guest hears of it is its own affair.
            await terminal.type("until stty size | grep 111; do :; done\r")
            await terminal.until(b"33 111\r\n")
            await terminal.type("exit 4\r")
            assert await terminal.end() == 4
        assert termios.tcgetattr(terminal.theirs) == terminal.before


async def test_a_tilde_and_a_dot_leave_a_shell_that_says_nothing_more(vcctl: Vcctl, way: Way) -> None:
    with contextlib.closing(Terminal(vcctl, *SSH)) as terminal:
        async with asyncio.timeout(150):
            await terminal.type("echo is-$((6*7)); sleep 1000\r")
            await terminal.until(b"is-42")
            await terminal.type("\r~.")
            assert await terminal.end() == 255
            while way.open:
                await asyncio.sleep(0.02)
        assert termios.tcgetattr(terminal.theirs) == terminal.before


async def test_what_is_wrong_is_said_in_the_hosts_words(vcctl: Vcctl, way: Way) -> None:
    way.error = Unavailable("nothing listens at port 22 of 10.10.0.4")
    code, out, err = await run(vcctl, *SSH, "--", "true")
    assert (code, out) == (ExitCode.UNREACHABLE, b"")
    assert b"nothing listens at port 22" in err


@pytest.mark.usefixtures("way")
async def test_recorded_shells_are_listed_and_got_also_of_instances_that_are_gone(
    vcctl: Vcctl, hands: Hands, guest: SshGuest, memory_store: Store, memory_etcd: MemoryEtcd,
    own_postgres: PostgresServer, tmp_path: Path,
) -> None:  # fmt: skip
    assert "no recordings are kept here" in (await vcctl("recordings", "list")).err
    setting = {"setting": "shell.recording", "value": "Always"}
    manifest = {"kind": "Setting", "metadata": {"name": "recorded", "project": "demo"}, "spec": setting}
    await vcctl.ok("apply", "-f", vcctl.write("recorded.yaml", manifest))
    engine = open_engine(own_postgres.dsn("shells"))
    archive, folder = RecordingArchive(engine, own_postgres.dsn("shells")), tmp_path / "recording"
    folder.mkdir()
    installation = vcctl.api.installation
    async with (
        contextlib.AsyncExitStack() as stack,
        serving(memory_store, memory_etcd, installation, folder, recordings=archive) as api,
        leading_to(api, guest.port),
    ):
        stack.push_async_callback(engine.dispose)
        there = Vcctl(api, folder)
        assert "No shell was recorded" in (await there("recordings", "list")).err
        code, out, _ = await run(there, *SSH, "--", "cat; printf ca''fe", stdin=b"typed\n")
        assert (code, out) == (0, b"typed\ncafe")
        with contextlib.closing(Terminal(there, *SSH)) as terminal:
            async with asyncio.timeout(150):
                await terminal.type("echo is-$((6*7))\r")
                await terminal.until(b"is-42")
                await terminal.type("exit\r")
                assert await terminal.end() == 0
        [shell, command] = await list_recorded(there)
        async with asyncio.timeout(150):
            while not (shell["ended"] and command["ended"]):  # which is written after we were told so
                [shell, command] = await list_recorded(there)
        assert (shell["login"], shell["ended"], shell["brokenOff"]) == (LOGIN, True, False)
        file = tmp_path / "web-1.cast"
        await there.ok("recordings", "get", shell["id"], "--file", str(file))
        header, *events = [json.loads(line) for line in file.read_text().splitlines()]
        assert (header["version"], header["width"], header["height"]) == (2, 90, 20)
        assert "is-42" in "".join(event[2] for event in events if event[1] == "o")
        assert "No shell was recorded" in (await there("recordings", "list", "db-1")).err
        await hands.remove("Instance", "web-1")
        await hands.observe_all()
        assert (await there("recordings", "list", "web-1")).code == ExitCode.NOT_FOUND
        listed = (await there.ok("recordings", "list")).splitlines()
        assert [line.split()[0] for line in listed] == ["ID", shell["id"], command["id"]]
        assert all(re.search(r" \d+s +\d+ +\d+ +yes$", line) for line in listed[1:]), listed
        code, out, _ = await run(there, "recordings", "get", command["id"])
        assert code == 0
        assert "cafe" in "".join(json.loads(line)[2] for line in out.splitlines()[1:])
        ended = await there("recordings", "get", "rec-none")
        assert (ended.code, ended.out) == (ExitCode.NOT_FOUND, "")


async def list_recorded(vcctl: Vcctl) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await vcctl.ok("recordings", "list", "web-1", "-o", "json"))
    return found


async def test_a_shell_needs_a_terminal(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    code, _, err = await run(vcctl, "ssh", "web-1")
    assert code == ExitCode.USAGE
    assert b"-- sh -s" in err


def test_the_tilde_counts_at_the_beginning_of_a_line_only() -> None:
    escape = TildeEscape()
    assert escape.take(b"ls ~.\r") == (b"ls ~.\r", False)
    assert escape.take(b"~~.\r~x\r~") == (b"~.\r~x\r", False)
    assert escape.take(b"?") == (b"~?", False)
    assert escape.take(b"\r~.more") == (b"\r", True)
    assert TildeEscape().take(b"~.") == (b"", True)
