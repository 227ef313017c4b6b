"""What vc-management refuses to start with; see ``safety``."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from vcstack.apiserver.auth.commonpasswords import is_common
from vcstack.crypto.enc import is_encrypted
from vcstack.programs.safety import demand_none, find_plain_remotes, find_readable, host_of, is_loopback
from vcstack.programs.settings import ManagementSettings, load_values
from vcstack.store.mirror.database import Target, find_target

MIN_TOKEN: Final = 32
"""Characters of the admin token, which `init` makes of 32 random bytes."""
MIN_DISTINCT: Final = 12
MIN_PASSWORD: Final = 12
"""Characters of a database's password: nobody has to type it."""
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
VERIFIED: Final = frozenset({"verify-ca", "verify-full"})
"""libpq's sslmode; with `require` it speaks TLS with anybody."""


def demand_safe_management(settings: ManagementSettings, config: Path) -> None:
    """Return if vc-management may start with these settings. Raises Unsafe."""
    demand_none([*_private_files(settings), *_settings_file(config), *_weak_secrets(settings), *_open_wires(settings)])


def _private_files(settings: ManagementSettings) -> Iterator[str]:
    yield from find_readable("stateDir", settings.state_dir / "admin-token")
    yield from find_readable("keyringFile", settings.keyring_path)
    yield from find_readable("secretsKeyFile", settings.secrets_key_file)
    yield from find_readable("api.keyFile", settings.api.key_file)
    yield from find_readable("pki.caKeyFile", settings.pki.ca_key_file)
    yield from find_readable("etcd.keyFile", settings.etcd.key_file)
    yield from find_readable("ovn.keyFile", settings.ovn.key_file if settings.ovn else None)


def _settings_file(config: Path) -> Iterator[str]:
    mode = stat.S_IMODE(config.stat().st_mode)
    if not mode & OTHERS:
        return
    for field, fix in _plain_secrets(load_values(config)):
        yield (
            f"{config}: {field} holds a secret, and the file has mode {mode:04o}, so others could read it; "
            f"chmod 600 it and {fix}, or put in ENC(...) from `vcctl secrets encrypt`"
        )


def _plain_secrets(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the fields of the file that hold a secret as it is, and what to do about it."""
    dsn = _text_at(values, "postgres", "dsn")
    if dsn and not is_encrypted(dsn) and find_target(dsn).password:
        yield "postgres.dsn", "change the password"
    url = _text_at(values, "audit", "webhookUrl", "webhook_url")
    if url and not is_encrypted(url) and (urlsplit(url).password or urlsplit(url).query):
        yield "audit.webhookUrl", "change what is secret in it"


def _text_at(values: dict[str, Any], section: str, *fields: str) -> str:
    found = values.get(section)
    given = [found[field] for field in fields if field in found] if isinstance(found, dict) else []
    return given[0] if given and isinstance(given[0], str) else ""


def _weak_secrets(settings: ManagementSettings) -> Iterator[str]:
    path = settings.state_dir / "admin-token"
    try:
        token = path.read_text().strip()
    except OSError:
        return  # said by who needs it
    if len(token) < MIN_TOKEN or len(set(token)) < MIN_DISTINCT or is_common(token, ("admin", "vcstack", "token")):
        yield f"stateDir: the token in {path} is easily guessed; remove it and run `vc-management init`"
    if settings.postgres is None:
        return
    target = find_target(settings.postgres.dsn)
    if target.password and _is_weak(target):
        yield (
            f"postgres.dsn: the password of {target.user or 'the user'} is short or well known; give the database one "
            f"of at least {MIN_PASSWORD} characters, e.g. from `openssl rand -hex 16`"
        )


def _is_weak(target: Target) -> bool:
    words = ("vcstack", "postgres", target.user, target.database)
    return len(target.password) < MIN_PASSWORD or is_common(target.password, words)


def _open_wires(settings: ManagementSettings) -> Iterator[str]:
    if urlsplit(settings.api.url).scheme != "https":
        yield f"api.url: {settings.api.url} is no https address; the API is served with TLS only"
    etcd = settings.etcd
    far = [endpoint for endpoint in etcd.endpoints if not is_loopback(host_of(endpoint))]
    if far and etcd.ca_file is None:
        yield f"etcd.endpoints: {far[0]} is not on this machine; name etcd.caFile, so that the connection has TLS"
    if settings.postgres is not None:
        target = find_target(settings.postgres.dsn)
        far = [host for host in target.hosts if not host.startswith("/") and not is_loopback(host)]
        if far and target.ssl_mode not in VERIFIED:
            yield (
                f"postgres.dsn: {far[0]} is not on this machine; add sslmode=verify-full and sslrootcert=FILE to it, "
                "so that the connection has TLS"
            )
    if settings.ovn is not None:
        yield from find_plain_remotes("ovn.northbound", settings.ovn.northbound)
        yield from find_plain_remotes("ovn.southbound", settings.ovn.southbound)
