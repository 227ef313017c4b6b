"""Envelopes: they open in their place only, notice every change, and move to new master keys as they are."""

import base64
import os
import string
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.crypto.conftest import PIN, Tokens, write_private
from vcstack.crypto import keyringfile
from vcstack.crypto.encoding import associate, from_base64
from vcstack.crypto.envelope import Envelopes, Place, version_of
from vcstack.crypto.errors import CryptoError, MalformedText, Tampered, UnknownKeyVersion
from vcstack.crypto.keyring import Keyring
from vcstack.crypto.sources import InFile, InToken

PLACE = Place("/vcstack/secrets/demo/db", "sec-123")
PLACES = st.builds(Place, st.text(max_size=30), st.text(max_size=30))
ALPHABET = string.ascii_letters + string.digits + "+/=:" + " \n-_é"


class Counting:
    """A keyring that counts how often it is asked to unwrap."""

    def __init__(self, keyring: Keyring) -> None:
        self.keyring, self.unwrapped = keyring, 0

    @property
    def active(self) -> int:
        return self.keyring.active

    @property
    def active_id(self) -> str:
        return self.keyring.active_id

    def wrap(self, version: int, data_key: bytes, associated: bytes) -> bytes:
        return self.keyring.wrap(version, data_key, associated)

    def unwrap(self, version: int, wrapped: bytes, associated: bytes) -> bytes:
        self.unwrapped += 1
        return self.keyring.unwrap(version, wrapped, associated)


@given(plaintext=st.binary(max_size=3000), place=PLACES)
def test_a_value_comes_back_from_its_place(envelopes: Envelopes, plaintext: bytes, place: Place) -> None:
    text = envelopes.encrypt(plaintext, place)
    assert envelopes.decrypt(text, place) == plaintext
    assert text.isascii()
    assert len(plaintext) < 8 or plaintext not in text.encode()


@given(place=PLACES, other=PLACES)
def test_an_envelope_moved_to_another_place_does_not_open(envelopes: Envelopes, place: Place, other: Place) -> None:
    text = envelopes.encrypt(b"secret", place)
    shifted = Place(place.path + place.uid[:1], place.uid[1:])
    for wrong in (other, shifted, Place(place.uid, place.path), Place(place.path, ""), Place("", place.uid)):
        if wrong != place:
            with pytest.raises(Tampered):
                envelopes.decrypt(text, wrong)


@settings(max_examples=400)
@given(plaintext=st.binary(max_size=60), where=st.floats(0, 0.999), new=st.sampled_from(ALPHABET))
def test_changing_any_character_is_noticed(envelopes: Envelopes, plaintext: bytes, where: float, new: str) -> None:
    text = envelopes.encrypt(plaintext, PLACE)
    position = int(where * len(text))
    changed = text[:position] + new + text[position + 1 :]
    if changed != text:
        with pytest.raises((Tampered, MalformedText, UnknownKeyVersion)):
            envelopes.decrypt(changed, PLACE)


def test_flipping_any_bit_of_any_byte_is_noticed(envelopes: Envelopes) -> None:
    text = envelopes.encrypt(b"x", PLACE)
    for position in range(len(text)):
        for bit in range(7):
            changed = text[:position] + chr(ord(text[position]) ^ 1 << bit) + text[position + 1 :]
            with pytest.raises(CryptoError):
                envelopes.decrypt(changed, PLACE)
    for length in range(len(text)):
        with pytest.raises(CryptoError):
            envelopes.decrypt(text[:length], PLACE)
    for changed in (text + "=", text + "A", " " + text, text + "\n", text.upper(), text.replace(":1:", ":01:")):
        with pytest.raises(CryptoError):
            envelopes.decrypt(changed, PLACE)


def test_parts_of_two_envelopes_of_one_place_do_not_mix(envelopes: Envelopes) -> None:
    first, second = (envelopes.encrypt(value, PLACE).split(":") for value in (b"old", b"new"))
    with pytest.raises(Tampered):
        envelopes.decrypt(":".join([*first[:3], second[3]]), PLACE)


def test_every_envelope_has_a_data_key_of_its_own(envelopes: Envelopes) -> None:
    texts = [envelopes.encrypt(b"the same", PLACE).split(":") for _ in range(50)]
    assert len({text[2] for text in texts}) == len({text[3] for text in texts}) == 50


