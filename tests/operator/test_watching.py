"""What kopf is given, and what is kept from it: its login, and its noise when it is told to end."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from kopf._cogs.structs.credentials import Vault

from vcstack.operator import watching


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
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: the-very-same}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


async def test_credentials_that_failed_once_are_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an API server that broke off a connection badly would leave an operator that hears of nothing any more."""
    (tmp_path / "config").write_text(KUBECONFIG)
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
