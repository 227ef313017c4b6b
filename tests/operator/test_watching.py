"""What kopf is given, and what is kept from it: its login, its noise when it is told to end, and its giving up."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kopf._cogs.structs.credentials import Vault

from vcstack.operator import watching
from vcstack.operator.kubernetes import Key


async def test_only_kopfs_own_fault_at_its_end_is_not_logged() -> None:
    loop, told = asyncio.get_running_loop(), list[str]()

    class Loop:
        def default_exception_handler(self, context: dict[str, Any]) -> None:
            told.append(str(context["exception"]))

    def request_cancel_callback() -> None:
        raise AssertionError

    def something_else() -> None:
        raise ValueError("ours")

    loop.set_exception_handler(lambda _, context: watching._report(Loop(), context))  # type: ignore[arg-type]
    try:
        loop.call_soon(request_cancel_callback)
        loop.call_soon(something_else)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    assert told == ["ours"]


KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "SERVER"}}]
users: [{name: u, user: {token: the-very-same}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


async def test_credentials_that_failed_once_are_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an API server that broke off a connection badly would leave an operator that hears of nothing any more."""
    (tmp_path / "config").write_text(KUBECONFIG.replace("SERVER", "https://127.0.0.1:1"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    login, vault = watching._Login(spacing_seconds=0.0), Vault()
    for _ in range(5):
        given = await login.give()
        assert given.token == "the-very-same"
        await vault.populate({"login": given})
        key, item = vault.select()
        assert item.info is given
        failing = asyncio.create_task(vault.invalidate(key, item.info))
        await asyncio.sleep(0)
        failing.cancel()


NETWORK = {
    "apiVersion": "vcstack.io/v1",
    "kind": "Network",
    "metadata": {"name": "front", "namespace": "demo", "uid": "1", "resourceVersion": "5"},
    "spec": {},
}


def resource(name: str, kind: str, *, namespaced: bool) -> dict[str, Any]:
    verbs = ["get", "list", "watch"]
    return {"name": name, "singularName": kind.lower(), "kind": kind, "namespaced": namespaced, "verbs": verbs}


class Beginning:
    """An API server right after its start: for some time it has no custom resources, though it told of them."""

    def __init__(self) -> None:
        self.watches = 0
        self.is_whole = False
        self.asked_in_vain = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removesuffix("/")
        if path in self.discovery():
            return web.json_response(self.discovery()[path])
        items = [NETWORK] if path.endswith("/networks") else []
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "9"}, "items": items})
        if path.endswith("/networks"):
            self.watches += 1
            if not self.is_whole:
                self.asked_in_vain.set()
                return web.Response(status=404, text="404 page not found")
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        if path.endswith("/networks"):
            later = {**NETWORK, "metadata": {**NETWORK["metadata"], "name": "back", "uid": "2"}}  # type: ignore[dict-item]
            await response.write(json.dumps({"type": "ADDED", "object": later}).encode() + b"\n")
        await asyncio.sleep(3600)
        return response

    def discovery(self) -> Mapping[str, Any]:
        group = {"name": "vcstack.io", "versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}}
        return {
            "/version": {},
            "/api": {"versions": ["v1"]},
            "/api/v1": {"resources": [resource("namespaces", "Namespace", namespaced=False)]},
            "/apis": {"groups": [group]},
            "/apis/vcstack.io/v1": {"resources": [resource("networks", "Network", namespaced=True)]},
        }


async def test_an_api_server_that_has_no_custom_resources_for_a_moment_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Beginning()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (tmp_path / "config").write_text(KUBECONFIG.replace("SERVER", site.name))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    seen, back, stop = set[Key](), Key("Network", "demo", "back"), asyncio.Event()
    told = asyncio.Event()

    def changed(key: Key) -> None:
        seen.add(key)
        if key == back:
            told.set()

    watcher = watching.Watcher(changed, lambda name, annotations: None, "default")
    running = asyncio.create_task(watcher.run(stop))
    try:
        async with asyncio.timeout(60):
            await server.asked_in_vain.wait()
            server.is_whole = True
            await told.wait()
            assert server.watches > 1
            assert not running.done()
            stop.set()
            await running
        assert "404 page not found" in caplog.text
        assert "Traceback" not in caplog.text
        assert not [task for task in asyncio.all_tasks() if watching._is_kopfs(task)]
    finally:
        stop.set()
        await running
        await runner.cleanup()
        asyncio.get_running_loop().set_exception_handler(None)
