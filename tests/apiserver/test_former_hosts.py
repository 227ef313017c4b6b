"""A host's certificate is good for the Host object that it was issued for, not for whoever has its name later, and not
while it is stated that the machine is off or lost."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.fixtures.api import SYSTEM, Api, bind, create_samples, error_of
from tests.fixtures.etcd import eventually
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.frames import TunnelStream
from vcstack.apiclient.hosts import HostClient
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.apiclient.tunnel import HostTunnel
from vcstack.apiclient.websocket import open_socket
from vcstack.apiserver.identity import Identity, Role
from vcstack.apiserver.limits.gate import Pass
from vcstack.apiserver.targets import parse_target
from vcstack.pki.authority import load_certificate
from vcstack.pki.keys import generate_key_and_csr
from vcstack.pki.tls import certificate_uid
from vcstack.specs.errors import Forbidden, RateLimited
from vcstack.specs.kinds.host import Host
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.registry import get_kind

HOST = get_kind("Host")
DEMO = "/api/v1/projects/demo"
MERGE = {"content-type": "application/merge-patch+json"}
PATIENCE = 60.0


class Machine:
    """A machine that joins: its key, its token and what it got."""

    def __init__(self, api: Api, folder: Path) -> None:
        self._api = api
        self._files = folder / "host.crt", folder / "host.key"
        folder.mkdir()
        key, self.csr = generate_key_and_csr("whoever")
        self._files[1].write_bytes(key)
        self.token = ""

    async def join(self, *, again: bool = False) -> str:
        """Join as h1 and return the uid in the certificate; ``again``: with the token of the last time."""
        if not again:
            async with Connection(self._api.settings()) as connection:
                self.token = (await HostClient(connection).create_join_token("h1")).token
        async with Connection(self._api.settings(token=None)) as connection:
            issued = await HostClient(connection).join(token=self.token, host_name="h1", csr=self.csr.decode())
        self._files[0].write_text(issued.certificate)
        return self.uid

    @property
    def uid(self) -> str:
        return certificate_uid(load_certificate(self._files[0].read_bytes()))

    @property
    def settings(self) -> ConnectionSettings:
        certificate, key = self._files
        return self._api.settings(token=None, cert_file=certificate, key_file=key)


@pytest.fixture
def old(api: Api, tmp_path: Path) -> Machine:
    return Machine(api, tmp_path / "old")


@pytest.fixture
def new(api: Api, tmp_path: Path) -> Machine:
    return Machine(api, tmp_path / "new")


async def uid_of_host(api: Api) -> str:
    uid: str = (await api.store.get(HOST, None, "h1")).wire["metadata"]["uid"]
    return uid


async def remove(api: Api) -> None:
    host = await api.store.get(HOST, None, "h1")
    await api.store.delete(HOST, None, "h1", actor=SYSTEM)
    await api.store.finalize(HOST, None, "h1", host.wire["metadata"]["finalizers"], actor=SYSTEM)


async def state(api: Api, *, out_of_service: bool) -> httpx2.Response:
    """State of h1 whether its machine is off or lost, as an operator does."""
    async with api.raw() as http:
        answer = await http.patch("/api/v1/hosts/h1", json={"spec": {"outOfService": out_of_service}}, headers=MERGE)
    assert answer.status_code == 200, answer.text
    return answer


@contextlib.asynccontextmanager
async def connected(machine: Machine) -> AsyncIterator[HostTunnel]:
    async def serve(stream: TunnelStream) -> None:
        await stream.send(b"!")

    async with Connection(machine.settings) as connection:
        tunnel = HostTunnel(connection, "h1", serve)
        task = asyncio.create_task(tunnel.run())
        try:
            yield tunnel
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def read_to_its_end(stream: AsyncIterator[object]) -> None:
    async for _ in stream:
        pass


REQUESTS = (
    ("GET", "/api/v1/hosts/h1", None),
    ("PATCH", "/api/v1/hosts/h1/status", {"status": {"address": "10.0.0.7"}}),
    ("POST", "/api/v1/hosts/h1/heartbeat", None),
    ("GET", "/api/v1/instances?fieldSelector=status.host%3Dh1", None),
    ("GET", "/api/v1/instances?watch=true&timeoutSeconds=1&fieldSelector=status.host%3Dh1", None),
    ("GET", f"{DEMO}/instances/web-1", None),
    ("PATCH", f"{DEMO}/instances/web-1/status", {"status": {"powerState": "Running"}}),
    ("GET", "/api/v1/images/tiny", None),
    ("GET", f"{DEMO}/sshauthority", None),
)
"""What a host may."""


async def ask(http: httpx2.AsyncClient, method: str, path: str, body: object) -> httpx2.Response:
    return await http.request(method, path, json=body, headers=MERGE if method == "PATCH" else None)


async def test_the_former_machine_is_refused_everything_after_its_name_came_to_another(
    api: Api, old: Machine, new: Machine
) -> None:
    await create_samples(api)
    first = await old.join()
    await bind(api, "Instance", "web-1", "h1")
    async with api.raw(old.settings) as http:
        for request in REQUESTS:
            assert (await ask(http, *request)).status_code == 200, request
        renewal = "POST", "/api/v1/hosts/h1/certificate", {"csr": old.csr.decode()}
        renewed = (await ask(http, *renewal)).json()["certificate"]
        assert certificate_uid(load_certificate(renewed.encode())) == first
        await remove(api)
        for request in (*REQUESTS, renewal):
            answer = await ask(http, *request)
            assert answer.status_code == 403, request
            assert "h1 is not registered; to join again, remove pki/host.crt" in error_of(answer)["message"]
        second = await new.join()
        assert second not in ("", first)
        for request in (*REQUESTS, renewal):
            answer = await ask(http, *request)
            assert answer.status_code == 403, request
            message = error_of(answer)["message"]
            assert "another Host has the name now; to join again, remove pki/host.crt" in message
            assert second not in message
    async with Connection(old.settings) as connection:
        with pytest.raises(Forbidden, match="another Host has the name now"):
            async with open_socket(connection, "/api/v1/hosts/h1/tunnel"):
                pass
    async with api.raw(new.settings) as http:
        for request in (*REQUESTS, renewal):
            assert (await ask(http, *request)).status_code == 200, request


async def test_a_certificate_of_no_uid_is_no_hosts(api: Api) -> None:
    settings = api.host_settings("h1")  # made while there is no Host
    await api.register("h1")
    async with api.raw(settings) as http:
        assert (await http.get("/api/v1/hosts/h1")).status_code == 403


async def test_what_the_former_machine_watches_ends(api: Api, old: Machine, new: Machine) -> None:
    """Nothing is sent on it meanwhile; what the name's new owner gets must not come there."""
    await create_samples(api)
    await old.join()
    async with Connection(old.settings) as connection, asyncio.timeout(PATIENCE):
        client = ApiClient(connection)
        since = (await client.list(Instance, fields="status.host=h1")).resource_version
        stream = client.watch(Instance, since=since, fields="status.host=h1")
        end = asyncio.ensure_future(read_to_its_end(stream))
        await eventually(lambda: bool(api.store.cache.table(get_kind("Instance")).watcher_count))
        await remove(api)
        await new.join()
        with pytest.raises(Forbidden, match="join again"):
            await end


