"""The example programs run as they stand, against the real API server."""

import ast
import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.api import SYSTEM, Api, create_samples
from vcstack.apiclient.auth import AuthClient
from vcstack.apiclient.client import ApiClient
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.permissions import built_in_roles
from vcstack.specs.registry import get_kind

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples" / "python" / "inventory.py"


@pytest.fixture
async def key_file(api: Api, admin: ApiClient, tmp_path: Path) -> Path:
    """An API key of a service account that may read project demo."""
    await create_samples(api)
    reader = {
        "metadata": {"name": "reader"},
        "spec": {"rules": [r.to_wire() for r in built_in_roles()["reader"].rules]},
    }
    meta = {"name": "inventory", "project": "demo"}
    given = {"subject": {"kind": "ServiceAccount", "name": "inventory"}, "role": "reader"}
    for kind, wire in (
        ("Role", reader),
        ("ServiceAccount", {"metadata": meta, "spec": {}}),
        ("RoleBinding", {"metadata": meta, "spec": given}),
        ("APIKey", {"metadata": meta, "spec": {"serviceAccount": "inventory"}}),
    ):
        await api.store.create(get_kind(kind), wire, actor=SYSTEM)
    issued = await AuthClient(admin.connection).issue_key_secret("inventory", project="demo")
    path = tmp_path / "inventory.key"
    path.write_text(f"{issued.key_id}:{issued.secret}\n")
    return path


@contextlib.asynccontextmanager
async def running(api: Api, key_file: Path, *words: str) -> AsyncIterator[Any]:
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "VCSTACK_API_URL": api.url,
        "VCSTACK_CA_FILE": str(api.installation.ca_cert),
        "VCSTACK_API_KEY_FILE": str(key_file),
    }
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, PROGRAM, *words)
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_inventory_lists_a_project(api: Api, key_file: Path) -> None:
    async with running(api, key_file, "demo") as process:
        out, err = await process.communicate()
    assert process.returncode == 0, err
    assert b"web-1: not observed yet, no address" in out


async def test_the_inventory_follows_what_changes(api: Api, key_file: Path) -> None:
    async with running(api, key_file, "demo", "--follow") as process:
        assert b"web-1" in await process.stdout.readline()
        address = {"interface": "eth0", "address": "10.10.0.2", "mac": "02:00:00:00:00:01"}
        observed = {"powerState": "Running", "addresses": [address]}
        await api.store.patch_status(get_kind("Instance"), "demo", "web-1", observed, actor=SYSTEM)
        assert b"web-1: Running, 10.10.0.2" in await process.stdout.readline()


async def test_what_the_key_does_not_allow_is_said(api: Api, key_file: Path) -> None:
    async with running(api, key_file, "elsewhere") as process:
        _, err = await process.communicate()
    assert process.returncode == 1
    assert err.startswith(b"Error: ")


async def test_what_the_guide_shows_works(
    api: Api, admin: ApiClient, key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of docs/python.md one after the other, against the real server."""
    subject = {"kind": "ServiceAccount", "name": "inventory", "project": "demo"}
    given = {"metadata": {"name": "guide"}, "spec": {"subject": subject, "role": "admin"}}
    for kind, wire in (("Role", admin_role()), ("RoleBinding", given)):
        await api.store.create(get_kind(kind), wire, actor=SYSTEM)
    (tmp_path / "ca.crt").write_bytes(api.installation.ca_cert.read_bytes())
    monkeypatch.chdir(tmp_path)
    web = await admin.get(Instance, "web-1", "demo")
    web.metadata.labels["env"] = "prod"
    await admin.update(web)
    names: dict[str, Any] = {}
    guide = (ROOT / "docs" / "python.md").read_text().replace("https://cloud.example:8443", api.url)
    guide = guide.replace("ci.key", key_file.name)
    first, second, third = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    try:
        for block in (first, second.replace('"tiny", FlavorSpec', '"guide", FlavorSpec')):
            await run(block, names)
        assert names["page"].items[0].metadata.name == "web-1"
        watching = asyncio.create_task(run(third, names))
        done, _ = await asyncio.wait({watching}, timeout=0)
        assert not done
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    finally:
        await names["client"].aclose()


def admin_role() -> dict[str, Any]:
    return {"metadata": {"name": "admin"}, "spec": {"rules": [r.to_wire() for r in built_in_roles()["admin"].rules]}}


async def run(source: str, names: dict[str, Any]) -> None:
    """Run a block that awaits at its top, as a notebook does."""
    code = compile(source, "docs/python.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(code, names)
    if waiting is not None:
        await waiting
