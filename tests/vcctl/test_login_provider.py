"""vcctl login at a certified OpenID Connect provider, with a browser here and on another device."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import serving
from tests.fixtures.chromium import Chromium
from tests.fixtures.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider
from tests.vcctl.harness import Vcctl
from vcstack.outbound.addresses import AddressPolicy, AllowedTarget
from vcstack.outbound.client import OutboundSettings
from vcstack.pki.installation import Installation
from vcstack.store.store import Store

pytestmark = pytest.mark.daemons


@pytest.fixture
async def cloud(
    memory_store: Store,
    memory_etcd: MemoryEtcd,
    pki_installation: Installation,
    tmp_path: Path,
    oidc_provider: OidcProvider,
) -> AsyncIterator[Vcctl]:
    target = AllowedTarget(network=ip_network("127.0.0.1/32"), ports=frozenset({oidc_provider.port}))
    outbound = OutboundSettings(addresses=AddressPolicy(allowed=[target]), ca_file=oidc_provider.ca_file)
    async with serving(memory_store, memory_etcd, pki_installation, tmp_path, outbound=outbound) as api:
        vcctl = Vcctl(api, tmp_path)
        oidc = {"issuerUrl": oidc_provider.issuer, "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}
        wire = {
            "apiVersion": "vcstack.io/v1",
            "kind": "IdentityProvider",
            "metadata": {"name": "corp"},
            "spec": {"type": "OIDC", "oidc": oidc},
        }
        await vcctl.ok("apply", "--no-wait", "-f", vcctl.write("corp.yaml", wire))
        yield vcctl


@contextlib.asynccontextmanager
async def run(vcctl: Vcctl, *words: str) -> AsyncIterator[Any]:
    """Start vcctl as a process of its own, on a machine without a screen."""
    environ = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from vcstack.vcctl.main import main; main()", *words,
        env={**environ, **vcctl.environ}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def address_of(process: Any) -> str:
    """Return the address that it tells the user to open."""
    told = []
    while line := (await process.stderr.readline()).decode().strip():
        told.append(line)
        if line.startswith("https://"):
            return line
    raise AssertionError(told)


async def test_a_login_with_a_browser_on_this_machine(cloud: Vcctl, oidc_provider: OidcProvider) -> None:
    async with run(cloud, "login", "--provider", "corp") as process:
        url = await address_of(process)
        async with contextlib.aclosing(oidc_provider.browser()) as browser:
            found = await browser.log_in(url, "alice")
        back = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
            for others in ("/", "/oidc/corp", "/oidc/corp?code=x&state=x", "/oidc/other?" + urlencode(found)):
                assert (await http.get(back.removesuffix("/oidc/corp") + others)).status_code == 404
            page = await http.get(f"{back}?{urlencode(found)}")
        assert "close this window" in page.text
        _, err = await process.communicate()
        assert process.returncode == 0, err
        assert b"as corp-alice" in err
    assert (await cloud.ok("whoami")).startswith("user:corp-alice at ")


async def test_a_login_in_a_real_browser(cloud: Vcctl, oidc_provider: OidcProvider, chromium: Chromium) -> None:
    """Debian's Chromium follows what vcctl prints: the provider's login page, its consent page, and back to vcctl."""
    async with run(cloud, "login", "--provider", "corp") as process:
        url = await address_of(process)
        page = await chromium.log_in(url, "alice", back="http://127.0.0.1:")
        assert page["steps"] == ["Sign-in", "Authorize"]
        assert page["url"].startswith(parse_qs(urlsplit(url).query)["redirect_uri"][0])
        assert page["text"] == "You can close this window and go back to the terminal."
        _, err = await process.communicate()
        assert process.returncode == 0, err
        assert b"as corp-alice" in err
    assert (await cloud.ok("whoami")).startswith("user:corp-alice at ")


async def test_a_login_with_a_browser_on_another_device(cloud: Vcctl, oidc_provider: OidcProvider) -> None:
    async with run(cloud, "login", "--provider", "corp", "--device") as process:
        url = await address_of(process)
        code = (await process.stderr.readline()).decode().strip()
        async with contextlib.aclosing(oidc_provider.browser()) as browser:
            await browser.log_in_elsewhere(f"{url}?user_code={code}", "bob")
        _, err = await process.communicate()
        assert process.returncode == 0, err
    assert (await cloud.ok("whoami")).startswith("user:corp-bob at ")


async def test_what_cannot_be_is_said(cloud: Vcctl, oidc_provider: OidcProvider) -> None:
    for words, text in (
        (("--provider", "corp", "--device", "--user", "alice"), "exclude each other"),
        (("--provider", "corp", "--user", "alice"), "is no directory"),
        (("--device",), "--provider NAME"),
        (("--provider", "other"), "no identity provider 'other'"),
    ):
        ended = await cloud("login", *words, stdin="password\n")
        assert ended.code
        assert text in ended.err
    await oidc_provider.stop()
    ended = await cloud("login", "--provider", "corp")
    assert ended.code
    assert "identity provider corp does not answer" in ended.err
