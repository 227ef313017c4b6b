"""Shells in real guests: a certificate of the project opens them, whatever security groups say; nothing else does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from deploy.lab.layout import CENTRAL
from tests.e2e.cloud import HOSTS, Cloud, path_of
from tests.e2e.tenant import NETWORK, SUBNET, Guest, Tenant
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.apiclient.shell import ShellSocket, open_shell
from vcstack.apiclient.shellmessages import ShellNotice
from vcstack.specs.errors import ApiError, Unavailable
from vcstack.specs.settings import SHELL_RECORDING

ASK = "id -un; hostname; echo from $SSH_CONNECTION"


@contextlib.asynccontextmanager
async def connected(cloud: Cloud, tenant: Tenant, name: str, command: str | None = None) -> AsyncIterator[ShellSocket]:
    """A shell of the admin's in an instance."""
    token = (cloud.lab.state / "admin-token").read_text().strip()
    settings = ConnectionSettings(cloud.lab.api_url, cloud.lab.path("pki/ca.crt"), token=token)
    async with (
        Connection(settings) as connection,
        open_shell(connection, name, project=tenant.name, command=command) as shell,
    ):
        yield shell


async def run(cloud: Cloud, tenant: Tenant, name: str, command: str) -> str:
    """What a command shows that runs in the guest; it ends with 0."""
    shown = b""
    async with asyncio.timeout(90), connected(cloud, tenant, name, command) as shell:
        while (said := await shell.receive()) is not None:
            if isinstance(said, ShellNotice):
                assert said.exit is None or said.exit.status == 0, (said, shown)
            else:
                shown += said
    return shown.decode().replace("\r\n", "\n")


async def read_until(shell: ShellSocket, words: bytes) -> bytes:
    """What is shown, until the words are."""
    shown = b""
    async with asyncio.timeout(60):
        while words not in shown:
            said = await shell.receive()
            assert said is not None, shown
            shown += said if isinstance(said, bytes) else b""
    return shown


async def to_the_end(shell: ShellSocket) -> None:
    """Look on until it is over."""
    async with asyncio.timeout(60):
        while await shell.receive() is not None:
            pass


def devices(cloud: Cloud, host: str) -> str:
    """What a host has of shells: its devices, and the bridge's ports."""
    return cloud.run(host, "sh", "-c", "ls /sys/class/net | grep shl; ovs-vsctl list-ports br-int | grep shl || true")


async def test_a_shell_opens_by_certificate_alone_and_is_no_way_in_for_others(cloud: Cloud, tenant: Tenant) -> None:
    tenant.apply("subnets", "v6", {"network": NETWORK, "cidr": "fd00:20::/64", "dhcp": "Disabled"})
    tenant.instance("closed", "h2", groups=(), sshKeys=[])
    tenant.wait_ready("instances", "closed")
    guest = await asyncio.to_thread(tenant.guest, "closed")
    await until_from(cloud, tenant, "closed", "10.20.0.1")

    async with connected(cloud, tenant, "closed") as shell:
        await shell.send(b"echo $((6 * 7))-open\n")
        await read_until(shell, b"42-open")
        assert devices(cloud, "h2").count("shl") == 2
        assert devices(cloud, "h1") == ""
        await asyncio.to_thread(refuse_others, tenant, guest)

        # Killed, the agent leaves nothing that the next one does not take away, and the guest does not notice.
        cloud.lab.kill("h2", "vc-compute")
        try:
            with contextlib.suppress(ApiError):
                await to_the_end(shell)
        finally:
            cloud.lab.start("h2", "vc-compute")
    await asyncio.to_thread(cloud.wait, "nothing left of shells", lambda: all(devices(cloud, h) == "" for h in HOSTS))
    await lose_the_api(cloud, tenant, "closed")

    tenant.patch("subnets", SUBNET, {"spec": {"gateway": "10.20.0.200"}})
    await asyncio.to_thread(
        cloud.wait, "the new gateway", lambda: tenant.get("subnets", SUBNET)["status"]["gateway"] == "10.20.0.200"
    )
    await until_from(cloud, tenant, "closed", "10.20.0.200")
    await asyncio.to_thread(cloud.wait, "nothing left of shells", lambda: devices(cloud, "h2") == "")


async def lose_the_api(cloud: Cloud, tenant: Tenant, name: str) -> None:
    """A recorded shell whose API process is killed: it ends, and what was shown of it is kept."""
    tenant.apply("settings", "recorded", {"setting": SHELL_RECORDING, "value": "Always"})
    await until_opened(cloud, tenant, name, "true")
    recordings = path_of("instances", tenant.name, name, "recordings")
    async with connected(cloud, tenant, name) as shell:
        await shell.send(b"echo $((6 * 7))-kept\n")
        await read_until(shell, b"42-kept")
        recording = f"{recordings}/{cloud.call('GET', recordings)['items'][0]['id']}"
        await asyncio.to_thread(cloud.wait, "its being written", lambda: "42-kept" in cloud.call("GET", recording))
        cloud.lab.kill(CENTRAL, "vc-management")
        with pytest.raises(ApiError, match="broke"):
            await to_the_end(shell)
    await asyncio.to_thread(cloud.wait, "what is recorded", lambda: "42-kept" in cloud.call("GET", recording))
    await asyncio.to_thread(cloud.wait, "nothing left of shells", lambda: all(devices(cloud, h) == "" for h in HOSTS))
    cloud.delete("settings", tenant.name, "recorded")


async def until_from(cloud: Cloud, tenant: Tenant, name: str, source: str) -> None:
    """Until a shell comes from an address: the first one is tried first, not waited for while another answers."""
    async with asyncio.timeout(120):
        while not (await until_opened(cloud, tenant, name, ASK)).startswith(f"root\n{name}\nfrom {source} "):
            await asyncio.sleep(1)


async def until_opened(cloud: Cloud, tenant: Tenant, name: str, command: str) -> str:
    """As ``run``, again while the host's tunnel or the network's port is not back yet."""
    async with asyncio.timeout(120):
        while True:
            with contextlib.suppress(Unavailable):
                return await run(cloud, tenant, name, command)
            await asyncio.sleep(0.2)


def refuse_others(tenant: Tenant, guest: Guest) -> None:
    """While a shell is open: neither a neighbour nor the guest can use its way."""
    neighbour = tenant.client("h2", "neighbour")
    assert not neighbour.connects(guest.address, 22)
    assert not neighbour.connects("10.20.0.1", 22)
    assert not neighbour.reaches("10.20.0.1")
    assert not guest.reaches("10.20.0.1")
    assert not guest.succeeds("nc -w 2 10.20.0.1 22 </dev/null")
    assert not guest.succeeds("ping -6 -c1 -W1 fd00:20::1")
