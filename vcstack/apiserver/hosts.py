"""What hosts ask for besides objects: joining, certificates, heartbeats."""

import contextlib
from collections.abc import Awaitable, Callable

import orjson
from cryptography.hazmat.primitives import serialization
from starlette.requests import Request
from starlette.responses import Response

from vcstack.apiclient.hosts import CertificateRequest, Heartbeat, IssuedCertificate, JoinRequest, JoinToken
from vcstack.apiserver import bodies, queries
from vcstack.apiserver.audit.entry import note_object
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.identity import HOST_PREFIX
from vcstack.apiserver.jointokens import REFUSED, JoinTokens
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.reach import is_out_of_service, out_of_service
from vcstack.apiserver.replies import model_reply
from vcstack.pki.authority import MAX_COMMON_NAME
from vcstack.pki.keys import PkiError, csr_public_key
from vcstack.specs.errors import AlreadyExists, Cause, Forbidden, Invalid, MethodNotAllowed, NotFound
from vcstack.specs.kinds.host import Host, HostSpec
from vcstack.specs.registry import definition_of
from vcstack.store.actor import Actor
from vcstack.store.heartbeats import Heartbeats
from vcstack.store.keys import row_of

NAME_LIMIT = MAX_COMMON_NAME - len(HOST_PREFIX)
"""Longest name of a host: it is part of its certificate's common name."""


class HostRoutes:
    """Answers requests for the subresources of hosts, and for joining."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._authority = parts.authority
        self._authorizer = authorizer
        self._hours = parts.settings.host_certificate_hours
        self._tokens = JoinTokens(parts.etcd, parts.clock, parts.store.cache.setting_book)
        self._heartbeats = Heartbeats(parts.etcd)
        self._subresources: dict[str, Callable[[Call], Awaitable[Response]]] = {
            "heartbeat": self.beat,
            "jointoken": self.create_token,
            "certificate": self.renew,
        }

    async def answer(self, call: Call) -> Response:
        """Return the answer to a POST on one of the host's own subresources."""
        if call.method != "POST":
            raise MethodNotAllowed(f"{call.method} is not possible here; there is POST")
        call.query.only(queries.NONE)
        return await self._subresources[call.target.subresource](call)

    async def join(self, request: Request) -> Response:
        """Give a host its first certificate for a one-time token, and create its Host object."""
        asked = await bodies.read_model(request, JoinRequest)
        note_object(None, asked.host_name)
        _check_length("hostName", asked.host_name)
        host = Host.new(asked.host_name, HostSpec(), labels=asked.labels)
        if asked.zone is not None:
            host.spec.zone = asked.zone
        wire = host.to_wire()
        wire.pop("status")
        public_key = _public_key(asked.csr)
        actor = Actor(HOST_PREFIX + asked.host_name, "vc-compute")
        known = await self._tokens.check(asked.token, asked.host_name, public_key)
        uid = await self._register(wire, actor, known)
        await self._tokens.redeem(asked.token, asked.host_name, public_key, uid)
        return model_reply(self._issue(asked.host_name, uid, asked.csr))

    async def create_token(self, call: Call) -> Response:
        """Return a one-time token for a host that is to join."""
        await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, call.target))
        _check_length("metadata.name", call.target.name)
        with contextlib.suppress(NotFound):
            _demand_in_service((await self._store.get(call.target.definition, None, call.target.name)).wire)
        token, expires_at = await self._tokens.create(call.target.name)
        return model_reply(JoinToken(token=token, expires_at=expires_at), 201)

    async def renew(self, call: Call) -> Response:
        """Return a new certificate for the host that asks."""
        await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, call.target))
        asked = await bodies.read_model(call.request, CertificateRequest)
        # Not of the Host that is there now: that may be another one since the caller was authorized.
        return model_reply(self._issue(call.target.name, call.identity.host_uid, asked.csr))

    async def beat(self, call: Call) -> Response:
        """Note that the host is alive."""
        await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, call.target))
        ttl = await self._heartbeats.beat(call.target.name)
        mark = self._authority.current.mark
        beat = Heartbeat(ttl_seconds=ttl, server_time=self._clock.now(), authority=mark)
        entry = self._store.cache.find(call.target.definition, row_of(None, call.target.name))
        if entry is not None:
            beat.generation = orjson.loads(entry.json)["metadata"]["generation"]
        return model_reply(beat)

    async def _register(self, wire: bodies.Wire, actor: Actor, known: str) -> str:
        """Return the uid of the Host that joins, which is made if it is not there yet.

        known: of the Host that the token was used for already. Raises Forbidden when that one is gone, or the Host is
        out of service: a token is no way around that.
        """
        definition, name = definition_of(Host), wire["metadata"]["name"]
        while True:
            with contextlib.suppress(NotFound):
                found = (await self._store.get(definition, None, name)).wire
                uid: str = found["metadata"]["uid"]
                if known not in ("", uid):
                    raise Forbidden(REFUSED)
                _demand_in_service(found)
                return uid
            if known:
                raise Forbidden(REFUSED)
            with contextlib.suppress(AlreadyExists):  # somebody made it meanwhile
                uid = (await self._store.create(definition, wire, actor=actor)).wire["metadata"]["uid"]
                return uid

    def _issue(self, host: str, uid: str, csr: str) -> IssuedCertificate:
        try:
            authority = self._authority.current
            certificate = authority.sign_csr(csr.encode(), HOST_PREFIX + host, hours=self._hours, uid=uid)
        except PkiError as error:
            raise _invalid("csr", str(error)) from error
        return IssuedCertificate(certificate=certificate.decode(), ca=authority.bundle.decode())


def _public_key(csr: str) -> bytes:
    try:
        key = csr_public_key(csr.encode("utf-8", "replace"))
    except PkiError as error:
        raise _invalid("csr", str(error)) from error
    encoding, format_ = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(encoding, format_)


def _demand_in_service(host: bodies.Wire) -> None:
    if is_out_of_service(host):
        raise out_of_service(host["metadata"]["name"])


def _check_length(field: str, name: str) -> None:
    if len(name) > NAME_LIMIT:
        raise _invalid(field, f"a host's name has at most {NAME_LIMIT} characters")


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", causes=[Cause(field=field, reason="FieldValueInvalid", message=message)])
