# ruff: noqa: SIM117 (nested blocks read better here)
"""Shells in a guest: OpenSSH's own server, reached by a host's tunnel, from a websocket."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.apiserver.audit.conftest import serving_audited
from tests.apiserver.shell.conftest import SECONDS, add_member, talking
from tests.apiserver.test_accounts import ADMIN, log_in, put
from tests.apiserver.test_tunnels import name_of
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import Api, serving
from tests.fixtures.guest import SshGuest, Way, leading_to
from tests.fixtures.sshd import LOGIN
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.instancemessages import InstanceStream
from vcstack.apiclient.instances import InstanceViews
from vcstack.apiclient.shell import open_shell
from vcstack.apiclient.shellmessages import ShellEnd, TerminalSize
from vcstack.apiclient.websocket import ByteSocket, open_socket
from vcstack.pki.ssh import issue_login, make_private_key, private_text, public_line
from vcstack.specs.errors import BadRequest, Conflict, Forbidden, NotFound, Unauthorized, Unavailable
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

SHELL = "/api/v1/projects/demo/instances/web-1/shell"


async def test_a_shell_answers_knows_its_size_and_tells_its_exit(api: Api, alice: str, guest: SshGuest) -> None:
    async with talking(api, alice, size=TerminalSize(columns=101, rows=31)) as shell:
        await shell.say("stty size; tty; echo $TERM; stty -echo; echo re''ady")
        told = await shell.until(b"ready")
        assert b"31 101\r\n" in told
        assert b"/dev/pts/" in told
        assert b"xterm-256color\r\n" in told
        await shell._socket.resize(TerminalSize(columns=140, rows=45))
        await shell.say("while [ \"$(stty size)\" != '45 140' ]; do sleep 0.05; done; echo resi''zed; exit 7")
        await shell.until(b"resized")
        assert await shell.to_the_end() == ShellEnd(status=7)
        assert not shell.recorded


async def test_a_command_runs_instead_of_a_shell(api: Api, alice: str, guest: SshGuest) -> None:
    async with talking(api, alice, command="printf 'one\\ntwo\\n'; exit 3") as shell:
        assert await shell.to_the_end() == ShellEnd(status=3)
        assert shell.shown == b"one\ntwo\n"
    async with talking(api, alice, command="kill -TERM $$") as shell:
        assert await shell.to_the_end() == ShellEnd(status=255, signal="TERM")


async def test_the_guest_learns_who_it_really_is_and_gives_nothing_but_a_terminal(
    api: Api, alice: str, guest: SshGuest
) -> None:
    async with talking(api, alice, command="echo -$SSH_AUTH_SOCK- ${DISPLAY:-none}") as shell:
        await shell.to_the_end()
        assert shell.shown == b"-- none\n"
    log = guest.log.read_text()
    assert "ID user:alice " in log
    assert "Accepted publickey" in log


async def test_bytes_arrive_as_they_are_and_in_any_number(api: Api, alice: str, guest: SshGuest) -> None:
    line = "0123456789abcdef" * 64
    async with talking(
        api, alice, command=f"stty raw -echo; i=0; while [ $i -lt 2000 ]; do echo {line}; i=$((i+1)); done"
    ) as shell:
        assert await shell.to_the_end() == ShellEnd(status=0)
        assert shell.shown == (line.encode() + b"\n") * 2000
    hostile = bytes(range(256)) + b"\x1b]0;title\x07\x1b[2J\xff\xfe" + "中文".encode()
    octal = "".join(f"\\{byte:03o}" for byte in hostile)
    async with talking(api, alice, command=f"stty raw -echo; printf '{octal}'") as shell:
        await shell.to_the_end()
        assert shell.shown == hostile


async def test_what_a_client_says_wrong_ends_its_shell_with_the_reason(api: Api, alice: str, guest: SshGuest) -> None:
    for message in ("", "{", "[]", '{"resize":{"columns":0,"rows":1}}', '{"resize":{"columns":80,"rows":99999}}', "{}"):
        async with asyncio.timeout(SECONDS), Connection(api.settings(token=alice)) as connection:
            async with open_socket(connection, SHELL, {"user": LOGIN}) as raw:
                await raw.send_text(message or "x" * 60_000)
                with pytest.raises(Unavailable, match="text message must be"):
                    await drained(raw)


async def drained(raw: ByteSocket) -> None:
    while await raw.receive_any() is not None:
        pass


@pytest.mark.parametrize(
    "query",
    [
        {"user": "-oProxyCommand=x"},
        {"user": "a b"},
        {"user": "root\n"},
        {"user": "x" * 65},
        {"columns": "0"},
        {"columns": "1001"},
        {"rows": "-1"},
        {"rows": "many"},
        {"command": "x" * 8193},
        {"command": "a\0b"},
        {"term": "vt100"},
    ],
)
async def test_what_is_no_shell_is_refused_before_anything_is_opened(api: Api, way: Way, query: dict[str, str]) -> None:
    async with Connection(api.settings()) as connection:
        with pytest.raises(BadRequest):
            async with open_socket(connection, SHELL, query):
                pass
    assert way.opened == 0


async def test_readers_strangers_and_hosts_get_no_shell(api: Api, alice: str, guest: SshGuest, way: Way) -> None:
    reader = await add_member(api, "carol", "reader")
    await put(api, "User", "erin", {})
    for token, error in ((reader, Forbidden), (await log_in(api, "erin"), NotFound), (None, Unauthorized)):
        with pytest.raises(error):
            async with talking(api, token):
                pass
    async with Connection(api.host_settings("h9")) as connection:
        with pytest.raises(Forbidden):
            async with open_shell(connection, "web-1", project="demo"):
                pass
    async with api.raw() as raw:
        assert (await raw.get(SHELL)).status_code == 405
    assert way.opened == 0


async def test_an_instance_without_host_has_no_shell(api: Api, way: Way) -> None:
    wire = (await api.store.get(get_kind("Instance"), "demo", "web-1")).wire
    spec = {k: v for k, v in wire["spec"].items() if k != "networkInterfaces"}
    await put(api, "Instance", "web-2", spec, "demo")
    async with Connection(api.settings()) as connection:
        for name, error in (("web-2", Conflict), ("web-9", NotFound)):
            with pytest.raises(error):
                async with open_shell(connection, name, project="demo"):
                    pass


async def test_a_ticket_opens_a_shell_once(api: Api, alice: str, guest: SshGuest) -> None:
    async with Connection(api.settings(token=alice)) as connection:
        views = InstanceViews(connection, "demo")
        ticket = (await views.get_ticket("web-1", InstanceStream.SHELL)).ticket
        other = (await views.get_ticket("web-1", InstanceStream.CONSOLE)).ticket
    async with talking(api, None, ticket=ticket, command="echo $((6*7))") as shell:
        await shell.to_the_end()
        assert shell.shown == b"42\n"
    for refused in (ticket, other):
        with pytest.raises(Unauthorized):
            async with talking(api, None, ticket=refused):
                pass


async def test_what_the_host_says_and_what_the_guest_is_not_are_told(
    api: Api, alice: str, guest: SshGuest, way: Way
) -> None:
    async def failing(**how: str) -> str:
        async with talking(api, alice, **how) as shell:
            with pytest.raises((Unavailable, Forbidden)) as raised:
                await shell.to_the_end()
            return raised.value.message

    way.error = Unavailable("nothing listens on port 22 of 10.0.0.5")
    assert await failing() == "nothing listens on port 22 of 10.0.0.5"
    way.error = None
    assert "lets nobody-here not in" in await failing(user="nobody-here")
    guest.trust(public_line(make_private_key()))  # another project's
    assert "trust the project's SSH authority" in await failing()
    for said in (
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x1b]0;evil\x07SSH-1.0-old\r\n",
        b"SSH-2.0-x\r\n" + bytes(1000),
        b"",
    ):
        async with lying(said) as port:
            way.port = port
            told = await failing()
            assert told.isprintable()
            assert told.isascii()
            assert "SSH server" in told


@contextlib.asynccontextmanager
async def lying(said: bytes) -> AsyncIterator[int]:
    """Something that is no SSH server; it ends once it was listened to."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.readline()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("lost", ["binding", "session", "instance"])
