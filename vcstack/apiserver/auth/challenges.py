"""Logins that are not complete: what the caller shows again when it does the next step."""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from vcstack.apiclient.authmessages import ChallengeKind
from vcstack.apiserver.auth.directory import Account
from vcstack.apiserver.auth.records import ChallengeRecord, digest_of, equal, new_secret
from vcstack.apiserver.auth.sessions import Vouched
from vcstack.clock import Clock
from vcstack.specs.errors import Unauthorized
from vcstack.store.credentials import Credentials

NOT_VALID: Final = "the login took too long or was completed already; begin it again"
LIFETIME: Final = timedelta(minutes=10)
ATTEMPTS: Final = {ChallengeKind.VERIFY_MFA: 5, ChallengeKind.ENROL_MFA: 20, ChallengeKind.SET_PASSWORD: 20}
"""How often a challenge may be tried: guesses are few, passwords that are not acceptable may be some."""
_ID: Final = re.compile(r"[0-9a-f]{20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What is left to do before a login is complete."""

    kind: ChallengeKind
    token: str
    expires_at: datetime


class Challenges:
    """Makes them, and finds them again."""

    def __init__(self, credentials: Credentials, clock: Clock) -> None:
        self._credentials = credentials
        self._clock = clock

    async def begin(
        self,
        kind: ChallengeKind,
        account: Account,
        methods: list[str],
        stamp: str,
        initial: str = "",
        vouched: Vouched | None = None,
    ) -> Challenge:
        """Return a new challenge.

        Args:
            kind: what is left.
            account: whose login it is.
            methods: what has been proven.
            stamp: of the password at this moment; a challenge ends when the password changes.
            initial: the digest of the one-time secret that was shown.
            vouched: what an identity provider has said of the user.
        """
        challenge_id, secret = secrets.token_hex(10), new_secret()
        expires_at = self._clock.now() + LIFETIME
        record = ChallengeRecord(
            kind=kind,
            digest=digest_of(secret),
            user=account.name,
            uid=account.uid,
            methods=methods,
            stamp=stamp,
            initial=initial,
            voucher=vouched.voucher if vouched else None,
            groups=list(vouched.groups or ()) if vouched else [],
            expires_at=expires_at,
        )
        ttl = int(LIFETIME.total_seconds())
        await self._credentials.put(_path(challenge_id), record.to_json(), 0, ttl_seconds=ttl)
        return Challenge(kind=kind, token=f"{challenge_id}.{secret}", expires_at=expires_at)

    async def use(self, token: str, kind: ChallengeKind) -> ChallengeRecord:
        """Return the challenge, with one attempt more counted. Raises Unauthorized."""
        challenge_id, secret = _split(token)

        def count(before: bytes | None) -> bytes:
            record = ChallengeRecord.from_wire(before) if before else None
            if record is None or not equal(record.digest, digest_of(secret)) or record.kind is not kind:
                raise Unauthorized(NOT_VALID)
            if record.expires_at <= self._clock.now() or record.attempts >= ATTEMPTS[kind]:
                raise Unauthorized(NOT_VALID)
            return record.model_copy(update={"attempts": record.attempts + 1}).to_json()

        after = await self._credentials.update(_path(challenge_id), count, ttl_seconds=int(LIFETIME.total_seconds()))
        assert after is not None
        return ChallengeRecord.from_wire(after)

    async def complete(self, token: str) -> None:
        """Use the challenge up. Raises Unauthorized when somebody else did."""
        challenge_id, _ = _split(token)
        if not await self._credentials.delete(_path(challenge_id)):
            raise Unauthorized(NOT_VALID)


def _split(token: str) -> tuple[str, str]:
    challenge_id, _, secret = token.partition(".")
    if len(token) > 256 or not _ID.fullmatch(challenge_id):
        raise Unauthorized(NOT_VALID)
    return challenge_id, secret


def _path(challenge_id: str) -> str:
    return f"challenges/{challenge_id}"
