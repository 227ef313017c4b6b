"""What is noted of one request while it is answered, and the record that becomes of it."""

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from vcstack.apiserver.audit.policy import DENIALS
from vcstack.apiserver.audit.redaction import clean
from vcstack.apiserver.audit.settings import Level
from vcstack.apiserver.identity import ANONYMOUS, CLAIMED_KEY, PEER_KEY, Identity, Role
from vcstack.apiserver.queries import is_dry_run, is_watch
from vcstack.apiserver.targets import Target, parse_target
from vcstack.specs.errors import ApiError, Unavailable
from vcstack.store.writes import WRITES, Written

if TYPE_CHECKING:
    from vcstack.apiserver.audit.trail import Trail

READ_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
SWITCHING_PROTOCOLS: Final = 101
ALLOWED: Final = "Allowed"
ALSO_LIMIT: Final = 8
"""Other objects written on the way that a record names."""
ROOT: Final = "/api/v1/"
AUTH: Final = "/api/v1/auth/"
SPECIAL: Final = ("/api/v1/auth/", "/api/v1/join", "/api/v1/audit", "/api/v1/webhooks/")
"""Recorded though they name no kind."""
NAMED_BY_PATH: Final = (*SPECIAL, "/api/v1/access/")
"""What is done there is told by the path."""
_VERB_AT: Final = {"GET": "get", "HEAD": "get", "OPTIONS": "get", **VERBS}

CURRENT: Final[ContextVar["Entry | None"]] = ContextVar("audit", default=None)


