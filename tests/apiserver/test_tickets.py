# ruff: noqa: SIM117 (nested blocks read better here)
"""Tickets: what pages open consoles and screens with. Over real websockets and TLS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from httpx2.websockets import WebSocketDisconnect, WebSocketUpgradeError

from tests.apiserver.audit.conftest import serving_audited
from tests.apiserver.test_accounts import ADMIN, log_in, put
from tests.apiserver.test_tenancy import PATIENCE, put_roles
from tests.apiserver.test_tunnels import connected, name_of
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import SYSTEM, Api, bind, create_samples, serving
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.instancemessages import InstanceStream
from vcstack.apiclient.instances import InstanceViews
from vcstack.apiserver.auth.tokens import Bearer
from vcstack.apiserver.tickets import PREFIX
from vcstack.clock import SystemClock
from vcstack.specs.errors import ApiError, Forbidden, Invalid, NotFound, Unauthorized, Unavailable
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

CONSOLE, SCREEN = InstanceStream.CONSOLE, InstanceStream.VNC
UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class FastClock(SystemClock):
    """The time, which a test may let pass."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


@contextlib.asynccontextmanager
async def views(api: Api, token: str | None, project: str = "demo") -> AsyncIterator[InstanceViews]:
    async with Connection(api.settings(token=token)) as connection:
        yield InstanceViews(connection, project)


@pytest.fixture
async def alice(api: Api) -> AsyncIterator[InstanceViews]:
    """A member of the project demo, whose instance web-1 runs on a connected host."""
    await create_samples(api)
    await bind(api, "Instance", "web-1", "h9")
    await put_roles(api)
    await put(api, "RoleBinding", "alice", {"subject": {"kind": "User", "name": "alice"}, "role": "member"}, "demo")
    async with connected(api), views(api, await log_in(api, "alice")) as found:
        yield found


@pytest.fixture
async def page(api: Api) -> AsyncIterator[InstanceViews]:
    """Somebody who has nothing but a ticket."""
    async with views(api, None) as found:
        yield found


async def echo(page: InstanceViews, ticket: str, stream: InstanceStream = CONSOLE, name: str = "web-1") -> bytes | None:
    async with page.open(name, stream, ticket=ticket) as socket:
        await socket.send(b"hello")
        return await socket.receive()


@pytest.mark.parametrize("stream", [CONSOLE, SCREEN])
async def test_a_ticket_opens_its_stream_once(api: Api, alice: InstanceViews, page: InstanceViews, stream: str) -> None:
    which = InstanceStream(stream)
    ticket = await alice.get_ticket("web-1", which)
    assert await echo(page, ticket.ticket, which) == b"HELLO"
    with pytest.raises(Unauthorized, match="used already"):
        await echo(page, ticket.ticket, which)
    assert not (await api.etcd.range(PREFIX)).kvs


async def test_of_many_who_come_with_one_ticket_one_gets_in(alice: InstanceViews, page: InstanceViews) -> None:
    ticket = (await alice.get_ticket("web-1", CONSOLE)).ticket
    outcomes = await asyncio.gather(*(echo(page, ticket) for _ in range(8)), return_exceptions=True)
    assert sorted(type(o).__name__ for o in outcomes) == ["Unauthorized"] * 7 + ["bytes"]


async def test_a_ticket_is_for_one_stream_of_one_instance(api: Api, alice: InstanceViews, page: InstanceViews) -> None:
    wire = (await api.store.get(get_kind("Instance"), "demo", "web-1")).wire
    spec = {k: v for k, v in wire["spec"].items() if k != "networkInterfaces"}
    await put(api, "Instance", "web-2", spec, "demo")
    await bind(api, "Instance", "web-2", "h9")
    for name, stream in (("web-2", CONSOLE), ("web-1", SCREEN)):
        ticket = (await alice.get_ticket("web-1", CONSOLE)).ticket
        with pytest.raises(Unauthorized, match="something else"):
            await echo(page, ticket, stream, name)
        with pytest.raises(Unauthorized):  # trying it has used it up
            await echo(page, ticket)
    ticket = (await alice.get_ticket("web-2", CONSOLE)).ticket
    await api.store.delete(get_kind("Instance"), "demo", "web-2", actor=ADMIN)
    for finalizer in ("vcstack.io/instance", "vcstack.io/domain"):
        await api.store.finalize(get_kind("Instance"), "demo", "web-2", [finalizer], actor=SYSTEM)
    await put(api, "Instance", "web-2", spec, "demo")
    await bind(api, "Instance", "web-2", "h9")
    with pytest.raises(Unauthorized, match="was deleted"):
        await echo(page, ticket, name="web-2")


@pytest.mark.parametrize("ticket", ["", "x", "x" * 127, "x" * 5000, "../../x", "\u00e4\x00\n"])
async def test_what_is_no_ticket_opens_nothing(alice: InstanceViews, page: InstanceViews, ticket: str) -> None:
    with pytest.raises(Unauthorized):
        await echo(page, ticket)


