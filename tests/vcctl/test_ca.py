"""vcctl ca: a rotation begun, and whom to trust taken over before the old one is gone."""

from pathlib import Path

import pytest

from tests.fixtures.api import SYSTEM, Api
from tests.vcctl.harness import Vcctl
from vcstack.pki.authority import CertificateAuthority, load_certificates
from vcstack.pki.installation import ensure_installation
from vcstack.specs.registry import get_kind

KIND = get_kind("CertificateAuthority")


async def make_authority(api: Api, **status: object) -> None:
    await api.store.create(KIND, {"metadata": {"name": "internal"}, "spec": {}}, actor=SYSTEM)
    await api.store.patch_status(KIND, None, "internal", {"version": 1, **status}, actor=SYSTEM)


async def spec_of(api: Api) -> object:
    return (await api.store.get(KIND, None, "internal")).wire["spec"]


async def test_a_rotation_is_begun_once_however_often_it_is_asked_for(api: Api, vcctl: Vcctl) -> None:
    await make_authority(api)
    assert "version 2" in await vcctl.ok("ca", "rotate", "--overlap", "90s")
    assert await spec_of(api) == {"version": 2, "overlapSeconds": 90}
    assert "under way" in await vcctl.ok("ca", "rotate")
    assert await spec_of(api) == {"version": 2, "overlapSeconds": 90}


async def test_an_authority_that_nobody_looks_at_is_not_rotated(api: Api, vcctl: Vcctl) -> None:
    await api.store.create(KIND, {"metadata": {"name": "internal"}, "spec": {}}, actor=SYSTEM)
    result = await vcctl("ca", "rotate")
    assert result.code != 0
    assert "controller" in result.err


async def test_a_copy_of_the_authorities_follows_the_cloud(api: Api, vcctl: Vcctl, tmp_path: Path) -> None:
    copy = tmp_path / "copy.crt"
    copy.write_bytes(api.installation.ca_cert.read_bytes())
    await vcctl.ok("config", "set-context", "test", "--ca-file", str(copy))
    assert "as it should be" in await vcctl.ok("ca", "trust")
    fresh = CertificateAuthority.create("next")
    both = api.installation.ca_cert.read_bytes() + fresh.cert_pem
    before = api.installation.ca_cert.read_bytes()
    api.installation.ca_cert.write_bytes(both)
    try:
        assert "new certificates" in await vcctl.ok("ca", "trust")
        assert len(load_certificates(copy.read_bytes())) == 2
    finally:
        api.installation.ca_cert.write_bytes(before)


async def test_any_command_takes_it_over_once_a_day(api: Api, vcctl: Vcctl, tmp_path: Path) -> None:
    copy = tmp_path / "copy.crt"
    copy.write_bytes(api.installation.ca_cert.read_bytes() + b"\n")
    await vcctl.ok("config", "set-context", "test", "--ca-file", str(copy))
    await vcctl.ok("get", "projects")
    assert copy.read_bytes() == api.installation.ca_cert.read_bytes()
    copy.write_bytes(api.installation.ca_cert.read_bytes() + b"\n")
    await vcctl.ok("get", "projects")
    assert copy.read_bytes().endswith(b"\n\n"), "a day has not passed"


async def test_nothing_is_taken_over_from_an_api_that_the_copy_does_not_trust(vcctl: Vcctl, tmp_path: Path) -> None:
    other = ensure_installation(tmp_path / "other").ca_cert
    before = other.read_bytes()
    await vcctl.ok("config", "set-context", "test", "--ca-file", str(other))
    result = await vcctl("ca", "trust")
    assert result.code != 0
    assert other.read_bytes() == before


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_anybody_may_read_whom_to_trust_and_nobody_writes_it(api: Api, method: str) -> None:
    async with api.raw(api.settings(token=None)) as client:
        answer = await client.get("/ca")
        assert answer.content == api.installation.ca_cert.read_bytes()
        assert b"PRIVATE" not in answer.content
        assert (await client.request(method, "/ca")).status_code == 405
