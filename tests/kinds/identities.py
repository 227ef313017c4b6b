"""People, programs and grants that the tests of identity's kinds share."""

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from tests.fakes.manual_clock import BEGINNING
from tests.fakes.master_keys import MasterKeys
from tests.fakes.world import PROJECT, World
from vcstack.apiserver.auth.probing import ProviderProbes
from vcstack.controllers.identityprovider import ASKING
from vcstack.crypto.envelope import Envelopes
from vcstack.outbound.client import OutboundClient, OutboundSettings
from vcstack.specs.kinds.apikey import APIKey, APIKeySpec
from vcstack.specs.kinds.domain import Domain, DomainSpec
from vcstack.specs.kinds.group import Group, GroupSpec
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.role import Role, RoleSpec
from vcstack.specs.kinds.rolebinding import RoleBinding, RoleBindingSpec, Subject, SubjectKind
from vcstack.specs.kinds.serviceaccount import ServiceAccount, ServiceAccountSpec
from vcstack.specs.kinds.session import Session, SessionSpec
from vcstack.specs.kinds.user import User, UserSpec
from vcstack.specs.permissions import Rule
from vcstack.store.credentials import Credentials

USER, GROUP, ACCOUNT = SubjectKind.USER, SubjectKind.GROUP, SubjectKind.SERVICE_ACCOUNT


class Nowhere:
    """DNS that knows no name, and says so at once."""

    async def resolve(self, host: str) -> list[str]:
        raise OSError(f"{host} is not known")


def hours(count: float) -> datetime:
    """Return the time that many hours after the tests' clock begins."""
    return BEGINNING + timedelta(hours=count)


@contextlib.contextmanager
def give_providers(world: World, settings: OutboundSettings | None = None) -> Iterator[None]:
    """Have the world's controllers ask identity providers; without settings none can be reached from there."""
    outbound = OutboundClient(settings) if settings else OutboundClient(resolver=Nowhere())
    probes = world.backends[ASKING.name] = ProviderProbes(world.store, outbound, world.clock)
    try:
        yield
    finally:
        probes.close()
        outbound.close()


async def make_project(world: World, name: str = PROJECT, **spec: Any) -> Project:
    return await world.create(Project.new(name, ProjectSpec(**spec)))


async def make_domain(world: World, name: str = "acme", parent: str | None = None) -> Domain:
    return await world.create(Domain.new(name, DomainSpec(parent=parent) if parent else DomainSpec()))


async def make_user(world: World, name: str = "alice", **spec: Any) -> User:
    return await world.create(User.new(name, UserSpec(**spec)))


async def make_group(world: World, name: str, *members: str) -> Group:
    return await world.create(Group.new(name, GroupSpec(members=list(members))))


async def make_role(world: World, name: str = "seer", kind: str = "Instance") -> Role:
    return await world.create(Role.new(name, RoleSpec(rules=[Rule(verbs=["get"], kinds=[kind])])))


async def make_account(world: World, name: str = "ci", project: str = PROJECT) -> ServiceAccount:
    return await world.create(ServiceAccount.new(name, ServiceAccountSpec(), project=project))


def binding(
    name: str, kind: SubjectKind, subject: str, role: str = "seer", project: str | None = None, **spec: Any
) -> RoleBinding:
    home = spec.pop("home", None)
    who = Subject(kind=kind, name=subject, project=home) if home else Subject(kind=kind, name=subject)
    return RoleBinding.new(name, RoleBindingSpec(subject=who, role=role, **spec), project=project)


async def bind(world: World, name: str, kind: SubjectKind, subject: str, **spec: Any) -> RoleBinding:
    return await world.create(binding(name, kind, subject, **spec))


async def make_key(world: World, name: str, project: str | None = None, **spec: Any) -> APIKey:
    return await world.create(APIKey.new(name, APIKeySpec(**spec), project=project))


async def begin_session(
    world: World, name: str, user: str, *, began: float = 0, until: float = 8, **more: Any
) -> Session:
    subject = Subject(kind=USER, name=user)
    spec = SessionSpec(subject=subject, created_at=hours(began), expires_at=hours(until), **more)
    return await world.system.create(Session.new(name, spec))


def add_credentials(world: World) -> Credentials:
    """Give the controllers the real credentials store, and start them anew."""
    made = Credentials(world.etcd, Envelopes(MasterKeys()), world.clock)
    world.backends["credentials"] = made
    world.restart()
    return made
