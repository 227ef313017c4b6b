"""Tickets: what opens one websocket, once, for a page that cannot say who it is in a header.

A ticket stands for who asked for it: the same account in the same session or with the same key, for one stream of one
instance, for a minute. etcd keeps its hash under a lease, and using it up is one transaction, so that of several who
come with it on whatever replicas one gets in.
"""

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from starlette.responses import Response

from vcstack.apiclient.instancemessages import InstanceStream, Ticket, TicketRequest
from vcstack.apiserver import bodies
from vcstack.apiserver.auth.bearers import Bearers
from vcstack.apiserver.auth.tokens import Access, read_networks
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.identity import ADMIN, Identity, Role, identity_of
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.queries import NONE
from vcstack.apiserver.replies import model_reply
from vcstack.apiserver.targets import Target
from vcstack.specs.errors import Forbidden, MethodNotAllowed, Unauthorized, Unavailable
from vcstack.specs.meta import Time
from vcstack.specs.model import Model
from vcstack.store.etcd.errors import EtcdError
from vcstack.store.etcd.ops import Compare, Delete

PREFIX: Final = b"/vcstack/.tickets/"
LIFETIME: Final = timedelta(seconds=60)
TICKET_BYTES: Final = 32
LONGEST: Final = 128
REFUSED: Final = "the ticket is wrong, used already, older than 60 s or for something else; ask for a new one"


class Holder(Model):
    """The access token that the ticket was asked for with, in its parts; the token itself is kept nowhere."""

    subject: str
    uid: str
    session: str
    key: str
    source: str = ""
    methods: list[str]
    rules: list[dict[str, Any]] | None = None
    networks: list[str]
    not_before: int
    expires: int
    kid: str


class Grant(Model):
    """What a ticket allows, as kept in etcd."""

    instance: str
    """The instance's uid."""
    project: str
    name: str
    stream: InstanceStream
    holder: Holder | None = None
    """None: the administrator."""
    expires_at: Time


class Tickets:
    """Makes and takes tickets."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer, bearers: Bearers) -> None:
        self._store = parts.store
        self._etcd = parts.etcd
        self._clock = parts.clock
        self._authorizer = authorizer
        self._bearers = bearers

    async def create(self, call: Call) -> Response:
        """Give the caller a ticket for a stream that it may open."""
        if call.method != "POST":
            raise MethodNotAllowed(f"{call.method} is not possible here; there is POST")
        call.query.only(NONE)
        await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, call.target))
        asked = await bodies.read_model(call.request, TicketRequest)
        target = stream_target(call.target, asked.stream)
        await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, target))
        stored = await self._store.get(target.definition, target.project, target.name)
        ticket, expires_at = await self._grant(call.identity, target, stored.wire["metadata"]["uid"], asked.stream)
        return model_reply(Ticket(ticket=ticket, expires_at=expires_at), 201)

    async def redeem(self, ticket: str, target: Target, address: str) -> tuple[Identity, str]:
        """Use the ticket up; return for whom it stands, and the uid of its instance.

        Raises:
            Unauthorized: it is no good, or who asked for it is not logged in any more.
        """
        grant = await self._take(ticket)
        place = (grant.project, grant.name, grant.stream.subresource)
        if place != (target.project, target.name, target.subresource) or grant.expires_at <= self._clock.now():
            raise Unauthorized(REFUSED)
        if grant.holder is None:
            return ADMIN, grant.instance
        access = _access_of(grant.holder)
        found = self._bearers.find(access) or await self._bearers.find_fresh(access)
        if found is None:
            raise Unauthorized("who asked for the ticket is not logged in any more")
        return identity_of(access, found, address), grant.instance

    async def _grant(
        self, identity: Identity, target: Target, uid: str, stream: InstanceStream
    ) -> tuple[str, datetime]:
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        expires_at = self._clock.now() + LIFETIME
        if identity.access is None and identity.role is not Role.ADMIN:
            raise Forbidden(f"{identity.subject} gets no tickets")
        grant = Grant(
            instance=uid,
            project=target.project or "",
            name=target.name,
            stream=stream,
            holder=None if identity.access is None else _holder_of(identity.access),
            expires_at=expires_at,
        )
        with _unavailable():
            lease = await self._etcd.lease_grant(int(LIFETIME.total_seconds()))
            await self._etcd.put(_key(ticket), grant.to_json(), lease=lease.id)
        return ticket, expires_at

    async def _take(self, ticket: str) -> Grant:
        if len(ticket) > LONGEST:
            raise Unauthorized(REFUSED)
        key = _key(ticket)
        with _unavailable():
            found = (await self._etcd.get(key)).kv
            if found is None:
                raise Unauthorized(REFUSED)
            unchanged = Compare.mod_revision(key, "=", found.mod_revision)
            if not (await self._etcd.txn([unchanged], [Delete(key)])).succeeded:
                raise Unauthorized(REFUSED)
        return Grant.from_wire(found.value)


def stream_target(target: Target, stream: InstanceStream) -> Target:
    """Return the websocket of the instance that the stream is at."""
    return Target(target.definition, target.project, target.name, stream.subresource)


def _holder_of(access: Access) -> Holder:
    return Holder(
        subject=access.subject,
        uid=access.uid,
        session=access.session,
        key=access.key,
        source=access.source,
        methods=list(access.methods),
        rules=None if access.rules is None else [dict(rule) for rule in access.rules],
        networks=[str(network) for network in access.networks],
        not_before=access.not_before,
        expires=access.expires,
        kid=access.kid,
    )


def _access_of(holder: Holder) -> Access:
    return Access(
        subject=holder.subject,
        uid=holder.uid,
        session=holder.session,
        key=holder.key,
        source=holder.source,
        methods=tuple(holder.methods),
        rules=None if holder.rules is None else tuple(holder.rules),
        networks=read_networks(holder.networks),
        not_before=holder.not_before,
        expires=holder.expires,
        kid=holder.kid,
    )


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except EtcdError as error:
        raise Unavailable(f"the store does not answer: {error}") from error


def _key(ticket: str) -> bytes:
    return PREFIX + hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).hexdigest().encode()
