"""Whom an access token stands for now: its session or key, and its account, as the watch cache shows them.

A session that began at an identity provider is good while that is enabled, and brings the groups that the provider's
mapping gives for what it said.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson
from pydantic import TypeAdapter

from vcstack.apiserver.auth.tokens import Access, Network, is_within, read_networks
from vcstack.clock import Clock
from vcstack.specs.permissions import Rule
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.store.cache import WatchCache
from vcstack.store.keys import row_of
from vcstack.store.table import Entry

Wire = Mapping[str, Any]
REMEMBERED: Final = 4096
"""Sessions that are kept, and API keys whose terms are kept decoded."""

NO_GROUPS: Final = frozenset[str]()

_time: TypeAdapter[datetime] = TypeAdapter(datetime)
_rules: TypeAdapter[list[Rule]] = TypeAdapter(list[Rule])


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What an API key is good for, at one version of its spec."""

    uid: str
    generation: int
    rules: Sequence[Rule]
    """What its token is restricted to; nothing: all that its owner may."""
    networks: Sequence[Network]
    expires_at: datetime | None

    def may_be_used_from(self, address: str) -> bool:
        """Return whether the address is one of those that the key is for."""
        return not self.networks or is_within(address, self.networks)


class Found(NamedTuple):
    """Whom a token stands for."""

    account: Ref
    key: KeyTerms | None = None
    """The API key's terms, if it is one's."""
    groups: frozenset[str] = NO_GROUPS
    """Groups besides those that list the user: what its identity provider says, as mapped now."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found for a session, and of which versions."""

    access: Access
    user: Entry | None
    session: Entry | None
    provider_row: str
    """Empty: none vouched."""
    provider: Entry | None
    found: Found


def vouches(provider: Wire) -> bool:
    """Return whether an IdentityProvider lets anybody in now."""
    return "deletionTimestamp" not in provider["metadata"] and provider["spec"].get("enabled", True) is True


def groups_given(provider: Wire, said: Collection[str]) -> frozenset[str]:
    """Return the groups here that an IdentityProvider's mapping gives for those there."""
    return frozenset(m["group"] for m in provider["spec"].get("groupMapping") or () if m["external"] in said)


class Bearers:
    """Finds accounts. What it says is as of the cache; a miss is believed only of a fresh one."""

    def __init__(self, cache: WatchCache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._sessions, self._keys = get_kind("Session"), get_kind("APIKey")
        self._users, self._service_accounts = get_kind("User"), get_kind("ServiceAccount")
        self._rows: dict[str, str] = {}
        """Where API keys are, by uid."""
        self._rows_at = -1
        self._providers = get_kind("IdentityProvider")
        self._sources = get_kind("GitSource")
        self._known: dict[str, _Known] = {}
        self._terms: OrderedDict[tuple[str, int], KeyTerms] = OrderedDict()

    def find(self, access: Access) -> Found | None:
        """Return whom the token stands for; None when it is good no more."""
        if access.session:
            return self._find_of_session(access)
        if access.rights_until is not None and access.rights_until <= self._clock.now():
            return None
        account = self._find_account(access)
        if account is None:
            return None
        if access.source:
            return Found(account) if self._serves_source(account, access.source) else None
        key = self._find_key(access.key) if access.key else None
        return None if key is None else Found(account, key)

    def _find_of_session(self, access: Access) -> Found | None:
        user = self._cache.find(self._users, row_of(None, access.user))
        session = self._cache.find(self._sessions, row_of(None, access.session))
        known = self._known.get(access.session)
        # The very same versions as last time say what they said then.
        if known is not None and known.access is access and known.user is user and known.session is session:
            row = known.provider_row
            if not row or self._cache.find(self._providers, row) is known.provider:
                return known.found
        account = self._find_account(access) if user is not None else None
        wire = self._load(session)
        if account is None or wire is None:
            return None
        name = wire["spec"].get("identityProvider")
        row = row_of(None, name) if name else ""
        provider = self._cache.find(self._providers, row) if row else None
        groups = self._groups_of(wire, provider) if row else NO_GROUPS
        if groups is None:
            return None
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        found = Found(account, groups=groups)
        self._known[access.session] = _Known(access, user, session, row, provider, found)
        return found

    def _groups_of(self, session: Wire, entry: Entry | None) -> frozenset[str] | None:
        """Return the groups here that the session's provider gives; None when it vouches for nobody now."""
        provider = self._load(entry)
        if provider is None or not vouches(provider):
            return None
        return groups_given(provider, session["spec"].get("externalGroups") or ())

    async def find_fresh(self, access: Access) -> Found | None:
        """Return the same from a cache that shows what any replica has written. Raises Unavailable."""
        await self._cache.fresh()
        return self.find(access)

    def _find_account(self, access: Access) -> Ref | None:
        kind, _, name = access.subject.partition(":")
        if kind == "user":
            ref, entry = Ref("User", None, name), self._cache.find(self._users, row_of(None, name))
        else:
            project, _, name = name.partition("/")
            ref = Ref("ServiceAccount", project, name)
            entry = self._cache.find(self._service_accounts, row_of(project, name))
        wire = self._load(entry)
        if wire is None or wire["metadata"]["uid"] != access.uid or wire["spec"].get("enabled", True) is not True:
            return None
        return ref

    def _serves_source(self, account: Ref, source: str) -> bool:
        """Return whether that Git source is there, and still says that the account is to act for it.

        One that is being deleted has its objects to delete, if it says so.
        """
        name, _, uid = source.partition("/")
        entry = self._cache.find(self._sources, row_of(account.project, name))
        wire: Wire | None = orjson.loads(entry.json) if entry is not None else None
        if wire is None or account.kind != "ServiceAccount" or wire["metadata"]["uid"] != uid:
            return False
        spec = wire["spec"]
        if "deletionTimestamp" in wire["metadata"] and spec.get("deletionPolicy") != "Delete":
            return False
        return bool(spec["serviceAccount"] == account.name and not spec.get("suspend"))

    def _find_key(self, uid: str) -> KeyTerms | None:
        wire = self._load_key(uid)
        if wire is None:
            return None
        terms = self._terms_of(wire)
        return None if terms.expires_at is not None and terms.expires_at <= self._clock.now() else terms

    def _load_key(self, uid: str) -> Wire | None:
        table = self._cache.table(self._keys)
        for _ in range(2):
            row = self._rows.get(uid)
            wire = self._load(table.objects.get(row)) if row is not None else None
            if wire is not None and wire["metadata"]["uid"] == uid:
                return wire
            if self._rows_at == table.revision:
                return None
            self._rows = {orjson.loads(e.json)["metadata"]["uid"]: row for row, e in table.objects.items()}
            self._rows_at = table.revision
        return None

    def _terms_of(self, wire: Wire) -> KeyTerms:
        metadata, spec = wire["metadata"], wire["spec"]
        version = (metadata["uid"], metadata["generation"])
        found = self._terms.get(version)
        if found is None:
            expiry = spec.get("expiresAt")
            found = self._terms[version] = KeyTerms(
                *version,
                rules=tuple(_rules.validate_python(spec.get("rules") or [])),
                networks=read_networks(spec.get("sourceNetworks") or ()),
                expires_at=_time.validate_python(expiry) if expiry else None,
            )
            if len(self._terms) > REMEMBERED:
                self._terms.popitem(last=False)
        return found

    def _load(self, entry: Entry | None) -> Wire | None:
        """Return what is there and is not being deleted."""
        if entry is None:
            return None
        wire: Wire = orjson.loads(entry.json)
        return None if "deletionTimestamp" in wire["metadata"] else wire
