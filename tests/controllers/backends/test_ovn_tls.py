"""TLS with client certificates towards the northbound database, and what each mistake says."""

import asyncio
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from tests.controllers.backends.test_network_contract import SWITCH
from tests.fixtures.ovn import Central
from tests.fixtures.ports import free_port
from vcstack.controllers.backends.ovn_connection import OvnSettings
from vcstack.controllers.backends.ovn_nb import OvnNorthbound
from vcstack.pki.installation import Installation, ensure_installation
from vcstack.runtime.errors import BackendUnavailable

pytestmark = pytest.mark.daemons


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return ensure_installation(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return ensure_installation(tmp_path_factory.mktemp("foreign"))


@pytest.fixture
def remote(central: Central, ours: Installation) -> str:
    central.nbctl("set-ssl", str(ours.ovn.key), str(ours.ovn.cert), str(ours.ca_cert))
    central.kill("nb")
    port = free_port()
    central.start_database("nb", f"pssl:{port}:127.0.0.1")
    return f"ssl:127.0.0.1:{port}"


def build_settings(remote: str, ca: Installation, client: Installation) -> OvnSettings:
    return OvnSettings(
        remote=remote,
        ca_file=ca.ca_cert,
        cert_file=client.ovn.cert,
        key_file=client.ovn.key,
        timeout_seconds=10,
    )


async def attempt(settings: OvnSettings) -> str:
    """Return what the attempt says, "" when it works."""
    backend = OvnNorthbound(settings)
    try:
        async with asyncio.timeout(60):
            assert (await backend.ensure_switch(SWITCH)).observed == SWITCH
    except BackendUnavailable as error:
        return error.message
    finally:
        await backend.close()
    return ""


async def test_our_certificate_is_let_in_and_reconnects(remote: str, ours: Installation, central: Central) -> None:
    backend = OvnNorthbound(build_settings(remote, ours, ours))
    try:
        await backend.ensure_switch(SWITCH)
        central.kill("nb")
        central.start_database("nb", "p" + remote.replace("127.0.0.1:", "") + ":127.0.0.1")
        async with asyncio.timeout(60):
            while True:
                try:
                    assert (await backend.ensure_switch(replace(SWITCH, mtu_bytes=1300))).observed.mtu_bytes == 1300
                    break
                except BackendUnavailable:
                    continue
    finally:
        await backend.close()


async def test_a_foreign_server_is_refused_by_name_of_the_setting(
    remote: str, ours: Installation, foreign: Installation
) -> None:
    assert "not from our CA" in (said := await attempt(build_settings(remote, foreign, ours)))
    assert "ovn.caFile" in said


async def test_a_foreign_client_certificate_is_refused_in_time(
    remote: str, ours: Installation, foreign: Installation
) -> None:
    said = await attempt(build_settings(remote, ours, foreign))
    assert remote in said
    assert "certificate" in said or "TLS was refused" in said, said


async def test_a_port_where_nobody_listens_says_so(ours: Installation) -> None:
    assert "ssl:127.0.0.1:1" in await attempt(build_settings("ssl:127.0.0.1:1", ours, ours))


async def test_missing_files_say_so(remote: str, ours: Installation) -> None:
    said = await attempt(replace(build_settings(remote, ours, ours), ca_file=Path("/nowhere/ca.crt")))
    assert "No such file" in said


async def test_a_server_that_never_answers_is_given_up(ours: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote = f"ssl:127.0.0.1:{silent.getsockname()[1]}"
        said = await attempt(replace(build_settings(remote, ours, ours), timeout_seconds=1))
    assert "no answer within 1 s" in said


async def test_the_next_remote_is_tried(remote: str, ours: Installation) -> None:
    settings = build_settings(f"ssl:127.0.0.1:1,{remote}", ours, ours)
    assert await attempt(settings) == ""


def test_the_servers_side_really_asks_for_a_certificate(remote: str, ours: Installation) -> None:
    with pytest.raises(OSError, match=r"certificate|closed|pipe|reset|EOF"):
        ask_without_certificate(remote, ours)


def ask_without_certificate(remote: str, ours: Installation) -> None:
    host, port = remote.split(":")[1:]
    context = ssl.create_default_context(cafile=str(ours.ca_cert))
    with (
        socket.create_connection((host, int(port)), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname=host) as wrapped,
    ):
        wrapped.sendall(b'{"method":"echo","params":[],"id":1}')
        if wrapped.recv(100) == b"":
            raise ConnectionResetError("closed")