def test_the_format_is_what_the_adr_says(tmp_path: Path) -> None:
    key = os.urandom(32)
    path = write_private(tmp_path / "key", base64.b64encode(key).decode())
    text = Envelopes(Keyring(path)).encrypt(b"secret", Place("a/b", "uid"))
    form, version, wrapped, content = text.split(":")
    assert (form, version) == ("vcs1", "1")
    outer, inner = base64.b64decode(wrapped), base64.b64decode(content)

    def parts(*texts: str) -> bytes:
        return b"".join(len(t).to_bytes(4, "big") + t.encode() for t in texts)

    data_key = AESGCM(key).decrypt(outer[:12], outer[12:], parts("vcs1", "data key", "1", "a/b", "uid"))
    assert AESGCM(data_key).decrypt(inner[:12], inner[12:], parts("vcs1", "content", "a/b", "uid")) == b"secret"


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_associated_data_of_different_parts_differ(some: list[str], others: list[str]) -> None:
    assert (associate(*some) == associate(*others)) == (some == others)


def test_no_character_can_be_added_to_base64() -> None:
    for length in range(50):
        text = base64.b64encode(os.urandom(length)).decode()
        for extra in ("=", "==", "===", "====", "A", "\n", " "):
            for changed in (text + extra, extra + text):
                with pytest.raises(MalformedText):
                    from_base64(changed)


@given(st.text(alphabet=ALPHABET, max_size=12))
def test_base64_has_one_spelling(text: str) -> None:
    try:
        data = from_base64(text)
    except MalformedText:
        return
    assert base64.b64encode(data).decode() == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "\0", "vcs1", "vcs1:1:", "vcs2:1:AAAA:AAAA", "vcs1:1:AAAA:AAAA", "vcs1:1:AAAA:AAAA:AAAA"),
        *("vcs1:0:AAAA:AAAA", "vcs1:-1:AAAA:AAAA", "vcs1:\u00b2:AAAA:AAAA", "vcs1:1:\u00fc:AAAA"),
        "vcs1:" + "9" * 400 + ":AAAA:AAAA",
    ],
)
def test_what_is_no_envelope_is_said_to_be_none(envelopes: Envelopes, text: str) -> None:
    with pytest.raises(MalformedText):
        envelopes.decrypt(text, PLACE)
    with pytest.raises(MalformedText):
        envelopes.rewrap(text, PLACE)


def test_old_versions_are_readable_after_rotations(key_file: Path) -> None:
    envelopes = Envelopes(Keyring(key_file))
    texts = []
    for number in range(4):
        texts.append(envelopes.encrypt(b"%d" % number, PLACE))
        keyringfile.add(key_file, InFile.fresh(), activate=True)
    assert [version_of(text) for text in texts] == [1, 2, 3, 4]
    for reader in (envelopes, Envelopes(Keyring(key_file))):
        assert [reader.decrypt(text, PLACE) for text in texts] == [b"0", b"1", b"2", b"3"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plaintext=st.binary(max_size=200), place=PLACES)
def test_rewrapping_moves_to_the_newest_version_and_leaves_the_value(
    key_file: Path, plaintext: bytes, place: Place
) -> None:
    envelopes = Envelopes(Keyring(key_file))
    old = envelopes.encrypt(plaintext, place)
    assert envelopes.rewrap(old, place) is old
    version = keyringfile.add(key_file, InFile.fresh(), activate=True)
    new = envelopes.rewrap(old, place)
    assert version_of(new) == version
    assert new.split(":")[3] == old.split(":")[3]
    assert envelopes.decrypt(new, place) == plaintext
    assert envelopes.rewrap(new, place) is new
    with pytest.raises(Tampered):
        envelopes.rewrap(old, Place(place.path, place.uid + "x"))


def test_after_rewrapping_the_old_master_key_can_go(key_file: Path) -> None:
    envelopes = Envelopes(Keyring(key_file))
    left, moved = envelopes.encrypt(b"left", PLACE), envelopes.encrypt(b"moved", PLACE)
    keyringfile.add(key_file, InFile.fresh(), activate=True)
    moved = envelopes.rewrap(moved, PLACE)
    keyringfile.retire(key_file, 1)
    fresh = Envelopes(Keyring(key_file))
    assert fresh.decrypt(moved, PLACE) == b"moved"
    with pytest.raises(UnknownKeyVersion, match="version 1"):
        fresh.decrypt(left, PLACE)


