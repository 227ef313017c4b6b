"""Users, groups and service accounts: whoever goes takes along what names him.

While the finalizer holds the name, the store lets nothing name it anew, not even where references may be
missing. So what a consistent read does not find any more is gone for good, and the next one of that name
gets nothing of what was given to this one.
"""

from collections.abc import Iterator
from typing import Any, Protocol

from vcstack.controllers.accepting import accept
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.errors import WaitingFor
from vcstack.runtime.reconciler import Result
from vcstack.runtime.users import ensure_unused, name_some
from vcstack.specs.kinds.apikey import APIKey
from vcstack.specs.kinds.gitsource import GitSource
from vcstack.specs.kinds.group import Group
from vcstack.specs.kinds.identityprovider import IdentityProvider
from vcstack.specs.kinds.key import Key
from vcstack.specs.kinds.rolebinding import RoleBinding, Subject, subject_ref
from vcstack.specs.kinds.serviceaccount import ServiceAccount
from vcstack.specs.kinds.session import Session
from vcstack.specs.kinds.user import User
from vcstack.specs.resource import AnyResource, Ref

DEPENDENTS: tuple[type[AnyResource], ...] = (RoleBinding, APIKey, Session)
"""Deleted with the subject that they name."""


class Credentials(Protocol):
    """Where the secrets of identities are kept."""

    async def delete_prefix(self, path: str) -> None:
        """Remove everything below the path. Absent is success."""


CREDENTIALS: BackendKey[Credentials] = BackendKey("credentials")


def subjects_of(dependent: AnyResource) -> Iterator[Ref]:
    """Yield whom a binding, key or session names."""
    project = dependent.metadata.project
    if isinstance(dependent, APIKey):
        if project is not None:
            yield Ref(ServiceAccount.KIND, project, dependent.spec.service_account or "")
        else:
            yield Ref(User.KIND, None, dependent.spec.user or "")
        return
    subject: Subject = dependent.spec.subject
    yield subject_ref(subject, project)


async def read_dependents(client: ResourceClient, subject: Ref) -> list[AnyResource]:
    """Return the bindings, keys and sessions that name the subject, consistently read."""
    found: list[AnyResource] = []
    for kind in DEPENDENTS:
        field = "spec.subject.name"
        if kind is APIKey:
            field = "spec.user" if subject.project is None else "spec.serviceAccount"
        page = await client.list(kind, fields=f"{field}={subject.name}")
        found += [r for r in page.items if subject in subjects_of(r)]
    return found


def is_disabled(subject: AnyResource) -> bool:
    """Return whether it is a user who may not log in now."""
    return isinstance(subject, User) and not subject.spec.enabled


async def end_sessions(context: ControllerContext, fields: str) -> None:
    """End the sessions that the field selector selects: they are not to go on once what let them in is enabled again
    (ASVS 5.0 V7.4.2)."""
    for session in (await context.client.list(Session, fields=fields)).items:
        await end_session(context, session)


async def end_session(context: ControllerContext, session: Session) -> None:
    """End a session, with what is kept of it."""
    await context.client.delete(session.ref, uid=session.uid)
    credentials = context.backends.get(CREDENTIALS.name)
    if credentials is not None:
        await credentials.delete_prefix(f"sessions/{session.metadata.name}")


class SubjectReconciler:
    """Accepts subjects; before one goes, it removes what names it."""

    def __init__(self, context: ControllerContext, finalizer: str) -> None:
        self._context = context
        self._client = context.client
        self._finalizer = finalizer

    async def reconcile(self, subject: AnyResource | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if subject is None:
            return None
        if not subject.deleting:
            if is_disabled(subject):
                await end_sessions(self._context, f"spec.subject.kind=User,spec.subject.name={ref.name}")
            await accept(self._context, subject)
            return None
        await self._remove_dependents(ref)
        await self._leave_key_policies(ref)
        if isinstance(subject, User):
            await self._leave_groups(ref.name)
            await self._forget(f"users/{subject.uid}")
        elif isinstance(subject, Group | ServiceAccount):
            await ensure_unused(self._context, subject)
        await self._client.remove_finalizer(subject, self._finalizer)
        return None

    async def _remove_dependents(self, ref: Ref) -> None:
        left = await read_dependents(self._client, ref)
        for dependent in left:
            if not dependent.deleting:
                await self._client.delete(dependent.ref, uid=dependent.uid)
        if left and (left := await read_dependents(self._client, ref)):
            raise WaitingFor("DependentsPresent", f"Waiting for {name_some(sorted(r.ref for r in left))} to be gone.")

    async def _leave_groups(self, name: str) -> None:
        for group in (await self._client.list(Group)).items:
            if name in group.spec.members:
                group.spec.members = [m for m in group.spec.members if m != name]
                await self._client.update(group)

    async def _leave_key_policies(self, ref: Ref) -> None:
        """Take the subject out of what keys say of it; where it was the only one, nobody is left."""
        for key in (await self._client.list(Key)).items:
            project, rules = key.metadata.project, []
            for rule in key.spec.policy or ():
                left = [s for s in rule.subjects if subject_ref(s, project) != ref]
                if left:
                    rules.append(rule.model_copy(update={"subjects": left}))
            if key.spec.policy is not None and rules != key.spec.policy and not key.deleting:
                key.spec.policy = rules
                await self._client.update(key)

    async def _forget(self, path: str) -> None:
        credentials = self._context.backends.get(CREDENTIALS.name)
        if credentials is not None:
            await credentials.delete_prefix(path)


def build_subjects(context: ControllerContext, kind: type[AnyResource], finalizer: str) -> Controller:
    """Return the controller of one kind of subject."""
    subjects = context.informer(kind)

    def leaving(ref: Ref) -> Iterator[Ref]:
        found = subjects.get(ref)
        if found is not None and (found.deleting or is_disabled(found)):
            yield ref

    def named(dependent: AnyResource) -> Iterator[Ref]:
        for ref in subjects_of(dependent):
            yield from leaving(ref)

    def mapped(provider: IdentityProvider) -> Iterator[Ref]:
        for mapping in provider.spec.group_mapping:
            yield from leaving(Ref(Group.KIND, None, mapping.group))

    watches: dict[type[Any], Any] = dict.fromkeys(DEPENDENTS, named)

    def applied_as(source: GitSource) -> Iterator[Ref]:
        yield from leaving(Ref(ServiceAccount.KIND, source.metadata.project, source.spec.service_account))

    if kind is Group:
        watches[IdentityProvider] = mapped
    if kind is ServiceAccount:
        watches[GitSource] = applied_as
    return context.controller(SubjectReconciler(context, finalizer), kind, watches=watches)