async def test_a_shell_ends_with_the_right_to_it(api: Api, alice: str, guest: SshGuest, way: Way, lost: str) -> None:
    async with talking(api, alice) as shell:
        await shell.say("echo re''ady")
        await shell.until(b"ready")
        if lost == "binding":
            await api.store.delete(get_kind("RoleBinding"), "demo", "alice", actor=ADMIN)
        elif lost == "session":
            for session in (await api.store.list(get_kind("Session"))).items:
                await api.store.delete(get_kind("Session"), None, name_of(session), actor=ADMIN)
        else:
            guest.kill_sessions()
        with pytest.raises((Forbidden, Unauthorized, NotFound, Unavailable)):
            await shell.to_the_end()
    await gone(guest, way)


async def test_a_client_that_goes_and_a_server_that_stops_leave_nothing_behind(
    api: Api, alice: str, guest: SshGuest, way: Way
) -> None:
    async with talking(api, alice) as shell:
        await shell.say("echo re''ady")
        await shell.until(b"ready")
    await gone(guest, way)
    async with talking(api, alice) as shell:
        await shell.say("echo re''ady")
        await shell.until(b"ready")
        api.stop.set()
        assert await shell.to_the_end() is None  # in good order, and not by an exit of the shell
    await gone(guest, way)


