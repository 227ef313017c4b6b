"""A directory, asked by OpenLDAP's client: whose password it is, and who is in which groups (RFC 4511, 4513, 4515).

Search, then bind: the entry is looked for as the cloud's own account, and the password is the entry's if a bind as that
entry succeeds. The library blocks, so it runs in threads; the connection is ours (``ldapconnection``) and ends when
time is up, which ends the thread as well.
"""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import ldap
import ldap.dn
from ldap.ldapobject import SimpleLDAPObject

from vcstack.apiserver.auth.external import MOST_GROUPS, ExternalUser
from vcstack.apiserver.auth.ldapconnection import LdapConnections
from vcstack.specs.errors import Forbidden
from vcstack.specs.kinds.identityprovider import LDAPProvider

THREADS: Final = 32
FILTERS: Final = 50
"""Groups asked about at once."""
LONGEST_NAME: Final = 256
NOWHERE: Final = "ldapi://%2Fnonexistent"
"""What the library would connect to if it had to by itself."""
DN: Final = "dn"
"""As groupNameAttribute: the entry's whole name."""
_BINARY: Final = "hex:"
T = TypeVar("T")
Entry = tuple[str, Mapping[str, Sequence[bytes]]]

_REFUSED: Final = (
    ldap.INVALID_CREDENTIALS,
    ldap.INAPPROPRIATE_AUTH,
    ldap.INSUFFICIENT_ACCESS,
    ldap.CONSTRAINT_VIOLATION,
    ldap.UNWILLING_TO_PERFORM,
    ldap.NO_SUCH_OBJECT,
    ldap.INVALID_DN_SYNTAX,
)
"""What a bind says to a wrong password, and to an entry that may not log in."""


class DirectoryFailed(Exception):
    """The directory does not answer, or not as it should. Says why, for everybody who tries to log in."""

    def __init__(self, why: str, *, away: bool = False, details: str = "") -> None:
        super().__init__(why)
        self.away = away
        """It does not answer at all."""
        self.details = details
        """What the directory says itself, for the log."""


@dataclass(frozen=True, slots=True)
class Account:
    """As whom the cloud looks for users."""

    dn: str = ""
    """Empty: nobody."""
    password: str = ""


class LdapDirectories:
    """Asks directories. ``close`` at the end."""

    def __init__(self, connections: LdapConnections) -> None:
        self._connections = connections
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ldap")

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def prove(self, directory: LDAPProvider, own: Account, user: str, password: str) -> ExternalUser | None:
        """Return who it is if the password is that user's.

        The same is said to the directory whether the user is there or not.

        Raises:
            DirectoryFailed: it could not be asked.
            Forbidden: the user is in more groups than are taken.
        """
        return await self._converse(directory, lambda handle: _prove(handle, directory, own, user, password))

    async def look_up(self, directory: LDAPProvider, own: Account, user: str, external_id: str) -> ExternalUser | None:
        """Return what the directory says of a user now; None: it is not there, or not to log in. Raises likewise."""
        return await self._converse(directory, lambda handle: _look_up(handle, directory, own, user, external_id))

    async def try_own(self, directory: LDAPProvider, own: Account) -> None:
        """See whether users and groups could be looked for, as no login does more without a user.

        Raises:
            DirectoryFailed: not so, and why.
        """
        await self._converse(directory, lambda handle: _try_own(handle, directory, own))

    async def _converse(self, directory: LDAPProvider, say: Callable[[SimpleLDAPObject], T]) -> T:
        seconds = self._connections.seconds
        try:
            async with asyncio.timeout(seconds), self._connections.open(directory) as far_end:
                return await asyncio.get_running_loop().run_in_executor(self._threads, _speak, far_end, seconds, say)
        except TimeoutError as error:
            raise DirectoryFailed("it took too long", away=True) from error


