"""`ENC(...)`: encrypted values in configuration files, so that a file may lie in a repository or a backup."""

import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from vcstack.crypto.envelope import Envelopes, Place, version_of
from vcstack.crypto.errors import CryptoError, KeyUnavailable, MalformedText
from vcstack.crypto.keyring import Keyring

KEY_FILE_VARIABLE: Final = "VCSTACK_SECRETS_KEY_FILE"
CREDENTIAL: Final = "vcstack-secrets-key"
"""The key file's name as a systemd credential: LoadCredential=vcstack-secrets-key:/etc/vcstack/secrets.key."""
_PLACE: Final = Place("configuration", "")
"""Not the field: a value is encrypted before anybody knows where it will stand. Never the place of an object."""

_VALUE: Final = re.compile(r"ENC\([A-Za-z0-9+/=:_-]*\)")


class UnreadableValue(CryptoError):
    """An ENC(...) value cannot be decrypted."""

    def __init__(self, field: str, why: CryptoError) -> None:
        self.field = field
        self.why = f"the ENC(...) value cannot be decrypted: {why}"
        super().__init__(f"{field}: {self.why}")


def is_encrypted(value: str) -> bool:
    """Whether a value is to be decrypted."""
    return value.strip().startswith("ENC(")


def encrypt_value(envelopes: Envelopes, value: str) -> str:
    """The value as ENC(...)."""
    return f"ENC({envelopes.encrypt(value.encode(), _PLACE)})"


def decrypt_value(envelopes: Envelopes, text: str) -> str:
    """The reverse. Raises CryptoError."""
    inner = text.strip()
    if not (inner.startswith("ENC(") and inner.endswith(")")):
        raise MalformedText("it is not of the form ENC(...)")
    try:
        return envelopes.decrypt(inner[len("ENC(") : -1], _PLACE).decode()
    except UnicodeDecodeError as error:
        raise MalformedText("it holds no text") from error


def find_values(text: str) -> list[tuple[int, str]]:
    """Return the ENC(...) values in the text of a configuration file, each with its line from 1."""
    return [(text.count("\n", 0, found.start()) + 1, found[0]) for found in _VALUE.finditer(text)]


def version_needed(value: str) -> int:
    """Return the master key version that an ENC(...) value needs. Raises MalformedText."""
    return version_of(value.removeprefix("ENC(").removesuffix(")"))


def decrypt_values(values: Mapping[str, Any], envelopes: Callable[[], Envelopes]) -> dict[str, Any]:
    """The same values, however nested, with each ENC(...) decrypted.

    Args:
        values: what was read from a configuration file.
        envelopes: called once, at the first ENC(...); without one no key is needed.

    Raises:
        UnreadableValue: with the path of the field, e.g. `postgres.dsn`.
    """
    opened = cache(envelopes)

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, Mapping):
            return {k: walk(v, f"{path}.{k}" if path else str(k)) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [walk(v, f"{path}.{number}") for number, v in enumerate(value)]
        if isinstance(value, str) and is_encrypted(value):
            try:
                return decrypt_value(opened(), value)
            except CryptoError as error:
                raise UnreadableValue(path, error) from error
        return value

    return {str(k): walk(v, str(k)) for k, v in values.items()}


def find_key_file(configured: Path | None, environ: Mapping[str, str] | None = None) -> Path:
    """The key file: the configured one, else that of $VCSTACK_SECRETS_KEY_FILE, else systemd's credential.

    Raises:
        KeyUnavailable: none of them is there.
    """
    environ = os.environ if environ is None else environ
    if configured is not None:
        return configured
    if named := environ.get(KEY_FILE_VARIABLE):
        return Path(named)
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if folder and (credential := Path(folder) / CREDENTIAL).exists():
        return credential
    raise KeyUnavailable(
        f"no key file: set secretsKeyFile, ${KEY_FILE_VARIABLE}, or the systemd credential {CREDENTIAL}; "
        "`vcctl secrets init` makes one"
    )


def open_key_file(configured: Path | None) -> Envelopes:
    """What decrypts ENC(...) values in a program that starts. Raises CryptoError."""
    return Envelopes(Keyring(find_key_file(configured)), cached_keys=0)
