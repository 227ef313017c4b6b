"""A master key in SoftHSM: it wraps there and never comes out."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pkcs11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pkcs11 import Attribute, KeyType, ObjectClass

from tests.crypto.conftest import MODULE, PIN, Tokens
from vcstack.crypto.errors import KeyUnavailable, Tampered
from vcstack.crypto.hsm import Pkcs11MasterKey, TokenAddress


@pytest.fixture(scope="module")
def key(tokens: Tokens) -> Pkcs11MasterKey:
    return Pkcs11MasterKey.create(tokens.address, "module", PIN)


def token_of(address: TokenAddress) -> pkcs11.Token:
    return pkcs11.lib(address.module).get_token(token_label=address.token)


def run_alone(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, which is logged in to nothing yet."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_key_in_the_token_is_sensitive_and_cannot_be_extracted(key: Pkcs11MasterKey, tokens: Tokens) -> None:
    code = f"""
import pkcs11
from pkcs11 import Attribute, ObjectClass
with pkcs11.lib({MODULE!r}).get_token(token_label="vcstack").open(user_pin={PIN!r}) as session:
    key = session.get_key(object_class=ObjectClass.SECRET_KEY, label="module")
    print(key[Attribute.SENSITIVE], key[Attribute.EXTRACTABLE], key[Attribute.ALWAYS_SENSITIVE],
          key[Attribute.NEVER_EXTRACTABLE], key[Attribute.LOCAL], key.key_length)
    try:
        key[Attribute.VALUE]
    except pkcs11.AttributeSensitive:
        print("kept")
"""
    done = run_alone(code)
    assert done.stdout.split() == ["True", "False", "True", "True", "True", "256", "kept"], done.stderr


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(associated=st.binary(max_size=200))
def test_what_is_wrapped_unwraps_in_its_place_only(key: Pkcs11MasterKey, associated: bytes) -> None:
    data = os.urandom(32)
    wrapped = key.wrap(data, associated)
    assert data not in wrapped
    assert key.unwrap(wrapped, associated) == data
    with pytest.raises(Tampered):
        key.unwrap(wrapped, associated + b"x")


def test_changing_any_byte_is_noticed_and_the_key_works_on(key: Pkcs11MasterKey) -> None:
    data = os.urandom(32)
    wrapped = key.wrap(data, b"place")
    for position in range(len(wrapped)):
        changed = bytearray(wrapped)
        changed[position] ^= 1
        with pytest.raises(Tampered):
            key.unwrap(bytes(changed), b"place")
    for length in (0, 12, 27, 28, len(wrapped) - 1):
        with pytest.raises(Tampered):
            key.unwrap(wrapped[:length], b"place")
    assert key.unwrap(wrapped, b"place") == data


def test_it_is_found_again_by_its_label_with_the_same_id(key: Pkcs11MasterKey, tokens: Tokens) -> None:
    again = Pkcs11MasterKey(tokens.address, "module", PIN)
    assert again.id == key.id
    assert again.unwrap(key.wrap(b"x" * 32, b"a"), b"a") == b"x" * 32


def test_a_second_key_is_another_one_and_its_label_must_be_free(key: Pkcs11MasterKey, tokens: Tokens) -> None:
    second = Pkcs11MasterKey.create(tokens.address, "second", PIN)
    assert second.id != key.id
    with pytest.raises(Tampered):
        second.unwrap(key.wrap(b"x" * 32, b"a"), b"a")
    with pytest.raises(KeyUnavailable, match="already"):
        Pkcs11MasterKey.create(tokens.address, "second", PIN)


def test_a_lost_session_is_opened_again(key: Pkcs11MasterKey, tokens: Tokens) -> None:
    wrapped = key.wrap(b"x" * 32, b"a")
    pkcs11.lib(MODULE).reinitialize()  # all handles are gone, as after a restart of the token's service
    assert key.unwrap(wrapped, b"a") == b"x" * 32
    pkcs11.lib(MODULE).reinitialize()
    assert key.unwrap(key.wrap(b"y" * 32, b"a"), b"a") == b"y" * 32


def test_several_threads_share_the_session(key: Pkcs11MasterKey) -> None:
    def work(number: int) -> None:
        for _ in range(50):
            data = bytes([number]) * 32
            assert key.unwrap(key.wrap(data, data), data) == data

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))


def test_what_is_not_there_is_named(tokens: Tokens) -> None:
    with pytest.raises(KeyUnavailable, match="no AES key nothing"):
        Pkcs11MasterKey(tokens.address, "nothing", PIN)
    with pytest.raises(KeyUnavailable, match="absent"):
        Pkcs11MasterKey(TokenAddress(MODULE, "absent"), "module", PIN)
    with pytest.raises(KeyUnavailable, match="no-such"):
        Pkcs11MasterKey(TokenAddress("/usr/lib/no-such.so", "vcstack"), "module", PIN)


def test_a_wrong_pin_is_tried_once_only_and_not_shown(key: Pkcs11MasterKey, tokens: Tokens) -> None:
    code = f"""
