"""Managed keys: what each kind does, by version, and that others' tools agree."""

import base64
import hashlib
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from vcstack.crypto import keyringfile
from vcstack.crypto.envelope import Envelopes, Place, version_of
from vcstack.crypto.errors import CryptoError, MalformedText, Tampered, UnfitKey, UnknownKeyVersion
from vcstack.crypto.keyring import Keyring
from vcstack.crypto.kms import KeyKind, KeyVersion, Kms, ManagedKey
from vcstack.crypto.sources import InFile

ENCRYPTING = [kind for kind in KeyKind if kind.encrypts]
SIGNING = [kind for kind in KeyKind if not kind.encrypts]


@pytest.fixture(scope="module")
def kms(envelopes: Envelopes) -> Kms:
    return Kms(envelopes)


@pytest.fixture(scope="module")
def keys(kms: Kms) -> dict[KeyKind, ManagedKey]:
    """One key of each kind; RSA takes its time."""
    return {kind: kms.create(f"key-{number}", kind) for number, kind in enumerate(KeyKind)}


@pytest.mark.parametrize("kind", ENCRYPTING)
def test_what_is_encrypted_is_decrypted_with_its_context_only(
    kms: Kms, keys: dict[KeyKind, ManagedKey], kind: KeyKind
) -> None:
    key = keys[kind]
    for plaintext, context in ((b"", b""), (b"secret", b""), (os.urandom(300), b"tenant=7"), (b"x", bytes(1000))):
        text = kms.encrypt(key, plaintext, context)
        assert text.startswith(f"vck1:{key.uid}:1:")
        assert kms.decrypt(key, text, context) == plaintext
        assert kms.encrypt(key, plaintext, context) != text
        with pytest.raises(Tampered):
            kms.decrypt(key, text, context + b"x")


@settings(max_examples=60)
@given(plaintext=st.binary(max_size=5000), context=st.binary(max_size=100))
def test_aes_takes_any_length(kms: Kms, keys: dict[KeyKind, ManagedKey], plaintext: bytes, context: bytes) -> None:
    key = keys[KeyKind.AES_256_GCM]
    assert kms.decrypt(key, kms.encrypt(key, plaintext, context), context) == plaintext


@pytest.mark.parametrize("kind", ENCRYPTING)
def test_a_changed_ciphertext_is_noticed(kms: Kms, keys: dict[KeyKind, ManagedKey], kind: KeyKind) -> None:
    text = kms.encrypt(keys[kind], b"secret", b"context")
    for position in range(0, len(text), 7 if kind is not KeyKind.AES_256_GCM else 1):
        changed = text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]
        with pytest.raises(CryptoError):
            kms.decrypt(keys[kind], changed, b"context")
    for length in range(0, len(text), 9):
        with pytest.raises(CryptoError):
            kms.decrypt(keys[kind], text[:length], b"context")


@pytest.mark.parametrize(("kind", "limit"), [(KeyKind.RSA_OAEP_3072, 318), (KeyKind.RSA_OAEP_4096, 446)])
def test_rsa_encrypts_short_texts_only_and_says_what_else_to_do(
    kms: Kms, keys: dict[KeyKind, ManagedKey], kind: KeyKind, limit: int
) -> None:
    longest = os.urandom(limit)
    assert kms.decrypt(keys[kind], kms.encrypt(keys[kind], longest)) == longest
    with pytest.raises(UnfitKey, match=f"{limit} bytes at most; encrypt with a data key"):
        kms.encrypt(keys[kind], longest + b"x")