async def test_nothing_of_the_new_machine_is_sent_on_a_watch_of_the_former_one(
    api: Api, old: Machine, new: Machine
) -> None:
    """Not even in the moment before it is looked at again."""
    await create_samples(api)
    await old.join()
    seen = b""
    async with api.raw(old.settings) as http, asyncio.timeout(PATIENCE):
        path = "/api/v1/instances?watch=true&fieldSelector=status.host%3Dh1"
        async with http.stream("GET", path) as answer:
            assert answer.status_code == 200
            await remove(api)
            await new.join()
            await bind(api, "Instance", "web-1", "h1")
            async for chunk in answer.aiter_bytes():
                seen += chunk
    assert b'"ERROR"' in seen
    assert b"web-1" not in seen


async def test_the_tunnel_of_the_former_machine_ends(api: Api, old: Machine, new: Machine) -> None:
    await old.join()
    async with connected(old) as tunnel, asyncio.timeout(PATIENCE):
        await tunnel.connected.wait()
        await eventually(lambda: api.application.tunnels.has("h1"))
        await remove(api)
        await new.join()
        await eventually(lambda: not api.application.tunnels.has("h1"))
        async with connected(new) as mine:
            await mine.connected.wait()
            await eventually(lambda: api.application.tunnels.has("h1"))


