"""What logging in needs to know of users, sessions and API keys, which are resources kept elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from vcstack.specs.resource import Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user, as far as logging in goes."""

    name: str
    uid: str
    domain: str | None = None
    """Where the user is, whose settings count; None: the top."""
    enabled: bool = True
    mfa_required: bool = False
    local: bool = True
    """False: an identity provider knows the password, we do not."""

    @property
    def subject(self) -> str:
        """Return how history and tokens call the user."""
        return f"user:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionNotice:
    """A session, as people see it."""

    id: str
    user: str
    methods: Sequence[str]
    created_at: datetime
    expires_at: datetime
    client: str
    """Where from and with what program, for the user to recognise."""
    identity_provider: str | None = None
    """Who vouched for the user."""
    external_groups: Sequence[str] = ()
    """The groups there that mean something here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAccount:
    """An API key, as far as using it goes."""

    uid: str
    project: str | None
    name: str
    subject: str
    """Whose key it is: user:alice, serviceaccount:demo/ci."""
    subject_uid: str
    enabled: bool = True
    """False: the key or whom it belongs to may not be used now."""
    expires_at: datetime | None = None
    rules: Sequence[Mapping[str, Any]] = ()
    """What the key is restricted to; empty: all that its owner may."""
    source_networks: Sequence[str] = ()
    """Where it may be used from; empty: everywhere."""
    overlap_seconds: int = 86400
    """How long the old secret is good once a new one was made."""
    last_used_at: datetime | None = None
    """As it was last written down."""

    @property
    def owner(self) -> Ref:
        """Return whose key it is."""
        kind, _, name = self.subject.partition(":")
        return (
            Ref("User", None, name) if kind == "user" else Ref("ServiceAccount", self.project, name.partition("/")[2])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A key's secret, shown once."""

    key_id: str
    secret: str
    created_at: datetime
    previous_until: datetime | None
    """When the secret before it ends."""
    expires_at: datetime | None = None
    """When it ends by itself."""


class Directory(Protocol):
    """Users, sessions and keys as resources. All calls may raise Unavailable."""

    async def find_user(self, name: str) -> Account | None:
        """Return the user of that name; None also for names that cannot be."""

    async def note_user(
        self,
        user: Account,
        *,
        password_set_at: datetime | None = None,
        mfa_enrolled: bool | None = None,
        last_login_at: datetime | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        """Write what was observed into the user's status; None: not observed now.

        Args:
            user: whose.
            password_set_at: when the password was set.
            mfa_enrolled: whether a second factor of ours is.
            last_login_at: when the user logged in.
            groups: what the identity provider said of groups at that login.
        """

    async def begin_session(self, session: SessionNotice) -> None:
        """Make the session's object: from now on its access tokens are good."""

    async def note_groups(self, session_id: str, user: Account, groups: Sequence[str], at: datetime) -> None:
        """Write into session and user what the identity provider says of groups now."""

    async def has_session(self, session_id: str) -> bool:
        """Return whether the session's object is there and not being deleted."""

    async def end_session(self, session_id: str) -> None:
        """Remove the session's object; of none is nothing."""

    async def end_sessions(self, user: Account, *, keep: str = "") -> None:
        """Remove all sessions of the user but the one to keep."""

    async def find_key(self, project: str | None, name: str) -> KeyAccount | None:
        """Return the API key of that name."""

    async def note_secret(self, key: KeyAccount, issued: IssuedKey) -> None:
        """Write into the key's status that it has a new secret."""

    async def note_key(self, key: KeyAccount, *, last_used_at: datetime) -> None:
        """Write into the key's status that it was used; it may be put off and be bundled."""
