"""Who is let in."""

import dataclasses
import ssl
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.fixtures.api import Api, error_of
from vcstack.apiserver.auth.bearers import Bearers
from vcstack.apiserver.identity import PEER_KEY, Authenticator, Peer, Role
from vcstack.clock import SystemClock
from vcstack.pki.authority import CertificateAuthority
from vcstack.pki.keys import common_name, generate_key
from vcstack.specs.errors import Unauthorized

TOKEN = "0123456789abcdef-token"
PROTECTED = (
    "/api/v1",
    "/api/v1/flavors",
    "/api/v1/flavors?watch=true",
    "/api/v1/projects/demo/instances/web-1",
    "/api/v1/images/tiny/content",
    "/metrics",
    "/nowhere",
)


@pytest.fixture
def authenticator(api: Api) -> Authenticator:
    return Authenticator(
        TOKEN, SystemClock(), api.auth.tokens, Bearers(api.store.cache, SystemClock()), api.application.gate
    )


def scope(*headers: tuple[bytes, bytes], peer: Peer | None = None) -> dict[str, object]:
    return {"headers": list(headers), **({PEER_KEY: peer} if peer else {})}


async def test_the_admin_token_makes_the_administrator(authenticator: Authenticator) -> None:
    found = await authenticator.authenticate(scope((b"authorization", b"Bearer " + TOKEN.encode())))
    assert (found.role, found.subject) == (Role.ADMIN, "admin")


@pytest.mark.parametrize("header", [b"Bearer nope", b"Bearer ", b"Basic YTpi", b"", b"Bearer " + TOKEN[:-1].encode()])
async def test_a_wrong_credential_is_refused_and_not_ignored(authenticator: Authenticator, header: bytes) -> None:
    peer = Peer("system:host:h1", datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(Unauthorized):
        await authenticator.authenticate(scope((b"authorization", header), peer=peer))


async def test_a_certificate_makes_the_host_it_names(authenticator: Authenticator) -> None:
    peer = Peer("system:host:h1", datetime.now(UTC) + timedelta(hours=1))
    found = await authenticator.authenticate(scope(peer=peer))
    assert (found.role, found.host, found.subject) == (Role.HOST, "h1", "system:host:h1")


async def test_an_expired_certificate_is_refused_on_a_connection_that_is_still_open(
    authenticator: Authenticator,
) -> None:
    peer = Peer("system:host:h1", datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(Unauthorized, match="expired"):
        await authenticator.authenticate(scope(peer=peer))


@pytest.mark.parametrize("name", ["system:management", "", "h1", "system:host:", "admin"])
async def test_certificates_of_others_give_nothing(authenticator: Authenticator, name: str) -> None:
    peer = Peer(name, datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(Unauthorized):
        await authenticator.authenticate(scope(peer=peer))


async def test_a_short_admin_token_is_refused_at_the_start(api: Api) -> None:
    with pytest.raises(ValueError, match="admin token"):
        Authenticator(
            "short", SystemClock(), api.auth.tokens, Bearers(api.store.cache, SystemClock()), api.application.gate
        )


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize("token", [None, "wrong-token-wrong-token"])
async def test_nobody_gets_anything_but_401(api: Api, path: str, token: str | None) -> None:
    async with api.raw(api.settings(token=token)) as raw:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            answer = await raw.request(method, path)
            assert answer.status_code == 401, (method, path)
            assert error_of(answer)["reason"] == "Unauthorized"
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version", "/api/docs", "/openapi.json"])
async def test_what_is_no_secret_needs_no_credential(api: Api, path: str) -> None:
    async with api.raw(api.settings(token=None)) as raw:
        assert (await raw.get(path)).status_code == 200


async def test_a_host_certificate_works_over_real_tls(api: Api) -> None:
    async with api.raw(await api.register("h1")) as raw:
        assert (await raw.get("/api/v1/hosts/h1")).status_code == 200


async def test_a_certificate_of_another_ca_is_refused_by_tls(api: Api) -> None:
    settings = await api.register("h1")
    stranger = CertificateAuthority.create("Stranger").issue_client("system:host:h1", hours=1)
    assert settings.cert_file is not None
    assert settings.key_file is not None
    settings.cert_file.write_bytes(stranger.cert)
    settings.key_file.write_bytes(stranger.key)
    async with api.raw(settings) as raw:
        with pytest.raises(httpx2.TransportError):
            await raw.get("/api/v1/hosts/h1")


async def test_a_certificate_with_two_common_names_is_nobodys(api: Api) -> None:
    await api.register("h1")
    authority = CertificateAuthority.load(api.installation.ca_cert, api.installation.ca_key)
    key = generate_key()
    names = [n for c in ("system:host:h2", "system:host:h1") for n in common_name(c)]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.ExtendedKeyUsage([x509.OID_CLIENT_AUTH]), critical=False)
        .sign(authority._key, hashes.SHA256())
    )
    from cryptography.hazmat.primitives.serialization import Encoding

    from vcstack.pki.keys import key_to_pem

    settings = api.host_settings("h1")
    settings = dataclasses.replace(settings, cert_file=api.folder / "two.crt", key_file=api.folder / "two.key")
    assert settings.cert_file is not None
    assert settings.key_file is not None
    settings.cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    settings.key_file.write_bytes(key_to_pem(key))
    async with api.raw(settings) as raw:
        assert (await raw.get("/api/v1/hosts/h1")).status_code == 401


async def test_tls_below_1_2_is_refused(api: Api) -> None:
    context = ssl.create_default_context(cafile=str(api.installation.ca_cert))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else OpenSSL does not even offer it
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with httpx2.AsyncClient(verify=context, trust_env=False) as raw:
        with pytest.raises(httpx2.TransportError):
            await raw.get(f"{api.url}/healthz")


async def test_the_token_stands_in_no_log_line(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    async with api.raw() as raw:
        await raw.get("/api/v1/flavors?labelSelector=secret-in-query")
        await raw.post("/api/v1/flavors", content=b"secret-in-body", headers={"content-type": "application/json"})
    written = "".join(capsys.readouterr())
    assert "/api/v1/flavors" in written
    for secret in (api.token, "secret-in-query", "secret-in-body"):
        assert secret not in written