async def test_a_token_that_was_used_for_a_removed_host_opens_nothing(api: Api, old: Machine, new: Machine) -> None:
    """The same request may be repeated, for an answer may be lost; but for that Host only."""
    first = await old.join()
    assert await old.join(again=True) == first
    await remove(api)
    with pytest.raises(Forbidden, match="ask for a new one"):
        await old.join(again=True)
    assert not (await api.store.list(HOST, None)).items, "nor is the Host made again"
    await new.join()
    with pytest.raises(Forbidden, match="ask for a new one"):
        await old.join(again=True)


async def test_a_host_that_is_there_before_its_machine_keeps_its_uid(api: Api, old: Machine) -> None:
    await api.store.create(HOST, {"metadata": {"name": "h1"}, "spec": {}}, actor=SYSTEM)
    assert await old.join() == await uid_of_host(api)


async def test_machines_that_join_at_once_under_a_name_are_of_one_host(api: Api, old: Machine, new: Machine) -> None:
    uids = await asyncio.gather(old.join(), new.join())
    assert set(uids) == {await uid_of_host(api)}


async def test_a_host_that_comes_back_with_a_backup_needs_no_new_certificate(api: Api, old: Machine) -> None:
    await old.join()
    [kept] = (await api.etcd.range(b"/vcstack/hosts/")).kvs
    await remove(api)
    async with Connection(old.settings) as connection:
        client = ApiClient(connection)
        with pytest.raises(Forbidden):
            await client.get(Host, "h1")
        await api.etcd.put(kept.key, kept.value)
        assert (await client.get(Host, "h1")).metadata.name == "h1"


async def test_the_former_machine_uses_up_nothing_of_what_the_new_one_may(api: Api) -> None:
    """It is refused only after the limits, so that it must have some of its own."""
    gate = api.application.gate
    former = Identity(Role.HOST, "system:host:h1", "h1", "h-1")
    target = parse_target("hosts/h1/tunnel")
    scope = {"type": "websocket", "path": "/api/v1/hosts/h1/tunnel", "query_string": b"", "client": ("10.0.0.1", 1)}
    taken: list[Pass] = []

    def take_all() -> None:
        while True:
            taken.append(gate.admit(former, target, scope))

    try:
        with pytest.raises(RateLimited):
            take_all()
        taken.append(gate.admit(dataclasses.replace(former, host_uid="h-2"), target, scope))
    finally:
        for passed in taken:
            passed.leave()


