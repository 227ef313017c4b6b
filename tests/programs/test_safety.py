"""What the programs refuse to start with, and that the sentence names the file or field and the fix."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from vcstack.crypto import keyringfile
from vcstack.crypto.enc import encrypt_value, open_key_file
from vcstack.nodeagent.settings import Settings
from vcstack.pki.installation import ensure_installation
from vcstack.programs.managementsafety import demand_safe_management
from vcstack.programs.safety import Unsafe, demand_safe_compute
from vcstack.programs.settings import SettingsError, load_settings

GOOD = "Zq7vX0mB2nK4tR9w"
TOKEN = "k3Jd8sLq0PzX7vBn2MtR5wYc9HgFaE1u"
FAR = "postgresql://vcstack@db.example/vcstack"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation as `init` makes it."""
    for name in ("PGPASSWORD", "PGSSLMODE", "PGHOST", "PGUSER", "CREDENTIALS_DIRECTORY", "VCSTACK_SECRETS_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    ensure_installation(tmp_path)
    keyringfile.ensure(tmp_path / "keyring.json")
    return tmp_path


def values_of(state: Path, **changes: Any) -> dict[str, Any]:
    pki = state / "pki"
    client = {name: str(pki / file) for name, file in (("certFile", "management.crt"), ("keyFile", "management.key"))}
    values: dict[str, Any] = {
        "stateDir": str(state),
        "etcd": {"endpoints": ["127.0.0.1:2379"], "caFile": str(pki / "ca.crt"), **client},
        "ovn": {"northbound": "unix:/run/ovn.sock", **client},
        "api": {"certFile": str(pki / "api.crt"), "keyFile": str(pki / "api.key")},
        "pki": {"caCertFile": str(pki / "ca.crt"), "caKeyFile": str(pki / "ca.key")},
        "imageDir": str(state / "images"),
    }
    for field, value in changes.items():
        section, _, name = field.partition("_")
        values.setdefault(section, {})
        if name:
            values[section] = {**values[section], name: value}
        else:
            values[section] = value
    return values


def start(state: Path, *, mode: int = 0o600, **changes: Any) -> None:
    config = state / "management.yaml"
    config.write_text(yaml.safe_dump(values_of(state, **changes)))
    config.chmod(mode)
    demand_safe_management(load_settings(config), config)


def refusal(state: Path, **changes: Any) -> str:
    with pytest.raises(Unsafe) as refused:
        start(state, **changes)
    return str(refused.value)


def test_an_installation_as_it_is_made_may_start(state: Path) -> None:
    start(state, mode=0o644)


SECRET_FILES = {
    "stateDir": "admin-token",
    "keyringFile": "keyring.json",
    "api.keyFile": "pki/api.key",
    "pki.caKeyFile": "pki/ca.key",
    "etcd.keyFile": "pki/management.key",
    "ovn.keyFile": "pki/management.key",
}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
@pytest.mark.parametrize("field", SECRET_FILES)
def test_a_secret_that_others_may_read_or_write(state: Path, field: str, mode: int) -> None:
    path = state / SECRET_FILES[field]
    path.chmod(mode)
    said = refusal(state)
    assert f"{field}: {path} has mode {mode:04o}" in said
    assert "chmod 600" in said


def test_a_key_file_of_encrypted_settings_that_others_may_read(state: Path) -> None:
    path = state / "secrets.key"
    keyringfile.ensure(path)
    path.chmod(0o644)
    assert f"secretsKeyFile: {path} has mode 0644" in refusal(state, secretsKeyFile=str(path))


def test_a_secret_in_a_folder_where_anybody_may_replace_it(state: Path) -> None:
    folder = state / "open"
    folder.mkdir()
    folder.chmod(0o777)
    key = folder / "api.key"
    key.write_bytes((state / "pki" / "api.key").read_bytes())
    key.chmod(0o600)
    assert "anybody may replace files" in refusal(state, api_keyFile=str(key))


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_settings_with_a_password_that_others_may_read(state: Path, mode: int) -> None:
    dsn = f"postgresql://vcstack:{GOOD}@127.0.0.1/vcstack"
    said = refusal(state, mode=mode, postgres={"dsn": dsn})
    assert f"{state / 'management.yaml'}: postgres.dsn holds a secret" in said
    assert "vcctl secrets encrypt" in said
    assert GOOD not in said
    start(state, mode=0o600, postgres={"dsn": dsn})


def test_settings_with_a_secret_address_that_others_may_read(state: Path) -> None:
    url = {"webhookUrl": "https://hooks.example/x?token=abc"}
    assert "audit.webhookUrl holds a secret" in refusal(state, mode=0o644, audit=url)


def test_settings_whose_secret_is_encrypted_may_be_read(state: Path) -> None:
    key_file = state / "secrets.key"
    keyringfile.ensure(key_file)
    dsn = encrypt_value(open_key_file(key_file), f"postgresql://vcstack:{GOOD}@127.0.0.1/vcstack")
    start(state, mode=0o644, postgres={"dsn": dsn}, secretsKeyFile=str(key_file))


@pytest.mark.parametrize(
    "token", ["changeme", "admin-admin-admin-admin-admin-admin", "a" * 43, "password" * 5, TOKEN[:20], "1234567890" * 4]
)
def test_an_admin_token_that_is_easily_guessed(state: Path, token: str) -> None:
    path = state / "admin-token"
    path.write_text(token)
    said = refusal(state)
    assert f"the token in {path} is easily guessed" in said
    assert "vc-management init" in said
    assert token not in said
    path.write_text(TOKEN)
    start(state)


@pytest.mark.parametrize("password", ["postgres", "vcstack", "changeme", "password1234", "vcstackvcstack", "Ab3$x"])
def test_a_database_password_that_is_easily_guessed(state: Path, password: str) -> None:
    said = refusal(state, postgres={"dsn": f"postgresql://vcstack:{password}@127.0.0.1/vcstack"})
    assert "postgres.dsn: the password of vcstack is short or well known" in said
    assert "openssl rand" in said


@pytest.mark.parametrize("endpoint", ["10.0.0.5:2379", "etcd.example:2379", "[2001:db8::1]:2379", "0.0.0.0:2379"])
def test_a_store_elsewhere_without_tls(state: Path, endpoint: str) -> None:
    said = refusal(state, etcd={"endpoints": [endpoint]})
    assert f"etcd.endpoints: {endpoint} is not on this machine; name etcd.caFile" in said


@pytest.mark.parametrize("endpoint", ["127.0.0.1:2379", "[::1]:2379", "localhost:2379"])
def test_a_store_on_this_machine_may_do_without(state: Path, endpoint: str) -> None:
    start(state, etcd={"endpoints": [endpoint]})


@pytest.mark.parametrize("more", ["", "?sslmode=disable", "?sslmode=prefer", "?sslmode=require"])
def test_a_database_elsewhere_without_tls_that_is_verified(state: Path, more: str) -> None:
    said = refusal(state, postgres={"dsn": FAR + more})
    assert "postgres.dsn: db.example is not on this machine; add sslmode=verify-full" in said


@pytest.mark.parametrize(
    "dsn",
    [
        FAR + "?sslmode=verify-full&sslrootcert=/etc/ca.crt",
        "host=db.example sslmode=verify-ca",
        "postgresql://vcstack@/vcstack?host=/run/postgresql",
        "host=127.0.0.1 dbname=vcstack",
        "dbname=vcstack",
    ],
)
def test_a_database_here_or_with_verified_tls_is_taken(state: Path, dsn: str) -> None:
    start(state, postgres={"dsn": dsn})


def test_what_the_environment_says_of_the_database_counts(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example")
    assert "db.example is not on this machine" in refusal(state, postgres={"dsn": "dbname=vcstack"})
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    start(state, postgres={"dsn": "dbname=vcstack"})


def test_one_of_several_databases_elsewhere_is_enough(state: Path) -> None:
    assert "db.example" in refusal(state, postgres={"dsn": "host=127.0.0.1,db.example"})


@pytest.mark.parametrize("field", ["northbound", "southbound"])
def test_ovn_elsewhere_without_tls(state: Path, field: str) -> None:
    said = refusal(state, **{f"ovn_{field}": "ssl:10.0.0.5:6641,tcp:10.0.0.6:6641"})
    assert f"ovn.{field}: tcp:10.0.0.6:6641 is not on this machine; write ssl:" in said


def test_an_api_whose_address_is_not_https(state: Path) -> None:
    assert "api.url: http://cloud.example is no https address" in refusal(state, api_url="http://cloud.example")


def test_all_that_is_wrong_is_said_at_once(state: Path) -> None:
    (state / "pki" / "api.key").chmod(0o644)
    said = refusal(state, etcd={"endpoints": ["10.0.0.5:2379"]}, postgres={"dsn": FAR})
    assert [line.split(":")[0].strip() for line in said.splitlines()[1:]] == [
        "api.keyFile",
        "etcd.endpoints",
        "postgres.dsn",
    ]


NO_ORIGINS = ["*", "https://a.example/", "https://a.example/x", "http://a.example", "a.example", ""]


@pytest.mark.parametrize("origin", NO_ORIGINS)
def test_an_origin_that_is_none_is_refused(state: Path, origin: str) -> None:
    with pytest.raises(SettingsError, match=r"api\.corsOrigins"):
        start(state, api_corsOrigins=[origin])


def test_vc_management_says_it_and_does_not_start(state: Path) -> None:
    config = state / "management.yaml"
    config.write_text(yaml.safe_dump(values_of(state, etcd={"endpoints": ["10.0.0.5:2379"]})))
    (state / "pki" / "ca.key").chmod(0o644)
    command = [sys.executable, "-m", "vcstack.programs.management", "serve", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("vc-management: it would not be safe to start:\n  pki.caKeyFile: ")
    assert "etcd.endpoints" in done.stderr
    assert "Traceback" not in done.stderr


def host(tmp_path: Path, **changes: Any) -> Settings:
    known = {
        "hostName": "h1",
        "apiUrl": "https://10.98.0.1:8443",
        "caFile": str(tmp_path / "ca.crt"),
        "stateDir": str(tmp_path),
    }
    return Settings.from_wire({**known, **changes})


def host_refusal(tmp_path: Path, **changes: Any) -> str:
    with pytest.raises(Unsafe) as refused:
        demand_safe_compute(host(tmp_path, **changes))
    return str(refused.value)


def test_a_host_with_safe_settings_may_start(tmp_path: Path) -> None:
    token = tmp_path / "join-token"
    token.write_text("x")
    token.chmod(0o600)
    (tmp_path / "host.key").touch(0o600)
    more = {"metricsListen": "127.0.0.1:9100", "ovn": {"remote": "ssl:10.98.0.1:6642"}}
    demand_safe_compute(host(tmp_path, joinTokenFile=str(token), **more))


@pytest.mark.parametrize(("field", "file"), [("joinTokenFile", "join-token"), ("stateDir", "host.key")])
def test_a_hosts_secret_that_others_may_read(tmp_path: Path, field: str, file: str) -> None:
    path = tmp_path / file
    path.write_text("x")
    path.chmod(0o644)
    said = host_refusal(tmp_path, joinTokenFile=str(tmp_path / "join-token"))
    assert f"{field}: {path} has mode 0644" in said
    assert "chmod 600" in said


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"apiUrl": "http://10.98.0.1:8443"}, "apiUrl: http://10.98.0.1:8443 is no https address"),
        ({"metricsListen": "0.0.0.0:9100"}, "metricsListen: 0.0.0.0:9100 can be reached from elsewhere"),
        ({"metricsListen": ":9100"}, "metricsListen: :9100 can be reached from elsewhere"),
        ({"ovn": {"remote": "tcp:10.98.0.1:6642"}}, "ovn.remote: tcp:10.98.0.1:6642 is not on this machine"),
        ({"ovsdb": "tcp:10.98.0.1:6640"}, "ovsdb: tcp:10.98.0.1:6640 is not on this machine"),
        ({"libvirtUri": "qemu+tcp://other/system"}, "libvirtUri: qemu+tcp://other/system is not on this machine"),
    ],
)
def test_a_host_that_would_speak_without_tls(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    assert sentence in host_refusal(tmp_path, **changes)


def test_vc_compute_says_it_and_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "compute.yaml"
    wire = host(tmp_path, metricsListen="0.0.0.0:9100").to_wire()
    config.write_text(yaml.safe_dump(wire))
    command = [sys.executable, "-m", "vcstack.programs.compute", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("vc-compute: it would not be safe to start:\n  metricsListen: ")
    assert "Traceback" not in done.stderr
