"""The keys that sign access tokens, shared by all replicas through the credentials store.

A key is published before it signs, so that every replica knows it by then; it verifies until its last tokens
have expired. Whoever looks first when a new one is due makes it; compare-and-swap lets one of them win.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from joserfc.jwk import OKPKey

from vcstack.apiserver.auth.records import SigningKey, SigningRecord
from vcstack.clock import Clock
from vcstack.specs.errors import ApiError, Conflict, Unavailable
from vcstack.store.credentials import Credentials

PATH: Final = "signing/access"
CURVE: Final = "Ed25519"
ALGORITHM: Final = "Ed25519"
"""RFC 9864's name of the algorithm; the older "EdDSA" leaves the curve open and is deprecated by it."""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningSettings:
    """When keys change."""

    rotate: timedelta = timedelta(days=30)
    """How long a key signs."""
    lead: timedelta = timedelta(minutes=10)
    """How long a key is published before it signs."""
    overlap: timedelta = timedelta(minutes=30)
    """How long a key verifies after it signed last: the longest life of a token, and time for clocks to differ."""
    reload_seconds: float = 15.0
    """How often each replica looks for new keys; far less than ``lead``."""


def build_plan(keys: list[SigningKey], now: datetime, settings: SigningSettings) -> list[SigningKey]:
    """Return the keys as they should be now; the same ones when nothing is due."""
    kept = [key for key in keys if key.verifies_until is None or key.verifies_until > now]
    if not kept:
        return [_new_key(now)]
    newest = kept[-1]
    if newest.signs_from + settings.rotate - settings.lead > now:
        return kept
    return _succeed(kept, now + settings.lead, settings)


def active_key(keys: list[SigningKey], now: datetime) -> SigningKey:
    """Return the key that signs: the newest whose time has come.

    With a clock that was set back it may be that none has: then the oldest, which all others know, too.
    """
    begun = [key for key in keys if key.signs_from <= now]
    return begun[-1] if begun else keys[0]


class SigningKeys:
    """The keys as this replica knows them. ``load`` first; ``run`` keeps them fresh."""

    def __init__(self, credentials: Credentials, clock: Clock, settings: SigningSettings | None = None) -> None:
        self.settings = settings or SigningSettings()
        self._credentials = credentials
        self._clock = clock
        self._record = SigningRecord(keys=[])
        self._public: dict[str, OKPKey] = {}
        self._private: dict[str, OKPKey] = {}

    async def load(self) -> None:
        """Read the keys, and make a new one when it is time. Raises Unavailable."""
        while True:
            found = await self._credentials.get(PATH)
            record = SigningRecord.from_wire(found.value) if found else SigningRecord(keys=[])
            planned = SigningRecord(keys=build_plan(record.keys, self._clock.now(), self.settings))
            try:
                if planned != record:
                    await self._credentials.put(PATH, planned.to_json(), found.revision if found else 0)
                    logger.info("signing keys changed", keys=[key.kid for key in planned.keys])
            except Conflict:
                continue
            self._take(planned)
            return

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        while True:
            await self._clock.sleep(self.settings.reload_seconds)
            try:
                await self.load()
            except ApiError as error:
                # The known keys go on; a new one is due days after it could first be made.
                logger.warning("signing keys could not be read", error=error.message)

    async def rotate(self) -> None:
        """Publish a new key now, which signs from ``lead`` on."""
        await self._change(lambda keys, now: _succeed(keys, now + self.settings.lead, self.settings))

    async def replace_all(self) -> None:
        """Forget all keys and sign with a new one: every access token ends, within ``reload_seconds``."""
        await self._change(lambda keys, now: [_new_key(now)])

    def signer(self) -> tuple[str, OKPKey]:
        """Return the key that signs now, and its name. Raises Unavailable before the keys were read."""
        if not self._record.keys:
            raise Unavailable("the keys that sign tokens have not been read yet; try again")
        kid = active_key(self._record.keys, self._clock.now()).kid
        return kid, self._private[kid]

    def find(self, kid: str) -> OKPKey | None:
        """Return the public key of that name, None when there is none (any more)."""
        return self._public.get(kid)

    def publish(self) -> dict[str, Any]:
        """Return the public keys as a JWK set (RFC 7517)."""
        return {"keys": [{**key.as_dict(private=False)} for key in self._public.values()]}

    async def _change(self, change: Any) -> None:
        def apply(before: bytes | None) -> bytes:
            keys = SigningRecord.from_wire(before).keys if before else []
            return SigningRecord(keys=change(keys, self._clock.now())).to_json()

        after = await self._credentials.update(PATH, apply)
        assert after is not None
        self._take(SigningRecord.from_wire(after))

    def _take(self, record: SigningRecord) -> None:
        self._record = record
        self._private = {key.kid: OKPKey.import_key(dict(key.private)) for key in record.keys}
        self._public = {kid: _public_half(key, kid) for kid, key in self._private.items()}


def _succeed(keys: list[SigningKey], begins: datetime, settings: SigningSettings) -> list[SigningKey]:
    ends = begins + settings.overlap
    ended = [key if key.verifies_until is not None else key.model_copy(update={"verifies_until": ends}) for key in keys]
    return [*ended, _new_key(begins)]


def _new_key(signs_from: datetime) -> SigningKey:
    key = OKPKey.generate_key(CURVE)
    private = {name: str(value) for name, value in key.as_dict(private=True).items()}
    return SigningKey(kid=key.thumbprint(), private=private, signs_from=signs_from)


def _public_half(key: OKPKey, kid: str) -> OKPKey:
    public = key.as_dict(private=False)
    return OKPKey.import_key({**public, "kid": kid, "use": "sig", "alg": ALGORITHM})
