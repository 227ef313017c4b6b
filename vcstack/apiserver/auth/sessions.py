"""Sessions: what follows a login. Short access tokens, and refresh tokens that are good once.

A refresh token is ``{session}.{generation}.{random}.{tag}``. Kept is the SHA-256 of the one that is good now;
the tag (an HMAC under a key of the session's own) proves of an older one that it was ours. An old one means
that two have it, a thief among them: the whole session ends. A made-up one ends nothing.

But for some seconds the last one gives the very same successor again, to the same client: two pages of a browser
that refresh at once, a program that was killed before it had kept the answer. The successor is made of the token that
was shown and of what is kept, so neither alone is enough to make it, and it is kept nowhere.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from vcstack.apiserver.audit.entry import note_caller
from vcstack.apiserver.auth.directory import Account, Directory, SessionNotice
from vcstack.apiserver.auth.records import RotationRecord, SessionRecord, VoucherRecord, digest_of, equal, new_secret
from vcstack.apiserver.auth.tokens import AccessTokens, Bearer
from vcstack.clock import Clock
from vcstack.specs.errors import Conflict, Forbidden, Unauthorized, Unavailable
from vcstack.specs.settings import SESSIONS_IDLE, SESSIONS_LIFETIME, SESSIONS_LIFETIME_UNASKED, SettingReader
from vcstack.store.credentials import Credentials, Record

NOT_VALID: Final = "the refresh token is not valid; log in again"
GRACE: Final = timedelta(seconds=30)
"""How long the token before gives its successor again. Okta's default; Auth0 takes up to a minute. It has to be longer
than a slow answer takes, and shorter than anybody needs to carry a stolen token away."""
_LONGEST: Final = 512
_ID: Final = re.compile(r"s-[0-9a-f]{20}")

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who is at the other end."""

    address: str
    program: str = ""
    """Its User-Agent."""
    device: str = ""
    """The device token that it was given at an earlier login."""

    def describe(self) -> str:
        """Return a line by which its user recognises it."""
        program = "".join(c for c in self.program[:100] if c.isascii() and c.isprintable())
        return f"{self.address} {program}".strip()

    @property
    def mark(self) -> str:
        """Return what is the same for two requests of one program on one machine."""
        return digest_of(f"{self.address}\0{self.program}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a caller goes on with."""

    access_token: str
    expires_at: datetime
    refresh_token: str = ""
    session: str = ""
    session_expires_at: datetime | None = None
    device_token: str = ""


@dataclass(frozen=True, slots=True)
class Vouched:
    """What an identity provider says of a user."""

    voucher: VoucherRecord
    groups: Sequence[str] | None
    """The groups there that mean something here; None: it said nothing new."""


class Vouching(Protocol):
    """Asks identity providers again."""

    async def renew(self, voucher: VoucherRecord) -> Vouched:
        """Return what the provider says now.

        Raises:
            Unauthorized, Forbidden: it vouches no more.
            Unavailable: it does not answer.
        """


class Sessions:
    """Begins, refreshes and ends them. How long they last is set for the user's domain (ASVS 5.0 V7.3)."""

    def __init__(
        self,
        credentials: Credentials,
        directory: Directory,
        tokens: AccessTokens,
        clock: Clock,
        settings: SettingReader,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._directory = directory
        self._tokens = tokens
        self._clock = clock
        self.vouching: Vouching | None = None
        """Who asks the identity providers of sessions that began there; it needs sessions to begin them."""

    async def begin(
        self,
        account: Account,
        methods: Sequence[str],
        client: Client,
        device_token: str = "",
        vouched: Vouched | None = None,
    ) -> Tokens:
        """Return the first tokens of a new session. Raises Unavailable."""
        now = self._clock.now()
        session_id = f"s-{secrets.token_hex(10)}"
        mac_key = new_secret()
        refresh_token = _make_token(session_id, 0, mac_key, new_secret())
        lifetime = self._settings.duration(SESSIONS_LIFETIME, domain=account.domain)
        if vouched is not None and not vouched.voucher.can_be_asked:
            lifetime = min(lifetime, self._settings.duration(SESSIONS_LIFETIME_UNASKED, domain=account.domain))
        record = SessionRecord(
            user=account.name,
            uid=account.uid,
            methods=list(methods),
            mac_key=mac_key,
            generation=0,
            digest=digest_of(refresh_token),
            created_at=now,
            expires_at=now + lifetime,
            idle_at=now + self._settings.duration(SESSIONS_IDLE, domain=account.domain),
            voucher=vouched.voucher if vouched else None,
        )
        await self._write(session_id, record, 0)
        notice = SessionNotice(
            id=session_id,
            user=account.name,
            methods=methods,
            created_at=now,
            expires_at=record.expires_at,
            client=client.describe(),
            identity_provider=vouched.voucher.provider if vouched else None,
            external_groups=(vouched.groups or ()) if vouched else (),
        )
        await self._directory.begin_session(notice)
        return self._tokens_of(session_id, record, refresh_token, device_token)

    async def refresh(self, refresh_token: str, client: Client) -> Tokens:
        """Return new tokens; the one given is used up, but for a moment in which the same client gets the same again.

        Raises:
            Unauthorized: it is not good. If it once was, its session has been ended.
            Unavailable: the store does not answer.
        """
        while True:
            session_id, record, revision = await self._find(refresh_token)
            note_caller(f"user:{record.user}", session=session_id)
            account = await self._find_alive(session_id, record)
            if not equal(record.digest, digest_of(refresh_token)):
                successor = self._find_successor(session_id, record, refresh_token, client)
                if successor is None or account is None:
                    raise await self._reused(session_id, record)
                logger.info("refresh token's successor given again", session=session_id, user=record.user)
                return self._tokens_of(session_id, record, successor)
            if account is None:
                await self.end(session_id)
                raise Unauthorized(NOT_VALID)
            renewed, successor = self._renew(session_id, record, account, refresh_token, client)
            try:
                await self._write(session_id, renewed, revision)
            except Conflict:
                continue  # looked at again: the same token was used at the same moment, or a key was changed
            if renewed.voucher is not None:
                # Only who used the token up asks: a provider's own refresh tokens are good once, too.
                await self._ask_again(session_id, renewed, renewed.voucher, account)
            return self._tokens_of(session_id, renewed, successor)

    async def find_beginning(self, session_id: str) -> datetime | None:
        """Return when the session's user logged in. Raises Unavailable."""
        found = await self._credentials.get(_path(session_id)) if _is_session_id(session_id) else None
        return SessionRecord.from_wire(found.value).created_at if found is not None else None

    async def end(self, session_id: str) -> None:
        """End a session; its tokens are good no more. Of none is nothing."""
        await self._directory.end_session(session_id)
        await self._credentials.delete_prefix(_path(session_id))

    async def end_by_token(self, refresh_token: str) -> None:
        """End the session of a refresh token. Raises Unauthorized when it is none of ours."""
        session_id, record, _ = await self._find(refresh_token)
        note_caller(f"user:{record.user}", session=session_id)
        await self.end(session_id)

    async def _find(self, refresh_token: str) -> tuple[str, SessionRecord, int]:
        session_id, _, rest = refresh_token.partition(".")
        signed, _, tag = refresh_token.rpartition(".")
        if len(refresh_token) > _LONGEST or not _is_session_id(session_id) or rest.count(".") != 2:
            raise Unauthorized(NOT_VALID)
        found: Record | None = await self._credentials.get(_path(session_id))
        if found is None:
            raise Unauthorized(NOT_VALID)
        record = SessionRecord.from_wire(found.value)
        if not equal(_tag(signed, record.mac_key), tag):
            raise Unauthorized(NOT_VALID)
        return session_id, record, found.revision

    async def _ask_again(
        self, session_id: str, record: SessionRecord, voucher: VoucherRecord, account: Account
    ) -> None:
        """Have the provider say whether it still vouches, and for which groups; while it is away nothing changes.

        Raises:
            Unauthorized, Forbidden: it does not. The session has been ended.
        """
        assert self.vouching is not None
        try:
            vouched = await self.vouching.renew(voucher)
            if vouched.voucher != voucher:
                await self._keep_voucher(session_id, record, vouched.voucher)
            if vouched.groups is not None:
                await self._directory.note_groups(session_id, account, vouched.groups, self._clock.now())
        except (Unauthorized, Forbidden) as error:
            await self.end(session_id)
            logger.info("session ended by its provider", session=session_id, why=error.message)
            raise
        except Unavailable as error:
            logger.warning("provider not asked at refresh", session=session_id, why=error.message)

    async def _keep_voucher(self, session_id: str, record: SessionRecord, voucher: VoucherRecord) -> None:
        def put(before: bytes | None) -> bytes | None:
            if before is None:
                return None  # ended meanwhile
            return SessionRecord.from_wire(before).model_copy(update={"voucher": voucher}).to_json()

        await self._credentials.update(_path(session_id), put, ttl_seconds=_ttl_of(record))

    async def _find_alive(self, session_id: str, record: SessionRecord) -> Account | None:
        """Return whose session it is if it goes on."""
        now = self._clock.now()
        if now >= record.expires_at or now >= record.idle_at:
            return None
        account = await self._directory.find_user(record.user)
        if account is None or account.uid != record.uid or not account.enabled:
            return None
        return account if await self._directory.has_session(session_id) else None

    def _renew(
        self, session_id: str, record: SessionRecord, account: Account, refresh_token: str, client: Client
    ) -> tuple[SessionRecord, str]:
        now = self._clock.now()
        rotation = RotationRecord(digest=record.digest, salt=new_secret(), client=client.mark, at=now)
        generation = record.generation + 1
        token = _make_successor(session_id, generation, record.mac_key, rotation, refresh_token)
        idle_at = now + self._settings.duration(SESSIONS_IDLE, domain=account.domain)
        changes = {"generation": generation, "digest": digest_of(token), "idle_at": idle_at, "rotation": rotation}
        return record.model_copy(update=changes), token

    def _find_successor(self, session_id: str, record: SessionRecord, refresh_token: str, client: Client) -> str | None:
        """Return the good token when this is the one just before it, shown again by who showed it, in time."""
        rotation = record.rotation
        if rotation is None or not equal(rotation.digest, digest_of(refresh_token)):
            return None
        if not equal(rotation.client, client.mark) or abs(self._clock.now() - rotation.at) >= GRACE:
            return None
        return _make_successor(session_id, record.generation, record.mac_key, rotation, refresh_token)

    async def _reused(self, session_id: str, record: SessionRecord) -> Unauthorized:
        await self.end(session_id)
        logger.warning("refresh token used twice, session ended", session=session_id, user=record.user)
        return Unauthorized(NOT_VALID)

    async def _write(self, session_id: str, record: SessionRecord, revision: int) -> None:
        await self._credentials.put(_path(session_id), record.to_json(), revision, ttl_seconds=_ttl_of(record))

    def _tokens_of(self, session_id: str, record: SessionRecord, refresh_token: str, device_token: str = "") -> Tokens:
        bearer = Bearer(
            subject=f"user:{record.user}",
            uid=record.uid,
            session=session_id,
            methods=record.methods,
            until=record.expires_at,
        )
        access_token, expires_at = self._tokens.issue(bearer)
        return Tokens(
            access_token=access_token,
            expires_at=expires_at,
            refresh_token=refresh_token,
            session=session_id,
            session_expires_at=record.expires_at,
            device_token=device_token,
        )


def _path(session_id: str) -> str:
    return f"sessions/{session_id}"


def _is_session_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def _ttl_of(record: SessionRecord) -> int:
    return int((record.expires_at - record.created_at).total_seconds())


def _make_token(session_id: str, generation: int, mac_key: str, random: str) -> str:
    signed = f"{session_id}.{generation}.{random}"
    return f"{signed}.{_tag(signed, mac_key)}"


def _make_successor(session_id: str, generation: int, mac_key: str, rotation: RotationRecord, before: str) -> str:
    """Return the token after ``before``: as unpredictable as that, to who has not what is kept as well."""
    random = _tag(f"successor {rotation.salt} {before}", mac_key)
    return _make_token(session_id, generation, mac_key, random)


def _tag(signed: str, mac_key: str) -> str:
    return hmac.new(mac_key.encode(), signed.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
