"""The second factors of users, kept: enrolling, and using up each code."""

from dataclasses import dataclass
from typing import Final

from vcstack.apiserver.auth.directory import Account
from vcstack.apiserver.auth.records import MfaRecord
from vcstack.apiserver.auth.totp import (
    build_uri,
    find_step,
    new_recovery_codes,
    new_totp_secret,
    note_failure,
    recovery_digest,
    use_code,
)
from vcstack.clock import Clock
from vcstack.specs.errors import Conflict, ErrorDetails, TooManyRequests, Unauthorized
from vcstack.store.credentials import Credentials

WRONG: Final = "the code is wrong or was used already"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What an authenticator needs, shown once."""

    secret: str
    uri: str
    """otpauth://, to be shown as a QR code."""


class SecondFactors:
    """MFA records, one a user."""

    def __init__(self, credentials: Credentials, clock: Clock) -> None:
        self._credentials = credentials
        self._clock = clock

    async def is_enrolled(self, account: Account) -> bool:
        """Return whether the user logs in with a second factor."""
        found = await self._credentials.get(_path(account))
        return found is not None and MfaRecord.from_wire(found.value).secret is not None

    async def begin(self, account: Account) -> Enrolment:
        """Return a new secret, which counts once a code of it is shown; a present one goes on until then."""
        secret = new_totp_secret()

        def put(before: bytes | None) -> bytes:
            return _read(before).model_copy(update={"pending": secret}).to_json()

        await self._credentials.update(_path(account), put)
        return Enrolment(secret=secret, uri=build_uri(secret, account.name))

    async def confirm(self, account: Account, code: str) -> list[str]:
        """Make the new secret count; return the recovery codes, shown once. Raises Unauthorized, Conflict."""
        codes = new_recovery_codes()
        digests = [recovery_digest(each) for each in codes]

        def put(before: bytes | None) -> bytes:
            record = _read(before)
            if record.pending is None:
                raise Conflict("no enrolment was begun; begin one")
            step = find_step(record.pending, code, self._clock.now())
            if step is None:
                raise Unauthorized(WRONG)
            return MfaRecord(secret=record.pending, last_step=step, recovery=digests).to_json()

        await self._credentials.update(_path(account), put)
        return codes

    async def use(self, account: Account, code: str, *, known_device: bool) -> None:
        """Use a code up, of the authenticator or for recovery.

        Raises:
            Unauthorized: it is wrong, or was used before, here or at another replica.
            TooManyRequests: too many wrong ones of late, and this is a device that is not known.
        """
        good = False

        def put(before: bytes | None) -> bytes:
            nonlocal good
            record, now = _read(before), self._clock.now()
            if record.refused_until is not None and record.refused_until > now and not known_device:
                wait = int((record.refused_until - now).total_seconds()) + 1
                message = "too many wrong codes; try again later"
                raise TooManyRequests(message, details=ErrorDetails(retry_after_seconds=wait))
            used = use_code(record, code, now) if record.secret else None
            good = used is not None
            return (used or note_failure(record, now)).to_json()

        await self._credentials.update(_path(account), put)
        if not good:
            raise Unauthorized(WRONG)

    async def renew_recovery_codes(self, account: Account) -> list[str]:
        """Return new recovery codes, shown once; the old ones end. Raises Conflict when not enrolled."""
        codes = new_recovery_codes()

        def put(before: bytes | None) -> bytes:
            record = _read(before)
            if record.secret is None:
                raise Conflict("no second factor is enrolled")
            return record.model_copy(update={"recovery": [recovery_digest(each) for each in codes]}).to_json()

        await self._credentials.update(_path(account), put)
        return codes

    async def remove(self, account: Account) -> None:
        """Forget the user's second factor; of none is nothing."""
        await self._credentials.delete(_path(account))


def _read(before: bytes | None) -> MfaRecord:
    return MfaRecord.from_wire(before) if before else MfaRecord()


def _path(account: Account) -> str:
    return f"users/{account.uid}/mfa"
