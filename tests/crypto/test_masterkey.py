"""Master keys that are bytes: strength, files, passphrases, wrapping."""

import base64
import hashlib
import os

import pytest
from argon2.low_level import Type, hash_secret_raw
from hypothesis import given
from hypothesis import strategies as st

from vcstack.crypto.errors import CryptoError, InsecureKey, Tampered
from vcstack.crypto.masterkey import Argon2Parameters, LocalMasterKey, check_strength, from_passphrase

CHEAP = Argon2Parameters(memory_kib=64 * 1024, passes=3, lanes=4)
PASSPHRASE = "correct horse battery staple"


@pytest.mark.parametrize(
    "key",
    [
        bytes(32),
        b"\xff" * 32,
        bytes(range(32)),
        bytes(range(200, 168, -1)),
        bytes((7 * n) % 256 for n in range(32)),
        b"0123456789abcdef0123456789abcdef",
        b"ThisIsAVeryLongDefaultMasterKey!",
        os.urandom(8) * 4,
        hashlib.sha256(b"changeme").digest(),
        hashlib.sha256(b"").digest(),
        os.urandom(31),
        os.urandom(16),
        b"",
    ],
    ids=range(13),
)
def test_keys_that_were_not_drawn_at_random_are_refused(key: bytes) -> None:
    with pytest.raises(InsecureKey):
        check_strength(key)


def test_random_keys_are_accepted() -> None:
    for _ in range(10_000):
        check_strength(os.urandom(32))


def test_a_passphrase_gives_its_key_again_and_only_with_its_salt() -> None:
    salt = os.urandom(16)
    key = from_passphrase(PASSPHRASE, salt, CHEAP)
    assert from_passphrase(PASSPHRASE, salt, CHEAP).id == key.id
    assert from_passphrase(PASSPHRASE, os.urandom(16), CHEAP).id != key.id
    assert from_passphrase(PASSPHRASE + "r", salt, CHEAP).id != key.id
    plain = hash_secret_raw(PASSPHRASE.encode(), salt, 3, 64 * 1024, 4, 32, Type.ID)
    assert LocalMasterKey(plain).id == key.id


def test_a_passphrase_may_be_typed_with_composed_or_combining_accents() -> None:
    salt = os.urandom(16)
    composed, combining = "caf\u00e9 au lait avec du lait", "cafe\u0301 au lait avec du lait"
    assert composed != combining
    assert from_passphrase(composed, salt, CHEAP).id == from_passphrase(combining, salt, CHEAP).id


@pytest.mark.parametrize("passphrase", ["", "short", "fifteen letters", "a" * 40, "abababababababababab"])
def test_weak_passphrases_are_refused(passphrase: str) -> None:
    with pytest.raises(InsecureKey):
        from_passphrase(passphrase, os.urandom(16), CHEAP)


def test_a_short_salt_and_cheap_or_ruinous_parameters_are_refused() -> None:
    with pytest.raises(InsecureKey, match="salt"):
        from_passphrase(PASSPHRASE, b"salt", CHEAP)
    for cost in ((8, 3, 4), (64 * 1024, 1, 4), (1 << 40, 3, 4), (64 * 1024, 1 << 30, 4), (64 * 1024, 3, 0)):
        with pytest.raises(InsecureKey):
            Argon2Parameters(*cost)


@given(data=st.binary(max_size=80), associated=st.binary(max_size=80))
def test_what_is_wrapped_unwraps_in_its_place_only(data: bytes, associated: bytes) -> None:
    key, other = LocalMasterKey(os.urandom(32)), LocalMasterKey(os.urandom(32))
    wrapped = key.wrap(data, associated)
    assert key.unwrap(wrapped, associated) == data
    with pytest.raises(Tampered):
        key.unwrap(wrapped, associated + b"x")
    with pytest.raises(Tampered):
        other.unwrap(wrapped, associated)
    for length in range(len(wrapped)):
        with pytest.raises(Tampered):
            key.unwrap(wrapped[:length], associated)


def test_the_same_data_key_is_never_wrapped_the_same_twice() -> None:
    key, data = LocalMasterKey(os.urandom(32)), os.urandom(32)
    assert len({key.wrap(data, b"") for _ in range(100)}) == 100


def test_ids_tell_keys_apart_and_no_error_or_repr_shows_a_key() -> None:
    keys = [os.urandom(32) for _ in range(100)]
    assert len({LocalMasterKey(key).id for key in keys}) == 100
    for key in keys:
        with pytest.raises(CryptoError) as refused:
            LocalMasterKey(key).unwrap(key + key, b"")
        shown = repr(vars(LocalMasterKey(key))) + str(refused.value)
        assert key.hex() not in shown
        assert base64.b64encode(key).decode() not in shown
