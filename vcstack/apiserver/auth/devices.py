"""Device tokens: the mark of a device that has logged in as a user before.

They prove no identity and let nobody in. They only keep the guesses of others from slowing this device down
(OWASP's "device cookies"). A token is a random number and its HMAC under a key of the user's, so nothing is
kept of single devices; a new key, made at each reset, makes all of them unknown.
"""

import hashlib
import hmac
import secrets
from typing import Final

from vcstack.apiserver.auth.records import PasswordRecord, equal

_LONGEST: Final = 128


def new_device_token(record: PasswordRecord) -> str:
    """Return a token for a device that has just logged in."""
    mark = secrets.token_hex(16)
    return f"{mark}.{_sign(record, mark)}"


def find_device(record: PasswordRecord | None, token: str) -> str:
    """Return the device's mark when the token is one of the user's, else an empty text."""
    mark, _, signature = token.partition(".")
    if record is None or len(token) > _LONGEST or not mark:
        return ""
    return mark if equal(_sign(record, mark), signature) else ""


def _sign(record: PasswordRecord, mark: str) -> str:
    return hmac.new(record.device_key.encode(), mark.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