def _speak(far_end: socket.socket, seconds: float, say: Callable[[SimpleLDAPObject], T]) -> T:
    """Say it, in a thread. Raises DirectoryFailed."""
    try:
        number = os.dup(far_end.fileno())
    except OSError as error:  # given up before it began
        raise DirectoryFailed("it took too long", away=True) from error
    try:
        handle = ldap.initialize(NOWHERE, fileno=number)
    except BaseException:
        os.close(number)
        raise
    try:
        handle.protocol_version = ldap.VERSION3
        handle.set_option(ldap.OPT_REFERRALS, 0)
        handle.set_option(ldap.OPT_DEREF, ldap.DEREF_NEVER)
        handle.set_option(ldap.OPT_NETWORK_TIMEOUT, seconds)
        handle.set_option(ldap.OPT_TIMEOUT, seconds)
        return say(handle)
    except (ldap.SERVER_DOWN, ldap.CONNECT_ERROR, ldap.TIMEOUT, ldap.BUSY, ldap.UNAVAILABLE) as error:
        raise DirectoryFailed("it does not answer", away=True, details=_said(error)) from error
    except ldap.REFERRAL as error:
        raise DirectoryFailed("it refers to another directory, which is not followed") from error
    except ldap.LDAPError as error:
        raise DirectoryFailed(f"it answers with {type(error).__name__}", details=_said(error)) from error
    finally:
        with contextlib.suppress(ldap.LDAPError):
            handle.unbind_ext_s()  # closes the socket too


def _prove(
    handle: SimpleLDAPObject, directory: LDAPProvider, own: Account, user: str, password: str
) -> ExternalUser | None:
    if not password:
        raise ValueError("an empty password is none: a directory would take it for nobody's login (RFC 4513, 5.1.2)")
    _bind_own(handle, own)
    entry = _find_entry(handle, directory, _fill(directory.user_filter, user=user))
    # For who is not there somebody is asked about who is not there either.
    dn = entry[0] if entry else f"uid={secrets.token_hex(8)},{directory.user_base_dn}"
    if not _is_password(handle, dn, password) or entry is None:
        return None
    _bind_own(handle, own)
    return _read_user(handle, directory, entry)


def _look_up(
    handle: SimpleLDAPObject, directory: LDAPProvider, own: Account, user: str, external_id: str
) -> ExternalUser | None:
    _bind_own(handle, own)
    wanted = f"({directory.id_attribute}={_escape(_to_bytes(external_id))})"
    entry = _find_entry(handle, directory, f"(&{_fill(directory.user_filter, user=user)}{wanted})")
    return None if entry is None else _read_user(handle, directory, entry)


def _try_own(handle: SimpleLDAPObject, directory: LDAPProvider, own: Account) -> None:
    _bind_own(handle, own)
    for field, base in (("userBaseDn", directory.user_base_dn), ("groupBaseDn", directory.group_base_dn)):
        if base is None:
            continue
        try:
            found = handle.search_ext_s(base, ldap.SCOPE_BASE, attrlist=["1.1"], sizelimit=1)
        except (ldap.NO_SUCH_OBJECT, ldap.INSUFFICIENT_ACCESS, ldap.INVALID_DN_SYNTAX):
            found = []
        if not found:
            who = "bindDn" if own.dn else "nobody, for there is no bindDn,"
            raise DirectoryFailed(f"{field}: there is no such entry, or {who} may not see it")


def _bind_own(handle: SimpleLDAPObject, own: Account) -> None:
    """Be the cloud's own account. Raises DirectoryFailed."""
    if own.dn and not own.password:
        raise DirectoryFailed("the password of bindDn is empty")
    try:
        handle.simple_bind_s(own.dn, own.password)
    except _REFUSED as error:
        raise DirectoryFailed("it does not accept bindDn and its password") from error


def _is_password(handle: SimpleLDAPObject, dn: str, password: str) -> bool:
    try:
        handle.simple_bind_s(dn, password)
    except _REFUSED:
        return False
    return True


def _find_entry(handle: SimpleLDAPObject, directory: LDAPProvider, filter_: str) -> Entry | None:
    """Return the one entry that is meant. Raises DirectoryFailed for several."""
    wanted = [
        directory.id_attribute,
        directory.username_attribute,
        directory.display_name_attribute,
        directory.email_attribute,
    ]
    try:
        found = list(_search(handle, directory.user_base_dn, filter_, wanted, limit=2))
    except ldap.SIZELIMIT_EXCEEDED:
        raise DirectoryFailed("userFilter finds several entries for one name") from None
    if len(found) > 1:
        raise DirectoryFailed("userFilter finds several entries for one name")
    return found[0] if found else None


