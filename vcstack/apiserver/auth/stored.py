"""Users, sessions and API keys as the store has them: the Directory of a running cloud."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from vcstack.apiserver.auth.directory import Account, IssuedKey, KeyAccount, SessionNotice
from vcstack.specs.errors import NotFound
from vcstack.specs.kinds.apikey import APIKey
from vcstack.specs.kinds.rolebinding import Subject, SubjectKind
from vcstack.specs.kinds.serviceaccount import ServiceAccount
from vcstack.specs.kinds.session import Session, SessionSpec
from vcstack.specs.kinds.user import User
from vcstack.specs.meta import ObjectMeta, format_time
from vcstack.specs.model import is_label
from vcstack.specs.resource import AnyResource, Ref
from vcstack.specs.settings import LOGIN_MFA_REQUIRED
from vcstack.store.actor import Actor
from vcstack.store.store import Store

ACTOR: Final = Actor("system:auth", "auth")
GROUPS_SEEN_STEP: Final = timedelta(hours=1)
"""That a provider says the same groups as before is written down that often at most."""
LAST_USED_STEP: Final = timedelta(minutes=5)
"""A key's use is written down that often at most."""
R = TypeVar("R", bound=AnyResource)


class StoredDirectory:
    """Implements ``Directory`` on the store."""

    def __init__(self, store: Store) -> None:
        self._resources = store.bound(ACTOR)
        self._settings = store.cache.setting_book

    async def find_user(self, name: str) -> Account | None:
        """Return the user of that name; None also for names that cannot be."""
        user = await self._find(User, name)
        if user is None:
            return None
        return Account(
            name=name,
            uid=user.metadata.uid,
            enabled=user.spec.enabled and user.metadata.deletion_timestamp is None,
            domain=user.spec.domain,
            mfa_required=user.spec.mfa_required or self._settings.flag(LOGIN_MFA_REQUIRED, domain=user.spec.domain),
            local=user.spec.identity_provider is None,
        )

    async def note_user(
        self,
        user: Account,
        *,
        password_set_at: datetime | None = None,
        mfa_enrolled: bool | None = None,
        last_login_at: datetime | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        """Write what was observed into the user's status."""
        status: dict[str, Any] = {
            "passwordSetAt": format_time(password_set_at) if password_set_at else None,
            "mfaEnrolled": mfa_enrolled,
            "lastLoginAt": format_time(last_login_at) if last_login_at else None,
        }
        if groups is not None and last_login_at is not None:
            status |= _groups_seen(groups, last_login_at)
        found = await self._find(User, user.name)
        if found is not None and found.metadata.uid == user.uid:
            observed = {field: value for field, value in status.items() if value is not None}
            await self._resources.patch_status(found, observed)

    async def begin_session(self, session: SessionNotice) -> None:
        """Make the session's object."""
        spec = SessionSpec(
            subject=Subject(kind=SubjectKind.USER, name=session.user),
            methods=list(session.methods),
            created_at=session.created_at,
            expires_at=session.expires_at,
            client=session.client,
            identity_provider=session.identity_provider,
            external_groups=list(session.external_groups),
        )
        await self._resources.create(Session(metadata=ObjectMeta(name=session.id), spec=spec))

    async def note_groups(self, session_id: str, user: Account, groups: Sequence[str], at: datetime) -> None:
        """Write into session and user what the identity provider says of groups now."""
        found = await self._find(Session, session_id)
        if found is not None and found.spec.external_groups != list(groups):
            spec = found.spec.model_copy(update={"external_groups": list(groups)})
            await self._resources.update(found.model_copy(update={"spec": spec}))
        owner = await self._find(User, user.name)
        if owner is None or owner.metadata.uid != user.uid:
            return
        seen = owner.status
        if seen.external_groups != list(groups) or not _is_recent(seen.external_groups_seen_at, at):
            await self._resources.patch_status(owner, _groups_seen(groups, at))

    async def has_session(self, session_id: str) -> bool:
        """Return whether the session's object is there and not being deleted."""
        session = await self._find(Session, session_id)
        return session is not None and session.metadata.deletion_timestamp is None

    async def end_session(self, session_id: str) -> None:
        """Remove the session's object; of none is nothing."""
        await self._resources.delete(Ref(Session.KIND, None, session_id))

    async def end_sessions(self, user: Account, *, keep: str = "") -> None:
        """Remove all sessions of the user but the one to keep."""
        fields = f"spec.subject.kind=User,spec.subject.name={user.name}"
        for session in (await self._resources.list(Session, fields=fields)).items:
            if session.metadata.name != keep:
                await self.end_session(session.metadata.name)

    async def find_key(self, project: str | None, name: str) -> KeyAccount | None:
        """Return the API key of that name."""
        key = await self._find(APIKey, name, project)
        if key is None:
            return None
        owner = await self._owner(key)
        return KeyAccount(
            uid=key.metadata.uid,
            project=project,
            name=name,
            subject=f"serviceaccount:{project}/{key.spec.service_account}" if project else f"user:{key.spec.user}",
            subject_uid=owner.metadata.uid if owner else "",
            enabled=owner is not None and owner.spec.enabled and not _is_going(owner) and not _is_going(key),
            expires_at=key.spec.expires_at,
            rules=[rule.to_wire() for rule in key.spec.rules],
            source_networks=key.spec.source_networks,
            overlap_seconds=key.spec.overlap_seconds,
            last_used_at=key.status.last_used_at,
        )

    async def note_secret(self, key: KeyAccount, issued: IssuedKey) -> None:
        """Write into the key's status that it has a new secret."""
        await self._note_of_key(
            key,
            {
                "keyId": key.uid,
                "secretCreatedAt": format_time(issued.created_at),
                "secretExpiresAt": format_time(issued.expires_at) if issued.expires_at else None,
                "previousUntil": format_time(issued.previous_until) if issued.previous_until else None,
            },
        )

    async def note_key(self, key: KeyAccount, *, last_used_at: datetime) -> None:
        """Write into the key's status that it was used, unless it was used just before."""
        if key.last_used_at is not None and timedelta() <= last_used_at - key.last_used_at < LAST_USED_STEP:
            return
        await self._note_of_key(key, {"lastUsedAt": format_time(last_used_at)})

    async def _note_of_key(self, key: KeyAccount, observed: Mapping[str, str | None]) -> None:
        found = await self._find(APIKey, key.name, key.project)
        if found is not None and found.metadata.uid == key.uid:
            await self._resources.patch_status(found, observed)

    async def _owner(self, key: APIKey) -> User | ServiceAccount | None:
        if key.metadata.project:
            return await self._find(ServiceAccount, key.spec.service_account or "", key.metadata.project)
        return await self._find(User, key.spec.user or "")

    async def _find(self, kind: type[R], name: str, project: str | None = None) -> R | None:
        if not is_label(name):
            return None
        try:
            return await self._resources.get(kind, name, project)
        except NotFound:
            return None


def _is_going(resource: AnyResource) -> bool:
    return resource.metadata.deletion_timestamp is not None


def _groups_seen(groups: Sequence[str], at: datetime) -> dict[str, Any]:
    return {"externalGroups": list(groups), "externalGroupsSeenAt": format_time(at)}


def _is_recent(seen_at: datetime | None, now: datetime) -> bool:
    return seen_at is not None and timedelta() <= now - seen_at < GROUPS_SEEN_STEP
