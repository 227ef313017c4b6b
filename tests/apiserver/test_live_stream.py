# ruff: noqa: SIM117 (nested blocks read better here)
"""The live stream: many watches over one websocket, and what ends one of them or all."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from httpx2.websockets import AsyncWebSocketSession, WebSocketDisconnect, WebSocketUpgradeError

from tests.apiserver.test_accounts import as_, key_token, log_in, put
from tests.apiserver.test_tenancy import bind, make_two_projects, network, put_roles
from tests.fakes.manual_clock import ManualClock
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import SYSTEM, Api, create_samples, serving
from tests.fixtures.samples import sample
from vcstack.apiserver.limits.defaults import STREAMS, TENANTS, StreamSettings
from vcstack.apiserver.limits.settings import LimitSettings
from vcstack.apiserver.livestream import WATCHES
from vcstack.pki.installation import Installation
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.store.cache import CacheSettings
from vcstack.store.store import Store, StoreSettings

STREAM = "/api/v1/stream"
FLAVORS = "/api/v1/flavors"
PATIENCE = 60
FLAVOR = get_kind("Flavor")
MORE_THAN_BUFFERS_HOLD = 500
"""Objects of 60 kB: Linux buffers some megabytes of a connection."""


class Page:
    """A page's end of the socket."""

    def __init__(self, session: AsyncWebSocketSession) -> None:
        self.session = session

    async def send(self, **frame: Any) -> None:
        await self.session.send_text(json.dumps(frame))

    async def watch(self, id_: int, path: str, **more: Any) -> None:
        await self.send(op="watch", id=id_, path=path, **more)

    async def frame(self) -> dict[str, Any]:
        """Return the next frame that tells something."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found: dict[str, Any] = json.loads(await self.session.receive_text())
                if found["type"] != "ALIVE":
                    return found

    async def told(self) -> tuple[int, str, str]:
        """Return watch, type and the object's name of the next frame; of a bookmark nothing, of an error its code."""
        found = await self.frame()
        if found["type"] == "ERROR":
            return found["id"], "ERROR", str(found["status"]["code"])
        return found["id"], found["type"], found["object"]["metadata"].get("name", "")

    async def until_closed(self) -> int:
        """Return the code that the server closes with."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.session.receive_text()
                except WebSocketDisconnect as error:
                    return error.code


@contextlib.asynccontextmanager
async def page(api: Api, token: str | None = None, *, read_ahead: int = 512) -> AsyncIterator[Page]:
    """Open the socket as a page does: it can say who it is only by a subprotocol."""
    async with api.raw(api.settings(token=None)) as client:
        asked = ["vcstack.v1", f"vcstack.bearer.{token or api.token.strip()}"]
        async with client.websocket(
            STREAM.replace("/api", f"{api.url}/api", 1), subprotocols=asked, queue_size=read_ahead,
            max_message_size_bytes=1 << 20,
        ) as session:  # fmt: skip
            yield Page(session)


async def test_a_watch_begins_with_what_there_is_and_goes_on_with_what_changes(api: Api) -> None:
    await put(api, "Flavor", "a", sample("Flavor")["spec"])
    async with page(api) as live:
        await live.watch(7, FLAVORS)
        assert await live.told() == (7, "ADDED", "a")
        bookmark = await live.frame()
        assert bookmark["type"] == "BOOKMARK"
        await api.store.merge_patch(FLAVOR, None, "a", {"metadata": {"labels": {"x": "y"}}}, actor=SYSTEM)
        await api.store.finalize(FLAVOR, None, "a", FLAVOR.finalizers, actor=SYSTEM)
        await api.store.delete(FLAVOR, None, "a", actor=SYSTEM)
        told = [await live.told() for _ in range(3)]
        assert told == [(7, "MODIFIED", "a"), (7, "MODIFIED", "a"), (7, "DELETED", "a")]
    async with page(api) as live:
        version = bookmark["object"]["metadata"]["resourceVersion"]
        await live.watch(0, FLAVORS, resourceVersion=version)
        assert [await live.told() for _ in range(3)] == [(0, *event) for _, *event in told]


async def test_the_token_is_not_among_the_protocols_that_the_server_answers(api: Api) -> None:
    async with api.raw(api.settings(token=None)) as client:
        asked = ["vcstack.v1", f"vcstack.bearer.{api.token.strip()}"]
        async with client.websocket(f"{api.url}{STREAM}", subprotocols=asked) as session:
            assert session.subprotocol == "vcstack.v1"


async def test_many_watches_share_a_socket_and_each_hears_its_own(api: Api) -> None:
    await create_samples(api)
    async with page(api) as live:
        await live.watch(1, "/api/v1/projects/demo/instances", fieldSelector="status.host=h1")
        await live.watch(2, "/api/v1/instances", labelSelector="app=none")
        await live.watch(3, "/api/v1/projects/demo/networks")
        seen = [await live.told() for _ in range(4)]
        assert [s for s in seen if s[1] == "ADDED"] == [(3, "ADDED", sample("Network")["metadata"]["name"])]
        assert sorted(s[0] for s in seen if s[1] == "BOOKMARK") == [1, 2, 3]
        await api.store.patch_status(get_kind("Instance"), "demo", "web-1", {"host": "h1"}, actor=SYSTEM)
        assert await live.told() == (1, "ADDED", "web-1")
        await live.send(op="unwatch", id=1)
        await live.watch(1, FLAVORS)  # the number is free again
        assert (await live.told())[:2] in ((1, "ADDED"), (1, "BOOKMARK"))


@pytest.mark.parametrize(
    ("path", "more", "code"),
    [
        (FLAVORS, {"resourceVersion": "999999"}, "410"),
        (FLAVORS, {"labelSelector": "a==="}, "400"),
        (FLAVORS, {"fieldSelector": "spec.nothing=1"}, "400"),
        ("/api/v1/flavors/small", {}, "400"),
        ("/api/v1/nothings", {}, "404"),
        ("/openapi.json", {}, "400"),
        ("/api/v1/flavors?limit=1", {}, "404"),
        ("/api/v1/projects/UPPER/instances", {}, "422"),
    ],
)
async def test_a_watch_that_cannot_be_ends_alone(api: Api, path: str, more: dict[str, str], code: str) -> None:
    async with page(api) as live:
        await live.watch(1, path, **more)
        assert await live.told() == (1, "ERROR", code)
        await live.watch(1, "/api/v1/projects")
        assert await live.told() == (1, "BOOKMARK", "")


async def test_a_version_that_is_no_longer_kept_is_410(api: Api) -> None:
    await put(api, "Flavor", "a", sample("Flavor")["spec"])
    await api.store.close()
    await api.etcd.compact(api.etcd.revision)
    await api.store.start()
    async with page(api) as live:
        await live.watch(1, FLAVORS, resourceVersion="1")
        assert await live.told() == (1, "ERROR", "410")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"op":"shout"}',
        '{"op":"watch","id":"1","path":"/api/v1/flavors"}',
        '{"op":"watch","id":-1,"path":"/api/v1/flavors"}',
        '{"op":"watch","id":1,"path":"/api/v1/flavors","resourceVersion":"1e9"}',
        '{"op":"watch","id":1,"path":7}',
        '{"op":"watch","id":1,"path":"' + "x" * 600 + '"}',
        '{"op":"watch","id":1,"path":"/api/v1/flavors","more":1}',
        "[" * 30_000,
    ],
)
async def test_a_frame_that_says_nothing_closes_the_socket(api: Api, text: str) -> None:
    async with page(api) as live:
        await live.session.send_text(text)
        assert await live.until_closed() == 4400


async def test_bytes_and_what_is_too_large_close_the_socket(api: Api) -> None:
    async with page(api) as live:
        await live.session.send_bytes(b'{"op":"unwatch","id":1}')
        assert await live.until_closed() == 1003
    async with page(api) as live:
        await live.session.send_text(json.dumps({"op": "unwatch", "id": 1, "path": "x" * 100_000}))
        assert await live.until_closed() == 1009


async def test_a_number_in_use_closes_the_socket(api: Api) -> None:
    async with page(api) as live:
        await live.watch(1, FLAVORS)
        await live.watch(1, FLAVORS)
        assert await live.until_closed() == 4400


async def test_nobody_gets_in_without_a_good_token(api: Api) -> None:
    async def refusal(**options: Any) -> int:
        async with api.raw(api.settings(token=None)) as client:
            with pytest.raises(WebSocketUpgradeError) as caught:
                async with client.websocket(f"{api.url}{STREAM}{options.pop('query', '')}", **options):
                    pass
        return int(caught.value.response.status_code)

    mine = f"vcstack.bearer.{api.token.strip()}"
    assert await refusal() == 401
    assert await refusal(subprotocols=["vcstack.v1"]) == 401
    assert await refusal(subprotocols=["vcstack.v1", "vcstack.bearer.wrong"]) == 401
    assert await refusal(subprotocols=[mine]) == 400
    assert await refusal(subprotocols=["vcstack.v1", mine], query="?token=x") == 400
    assert await refusal(subprotocols=["vcstack.v1", mine], headers={"origin": "https://evil.example"}) == 403
    async with api.raw() as client:
        assert (await client.get(STREAM)).status_code == 405


@pytest.fixture
async def cloud(api: Api) -> Api:
    """Two projects, each with a network; alice is a member of the first."""
    return await make_two_projects(api)


async def test_a_tenant_sees_what_is_theirs_and_loses_it_with_the_right(cloud: Api) -> None:
    await put(cloud, "User", "bob", {})
    token = await log_in(cloud, "alice")
    async with page(cloud, token) as live:
        await live.watch(1, "/api/v1/projects/mine/networks")
        await live.watch(2, "/api/v1/projects/theirs/networks")
        await live.watch(3, "/api/v1/networks")
        found = sorted([await live.told() for _ in range(5)])
        assert found == [
            (1, "ADDED", "blue"), (1, "BOOKMARK", ""), (2, "ERROR", "404"), (3, "ADDED", "blue"), (3, "BOOKMARK", ""),
        ]  # fmt: skip
        await cloud.store.bound(SYSTEM).delete(Ref("RoleBinding", "mine", "alice"))
        await network(cloud, "mine", "secret")
        # 410: list anew, which is refused then.
        assert sorted([await live.told() for _ in range(2)]) == [(1, "ERROR", "410"), (3, "ERROR", "410")]
        await live.watch(1, "/api/v1/projects/mine/networks")
        assert await live.told() == (1, "ERROR", "404")


async def test_the_end_of_the_session_closes_the_socket(cloud: Api) -> None:
    token = await log_in(cloud, "alice")
    async with page(cloud, token) as live, as_(cloud, token) as client:
        await live.watch(1, "/api/v1/projects/mine/networks")
        assert (await live.told())[1] == "ADDED"
        assert (await client.post("/api/v1/auth/logout", json={})).status_code == 204
        assert await live.until_closed() == 4401


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def timed(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[Api]:
    async with serving(memory_store, memory_etcd, pki_installation, tmp_path, clock=clock) as api:
        yield api


async def log_in_with_refresh(api: Api, name: str) -> tuple[str, str]:
    async with api.raw() as admin, api.raw(api.settings(token=None)) as nobody:
        issued = (await admin.post(f"/api/v1/users/{name}/initialsecret")).json()
        step = (await nobody.post("/api/v1/auth/login", json={"user": name, "password": issued["secret"]})).json()
        asked = {"challenge": step["challenge"], "newPassword": "seven wet umbrellas dance"}
        tokens = (await nobody.post("/api/v1/auth/password", json=asked)).json()
    return tokens["accessToken"], tokens["refreshToken"]


async def test_a_fresh_token_keeps_the_socket_and_an_old_one_ends_it(timed: Api, clock: ManualClock) -> None:
    await put(timed, "User", "alice", {})
    access, refresh = await log_in_with_refresh(timed, "alice")
    async with page(timed, access) as live, timed.raw(timed.settings(token=None)) as nobody:
        await live.watch(1, "/api/v1/sessions")
        assert (await live.told())[1] == "ADDED"  # one's own
        assert (await live.told())[1] == "BOOKMARK"
        clock.skip(500)
        fresh = (await nobody.post("/api/v1/auth/refresh", json={"refreshToken": refresh})).json()
        await live.send(op="token", token=fresh["accessToken"])
        for number, seconds in ((2, 0), (3, 500)):  # one frame is taken after the other; then the first token ends
            clock.skip(seconds)
            await live.watch(number, "/api/v1/apikeys")
            while await live.told() != (number, "BOOKMARK", ""):
                pass  # of the other watch
        clock.skip(500)
        assert await live.until_closed() == 4401


async def test_the_token_of_somebody_else_or_of_nobody_closes_the_socket(cloud: Api) -> None:
    await put(cloud, "User", "bob", {})
    alice, bob = await log_in(cloud, "alice"), await log_in(cloud, "bob")
    for token in (bob, cloud.token.strip(), "nonsense", ""):
        async with page(cloud, alice) as live:
            await live.send(op="token", token=token)
            assert await live.until_closed() == 4401


async def test_a_restricted_key_watches_what_it_may(cloud: Api) -> None:
    await put(cloud, "ServiceAccount", "ci", {}, "mine")
    subject = {"kind": "ServiceAccount", "name": "ci", "project": "mine"}
    await put(cloud, "RoleBinding", "ci", {"subject": subject, "role": "member"}, "mine")
    rules = [{"verbs": ["watch"], "kinds": ["Network"]}]
    await put(cloud, "APIKey", "ci", {"serviceAccount": "ci", "rules": rules}, "mine")
    async with page(cloud, await key_token(cloud, "/api/v1/projects/mine/apikeys/ci")) as live:
        await live.watch(1, "/api/v1/projects/mine/networks")
        assert await live.told() == (1, "ADDED", "blue")
        assert await live.told() == (1, "BOOKMARK", "")
        await live.watch(2, "/api/v1/projects/mine/instances")
        assert await live.told() == (2, "ERROR", "403")


async def test_each_watch_of_a_socket_counts_as_a_stream_as_long_as_it_goes_on(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path
) -> None:
    few = LimitSettings(streams={**STREAMS, TENANTS: StreamSettings(of_one=4, in_all=100)})
    async with serving(memory_store, memory_etcd, pki_installation, tmp_path, limits=few) as api:
        await put_roles(api)
        await put(api, "Project", "mine", {})
        await put(api, "User", "alice", {})
        await bind(api, "alice", "alice", "member", "mine")
        token = await log_in(api, "alice")
        async with page(api, token) as live:
            for n in range(3):  # the socket itself is the first of the four
                await live.watch(n, "/api/v1/projects/mine/networks")
                assert await live.told() == (n, "BOOKMARK", "")
            await live.watch(99, "/api/v1/projects/mine/networks")
            assert await live.told() == (99, "ERROR", "429")
            await live.watch(98, "/api/v1/projects/theirs/networks")
            assert await live.told() == (98, "ERROR", "429"), "what is not there is counted, too"
            await live.send(op="unwatch", id=1)
            await live.watch(98, "/api/v1/projects/theirs/networks")
            assert await live.told() == (98, "ERROR", "404")
            await live.watch(1, "/api/v1/projects/mine/networks")
            assert await live.told() == (1, "BOOKMARK", ""), "what ended has left its place"
            with pytest.raises(WebSocketUpgradeError) as caught:
                async with page(api, token):
                    pass
            assert caught.value.response.status_code == 429
        async with asyncio.timeout(PATIENCE):  # what is given back can be had again
            while api.application.gate.streams[TENANTS].open:
                await asyncio.sleep(0.01)
        async with page(api) as live:
            for n in range(WATCHES):
                await live.watch(n, "/api/v1/projects/mine/networks")
                assert await live.told() == (n, "BOOKMARK", "")
            await live.watch(WATCHES, "/api/v1/projects/mine/networks")
            assert await live.told() == (WATCHES, "ERROR", "429")


async def test_a_page_that_does_not_read_loses_the_watch_and_goes_on_from_its_version(
    memory_etcd: MemoryEtcd, api: Api, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = StoreSettings(cache=CacheSettings(watcher_limit=4))
    big = {"annotations": {"note": "x" * 60_000}}
    async with Store(memory_etcd, settings=settings) as store:
        async with serving(store, memory_etcd, api.installation, tmp_path_factory.mktemp("x")) as slow:
            await put(slow, "Flavor", "a", sample("Flavor")["spec"])
            async with page(slow, read_ahead=1) as live:
                await live.watch(1, FLAVORS)
                assert [(await live.told())[1] for _ in range(2)] == ["ADDED", "BOOKMARK"]
                for n in range(MORE_THAN_BUFFERS_HOLD):
                    patch = {"metadata": {**big, "labels": {"n": str(n)}}}
                    stored = await store.merge_patch(FLAVOR, None, "a", patch, actor=SYSTEM)
                last, error = "", dict[str, Any]()
                while not error:
                    found = await live.frame()
                    if found["type"] == "ERROR":
                        error = found["status"]
                    else:
                        last = found["object"]["metadata"]["resourceVersion"]
                assert error["code"] == 503
                assert int(last) < stored.revision
                await live.watch(1, FLAVORS, resourceVersion=last)
                while last != str(stored.revision):
                    last = (await live.frame())["object"]["metadata"]["resourceVersion"]


async def test_a_stop_closes_sockets_in_order(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with serving(memory_store, memory_etcd, api.installation, tmp_path_factory.mktemp("x")) as other:
        async with page(other) as live:
            await live.watch(1, FLAVORS)
            assert await live.told() == (1, "BOOKMARK", "")
            other.stop.set()
            assert await live.until_closed() in (1001, 1012)


async def test_a_page_is_sent_elsewhere_after_a_while_and_hears_that_the_server_is_there(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("x")
    async with serving(memory_store, memory_etcd, api.installation, folder, keep_alive_seconds=0.01) as other:
        async with page(other) as live, asyncio.timeout(PATIENCE):
            assert json.loads(await live.session.receive_text()) == {"type": "ALIVE"}
    async with serving(memory_store, memory_etcd, api.installation, folder, watch_seconds=1) as other:
        async with page(other) as live:
            assert await live.until_closed() == 1012


async def test_a_page_that_leaves_is_forgotten(api: Api) -> None:
    table = api.store.cache.table(FLAVOR)
    async with page(api) as live:
        await live.watch(1, FLAVORS)
        assert await live.told() == (1, "BOOKMARK", "")
        assert table.watcher_count
    async with asyncio.timeout(PATIENCE):
        while table.watcher_count:
            await asyncio.sleep(0.01)