def _read_user(handle: SimpleLDAPObject, directory: LDAPProvider, entry: Entry) -> ExternalUser:
    dn, attributes = entry
    values = attributes.get(directory.id_attribute.lower(), ())
    if len(values) != 1 or not values[0]:
        raise DirectoryFailed(f"an entry has not one {directory.id_attribute}")
    user_name = _text(attributes, directory.username_attribute)
    return ExternalUser(
        external_id=_to_text(values[0]),
        user_name=user_name,
        display_name=_text(attributes, directory.display_name_attribute),
        email=_text(attributes, directory.email_attribute),
        groups=_find_groups(handle, directory, dn, user_name) if directory.group_base_dn else (),
        methods=("pwd",),
    )


def _find_groups(handle: SimpleLDAPObject, directory: LDAPProvider, dn: str, user_name: str) -> frozenset[str]:
    """Return the names of the groups that the entry is in. Raises Forbidden for more than are taken."""
    assert directory.group_base_dn is not None
    names: dict[str, str] = {}
    members = [dn]
    for _ in range(directory.nested_group_levels + 1):
        above: list[str] = []
        for filter_ in _group_filters(directory.group_filter, members, user_name):
            attributes = [] if directory.group_name_attribute == DN else [directory.group_name_attribute]
            try:
                found = list(
                    _search(handle, directory.group_base_dn, filter_, attributes or ["1.1"], limit=MOST_GROUPS + 1)
                )
            except ldap.SIZELIMIT_EXCEEDED:
                raise _too_many() from None
            for group, values in found:
                if normalize_dn(group) not in names:
                    names[normalize_dn(group)] = _text(values, directory.group_name_attribute) if attributes else group
                    above.append(group)
        if len(names) > MOST_GROUPS:
            raise _too_many()
        if not above:
            break
        members = above
    return frozenset(name for name in names.values() if name)


def _group_filters(template: str, members: Sequence[str], user_name: str) -> Iterator[str]:
    for begin in range(0, len(members), FILTERS):
        parts = [_fill(template, user=user_name, dn=dn) for dn in members[begin : begin + FILTERS]]
        yield parts[0] if len(parts) == 1 else f"(|{''.join(parts)})"


def _search(
    handle: SimpleLDAPObject, base: str, filter_: str, attributes: Sequence[str], *, limit: int
) -> Iterator[Entry]:
    """Yield entries; references to other directories are none. Names of attributes are in lower case."""
    found: Iterable[Any] = handle.search_ext_s(base, ldap.SCOPE_SUBTREE, filter_, list(attributes), sizelimit=limit)
    for dn, values in found:
        if dn is not None:
            yield dn, {name.lower(): value for name, value in values.items()}


def _fill(template: str, *, user: str, dn: str = "") -> str:
    """Return the filter for these values, of which no character means anything in a filter."""
    return template.replace("{user}", _escape(user.encode())).replace("{dn}", _escape(dn.encode()))


def _escape(value: bytes) -> str:
    """Return a value as a filter has it, each byte escaped (RFC 4515, 3)."""
    return "".join(f"\\{byte:02x}" for byte in value)


def normalize_dn(dn: str) -> str:
    """Return one spelling of an entry's name."""
    try:
        return str(ldap.dn.dn2str(ldap.dn.str2dn(dn))).casefold()
    except ldap.DECODING_ERROR:
        return dn.casefold()


def _to_text(value: bytes) -> str:
    """Return what tells an entry apart as text: as it is, in hexadecimal when it is none (objectGUID)."""
    if value.isascii() and value.decode("ascii", "ignore").isprintable() and b" " not in value:
        text = value.decode()
        if not text.startswith(_BINARY):
            return text
    return _BINARY + value.hex()


def _to_bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix(_BINARY)) if text.startswith(_BINARY) else text.encode()


def _text(attributes: Mapping[str, Sequence[bytes]], name: str) -> str:
    values = attributes.get(name.lower(), ())
    return values[0].decode("utf-8", "ignore") if values else ""


def _too_many() -> Forbidden:
    return Forbidden(
        f"the identity provider says more than {MOST_GROUPS} groups of the user, or more than it lists at once; "
        "have groupFilter find only those that matter here"
    )


def _said(error: ldap.LDAPError) -> str:
    """Return what the library says, as one line."""
    found = error.args[0] if error.args else {}
    if not isinstance(found, dict):
        return type(error).__name__
    text = f"{type(error).__name__}: {found.get('desc', '')} {found.get('info', '')}"
    return "".join(c if c.isprintable() else " " for c in text)[:300]
