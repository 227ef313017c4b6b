"""vc-compute's settings file, and values in it that are encrypted."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from vcstack.crypto import keyringfile
from vcstack.crypto.enc import encrypt_value, open_key_file
from vcstack.crypto.sources import InFile
from vcstack.nodeagent.settings import SettingsError, load_settings

URL = "https://cloud.example:8443"


@pytest.fixture(autouse=True)
def no_key_file_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VCSTACK_SECRETS_KEY_FILE", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.key"
    keyringfile.create(path, InFile.fresh())
    return path


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "compute.yaml"
    settings = {"hostName": "h1", "apiUrl": URL, "caFile": "/ca.crt", "stateDir": "/state", **changes}
    path.write_text(yaml.safe_dump(settings))
    return path


def enc(key_file: Path, value: str) -> str:
    return encrypt_value(open_key_file(key_file), value)


def test_encrypted_values_are_decrypted_with_the_key_file_that_is_named(tmp_path: Path, key_file: Path) -> None:
    ovn = {"remote": enc(key_file, "ssl:10.0.0.1:6642"), "encapIp": "10.0.0.2"}
    path = write(tmp_path, secretsKeyFile=str(key_file), apiUrl=enc(key_file, URL), ovn=ovn)
    settings = load_settings(path)
    assert settings.api_url == URL
    assert settings.ovn is not None
    assert (settings.ovn.remote, settings.ovn.encap_ip) == ("ssl:10.0.0.1:6642", "10.0.0.2")
    assert URL not in path.read_text()


def test_the_key_file_may_be_named_by_the_environment(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, apiUrl=enc(key_file, URL))
    monkeypatch.setenv("VCSTACK_SECRETS_KEY_FILE", str(key_file))
    assert load_settings(path).api_url == URL


def test_without_encrypted_values_no_key_file_is_needed(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path)).api_url == URL


def test_a_value_that_cannot_be_decrypted_names_file_and_field_and_not_the_value(
    tmp_path: Path, key_file: Path
) -> None:
    other = tmp_path / "other.key"
    keyringfile.create(other, InFile.fresh())
    for value, named in ((enc(other, URL), key_file), ("ENC(nonsense)", key_file), (enc(key_file, URL), None)):
        changes = {"secretsKeyFile": str(named)} if named else {}
        with pytest.raises(SettingsError) as caught:
            load_settings(write(tmp_path, apiUrl=value, **changes))
        assert "compute.yaml: apiUrl:" in str(caught.value)
        assert URL not in str(caught.value)
