"""What a client carries for us between two steps of a login, so that strangers who begin logins write nothing.

A seal is a JWE (A256GCM) under a key of our own in the credentials store; it is good for a purpose and a time.
"""

import secrets
from datetime import datetime
from typing import Any, Final

import orjson
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from vcstack.apiserver.auth.challenges import NOT_VALID
from vcstack.clock import Clock
from vcstack.specs.errors import Unauthorized
from vcstack.store.credentials import Credentials

LONGEST: Final = 4096
_PATH: Final = "sealing/logins"
_HEADER: Final = {"alg": "dir", "enc": "A256GCM"}


class Seals:
    """Makes and opens them."""

    def __init__(self, credentials: Credentials, clock: Clock) -> None:
        self._credentials = credentials
        self._clock = clock
        self._key: OctKey | None = None

    async def seal(self, purpose: str, content: dict[str, Any], until: datetime) -> str:
        """Return the content as a text that nobody can read or change. Raises Unavailable."""
        whole = {"for": purpose, "until": until.timestamp(), "content": content}
        return jwe.encrypt_compact(_HEADER, orjson.dumps(whole), await self._own_key())

    async def open(self, purpose: str, text: str) -> dict[str, Any]:
        """Return the content. Raises Unauthorized when it is not ours, too old or of another purpose."""
        if len(text) > LONGEST:
            raise Unauthorized(NOT_VALID)
        key = await self._own_key()
        try:
            sealed = jwe.decrypt_compact(text, key, algorithms=["dir", "A256GCM"])
            whole = orjson.loads(sealed.plaintext or b"")
        except (JoseError, ValueError, TypeError) as error:
            raise Unauthorized(NOT_VALID) from error
        if whole["for"] != purpose or self._clock.now().timestamp() >= whole["until"]:
            raise Unauthorized(NOT_VALID)
        content: dict[str, Any] = whole["content"]
        return content

    async def _own_key(self) -> OctKey:
        if self._key is None:
            stored = await self._credentials.update(_PATH, lambda before: before or secrets.token_bytes(32))
            assert stored is not None
            self._key = OctKey.import_key(stored)
        return self._key
