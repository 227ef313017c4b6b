"""ENC(...) values: anywhere in a configuration, and an error that names the field."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.crypto.conftest import write_private
from vcstack.crypto import keyringfile
from vcstack.crypto.enc import (
    CREDENTIAL,
    UnreadableValue,
    decrypt_value,
    decrypt_values,
    encrypt_value,
    find_key_file,
    open_key_file,
)
from vcstack.crypto.envelope import Envelopes, Place
from vcstack.crypto.errors import CryptoError, KeyUnavailable, MalformedText, Tampered
from vcstack.crypto.keyring import Keyring
from vcstack.crypto.sources import InFile


@given(st.text(max_size=200))
def test_a_value_comes_back(envelopes: Envelopes, value: str) -> None:
    text = encrypt_value(envelopes, value)
    assert text.startswith("ENC(vcs1:")
    assert decrypt_value(envelopes, text) == value
    assert decrypt_value(envelopes, f"  {text}\n") == value


@pytest.mark.parametrize("text", ["", "ENC", "ENC(", "ENC()", "ENC(x", "ENC(x)y", "(x)", "enc(x)", "ENC(vcs1:1:A:B)"])
def test_what_is_not_of_the_form_is_refused(envelopes: Envelopes, text: str) -> None:
    with pytest.raises(MalformedText):
        decrypt_value(envelopes, text)


def test_an_objects_envelope_is_no_configuration_value(envelopes: Envelopes) -> None:
    stolen = envelopes.encrypt(b"secret", Place("/vcstack/secrets/demo/db", "sec-1"))
    with pytest.raises(Tampered):
        decrypt_value(envelopes, f"ENC({stolen})")


def test_values_are_decrypted_however_deep_they_are(envelopes: Envelopes) -> None:
    def enc(value: str) -> str:
        return encrypt_value(envelopes, value)

    values: dict[str, Any] = {
        "plain": "x",
        "number": 3,
        "none": None,
        "secret": enc("a"),
        "postgres": {"dsn": enc("postgresql://u:p@h/d"), "list": [enc("b"), {"deep": enc("")}, 7]},
        "odd": "see ENC(here)",
    }
    assert decrypt_values(values, lambda: envelopes) == {
        "plain": "x",
        "number": 3,
        "none": None,
        "secret": "a",
        "postgres": {"dsn": "postgresql://u:p@h/d", "list": ["b", {"deep": ""}, 7]},
        "odd": "see ENC(here)",
    }


def test_the_key_is_opened_once_and_only_when_it_is_needed(envelopes: Envelopes) -> None:
    opened: list[int] = []

    def opening() -> Envelopes:
        opened.append(1)
        return envelopes

    assert decrypt_values({"a": "x", "b": ["y"]}, opening) == {"a": "x", "b": ["y"]}
    assert not opened
    text = encrypt_value(envelopes, "v")
    assert decrypt_values({"a": text, "b": [text, text]}, opening) == {"a": "v", "b": ["v", "v"]}
    assert len(opened) == 1


def test_a_value_that_was_decrypted_is_not_looked_at_again(envelopes: Envelopes) -> None:
    inner = encrypt_value(envelopes, "inner")
    assert decrypt_values({"a": encrypt_value(envelopes, inner)}, lambda: envelopes) == {"a": inner}


@pytest.mark.parametrize("spoiled", ["ENC(nonsense)", "ENC(", "ENC(vcs1:7:AAAA:" + "A" * 40 + ")"])
def test_a_value_that_cannot_be_decrypted_names_its_field(envelopes: Envelopes, spoiled: str) -> None:
    with pytest.raises(UnreadableValue, match=r"^postgres\.replicas\.1\.dsn: ") as refused:
        decrypt_values({"postgres": {"replicas": [{}, {"dsn": spoiled}]}}, lambda: envelopes)
    assert refused.value.field == "postgres.replicas.1.dsn"


def test_a_key_file_that_is_missing_or_open_to_others_names_the_field_too(key_file: Path) -> None:
    text = encrypt_value(Envelopes(Keyring(key_file)), "v")
    key_file.chmod(0o644)
    for path in (key_file, key_file.parent / "absent"):
        with pytest.raises(UnreadableValue, match=f"dsn: .*{path}"):
            decrypt_values({"dsn": text}, lambda path=path: open_key_file(path))  # type: ignore[misc]


def test_the_key_file_is_the_configured_one_the_variables_or_the_credential(tmp_path: Path) -> None:
    credential = write_private(tmp_path / CREDENTIAL, "")
    both = {"VCSTACK_SECRETS_KEY_FILE": "/named", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert find_key_file(Path("/configured"), both) == Path("/configured")
    assert find_key_file(None, both) == Path("/named")
    assert find_key_file(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == credential
    for environ in ({}, {"CREDENTIALS_DIRECTORY": str(tmp_path / "other")}, {"VCSTACK_SECRETS_KEY_FILE": ""}):
        with pytest.raises(KeyUnavailable, match="secretsKeyFile"):
            find_key_file(None, environ)


def test_a_key_file_as_a_systemd_credential_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "credentials"
    path = folder / CREDENTIAL
    keyringfile.create(path, InFile.fresh())
    text = encrypt_value(Envelopes(Keyring(path)), "v")
    path.chmod(0o440)  # how systemd's ACL for the service's user looks
    monkeypatch.delenv("VCSTACK_SECRETS_KEY_FILE", raising=False)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    assert decrypt_values({"a": text}, lambda: open_key_file(None)) == {"a": "v"}


def test_old_values_are_read_after_a_rotation(key_file: Path) -> None:
    old = encrypt_value(Envelopes(Keyring(key_file)), "v")
    keyringfile.add(key_file, InFile.fresh(), activate=True)
    new = encrypt_value(open_key_file(key_file), "v")
    assert "vcs1:2:" in new
    assert [decrypt_value(open_key_file(key_file), text) for text in (old, new)] == ["v", "v"]
    keyringfile.retire(key_file, 1)
    with pytest.raises(CryptoError, match="version 1"):
        decrypt_value(open_key_file(key_file), old)