async def gone(guest: SshGuest, way: Way) -> None:
    """Wait until the guest has no connection any more."""
    async with asyncio.timeout(SECONDS):
        while guest.sessions() or way.open:
            await asyncio.sleep(0.02)


async def test_a_shell_is_reached_through_the_replica_that_has_the_tunnel(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, alice: str, guest: SshGuest, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    async with (
        serving(memory_store, memory_etcd, api.installation, folders[0], peers=True) as one,
        serving(memory_store, memory_etcd, api.installation, folders[1], peers=True) as two,
        leading_to(one, guest.port),
        talking(two, alice, command="echo $((6*7)); exit 4") as shell,
    ):
        assert await shell.to_the_end() == ShellEnd(status=4)
        assert shell.shown == b"42\n"


async def test_the_trail_says_who_logged_in_as_whom_and_for_how_long(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, alice: str, guest: SshGuest, tmp_path: Path
) -> None:
    async with (
        serving_audited(memory_store, memory_etcd, api.installation, tmp_path) as found,
        leading_to(found.api, guest.port),
    ):
        async with talking(found.api, alice, command="echo s3cret") as shell:
            await shell.to_the_end()
        async with asyncio.timeout(SECONDS):
            while not any(r["verb"] == "disconnect" for r in found.records):
                await asyncio.sleep(0.02)
        began, ended = [r for r in found.records if r.get("subresource") == "shell"]
        assert (began["verb"], began["subject"], began["name"], began["login"]) == (
            "connect",
            "user:alice",
            "web-1",
            LOGIN,
        )
        assert (ended["verb"], ended["login"], ended["requestId"]) == ("disconnect", LOGIN, began["requestId"])
        assert ended["seconds"] >= 0
        assert "s3cret" not in str(found.records)
        assert began["requestId"] in guest.log.read_text()


@pytest.mark.parametrize(
    ("what", "let_in"), [("good", True), ("expired", False), ("not yet", False), ("another", False), ("login", False)]
)
def test_openssh_itself_judges_the_certificates(guest: SshGuest, tmp_path: Path, what: str, let_in: bool) -> None:
    """By OpenSSH's own client, so that nothing of ours decides."""
    authority, secret, now = make_private_key(), make_private_key(), datetime.now(UTC)
    guest.trust(public_line(authority))
    now += {"expired": timedelta(minutes=-5), "not yet": timedelta(minutes=5)}.get(what, timedelta())
    signer = make_private_key() if what == "another" else authority
    certificate = issue_login(
        signer,
        Ed25519PrivateKey.from_private_bytes(secret).public_key(),
        login="somebody-else" if what == "login" else LOGIN,
        key_id="user:alice\x1b[2J 0af7",
        now=now,
    )
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_bytes(private_text(secret))
    (tmp_path / "key-cert.pub").write_bytes(certificate + b"\n")
    told = subprocess.run(["ssh-keygen", "-L", "-f", str(tmp_path / "key-cert.pub")], capture_output=True, text=True)
    assert told.returncode == 0
    assert 'Key ID: "user:alice?[2J 0af7"' in told.stdout
    assert told.stdout.split("Extensions:")[1].split() == ["permit-pty"]
    options = ["-F/dev/null", "-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null"]
    command = ["ssh", *options, "-oIdentityAgent=none", "-i", str(key), "-p", str(guest.port), f"{LOGIN}@127.0.0.1"]
    ended = subprocess.run([*command, "echo", "in"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (ended.stdout == "in\n") is let_in, ended.stderr