class Entry:
    """One request. ``identity``, ``target`` and ``error`` are set by who finds them out.

    ``recorded``: it stands in the trail, or was counted there as one of many failures.
    """

    __slots__ = (
        "_body",
        "_done",
        "_plan",
        "_scope",
        "_trail",
        "attempt",
        "denied",
        "error",
        "identity",
        "is_read",
        "key",
        "login",
        "name",
        "on_behalf_of",
        "path",
        "project",
        "recorded",
        "recording",
        "request_id",
        "session",
        "subject",
        "target",
        "writes",
    )  # fmt: skip

    def __init__(self, trail: "Trail", scope: Any, request_id: str) -> None:
        self._trail = trail
        self._scope = scope
        self._done = False
        self._plan: Level | None = None
        self._body: bytearray | None = None
        self.request_id = request_id
        self.path: str = scope["path"]
        self.is_read: bool = scope["type"] != "websocket" and (
            scope["method"] in READ_METHODS or is_dry_run(scope["query_string"])
        )
        """Whether it changes nothing: a read, or a dry run."""
        self.identity: Identity = ANONYMOUS
        self.target: Target | None = None
        self.error: ApiError | None = None
        self.denied = self.recorded = False
        self.writes: list[Written] = []
        self.subject = self.session = self.key = self.on_behalf_of = self.attempt = ""
        self.project = self.name = self.login = self.recording = ""

    def admit(self, receive: Any) -> Any:
        """Return when what is asked for may be done, as far as the trail is concerned, with what reads the body.

        Raises:
            Unavailable: it could not be recorded.
        """
        if self.is_read or (level := self._planned()) is Level.NONE:
            return receive
        self._trail.demand()
        if level is not Level.REQUEST or self.target is None or self.target.subresource:
            return receive  # other bodies than objects are never kept: they are full of secrets
        body = self._body = bytearray()

        async def kept() -> Any:
            message = await receive()
            if len(body) <= self._trail.body_limit:
                body.extend(message.get("body", b""))
            return message

        return kept

    def demand(self) -> None:
        """Return when what is done now can be recorded, if it is to be. Raises Unavailable."""
        if not self.is_read and self._planned() is not Level.NONE:
            self._trail.demand()

    def dismiss(self) -> None:
        """Have it not recorded."""
        self._done = True

    def finish(self, status: int) -> None:
        """Record the request, once; the answer is sent after that. Raises Unavailable when it cannot be."""
        if self._done:
            return
        self._done = True
        level = self._level(status)
        if level is Level.NONE:
            return
        try:
            self._trail.record(self, level, status)
            self.recorded = True
        except Unavailable as error:
            if status < 400 and not self.is_read:
                message = f"the request was carried out, but {error.message}"
                raise Unavailable(message, details=error.details) from error

    @property
    def caller(self) -> str:
        """Return who asks."""
        return self.subject or self.identity.subject

    @property
    def peer(self) -> str:
        """Return the connection's own address."""
        client = self._scope.get("client")
        return client[0] if client else ""

    def outcome(self, status: int) -> str:
        """Return Allowed, Denied or Failed."""
        if status < 400:
            return ALLOWED
        return "Denied" if self.denied or status in DENIALS else "Failed"

    def level_of_end(self) -> Level:
        """Return how much is recorded of a websocket's end: as of its beginning."""
        return self._level(SWITCHING_PROTOCOLS)

    def describe(self, level: Level, status: int) -> dict[str, Any]:
        """Return the record."""
        scope, target, identity = self._scope, self.find_target(), self.identity
        access = identity.access
        found: dict[str, Any] = {
            "subject": self.caller,
            "verb": self._verb(),
            "method": clean(scope.get("method", "WEBSOCKET"), 16),
            "path": clean(self.path),
            "peer": self.peer,
            "status": status,
            "outcome": self.outcome(status),
            "requestId": self.request_id,
            "level": level.value,
        }
        project, name = self.project, self.name
        if target is not None:
            found["kind"] = target.definition.kind
            project, name = target.project or project, target.name or name
            if target.subresource:
                found["subresource"] = target.subresource
        if project:
            found["project"] = project
        if name:
            found["name"] = name
        if session := self.session or (access.session if access is not None else ""):
            found["session"] = session
        if key := self.key or (access.key if access is not None else ""):
            found["key"] = key
        if self.on_behalf_of:
            found["onBehalfOf"] = self.on_behalf_of
        if user := self.attempt or (self._claimed() if identity is ANONYMOUS else ""):
            found["user"] = user
        if self.login:
            found["login"] = self.login
        if self.recording:
            found["recording"] = self.recording
        if program := self._header(b"user-agent"):
            found["program"] = clean(program, 100)
        if self.writes:
            self._add_revisions(found)
            if found.get("before") == "0" and target is not None and not target.subresource:
                found["verb"] = "create"  # by an apply
        if "project" not in found and (domain := self._trail.find_domain(found, target)):
            found["domain"] = domain
        if self.error is not None:
            found["reason"], found["message"] = self.error.REASON, clean(self.error.message)
        if self._body is not None and target is not None:
            found["body"] = self._trail.read_body(target.definition, self._header(b"content-type"), self._body)
        return found

    def _planned(self) -> Level:
        """Return how much is recorded when it is let in; looked up once, when target and caller are known."""
        if self._plan is None:
            policy, target = self._trail.policy, self.target
            by_host = self.identity.role is Role.HOST
            if target is None:
                recorded = self.path.startswith(SPECIAL) or (self.is_read and self.path.startswith(ROOT))
                self._plan = policy.for_path(self.path, reads=self.is_read) if recorded else Level.NONE
            elif self.is_read:
                self._plan = policy.for_read(target, by_host=by_host)
            else:
                self._plan = policy.for_write(target, by_host=by_host)
        return self._plan

    def _level(self, status: int) -> Level:
        level = self._planned()
        if level is Level.NONE and (self.denied or status in DENIALS or self.on_behalf_of):
            return Level.METADATA
        return level

    def find_target(self) -> Target | None:
        """Return what is asked for, also of who was turned away before anybody looked."""
        if self.target is None and self.path.startswith("/api/v1/") and not self.path.startswith(SPECIAL):
            with contextlib.suppress(ApiError):
                self.target = parse_target(self.path.removeprefix("/api/v1/"))
        return self.target

    def _verb(self) -> str:
        target = self.target
        if self._scope["type"] == "websocket":
            return "connect"
        method: str = self._scope["method"]
        if target is None:
            if not self.path.startswith(NAMED_BY_PATH):
                return clean(method.lower(), 16)
            return clean(self.path.removeprefix(AUTH).removeprefix(ROOT), 64)
        if method in READ_METHODS and not target.name:
            return "watch" if is_watch(self._scope["query_string"]) else "list"
        if target.subresource and method == "POST":
            return "update"
        return _VERB_AT.get(method, "other")

    def _add_revisions(self, found: dict[str, Any]) -> None:
        """Add the versions of what was asked for, before and after; of other objects only that they were written."""
        target = self.target
        for written in self.writes:
            project, _, name = written.row.partition("/")
            project = "" if project == "-" else project
            asked = target is not None and written.kind == target.definition.kind
            if asked and target is not None and target.name:
                asked = (project, name) == (target.project or "", target.name)
            elif asked:
                # A collection was posted to: the first is what came of it.
                asked = "after" not in found or found["name"] == name
            if asked:
                found.setdefault("before", str(written.before))
                found["after"], found["name"] = str(written.after), name
                if project:
                    found["project"] = project
                elif written.domain:
                    found["domain"] = written.domain
            elif len(found.setdefault("also", [])) < ALSO_LIMIT:
                found["also"].append(f"{written.kind} {written.row} {written.after}")

    def _claimed(self) -> str:
        """Return whose credential was refused, where that is proven."""
        peer = self._scope.get(PEER_KEY)
        return clean(self._scope.get(CLAIMED_KEY) or ("" if peer is None else peer.common_name))

    def _header(self, wanted: bytes) -> str:
        for name, value in self._scope["headers"]:
            if name == wanted:
                return bytes(value).decode("latin-1")
        return ""