def test_anybody_can_encrypt_for_an_rsa_key_with_its_public_part(kms: Kms, keys: dict[KeyKind, ManagedKey]) -> None:
    key = keys[KeyKind.RSA_OAEP_3072]
    public = serialization.load_pem_public_key(key.newest.public_pem.encode())
    assert isinstance(public, rsa.RSAPublicKey)
    assert public.key_size == 3072
    sealed = public.encrypt(b"hello", padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
    assert kms.decrypt(key, f"vck1:{key.uid}:1:{base64.b64encode(sealed).decode()}") == b"hello"


def test_versions_each_decrypt_their_own_and_the_newest_encrypts(kms: Kms) -> None:
    key = kms.create("key-a", KeyKind.AES_256_GCM)
    texts = []
    for number in (1, 2, 3):
        assert key.newest.number == number
        texts.append(kms.encrypt(key, b"%d" % number))
        key = kms.rotate(key)
    assert [text.split(":")[2] for text in texts] == ["1", "2", "3"]
    assert [kms.decrypt(key, text) for text in texts] == [b"1", b"2", b"3"]
    with pytest.raises(Tampered):
        kms.decrypt(key, texts[0].replace(":1:", ":2:"))
    without = replace(key, versions=key.versions[1:])
    with pytest.raises(UnknownKeyVersion, match="no version 1"):
        kms.decrypt(without, texts[0])


def test_re_encrypting_moves_to_the_newest_version_or_another_key(kms: Kms, keys: dict[KeyKind, ManagedKey]) -> None:
    old = kms.create("key-b", KeyKind.AES_256_GCM)
    text = kms.encrypt(old, b"secret", b"c")
    key = kms.rotate(old)
    moved = kms.re_encrypt(key, text, key, context=b"c")
    assert moved.startswith("vck1:key-b:2:")
    assert kms.decrypt(key, moved, b"c") == b"secret"
    for kind in ENCRYPTING:
        elsewhere = kms.re_encrypt(key, moved, keys[kind], context=b"c", target_context=b"d")
        assert kms.decrypt(keys[kind], elsewhere, b"d") == b"secret"
    with pytest.raises(Tampered):
        kms.re_encrypt(key, text, key, context=b"other")
    with pytest.raises(UnfitKey):
        kms.re_encrypt(key, text, keys[KeyKind.ECDSA_P256], context=b"c")


@pytest.mark.parametrize("kind", ENCRYPTING)
def test_a_data_key_comes_plain_and_encrypted(kms: Kms, keys: dict[KeyKind, ManagedKey], kind: KeyKind) -> None:
    for length in (16, 32, 64, 128):
        made = kms.generate_data_key(keys[kind], length, b"volume=1")
        assert len(made.plaintext) == length
        assert kms.decrypt(keys[kind], made.ciphertext, b"volume=1") == made.plaintext
        assert repr(made.plaintext) not in repr(made)
    for length in (0, 15, 129):
        with pytest.raises(UnfitKey):
            kms.generate_data_key(keys[kind], length)


@pytest.mark.parametrize("kind", SIGNING)
def test_signatures_verify_for_their_message_only(kms: Kms, keys: dict[KeyKind, ManagedKey], kind: KeyKind) -> None:
    key, message = keys[kind], os.urandom(1000)
    signature = kms.sign(key, message)
    assert signature.startswith(f"vcsig1:{key.uid}:1:")
    assert kms.verify(key, message, signature)
    assert not kms.verify(key, message + b"x", signature)
    head, payload = signature.rsplit(":", 1)
    assert not kms.verify(key, message, f"{head}:{base64.b64encode(os.urandom(70)).decode()}")
    with pytest.raises(MalformedText):
        kms.verify(key, message, f"{head}:{payload}=")
    rotated = kms.rotate(key)
    assert kms.verify(rotated, message, signature)
    assert kms.verify(rotated, message, kms.sign(rotated, message))
    assert not kms.verify(rotated, message, signature.replace(":1:", ":2:"))


@pytest.mark.parametrize(("kind", "digest"), [(KeyKind.ECDSA_P256, "sha256"), (KeyKind.ECDSA_P384, "sha384")])
def test_a_digest_is_signed_like_its_message(
    kms: Kms, keys: dict[KeyKind, ManagedKey], kind: KeyKind, digest: str
) -> None:
    message = os.urandom(100)
    hashed = hashlib.new(digest, message).digest()
    assert kms.verify(keys[kind], message, kms.sign(keys[kind], hashed, prehashed=True))
    assert kms.verify(keys[kind], hashed, kms.sign(keys[kind], message), prehashed=True)
    for call in (
        lambda: kms.sign(keys[kind], hashed + b"x", prehashed=True),
        lambda: kms.verify(keys[kind], b"", kms.sign(keys[kind], message), prehashed=True),
    ):
        with pytest.raises(UnfitKey, match="digests of"):
            call()


@pytest.mark.parametrize(("kind", "digest"), [(KeyKind.ECDSA_P256, "sha256"), (KeyKind.ECDSA_P384, "sha384")])
def test_openssl_verifies_our_signatures(
    kms: Kms, keys: dict[KeyKind, ManagedKey], tmp_path: Path, kind: KeyKind, digest: str
) -> None:
    message, signature, public = tmp_path / "message", tmp_path / "signature", tmp_path / "public.pem"
    message.write_bytes(b"to be signed")
    signature.write_bytes(base64.b64decode(kms.sign(keys[kind], b"to be signed").rsplit(":", 1)[1]))
    public.write_text(keys[kind].newest.public_pem)
    command = ["openssl", "dgst", f"-{digest}", "-verify", str(public), "-signature", str(signature), str(message)]
    assert "Verified OK" in subprocess.run(command, capture_output=True, text=True).stdout


def test_keys_are_on_the_curves_they_name(keys: dict[KeyKind, ManagedKey]) -> None:
    for kind, curve in ((KeyKind.ECDSA_P256, "secp256r1"), (KeyKind.ECDSA_P384, "secp384r1")):
        public = serialization.load_pem_public_key(keys[kind].newest.public_pem.encode())
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert public.curve.name == curve
    assert keys[KeyKind.AES_256_GCM].newest.public_pem == ""


def test_no_kind_does_what_another_is_for(kms: Kms, keys: dict[KeyKind, ManagedKey]) -> None:
    for kind in ENCRYPTING:
        for call in (lambda key: kms.sign(key, b"m"), lambda key: kms.verify(key, b"m", "vcsig1:k:1:AAAA")):
            with pytest.raises(UnfitKey, match="cannot sign or verify"):
                call(keys[kind])
    for kind in SIGNING:
        for call in (
            lambda key: kms.encrypt(key, b"m"),
            lambda key: kms.decrypt(key, "vck1:k:1:AAAA"),
            kms.generate_data_key,
        ):
            with pytest.raises(UnfitKey, match="cannot encrypt or decrypt"):
                call(keys[kind])


def test_a_ciphertext_of_another_key_is_told_apart_from_a_changed_one(kms: Kms) -> None:
    one, other = kms.create("key-one", KeyKind.AES_256_GCM), kms.create("key-other", KeyKind.AES_256_GCM)
    text = kms.encrypt(one, b"m")
    with pytest.raises(UnfitKey, match="made by key key-one, not by key-other"):
        kms.decrypt(other, text)
    with pytest.raises(Tampered):
        kms.decrypt(other, text.replace("key-one", "key-other"))


@pytest.mark.parametrize("uid", ["", "a:b", "A", "a b", "ü", "a" * 129, "../x", "a\n"])
def test_a_uid_that_would_break_the_text_is_refused(kms: Kms, uid: str) -> None:
    with pytest.raises(MalformedText):
        kms.create(uid, KeyKind.AES_256_GCM)


@pytest.mark.parametrize(
    "text", ["", "vck1", "vck1:k:1", "vck2:key-0:1:AAAA", "vck1:key-0:0:AAAA", "vck1:key-0:1:A", "vck1:KEY:1:AAAA"]
)
def test_what_is_no_ciphertext_is_said_to_be_none(kms: Kms, keys: dict[KeyKind, ManagedKey], text: str) -> None:
    with pytest.raises(MalformedText):
        kms.decrypt(keys[KeyKind.AES_256_GCM], text)
    with pytest.raises(MalformedText):
        kms.verify(keys[KeyKind.ECDSA_P256], b"m", text)


@pytest.mark.parametrize("kind", KeyKind)
def test_material_is_kept_under_envelope_and_bound_to_its_key_and_version(
    kms: Kms, envelopes: Envelopes, keys: dict[KeyKind, ManagedKey], kind: KeyKind
) -> None:
    key = keys[kind]
    material = envelopes.decrypt(key.newest.sealed, Place(f"kms/{key.uid}/1", key.uid))
    for shown in (repr(key), key.newest.sealed):
        assert base64.b64encode(material).decode() not in shown
        assert repr(material) not in shown
    swapped = replace(key, uid="key-z")
    with pytest.raises(Tampered):
        kms.rewrap(swapped)
    with pytest.raises(Tampered):
        kms.rewrap(replace(key, versions=(KeyVersion(2, key.newest.sealed),)))
    if not kind.encrypts:
        with pytest.raises(Tampered):
            kms.sign(swapped, b"m")


def test_keys_move_to_a_new_master_key_and_work_on(key_file: Path) -> None:
    kms = Kms(Envelopes(Keyring(key_file)))
    key = kms.rotate(kms.create("key-a", KeyKind.AES_256_GCM))
    signing = kms.create("key-b", KeyKind.ECDSA_P384)
    text, signature = kms.encrypt(key, b"m"), kms.sign(signing, b"m")
    assert kms.rewrap(key) == key
    keyringfile.add(key_file, InFile.fresh(), activate=True)
    key, signing = kms.rewrap(key), kms.rewrap(signing)
    assert [version_of(version.sealed) for version in key.versions] == [2, 2]
    keyringfile.retire(key_file, 1)
    later = Kms(Envelopes(Keyring(key_file)))
    assert later.decrypt(key, text) == b"m"
    assert later.verify(signing, b"m", signature)
    assert later.verify(signing, b"n", later.sign(signing, b"n"))
