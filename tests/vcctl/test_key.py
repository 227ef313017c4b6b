"""key: encrypt, decrypt, sign and look after keys, against the real API."""

import base64
import hashlib

import pytest

from tests.fixtures.api import SYSTEM
from tests.vcctl.harness import Vcctl
from vcstack.specs.registry import get_kind
from vcstack.store.keymaterial import KeyMaterial
from vcstack.vcctl.errors import ExitCode

KEY = get_kind("Key")


async def make_key(vcctl: Vcctl, name: str, algorithm: str) -> None:
    """Make a key with material, as the controller does."""
    api = vcctl.api
    wire = {"metadata": {"project": "demo", "name": name}, "spec": {"algorithm": algorithm}}
    made = (await api.store.create(KEY, wire, actor=SYSTEM)).wire
    material = KeyMaterial(api.application.auth.credentials)
    await material.ensure(made["metadata"]["uid"], algorithm, api.store.clock.now())


@pytest.fixture
async def project(vcctl: Vcctl) -> Vcctl:
    await vcctl.api.store.create(get_kind("Project"), {"metadata": {"name": "demo"}}, actor=SYSTEM)
    return vcctl


async def test_what_is_encrypted_can_be_decrypted_and_encrypted_anew(project: Vcctl) -> None:
    await make_key(project, "disks", "AES-256-GCM")
    plain = project.folder / "plain"
    plain.write_bytes(b"attack at dawn")
    cipher = await project.ok("key", "encrypt", "disks", "-f", str(plain), "--encryption-context", "a")
    assert cipher.startswith("vck1:")
    fresh = await project.ok("key", "reencrypt", "disks", "--encryption-context", "a", stdin=cipher)
    assert await project.ok("key", "decrypt", "disks", "--encryption-context", "a", stdin=fresh) == "attack at dawn"
    wrong = await project("key", "decrypt", "disks", "--encryption-context", "b", stdin=fresh)
    assert wrong.code == ExitCode.REFUSED


async def test_a_data_key_goes_into_a_file_for_its_owner_only(project: Vcctl) -> None:
    await make_key(project, "disks", "AES-256-GCM")
    file = project.folder / "datakey"
    cipher = await project.ok("key", "datakey", "disks", "--plaintext-file", str(file), "--bytes", "16")
    assert (file.stat().st_mode & 0o777, file.stat().st_size) == (0o600, 16)
    async with project.api.raw() as client:
        answer = await client.post("/api/v1/projects/demo/keys/disks/decrypt", json={"ciphertext": cipher.strip()})
    assert base64.b64decode(answer.json()["plaintext"]) == file.read_bytes()
    again = await project("key", "datakey", "disks", "--plaintext-file", str(file))
    assert again.code == ExitCode.USAGE


async def test_a_signature_is_verified_and_another_message_is_not(project: Vcctl) -> None:
    await make_key(project, "releases", "ECDSA-P256")
    message, signature = project.folder / "message", project.folder / "signature"
    message.write_bytes(b"release 1")
    signature.write_text(await project.ok("key", "sign", "releases", "-f", str(message)))
    words = ("key", "verify", "releases", "-f", str(message), "--signature", str(signature))
    assert await project.ok(*words) == "valid\n"
    message.write_bytes(b"release 2")
    ended = await project(*words)
    assert (ended.code, ended.out) == (ExitCode.DIFFERENCE, "not valid\n")


async def test_a_key_is_rotated_disabled_enabled_and_its_deletion_scheduled_and_called_off(project: Vcctl) -> None:
    await make_key(project, "disks", "AES-256-GCM")

    async def spec() -> dict[str, object]:
        found: dict[str, object] = (await project.api.store.get(KEY, "demo", "disks")).wire["spec"]
        return found

    await project.ok("key", "rotate", "disks")
    assert "rotateAfter" in await spec()
    await project.ok("key", "disable", "disks")
    assert (await spec())["state"] == "Disabled"
    await project.ok("key", "enable", "disks")
    assert (await spec())["state"] == "Enabled"
    ended = await project("key", "cancel-deletion", "disks")
    assert (ended.code, (await spec())["state"]) == (ExitCode.REFUSED, "Enabled"), "nothing was to be called off"
    await project.ok("key", "schedule-deletion", "disks", "--days", "9", "--yes")
    assert ((await spec())["state"], (await spec())["deletionWaitDays"]) == ("PendingDeletion", 9)
    await project.ok("key", "cancel-deletion", "disks")
    assert (await spec())["state"] == "Disabled"


async def test_what_is_too_large_to_be_sent_is_signed_by_its_digest(project: Vcctl) -> None:
    await make_key(project, "releases", "ECDSA-P384")
    message, signature = project.folder / "message", project.folder / "signature"
    message.write_bytes(bytes(2_000_000))
    signature.write_text(await project.ok("key", "sign", "key/releases", "-f", str(message)))
    words = ("key", "verify", "releases", "--signature", str(signature))
    assert await project.ok(*words, "-f", str(message)) == "valid\n"
    digest = project.folder / "digest"
    digest.write_bytes(hashlib.sha384(message.read_bytes()).digest())
    assert await project.ok(*words, "-f", str(digest), "--prehashed") == "valid\n"
    message.write_bytes(bytes(2_000_001))
    assert (await project(*words, "-f", str(message))).code == ExitCode.DIFFERENCE


async def test_what_is_too_large_to_be_encrypted_is_told_with_what_does_it(project: Vcctl) -> None:
    # Made by the API, so the algorithm and the state are those that nobody wrote.
    await project.api.store.create(KEY, {"metadata": {"project": "demo", "name": "disks"}}, actor=SYSTEM)
    message = project.folder / "message"
    message.write_bytes(bytes(70_000))
    refused = await project("key", "encrypt", "disks", "-f", str(message))
    assert refused.code == ExitCode.USAGE
    assert "64 KiB" in refused.err
    assert "vcctl key datakey disks" in refused.err
    refused = await project("key", "sign", "disks", "-f", str(message))
    assert (refused.code, "cannot sign" in refused.err) == (ExitCode.REFUSED, True), refused.err
    refused = await project("key", "cancel-deletion", "disks")
    assert (refused.code, "it is Enabled" in refused.err) == (ExitCode.REFUSED, True), refused.err


async def test_an_object_of_another_kind_is_no_key(project: Vcctl) -> None:
    refused = await project("key", "encrypt", "secret/db", stdin="x")
    assert (refused.code, "is no Key" in refused.err) == (ExitCode.USAGE, True), refused.err
