"""vc-management's settings: file and environment, and values that are encrypted in either."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from vcstack.crypto import keyringfile
from vcstack.crypto.enc import encrypt_value, open_key_file
from vcstack.crypto.sources import InFile
from vcstack.programs.settings import SettingsError, load_settings

DSN = "postgresql://vcstack:p%40ss@db/vcstack"


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
    path = folder / "management.yaml"
    settings = {
        "stateDir": str(folder),
        "api": {"certFile": "api.crt", "keyFile": "api.key"},
        "pki": {"caCertFile": "ca.crt", "caKeyFile": "ca.key"},
        "imageDir": "/images",
        **changes,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def enc(key_file: Path, value: str) -> str:
    return encrypt_value(open_key_file(key_file), value)


def test_an_encrypted_value_in_the_file_is_decrypted_with_the_key_file_it_names(tmp_path: Path, key_file: Path) -> None:
    path = write(
        tmp_path,
        secretsKeyFile=str(key_file),
        postgres={"dsn": enc(key_file, DSN)},
        etcd={"endpoints": [enc(key_file, "e1:2379"), "e2:2379"]},
        imageDir=enc(key_file, "/secret/images"),
    )
    settings = load_settings(path)
    assert settings.postgres is not None
    assert settings.postgres.dsn == DSN
    assert settings.etcd.endpoints == ("e1:2379", "e2:2379")
    assert settings.image_dir == Path("/secret/images")
    assert DSN not in path.read_text()


def test_the_key_file_may_come_from_the_environment(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, postgres={"dsn": enc(key_file, DSN)})
    monkeypatch.setenv("VCSTACK_SECRETS_KEY_FILE", str(key_file))
    settings = load_settings(path)
    assert settings.postgres is not None
    assert settings.postgres.dsn == DSN


def test_or_from_a_systemd_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credential = tmp_path / "credentials" / "vcstack-secrets-key"
    keyringfile.create(credential, InFile.fresh())
    path = write(tmp_path, postgres={"dsn": enc(credential, DSN)})
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credential.parent))
    settings = load_settings(path)
    assert settings.postgres is not None
    assert settings.postgres.dsn == DSN


def test_an_encrypted_value_in_the_environment_is_decrypted_too(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VCSTACK_MANAGEMENT_POSTGRES__DSN", enc(key_file, DSN))
    monkeypatch.setenv("VCSTACK_MANAGEMENT_SECRETS_KEY_FILE", str(key_file))
    settings = load_settings(write(tmp_path))
    assert settings.postgres is not None
    assert settings.postgres.dsn == DSN


def test_without_encrypted_values_no_key_file_is_looked_for(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, secretsKeyFile=str(tmp_path / "absent"), postgres={"dsn": DSN}))
    assert settings.secrets_key_file == tmp_path / "absent"


def test_a_value_that_cannot_be_decrypted_names_file_field_and_reason(tmp_path: Path, key_file: Path) -> None:
    other = tmp_path / "other.key"
    keyringfile.create(other, InFile.fresh())
    secret = enc(key_file, DSN)
    for changes, field, reason in (
        ({"secretsKeyFile": str(other), "postgres": {"dsn": secret}}, "postgres.dsn", "another place or master key"),
        ({"postgres": {"dsn": secret}}, "postgres.dsn", "no key file"),
        ({"secretsKeyFile": str(tmp_path / "absent"), "imageDir": secret}, "imageDir", "No such file"),
        ({"secretsKeyFile": str(key_file), "api": {"certFile": "ENC(x)"}}, "api.certFile", "no envelope"),
    ):
        path = write(tmp_path, **changes)
        with pytest.raises(SettingsError) as refused:
            load_settings(path)
        text = str(refused.value)
        assert text.startswith(f"{path}: {field}: the ENC(...) value cannot be decrypted: ")
        assert reason in text
        assert DSN not in text


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, key_file: Path) -> None:
    path = write(tmp_path, secretsKeyFile=str(key_file), postgres={"dsn": enc(key_file, DSN)})
    key_file.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        load_settings(path)


def test_the_environment_wins_over_the_file_also_for_names_of_several_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, apiWorkers=2, etcd={"caFile": "/file/ca.crt", "certFile": "/file/cert.crt"})
    monkeypatch.setenv("VCSTACK_MANAGEMENT_API_WORKERS", "3")
    monkeypatch.setenv("VCSTACK_MANAGEMENT_ETCD__CA_FILE", "/environment/ca.crt")
    settings = load_settings(path)
    assert settings.api_workers == 3
    assert settings.etcd.ca_file == Path("/environment/ca.crt")
    assert settings.etcd.cert_file == Path("/file/cert.crt")


def test_an_operator_allows_private_targets_one_by_one(tmp_path: Path) -> None:
    allowed = [{"network": "10.1.2.0/24", "ports": [443, 9443]}, {"network": "fd00::1", "plainHttp": True}]
    outbound = load_settings(write(tmp_path, outbound={"allowed": allowed, "ownNetworks": ["192.0.2.0/24"]})).outbound
    assert [str(target.network) for target in outbound.allowed] == ["10.1.2.0/24", "fd00::1/128"]
    assert [target.plain_http for target in outbound.allowed] == [False, True]
    for wrong in ({"allowed": [{"network": "10.1.2.3/24"}]}, {"allowed": [{"network": "10.1.2.3", "ports": [0]}]}):
        with pytest.raises(SettingsError, match="outbound"):
            load_settings(write(tmp_path, outbound=wrong))
