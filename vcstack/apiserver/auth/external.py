"""Users whom an identity provider vouches for: found or made, and let in with the groups that it says.

A user is the provider's own name for it (OpenID Connect's sub, the idAttribute of LDAP), never a name, a mail address
or anything else that somebody there can choose. The name here is made once, of the provider's name and the user's
name there, so that nobody gets a name that looks like somebody else's.

Groups there are names of theirs. They mean what the provider's groupMapping says and nothing else, and count in the
session that they were said for.
"""

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from vcstack.apiserver.audit.entry import note_attempt, note_object
from vcstack.apiserver.auth.directory import Directory
from vcstack.apiserver.auth.login import LoginService, Result
from vcstack.apiserver.auth.records import VoucherRecord
from vcstack.apiserver.auth.sessions import Client, Vouched
from vcstack.specs.errors import AlreadyExists, ClaimTaken, Forbidden, NotFound, Unauthorized
from vcstack.specs.kinds.identityprovider import IdentityProvider, NewUsers
from vcstack.specs.kinds.user import User, UserSpec
from vcstack.specs.meta import ObjectMeta
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor
from vcstack.store.store import Store

MOST_GROUPS: Final = 1000
"""Of one user there; a directory that says more has to be told to say less."""
LONGEST_GROUP: Final = 1024
REFUSED: Final = "the identity provider does not accept the login; begin it again"
_EXTERNAL_ID: Final = re.compile(r"[!-~]{1,255}")
_EMAIL: Final = re.compile(r"[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,189}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
"""A name that can be written as a DNS label without guessing what its letters look like."""
_LONGEST_NAME: Final = 63
_DIGEST: Final = 8

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalUser:
    """What a provider says of somebody."""

    external_id: str
    """The provider's own name for the user: unique there, never given to another one."""
    user_name: str = ""
    """What the user is called there; a wish."""
    display_name: str = ""
    email: str = ""
    """Only when the provider says that it is the user's."""
    groups: Collection[str] = ()
    methods: Sequence[str] = ()
    """How the user proved it there, as RFC 8176 calls it."""


class ExternalUsers:
    """Lets users in whom a provider vouches for."""

    def __init__(self, store: Store, directory: Directory, login: LoginService) -> None:
        self._store = store
        self._resources = store.bound(Actor("system:auth", "auth"))
        self._directory = directory
        self._login = login

    async def admit(
        self,
        provider: IdentityProvider,
        found: ExternalUser,
        method: str,
        client: Client,
        *,
        user_name: str = "",
        refresh_token: str = "",
    ) -> Result:
        """Return the tokens of a new session, or what is left to do: to show or to enrol a second factor of ours.

        Args:
            provider: who vouches.
            found: for whom.
            method: what the session says of how: oidc, ldap.
            client: who is at the other end.
            user_name: what the user typed, with which a directory can be asked again.
            refresh_token: the provider's own, with which it can be asked again.

        Raises:
            Unauthorized: the user is disabled or going, or has to have a second factor there and had none.
            Forbidden: the provider's new users are refused, or it says too many groups.
        """
        check_groups(found.groups)
        if not _EXTERNAL_ID.fullmatch(found.external_id):
            raise Forbidden("the identity provider's name for the user has characters that cannot be kept")
        user = await self._find(provider, found.external_id) or await self._make(provider, found)
        note_attempt(user.metadata.name)
        account = await self._directory.find_user(user.metadata.name)
        if account is None or account.uid != user.metadata.uid or not account.enabled:
            raise Unauthorized("the identity provider knows the user, who may not log in here")
        methods = [method, *(m for m in ("pwd", "otp", "hwk", "mfa") if m in found.methods)]
        voucher = VoucherRecord(
            provider=provider.metadata.name,
            provider_uid=provider.metadata.uid,
            external_id=found.external_id,
            user_name=user_name,
            refresh_token=refresh_token,
        )
        vouched = Vouched(voucher, mapped_groups(provider, found.groups))
        return await self._login.vouch(account, methods, vouched, provider.spec.second_factor, client)

    async def _find(self, provider: IdentityProvider, external_id: str) -> User | None:
        """Return who has claimed that name at the provider."""
        await self._store.cache.fresh()
        key = hashlib.sha256(external_id.encode()).hexdigest()
        held = self._store.cache.claims.find(f"identities/{provider.metadata.name}", key)
        if held is None:
            return None
        try:
            user = await self._resources.get(User, held.decode()["name"])
        except NotFound:
            return None
        if user.metadata.uid != held.uid or user.spec.external_id != external_id:
            return None
        return user

    async def _make(self, provider: IdentityProvider, found: ExternalUser) -> User:
        if provider.spec.new_users is NewUsers.REFUSE:
            raise Forbidden("the identity provider knows the user, but nobody has made a User for it here")
        for name in name_candidates(provider.metadata.name, found):
            spec = UserSpec(
                domain=provider.spec.domain,
                display_name=_plain_text(found.display_name),
                email=found.email if _EMAIL.fullmatch(found.email) else "",
                identity_provider=provider.metadata.name,
                external_id=found.external_id,
            )
            try:
                made = await self._resources.create(User(metadata=ObjectMeta(name=name), spec=spec))
            except ClaimTaken as error:  # made by another login at the same moment
                other = await self._find(provider, found.external_id)
                if other is None:
                    raise Unauthorized("the login did not succeed; try again") from error
                return other
            except AlreadyExists:
                continue  # of somebody else
            logger.info("user made", user=name, provider=provider.metadata.name)
            return made
        raise Unauthorized("all names for the user are taken; an administrator can make a User with its externalId")


async def find_provider(store: Store, name: str, uid: str = "") -> IdentityProvider:
    """Return the provider with its secrets.

    Raises:
        NotFound: it is not there, is going, or is disabled.
        Unauthorized: it is another one than that of the uid.
    """
    try:
        found = IdentityProvider.from_wire(await store.reveal(get_kind(IdentityProvider.KIND), None, name))
    except NotFound as error:
        raise NotFound(f"there is no identity provider {name!r} to log in with") from error
    if found.metadata.deletion_timestamp is not None or not found.spec.enabled:
        raise NotFound(f"there is no identity provider {name!r} to log in with")
    if uid and found.metadata.uid != uid:
        raise Unauthorized(REFUSED)
    note_object(None, name)
    return found


def mapped_groups(provider: IdentityProvider, said: Collection[str]) -> list[str]:
    """Return the groups there that mean something here. Raises Forbidden for more than is reasonable."""
    check_groups(said)
    return sorted({mapping.external for mapping in provider.spec.group_mapping} & set(said))


def check_groups(groups: Collection[str]) -> None:
    """Raises Forbidden when a provider says more than is reasonable."""
    if len(groups) > MOST_GROUPS:
        raise Forbidden(
            f"the identity provider says {len(groups)} groups of the user, {MOST_GROUPS} at most are taken; "
            "have it say only those that matter here"
        )
    if any(len(group) > LONGEST_GROUP for group in groups):
        raise Forbidden(f"the identity provider says a group of more than {LONGEST_GROUP} characters")


def name_candidates(provider: str, found: ExternalUser) -> list[str]:
    """Return names for a new user, the nicest first. The last one is nobody else's but by intent.

    They begin with the provider's name. What is not plain ASCII is not written in letters that look like it.
    """
    digest = hashlib.sha256(f"{provider}\0{found.external_id}".encode()).hexdigest()
    names = []
    if _PLAIN.fullmatch(found.user_name):
        local = found.user_name.partition("@")[0].lower()
        slug = re.sub(r"[^a-z0-9]+", "-", local).strip("-")
        whole = f"{provider}-{slug}"
        if slug and len(whole) <= _LONGEST_NAME:
            names.append(whole)
            names.append(f"{whole[: _LONGEST_NAME - _DIGEST - 1].rstrip('-')}-{digest[:_DIGEST]}")
    names.append(f"{provider[: _LONGEST_NAME - 21].rstrip('-')}-{digest[:20]}")
    return names


def _plain_text(text: str) -> str:
    """Return the text without what a Text cannot have, cut to a sensible length."""
    return "".join(c for c in text if c.isprintable())[:256]
