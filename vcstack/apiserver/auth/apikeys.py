"""API keys: a secret for machines, exchanged for short access tokens.

The key's id is the uid of its APIKey object, so that it stays when the secret changes. The secret has 256
random bits, so its SHA-256 is kept. A new secret leaves the one before it good for a while.
"""

import re
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from vcstack.apiserver.audit.entry import note_caller, note_key
from vcstack.apiserver.auth.directory import Directory, IssuedKey, KeyAccount
from vcstack.apiserver.auth.records import KeyRecord, KeySecret, digest_of, equal, new_secret
from vcstack.apiserver.auth.sessions import Client, Tokens
from vcstack.apiserver.auth.throttle import Throttle
from vcstack.apiserver.auth.tokens import AccessTokens, Bearer, is_within, read_networks
from vcstack.clock import Clock
from vcstack.specs.errors import ApiError, Forbidden, Unauthorized
from vcstack.store.credentials import Credentials

SECRET_PREFIX: Final = "vck_"  # noqa: S105 (what secrets begin with, so that scanners find leaked ones)
WRONG: Final = "the key id or the secret is wrong, or the key has expired"
_ID: Final = re.compile(r"[a-z0-9-]{1,63}")

logger = structlog.get_logger(__name__)


class ApiKeys:
    """Makes secrets and exchanges them."""

    def __init__(
        self, credentials: Credentials, directory: Directory, tokens: AccessTokens, throttle: Throttle, clock: Clock
    ) -> None:
        self._credentials = credentials
        self._directory = directory
        self._tokens = tokens
        self._throttle = throttle
        self._clock = clock

    async def issue(self, key: KeyAccount, *, expires_at: datetime | None = None) -> IssuedKey:
        """Return a new secret; the one before it is good for the key's overlap, older ones end now.

        Args:
            key: whose secret it is.
            expires_at: when whoever asks for it may not have it any more; None: for good.
        """
        secret, now = SECRET_PREFIX + new_secret(), self._clock.now()

        def put(before: bytes | None) -> bytes:
            held = KeyRecord.from_wire(before).secrets if before else []
            made = KeySecret(digest=digest_of(secret), created_at=now, expires_at=expires_at)
            kept = [made, *_previous(held, now, key.overlap_seconds)]
            return KeyRecord(project=key.project, name=key.name, secrets=kept).to_json()

        after = await self._credentials.update(_path(key.uid), put)
        assert after is not None
        kept = KeyRecord.from_wire(after).secrets
        issued = IssuedKey(
            key_id=key.uid,
            secret=secret,
            created_at=now,
            previous_until=kept[1].ends_at if len(kept) > 1 else None,
            expires_at=expires_at,
        )
        await self._note(key, self._directory.note_secret(key, issued))
        return issued

    async def exchange(self, key_id: str, secret: str, client: Client) -> Tokens:
        """Return an access token that carries the key's restrictions.

        Raises:
            Unauthorized: key or secret are not good.
            Forbidden: the key may not be used from there.
            TooManyRequests: too many failures.
        """
        with self._throttle.attempt(digest_of(key_id), client.address) as attempt:
            key, used = await self._prove(key_id, secret)
            attempt.succeed()
        note_caller(key.subject, key=key.uid)
        _demand_network(key.source_networks, client.address)
        await self._note(key, self._directory.note_key(key, last_used_at=self._clock.now()))
        bearer = Bearer(
            subject=key.subject,
            uid=key.subject_uid,
            key=key.uid,
            methods=["key"],
            rules=key.rules or None,
            networks=key.source_networks,
            until=_earlier(key.expires_at, used.ends_at),
            rights_until=used.expires_at,
        )
        token, expires_at = self._tokens.issue(bearer)
        return Tokens(access_token=token, expires_at=expires_at)

    async def _prove(self, key_id: str, secret: str) -> tuple[KeyAccount, KeySecret]:
        """Return the key and the secret that was used. Raises Unauthorized, Unavailable."""
        now, digest = self._clock.now(), digest_of(secret)
        found = await self._credentials.get(_path(key_id)) if _ID.fullmatch(key_id) else None
        record = KeyRecord.from_wire(found.value) if found else None
        held = record.secrets if record else []
        good = [each for each in held if equal(each.digest, digest) and (each.ends_at is None or each.ends_at > now)]
        if record is not None:
            note_key(key_id)
        if record is None or not good:
            raise Unauthorized(WRONG)
        key = await self._directory.find_key(record.project, record.name)
        if key is None or key.uid != key_id or not _is_usable(key, now):
            raise Unauthorized(WRONG)
        return key, good[0]

    async def _note(self, key: KeyAccount, writing: Awaitable[None]) -> None:
        """Write into the key's status; that it fails is no reason to refuse the key."""
        try:
            await writing
        except ApiError as error:
            logger.warning("the status of an API key could not be written", key=key.uid, error=error.message)

    async def forget(self, key_id: str) -> None:
        """Remove the secrets of a key that is no more; tokens already given out end with its object."""
        await self._credentials.delete_prefix(_path(key_id))


def _previous(held: Sequence[KeySecret], now: datetime, overlap_seconds: int) -> list[KeySecret]:
    """Return the secret that stays good beside a new one, at most one."""
    if not held or overlap_seconds <= 0:
        return []
    until = _earlier(held[0].until, now + timedelta(seconds=overlap_seconds))
    return [held[0].model_copy(update={"until": until})]


def _is_usable(key: KeyAccount, now: datetime) -> bool:
    return key.enabled and (key.expires_at is None or key.expires_at > now)


def _demand_network(networks: Sequence[str], address: str) -> None:
    """The address is the connection's own: no proxy's word is taken for it."""
    if networks and not is_within(address, read_networks(networks)):
        raise Forbidden(f"the key may not be used from {address}")


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _path(key_id: str) -> str:
    return f"apikeys/{key_id}"