async def test_a_ticket_counts_for_a_minute(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, tmp_path: Path, alice: InstanceViews
) -> None:
    clock = FastClock()
    (tmp_path / "later").mkdir()
    async with serving(memory_store, memory_etcd, api.installation, tmp_path / "later", clock=clock) as later:
        async with connected(later), views(later, None) as page, views(later, later.token) as admin:
            first, second = [(await admin.get_ticket("web-1", CONSOLE)) for _ in range(2)]
            clock.ahead = timedelta(seconds=20)
            assert await echo(page, first.ticket) == b"HELLO"
            clock.ahead = timedelta(seconds=61)
            with pytest.raises(Unauthorized, match="older than 60 s"):
                await echo(page, second.ticket)


async def test_a_ticket_of_one_replica_opens_the_stream_at_another(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await create_samples(api)
    await bind(api, "Instance", "web-1", "h9")
    folders = [tmp_path_factory.mktemp(n) for n in ("one", "two")]
    async with (
        serving(memory_store, memory_etcd, api.installation, folders[0], peers=True) as one,
        serving(memory_store, memory_etcd, api.installation, folders[1], peers=True) as two,
        connected(one),
        views(one, one.token) as admin,
        views(two, None) as page,
    ):
        assert await echo(page, (await admin.get_ticket("web-1", SCREEN)).ticket, SCREEN) == b"HELLO"


async def test_who_may_not_open_a_stream_gets_no_ticket_for_it(api: Api, alice: InstanceViews) -> None:
    await put(api, "User", "carol", {})
    await put(api, "RoleBinding", "carol", {"subject": {"kind": "User", "name": "carol"}, "role": "reader"}, "demo")
    only_console = {
        "rules": [
            {"verbs": ["update"], "kinds": ["Instance"], "subresources": ["tickets", "console"]},
            {"verbs": ["get"], "kinds": ["Instance"]},
        ]
    }
    await put(api, "Role", "serial", only_console)
    await put(api, "User", "dave", {})
    await put(api, "RoleBinding", "dave", {"subject": {"kind": "User", "name": "dave"}, "role": "serial"}, "demo")
    await put(api, "User", "erin", {})
    async with (
        views(api, await log_in(api, "carol")) as reader,
        views(api, await log_in(api, "dave")) as typist,
        views(api, await log_in(api, "erin")) as stranger,
    ):
        with pytest.raises(Forbidden):
            await reader.get_ticket("web-1", CONSOLE)
        assert (await typist.get_ticket("web-1", CONSOLE)).ticket
        with pytest.raises(Forbidden, match="Instance/vnc"):
            await typist.get_ticket("web-1", SCREEN)
        with pytest.raises(NotFound):
            await stranger.get_ticket("web-1", CONSOLE)
    with pytest.raises(NotFound):
        await alice.get_ticket("web-7", CONSOLE)
    async with api.raw() as raw:
        for body in ({}, {"stream": "Tunnel"}, {"stream": "Console", "seconds": 600}):
            answer = await raw.post("/api/v1/projects/demo/instances/web-1/tickets", json=body)
            assert answer.status_code == Invalid.CODE, answer.text
        assert (await raw.get("/api/v1/projects/demo/instances/web-1/tickets")).status_code == 405
        assert (await raw.get("/api/v1/projects/demo/instances/web-1/vnc")).status_code == 405


@pytest.mark.parametrize("lost", ["binding", "session"])
async def test_a_ticket_gives_no_more_than_its_holder_has_left(
    api: Api, alice: InstanceViews, page: InstanceViews, lost: str
) -> None:
    ticket, unused = [(await alice.get_ticket("web-1", SCREEN)).ticket for _ in range(2)]
    async with page.open("web-1", SCREEN, ticket=ticket) as screen, asyncio.timeout(PATIENCE):
        await screen.send(b"hello")
        assert await screen.receive() == b"HELLO"
        if lost == "binding":
            await api.store.delete(get_kind("RoleBinding"), "demo", "alice", actor=ADMIN)
        else:
            for session in (await api.store.list(get_kind("Session"))).items:
                await api.store.delete(get_kind("Session"), None, name_of(session), actor=ADMIN)
        with pytest.raises((Forbidden, Unauthorized, Unavailable)):
            await screen.receive()  # nothing was sent that is still to be answered
    with pytest.raises((Forbidden, NotFound, Unauthorized)):
        await echo(page, unused, SCREEN)


async def test_a_ticket_stands_for_all_that_its_holder_asked_with(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, alice: InstanceViews, page: InstanceViews
) -> None:
    """What the cloud does for a Git source ends with the source, also what a ticket was got for."""
    spec = {"url": "https://git.example/x.git", "serviceAccount": "ci"}
    source = await put(api, "GitSource", "site", spec, "demo")
    account = (await api.store.get(get_kind("ServiceAccount"), "demo", "ci")).wire
    subject = {"kind": "ServiceAccount", "name": "ci", "project": "demo"}
    await put(api, "RoleBinding", "ci", {"subject": subject, "role": "member"}, "demo")
    bearer = Bearer(
        subject="serviceaccount:demo/ci", uid=account["metadata"]["uid"], source=f"site/{source['metadata']['uid']}"
    )
    async with views(api, api.auth.tokens.issue(bearer)[0]) as machine:
        first, second = [(await machine.get_ticket("web-1", CONSOLE)).ticket for _ in range(2)]
    assert await echo(page, first) == b"HELLO"
    async with api.raw() as admin:
        merge = {"content-type": "application/merge-patch+json"}
        url = "/api/v1/projects/demo/gitsources/site"
        assert (await admin.patch(url, content=b'{"spec":{"suspend":true}}', headers=merge)).is_success
    with pytest.raises(Unauthorized, match="not logged in any more"):
        await echo(page, second)


@pytest.mark.parametrize(("origin", "status"), [("https://evil.example", 403), ("null", 403), ("", 101), ("own", 101)])
async def test_a_page_of_another_origin_cannot_use_a_ticket(
    api: Api, alice: InstanceViews, origin: str, status: int
) -> None:
    ticket = (await alice.get_ticket("web-1", CONSOLE)).ticket
    headers = UPGRADE | ({"origin": api.url if origin == "own" else origin} if origin else {})
    async with api.raw(api.settings(token=None)) as http:
        url = f"/api/v1/projects/demo/instances/web-1/console?ticket={ticket}"
        async with http.stream("GET", url, headers=headers) as answer:
            assert answer.status_code == status


async def test_a_page_hears_why_it_is_refused_and_the_trail_has_it_as_refused(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, alice: InstanceViews, tmp_path: Path
) -> None:
    """Browsers show nothing of a handshake that is refused; all others get a proper answer."""
    async with (
        serving_audited(memory_store, memory_etcd, api.installation, tmp_path) as found,
        views(found.api, None) as program,
        views(found.api, await log_in(found.api, "alice")) as alice,
        found.api.raw(found.api.settings(token=None)) as browser,
    ):
        first, second = [(await alice.get_ticket("web-1", CONSOLE)).ticket for _ in range(2)]
        url, headers = f"{found.api.url}/api/v1/projects/demo/instances/web-1/console", {"origin": found.api.url}
        with pytest.raises(Unavailable, match="h9 is not connected"):
            await echo(program, first)
        async with browser.websocket(url, params={"ticket": second}, headers=headers) as socket:
            with pytest.raises(WebSocketDisconnect) as ended:
                await socket.receive(PATIENCE)
        assert ended.value.code == 1011
        assert "h9 is not connected" in (ended.value.reason or "")
        for bad in (second, "none"):
            with pytest.raises(WebSocketUpgradeError) as refused:
                async with browser.websocket(url, params={"ticket": bad}, headers=headers):
                    pass
            assert refused.value.response.status_code == 401
        told = [(r["verb"], r["status"]) for r in found.records if r.get("subresource") == "console"]
        assert told == [("connect", 503), ("connect", 503), ("connect", 401), ("connect", 401)]


async def test_the_trail_says_who_opened_what_and_for_how_long(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, alice: InstanceViews, tmp_path: Path
) -> None:
    async with (
        serving_audited(memory_store, memory_etcd, api.installation, tmp_path) as found,
        connected(found.api),
        views(found.api, None) as page,
        views(found.api, await log_in(found.api, "alice")) as alice,
    ):
        ticket = await alice.get_ticket("web-1", SCREEN)
        assert await echo(page, ticket.ticket, SCREEN) == b"HELLO"
        with pytest.raises(ApiError):
            await echo(page, ticket.ticket, SCREEN)
        async with asyncio.timeout(PATIENCE):
            while not any(r["verb"] == "disconnect" for r in found.records):
                await asyncio.sleep(0.02)
        told = [
            (r["subject"], r["verb"], r.get("subresource"), r["status"])
            for r in found.records
            if r.get("kind") == "Instance"
        ]
        asked, opened = ("user:alice", "update", "tickets", 201), ("user:alice", "connect", "vnc", 101)
        assert told[:2] == [asked, opened]
        assert sorted(told[2:]) == [("anonymous", "connect", "vnc", 401), ("user:alice", "disconnect", "vnc", 101)]
        [ended] = [r for r in found.records if r["verb"] == "disconnect"]
        assert ended["name"] == "web-1"
        assert 0 <= ended["seconds"] < PATIENCE
        assert ended["session"]
        assert ticket.ticket not in str(found.records)