from vcstack.crypto.errors import KeyUnavailable
from vcstack.crypto.hsm import Pkcs11MasterKey, TokenAddress
for pin in ("111111", "111111", {PIN!r}):
    try:
        Pkcs11MasterKey(TokenAddress({MODULE!r}, "vcstack"), "module", pin)
        print("good")
    except KeyUnavailable as error:
        print(error)
"""
    Pkcs11MasterKey(tokens.address, "module", PIN)
    done = run_alone(code)
    first, second, third = done.stdout.splitlines()
    assert "the PIN is wrong" in first
    assert "has refused this PIN" in second
    assert third == "good"
    assert "111111" not in done.stdout


@pytest.mark.parametrize(
    ("label", "bits", "identified", "template", "says"),
    [
        ("extractable", 256, True, {Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: True}, "read out"),
        ("open", 256, True, {Attribute.EXTRACTABLE: False, Attribute.SENSITIVE: False}, "read out"),
        ("short", 128, True, {Attribute.EXTRACTABLE: False, Attribute.SENSITIVE: True}, "128 bits"),
        ("nameless", 256, False, {Attribute.EXTRACTABLE: False, Attribute.SENSITIVE: True}, "CKA_ID"),
    ],
)
def test_keys_that_protect_too_little_are_refused(
    tokens: Tokens, label: str, bits: int, identified: bool, template: dict[Attribute, bool], says: str
) -> None:
    with token_of(tokens.other).open(rw=True, user_pin=PIN) as session:
        session.generate_key(
            KeyType.AES, bits, label=label, id=os.urandom(16) if identified else b"", store=True, template=template
        )
    code = f"""
from vcstack.crypto.errors import InsecureKey
from vcstack.crypto.hsm import Pkcs11MasterKey, TokenAddress
try:
    Pkcs11MasterKey(TokenAddress({MODULE!r}, "spoiled"), {label!r}, {PIN!r})
except InsecureKey as error:
    print(error)
"""
    assert says in run_alone(code).stdout


def test_a_key_that_was_replaced_under_its_label_is_noticed(tokens: Tokens) -> None:
    key = Pkcs11MasterKey.create(tokens.other, "replaced", PIN)
    pkcs11.lib(MODULE).reinitialize()
    with token_of(tokens.other).open(rw=True, user_pin=PIN) as session:
        session.get_key(object_class=ObjectClass.SECRET_KEY, label="replaced").destroy()
        session.generate_key(
            KeyType.AES,
            256,
            label="replaced",
            id=os.urandom(16),
            store=True,
            template={Attribute.EXTRACTABLE: False, Attribute.SENSITIVE: True},
        )
    with pytest.raises(KeyUnavailable, match="another one now"):
        key.wrap(b"x" * 32, b"a")