async def test_a_machine_that_is_stated_to_be_lost_is_refused_everything_until_that_is_taken_back(
    api: Api, old: Machine
) -> None:
    await create_samples(api)
    uid = await old.join()
    await bind(api, "Instance", "web-1", "h1")
    renewal = "POST", "/api/v1/hosts/h1/certificate", {"csr": old.csr.decode()}
    async with api.raw(old.settings) as http:
        for request in (*REQUESTS, renewal):
            assert (await ask(http, *request)).status_code == 200, request
        await state(api, out_of_service=True)
        for request in (*REQUESTS, renewal):
            answer = await ask(http, *request)
            assert answer.status_code == 403, request
            message = error_of(answer)["message"]
            assert "host h1 is out of service: its machine is stated to be off or lost" in message
            assert "set spec.outOfService of the Host to false" in message
        taken_back = {"spec": {"outOfService": False}}
        assert (await ask(http, "PATCH", "/api/v1/hosts/h1", taken_back)).status_code == 403
        async with Connection(old.settings) as connection:
            with pytest.raises(Forbidden, match="out of service"):
                async with open_socket(connection, "/api/v1/hosts/h1/tunnel"):
                    pass
        await state(api, out_of_service=False)
        for request in (*REQUESTS, renewal):
            assert (await ask(http, *request)).status_code == 200, request
    assert await uid_of_host(api) == uid


async def test_a_host_does_not_state_it_of_itself(api: Api, old: Machine) -> None:
    await old.join()
    async with api.raw(old.settings) as http:
        assert (await ask(http, "PATCH", "/api/v1/hosts/h1", {"spec": {"outOfService": True}})).status_code == 403
        body = {"spec": {"outOfService": True}, "status": {"address": "10.0.0.7"}}
        await ask(http, "PATCH", "/api/v1/hosts/h1/status", body)
        assert "outOfService" not in (await http.get("/api/v1/hosts/h1")).json()["spec"]


async def test_no_token_opens_the_way_round(api: Api, old: Machine, new: Machine) -> None:
    """Neither one of before, used or not, nor a new one, which there is not."""
    uid = await old.join()
    async with Connection(api.settings()) as connection:
        new.token = (await HostClient(connection).create_join_token("h1")).token
        await state(api, out_of_service=True)
        with pytest.raises(Forbidden, match="out of service"):
            await HostClient(connection).create_join_token("h1")
    for machine in (old, new):
        with pytest.raises(Forbidden, match="out of service"):
            await machine.join(again=True)
    await state(api, out_of_service=False)
    assert await new.join(again=True) == uid, "it was not used up"


async def test_what_a_lost_machine_watches_and_its_tunnel_end(api: Api, old: Machine) -> None:
    await create_samples(api)
    await old.join()
    async with Connection(old.settings) as connection, connected(old) as tunnel, asyncio.timeout(PATIENCE):
        await tunnel.connected.wait()
        await eventually(lambda: api.application.tunnels.has("h1"))
        client = ApiClient(connection)
        since = (await client.list(Instance, fields="status.host=h1")).resource_version
        stream = client.watch(Instance, since=since, fields="status.host=h1")
        end = asyncio.ensure_future(read_to_its_end(stream))
        await eventually(lambda: bool(api.store.cache.table(get_kind("Instance")).watcher_count))
        await state(api, out_of_service=True)
        with pytest.raises(Forbidden, match="out of service"):
            await end
        await eventually(lambda: not api.application.tunnels.has("h1"))
        await state(api, out_of_service=False)
        await eventually(lambda: api.application.tunnels.has("h1"))


async def test_who_states_it_is_told_the_danger_in_the_plan_and_in_the_answer(api: Api, old: Machine) -> None:
    await old.join()
    host = {"apiVersion": "vcstack.io/v1", "kind": "Host", "metadata": {"name": "h1"}, "spec": {"outOfService": True}}
    async with Connection(api.settings()) as connection:
        [planned] = (await ApiClient(connection).plan([host], manager="tests")).items
    assert "only when the machine of host h1 is off or lost for good. If it runs, its guests run" in planned.warnings[0]
    told = (await state(api, out_of_service=True)).headers["warning"]
    assert told == f'299 - "{planned.warnings[0]}"'
    assert "warning" not in (await state(api, out_of_service=True)).headers, "it is stated already"
    assert "if it was stolen, delete the host instead" in (await state(api, out_of_service=False)).headers["warning"]