def test_rewrapping_finds_damage_while_the_old_key_is_there(key_file: Path) -> None:
    envelopes = Envelopes(Keyring(key_file))
    text = envelopes.encrypt(b"x" * 30, PLACE)
    keyringfile.add(key_file, InFile.fresh(), activate=True)
    form, version, wrapped, content = text.split(":")
    other = "B" if content.startswith("A") else "A"
    with pytest.raises(Tampered):
        envelopes.rewrap(f"{form}:{version}:{wrapped}:{other}{content[1:]}", PLACE)


def test_values_move_from_a_key_file_into_a_token(key_file: Path, tokens: Tokens) -> None:
    envelopes = Envelopes(Keyring(key_file))
    text = envelopes.encrypt(b"secret", PLACE)
    write_private(key_file.parent / "pin", PIN)
    source = InToken(tokens.address.module, tokens.address.token, "envelopes", "pin")
    keyringfile.add(key_file, source, activate=True)
    moved = envelopes.rewrap(text, PLACE)
    keyringfile.retire(key_file, 1)
    fresh = Envelopes(Keyring(key_file))
    assert fresh.decrypt(moved, PLACE) == b"secret"
    with pytest.raises(Tampered):
        fresh.decrypt(moved, Place(PLACE.path, "sec-124"))


@pytest.fixture
def counting(key_file: Path) -> Counting:
    return Counting(Keyring(key_file))


def test_reading_again_asks_the_master_key_once(counting: Counting) -> None:
    envelopes = Envelopes(counting)
    text = envelopes.encrypt(b"secret", PLACE)
    assert [envelopes.decrypt(text, PLACE) for _ in range(5)] == [b"secret"] * 5
    assert counting.unwrapped == 1


def test_a_kept_data_key_opens_nothing_in_another_place(counting: Counting) -> None:
    envelopes = Envelopes(counting)
    text = envelopes.encrypt(b"secret", PLACE)
    envelopes.decrypt(text, PLACE)
    with pytest.raises(Tampered):
        envelopes.decrypt(text, Place(PLACE.path, "sec-124"))


def test_data_keys_are_kept_for_their_time_only(counting: Counting) -> None:
    now = 0.0
    envelopes = Envelopes(counting, cached_seconds=10, monotonic=lambda: now)
    text = envelopes.encrypt(b"secret", PLACE)
    for now, unwrapped in ((0.0, 1), (9.9, 1), (10.0, 2), (19.9, 2), (20.0, 3)):  # noqa: B007 - the clock reads it
        envelopes.decrypt(text, PLACE)
        assert counting.unwrapped == unwrapped


@pytest.mark.parametrize(("limit", "unwrapped"), [(0, 20), (1, 20), (9, 20), (10, 10)])
def test_no_more_data_keys_are_kept_than_the_limit(counting: Counting, limit: int, unwrapped: int) -> None:
    envelopes = Envelopes(counting, cached_keys=limit)
    texts = [envelopes.encrypt(b"secret", PLACE) for _ in range(10)]
    for text in texts * 2:
        assert envelopes.decrypt(text, PLACE) == b"secret"
    assert counting.unwrapped == unwrapped


def test_data_keys_that_go_are_overwritten(counting: Counting) -> None:
    now = 0.0

    def keys(envelopes: Envelopes) -> list[bytearray]:
        return [key for _, key in envelopes._cache._keys.values()]

    ways: list[Callable[[Envelopes], object]] = [
        lambda envelopes: envelopes.forget(),
        lambda envelopes: [envelopes.decrypt(envelopes.encrypt(b"other", PLACE), PLACE) for _ in range(3)],
    ]
    for go in ways:
        envelopes = Envelopes(counting, cached_keys=3, cached_seconds=10, monotonic=lambda: now)
        for _ in range(3):
            envelopes.decrypt(envelopes.encrypt(b"secret", PLACE), PLACE)
        before = keys(envelopes)
        assert len(before) == 3
        assert all(any(key) for key in before)
        go(envelopes)
        assert not any(any(key) for key in before)


def test_a_cipher_outlives_the_overwriting_of_its_key() -> None:
    key = bytearray(os.urandom(32))
    same, cipher = AESGCM(bytes(key)), AESGCM(key)
    key[:] = bytes(32)
    assert cipher.encrypt(bytes(12), b"x", None) == same.encrypt(bytes(12), b"x", None)


def test_threads_share_a_small_cache(key_file: Path) -> None:
    envelopes = Envelopes(Keyring(key_file), cached_keys=2)
    texts = [(envelopes.encrypt(b"%d" % n, PLACE), b"%d" % n) for n in range(5)]

    def work(_: int) -> None:
        for _ in range(100):
            for text, value in texts:
                assert envelopes.decrypt(text, PLACE) == value

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
