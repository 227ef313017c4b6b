"""Logging in by a directory: a user's password is shown to it and to nobody else, and nothing of it is kept.

What is wrong with a login is never told, and it is told at the full second: how long a directory takes over a user
that is there and one that is not does not show.
"""

import contextlib
import math
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import replace
from typing import Final, TypeVar

import structlog

from vcstack.apiserver.audit.entry import note_attempt
from vcstack.apiserver.auth.external import (
    ExternalUser,
    ExternalUsers,
    find_provider,
    mapped_groups,
    name_candidates,
)
from vcstack.apiserver.auth.ldapdirectory import (
    DN,
    LONGEST_NAME,
    Account,
    DirectoryFailed,
    LdapDirectories,
    normalize_dn,
)
from vcstack.apiserver.auth.login import Result
from vcstack.apiserver.auth.providerfaults import ProviderFailed, does_not_answer, says_nonsense
from vcstack.apiserver.auth.records import VoucherRecord, digest_of
from vcstack.apiserver.auth.sessions import Client, Vouched
from vcstack.apiserver.auth.throttle import Throttle
from vcstack.apiserver.auth.userpasswords import WRONG
from vcstack.clock import Clock
from vcstack.outbound.errors import BadUrl, NotReachable
from vcstack.specs.errors import Cause, Invalid, NotFound, Unauthorized
from vcstack.specs.kinds.identityprovider import IdentityProvider, LDAPProvider
from vcstack.specs.kinds.secret import Secret
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

METHOD: Final = "ldap"
HELD_SECONDS: Final = 1.0
"""A refusal is answered at a multiple of that."""
FAILURE_SECONDS: Final = 5.0
"""A directory that did not answer is not asked again before."""
AT_ONCE: Final = 8
"""Conversations with one directory; a slow one must not take all threads."""
KEPT: Final = 256
"""Directories of which it is known that they did not answer."""

logger = structlog.get_logger(__name__)
T = TypeVar("T")


class LdapLogins:
    """Lets users of directories in. All raise Unavailable while the directory or the store does not answer."""

    def __init__(
        self, store: Store, directories: LdapDirectories, users: ExternalUsers, throttle: Throttle, clock: Clock
    ) -> None:
        self._store = store
        self._directories = directories
        self._users = users
        self._throttle = throttle
        self._clock = clock
        self._failed_at: OrderedDict[str, float] = OrderedDict()
        self._running: Counter[str] = Counter()

    async def login(self, name: str, user: str, password: str, client: Client) -> Result:
        """Return the tokens of a new session, or what is left to do.

        Raises:
            Unauthorized: the user or the password is wrong, or the user may not log in here.
            Forbidden: as ``ExternalUsers.admit``.
            TooManyRequests: after too many failures.
            NotFound, Invalid: there is no such directory.
        """
        provider = await find_provider(self._store, name)
        directory = _directory_of(provider)
        note_attempt(name_candidates(name, ExternalUser(external_id="", user_name=user))[0])
        began = self._clock.monotonic()
        with self._throttle.attempt(f"ldap/{provider.metadata.uid}/{_account(user)}", client.address) as attempt:
            found: ExternalUser | None = None
            if password and "\0" not in password and user and len(user) <= LONGEST_NAME:
                own = await own_account(self._store, provider, directory)
                found = await self._ask(provider, lambda: self._directories.prove(directory, own, user, password))
            if found is None:
                logger.info("login refused", provider=name, client=client.address)
                await self._hold(began)
                raise Unauthorized(WRONG)
            attempt.succeed()
        found = replace(found, groups=_as_mapped(provider, directory, found))
        return await self._users.admit(provider, found, METHOD, client, user_name=user)

    async def renew(self, provider: IdentityProvider, voucher: VoucherRecord) -> Vouched:
        """Return what the directory says of a user now. Raises Unauthorized, Forbidden, Unavailable."""
        directory = _directory_of(provider)
        own = await own_account(self._store, provider, directory)
        look_up = self._directories.look_up
        found = await self._ask(provider, lambda: look_up(directory, own, voucher.user_name, voucher.external_id))
        if found is None:
            raise Unauthorized(f"the identity provider {voucher.provider} does not know the user any more")
        return Vouched(voucher, mapped_groups(provider, _as_mapped(provider, directory, found)))

    async def _ask(self, provider: IdentityProvider, converse: Callable[[], Awaitable[T]]) -> T:
        """Return what the directory says. Raises Unavailable, naming it."""
        name, uid = provider.metadata.name, provider.metadata.uid
        now = self._clock.monotonic()
        if self._running[uid] >= AT_ONCE or now - self._failed_at.get(uid, -math.inf) < FAILURE_SECONDS:
            raise does_not_answer(name)
        self._running[uid] += 1
        try:
            with telling(name):
                found = await converse()
            self._failed_at.pop(uid, None)
            return found
        except ProviderFailed as error:
            if error.away:
                self._failed_at[uid] = now
                while len(self._failed_at) > KEPT:
                    self._failed_at.popitem(last=False)
            raise
        finally:
            self._running[uid] -= 1
            if not self._running[uid]:
                del self._running[uid]

    async def _hold(self, began: float) -> None:
        spent = self._clock.monotonic() - began
        await self._clock.sleep((math.floor(spent / HELD_SECONDS) + 1) * HELD_SECONDS - spent)


async def own_account(store: Store, provider: IdentityProvider, directory: LDAPProvider) -> Account:
    """Return as whom users are looked for. Raises ProviderFailed when its password is not there."""
    secret = directory.bind_password
    if directory.bind_dn is None or secret is None:
        return Account()
    try:
        found = await store.reveal(get_kind(Secret.KIND), secret.project, secret.name)
        return Account(directory.bind_dn, found["spec"]["data"][secret.key])
    except (NotFound, KeyError) as error:
        what = f"the value {secret.key} of the Secret {secret.project}/{secret.name} is not there"
        raise says_nonsense(provider.metadata.name, what) from error


@contextlib.contextmanager
def telling(name: str) -> Iterator[None]:
    """Raise ProviderFailed for what goes wrong in a conversation with that directory."""
    try:
        yield
    except (NotReachable, DirectoryFailed) as error:
        why, details = (error.detail, "") if isinstance(error, NotReachable) else (str(error), error.details)
        logger.warning("directory not usable", provider=name, why=why, details=details)
        if isinstance(error, DirectoryFailed) and not error.away:
            raise says_nonsense(name, str(error)) from error
        raise does_not_answer(name, str(error)) from error
    except BadUrl as error:
        raise says_nonsense(name, f"its address: {error}") from error
    except ValueError as error:
        raise says_nonsense(name, f"caCertificates: {error}") from error


def _directory_of(provider: IdentityProvider) -> LDAPProvider:
    if provider.spec.ldap is None:
        message = f"the identity provider {provider.metadata.name} is no directory: log in there with a browser"
        raise Invalid(message, causes=[Cause(field="provider", reason="BrowserLogin", message=message)])
    return provider.spec.ldap


def _as_mapped(provider: IdentityProvider, directory: LDAPProvider, found: ExternalUser) -> Collection[str]:
    """Return the groups as the mapping spells them: the whole name of an entry can be written in many ways."""
    if directory.group_name_attribute != DN:
        return found.groups
    said = {normalize_dn(group) for group in found.groups}
    return {m.external for m in provider.spec.group_mapping if normalize_dn(m.external) in said}


def _account(user: str) -> str:
    """Return what counts as one account for who guesses: directories take many spellings for the same name."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", user[:LONGEST_NAME]).casefold() if c.isalnum())
    return digest_of(plain)