class Silent(Entry):
    """Of a server that keeps no trail."""

    __slots__ = ()

    def __init__(self) -> None:
        self.identity, self.target, self.error = ANONYMOUS, None, None
        self.recorded = False

    def admit(self, receive: Any) -> Any:
        """Return what reads the body."""
        return receive

    def finish(self, status: int) -> None:
        """Do nothing."""


def begin(trail: "Trail | None", scope: Any, request_id: str) -> Entry:
    """Return the entry of the request that this task answers."""
    if trail is None:
        return Silent()
    entry = Entry(trail, scope, request_id)
    CURRENT.set(entry)
    WRITES.set(entry.writes)
    return entry


def note_object(project: object, name: object) -> None:
    """Note which object a request is about whose path does not say it."""
    if (entry := CURRENT.get()) is not None:
        entry.project, entry.name = clean(str(project or ""), 64), clean(str(name or ""), 64)


def note_identity(identity: Identity) -> None:
    """Note who asks, where no entry is at hand."""
    if (entry := CURRENT.get()) is not None:
        entry.identity = identity


def note_target(target: Target) -> None:
    """Note what is asked for, where no entry is at hand."""
    if (entry := CURRENT.get()) is not None:
        entry.target = target


def note_error(error: ApiError) -> None:
    """Note why it is refused, where no entry is at hand."""
    if (entry := CURRENT.get()) is not None:
        entry.error = error


def note_caller(subject: str, *, session: str = "", key: str = "") -> None:
    """Note who it is, once a login has found out."""
    if (entry := CURRENT.get()) is not None:
        entry.subject, entry.session, entry.key = clean(subject), clean(session, 64), clean(key, 64)


def note_key(key: str) -> None:
    """Note which API key somebody comes with, before it is known whether rightly."""
    if (entry := CURRENT.get()) is not None:
        entry.key = clean(key, 64)


def note_attempt(user: str) -> None:
    """Note as whom somebody tries to log in. Kept is the name of a user that exists: people type passwords here."""
    if (entry := CURRENT.get()) is not None:
        entry.attempt = entry._trail.known_user(user)


def note_login(name: str) -> None:
    """Note as whom somebody logs in to a guest."""
    if (entry := CURRENT.get()) is not None:
        entry.login = clean(name, 64)


def note_recording(id_: str) -> None:
    """Note which recording is made of it."""
    if (entry := CURRENT.get()) is not None:
        entry.recording = clean(id_, 64)


def find_subject() -> str:
    """Return who asks, where no identity is at hand; nothing where no trail is kept."""
    entry = CURRENT.get()
    return "" if entry is None else entry.on_behalf_of or entry.identity.subject


def note_nothing_done() -> None:
    """Note that nothing came of the request that anybody could ask for later, such as that a login still waits."""
    if (entry := CURRENT.get()) is not None:
        entry.dismiss()


def note_denial() -> None:
    """Note that the request is denied, where the answer does not say so: NotFound for what may not be seen."""
    if (entry := CURRENT.get()) is not None:
        entry.denied = True


def note_on_behalf_of(subject: str) -> None:
    """Note for whom it is done, or whose rights are asked about, by somebody else."""
    if (entry := CURRENT.get()) is not None:
        entry.on_behalf_of = clean(subject, 128)
