"""The passwords of users, kept: checking, setting, and the one-time secrets that replace them."""

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from vcstack.apiserver.auth.directory import Account
from vcstack.apiserver.auth.passwords import Passwords, demand_acceptable
from vcstack.apiserver.auth.records import InitialSecret, PasswordRecord, digest_of, equal, new_secret
from vcstack.apiserver.auth.totp import recovery_digest
from vcstack.clock import Clock
from vcstack.specs.errors import Cause, Invalid, Unauthorized
from vcstack.store.credentials import Credentials

INITIAL_LIFETIME: Final = timedelta(days=3)
INITIAL_BYTES: Final = 20
"""160 bits: cannot be guessed, so its SHA-256 is kept."""
WRONG: Final = "the user or the password is wrong"
"""Whatever is wrong: nobody learns which users there are."""
_NOBODY: Final = "users/nobody/password"


class Outcome(NamedTuple):
    """What a check found."""

    password: bool
    """It is the password."""
    initial: str
    """The digest of the one-time secret, when it is that."""
    record: PasswordRecord | None
    """What is kept, with the hash renewed if it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedSecret:
    """A one-time secret, shown once."""

    secret: str
    expires_at: datetime


class UserPasswords:
    """Password records, one a user."""

    def __init__(self, credentials: Credentials, passwords: Passwords, clock: Clock) -> None:
        self._credentials = credentials
        self._passwords = passwords
        self._clock = clock

    async def find(self, account: Account | None) -> PasswordRecord | None:
        """Return the user's record; for nobody the same work is done."""
        found = await self._credentials.get(_path(account.uid) if account else _NOBODY)
        return PasswordRecord.from_wire(found.value) if found and account else None

    async def check(self, account: Account | None, record: PasswordRecord | None, password: str) -> Outcome:
        """Return what the text is; the same work is done when there is no such user or no password.

        A password that was hashed with other parameters than today's is hashed anew.
        """
        verdict = await self._passwords.check(record.password if record else None, password)
        digest = recovery_digest(password)
        initial = record.initial if record else None
        shown = digest if initial and equal(initial.digest, digest) and initial.expires_at > self._clock.now() else ""
        if account and record and verdict.matches and verdict.outdated:
            record = await self._rehash(account, record, password)
        return Outcome(verdict.matches, shown, record)

    async def set(self, account: Account, password: str, *, initial: str = "", replaces: str = "") -> PasswordRecord:
        """Set a new password; return the record.

        Args:
            account: whose.
            password: the new one.
            initial: the digest of the one-time secret that allows it, which is used up.
            replaces: the password that allows it, in the form in which it is kept.

        Raises:
            Invalid: the password is not acceptable.
            Unauthorized: what allows it is no longer so.
        """
        demand_acceptable(password, (account.name,))
        if replaces and (await self._passwords.check(replaces, password)).matches:
            message = "the new password is the old one"
            raise Invalid(message, causes=[Cause(field="newPassword", reason="PasswordRefused", message=message)])
        kept = await self._passwords.hash(password)

        def put(before: bytes | None) -> bytes:
            record = PasswordRecord.from_wire(before) if before else None
            now = self._clock.now()
            if record is None or not _allows(record, initial, replaces, now):
                raise Unauthorized(WRONG)
            changes = {"password": kept, "set_at": now, "initial": None, "device_key": new_secret()}
            return record.model_copy(update=changes).to_json()

        return await self._update(account, put)

    async def issue(self, account: Account) -> IssuedSecret:
        """Return a one-time secret with which the user sets a password; the present password ends."""
        secret = base64.b32encode(secrets.token_bytes(INITIAL_BYTES)).decode().lower()
        expires_at = self._clock.now() + INITIAL_LIFETIME
        initial = InitialSecret(digest=digest_of(secret), expires_at=expires_at)
        record = PasswordRecord(initial=initial, device_key=new_secret())
        await self._update(account, lambda before: record.to_json())
        return IssuedSecret(secret="-".join(secret[i : i + 4] for i in range(0, 32, 4)), expires_at=expires_at)

    async def _rehash(self, account: Account, record: PasswordRecord, password: str) -> PasswordRecord:
        renewed = await self._passwords.hash(password)

        def put(before: bytes | None) -> bytes:
            present = PasswordRecord.from_wire(before) if before else record
            if before is None or present.password != record.password:
                raise Unauthorized(WRONG)  # it was changed meanwhile
            return present.model_copy(update={"password": renewed}).to_json()

        return await self._update(account, put)

    async def _update(self, account: Account, change: Callable[[bytes | None], bytes]) -> PasswordRecord:
        after = await self._credentials.update(_path(account.uid), change)
        assert after is not None
        return PasswordRecord.from_wire(after)


def stamp_of(record: PasswordRecord | None) -> str:
    """Return what changes with each new password or one-time secret."""
    return digest_of(record.device_key) if record else ""


def _allows(record: PasswordRecord, initial: str, replaces: str, now: datetime) -> bool:
    if initial:
        shown = record.initial
        return shown is not None and equal(shown.digest, initial) and shown.expires_at > now
    return bool(replaces) and record.password == replaces


def _path(uid: str) -> str:
    return f"users/{uid}/password"
