"""What the API server is built from: everything outside of it, given by the program (or a test)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from vcstack.apiserver.audit.settings import AccessLog
from vcstack.apiserver.audit.trail import Trail
from vcstack.apiserver.auth.assembly import Auth
from vcstack.apiserver.auth.tokens import Network
from vcstack.apiserver.consolefiles import DEFAULT_FOLDER
from vcstack.apiserver.limits.settings import LimitSettings
from vcstack.apiserver.shell.archive import Archive
from vcstack.clock import Clock
from vcstack.pki.local import LocalAuthority
from vcstack.specs.pastevents import PastEvents, PastPlace
from vcstack.specs.reach import ProjectReach, Reach
from vcstack.specs.resource import Ref
from vcstack.store.etcd_api import Etcd
from vcstack.store.store import Store


class Revision(Protocol):
    """One revision of an object."""

    def to_wire(self) -> dict[str, Any]:
        """Return it as the API shows it."""


class LocatedRevision(Revision, Protocol):
    """One revision of some object."""

    @property
    def revision(self) -> int:
        """Return the store's revision."""

    @property
    def ref(self) -> Ref:
        """Return whose it is."""

    @property
    def uid(self) -> str:
        """Return the object's uid; another one of that name has another one."""


class HistoryReader(Protocol):
    """What the API needs of the mirror. All raise Unavailable while PostgreSQL does not answer."""

    async def read_position(self) -> int:
        """Return the store's revision that the mirror has reached."""

    async def list_revisions(
        self,
        ref: Ref,
        *,
        limit: int = 100,
        before: int | None = None,
        since: datetime | None = None,
        uid: str | None = None,
    ) -> Sequence[Revision]:
        """Return the newest revisions first, older than ``before``, from ``since`` on and of ``uid`` if given."""

    async def get_at_revision(
        self, ref: Ref, revision: int, *, since: datetime | None = None, uid: str | None = None
    ) -> Mapping[str, Any]:
        """Return the object as it stood at that revision, likewise. Raises Expired, NotFound."""

    async def find_reach(self, ref: Ref, *, since: datetime | None = None, uid: str | None = None) -> Reach | None:
        """Return how far back that can be told, likewise; None: nothing was removed."""

    async def list_of_project(
        self, project: str, *, since: datetime, limit: int = 100, before: int | None = None
    ) -> Sequence[LocatedRevision]:
        """Return the newest revisions of what lies in the project first, but for reports of status.

        Of one revision all, so more than the limit where the last share theirs.
        """

    async def find_project_reach(self, project: str, *, since: datetime) -> ProjectReach | None:
        """Return how far back that can be told; None: nothing was removed."""

    async def list_events(self, wanted: PastEvents) -> Sequence[tuple[dict[str, Any], PastPlace]]:
        """Return events that the mirror keeps, each with its place."""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """What an operator may turn."""

    image_dir: Path
    """Where image content lies."""
    host_certificate_hours: int = 24
    """How long a host's certificate is good; it renews it after two thirds."""
    watch_seconds: int = 1800
    """A watch is ended after about that long, so that long-lived clients spread over replicas again."""
    keep_alive_seconds: float = 10.0
    """An idle watch gets an empty line that often; clients take 40 s of silence for death."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the API."""
    access_log: AccessLog = AccessLog.UNRECORDED
    """Which requests get a line in the log."""
    page_limit: int = 5000
    """Most objects of one page of a list, also of one that asks for no pages; ``continue`` leads to the rest."""
    limits: LimitSettings = field(default_factory=LimitSettings)
    """Seats, queues and streams of this process."""
    trusted_proxies: tuple[Network, ...] = ()
    """Proxies whose word counts for where a request comes from."""
    console_dir: Path = DEFAULT_FOLDER
    """Where the built console lies."""
    peer_url: str | None = None
    """Where other replicas reach this very one, for tunnels of hosts that are connected here."""


@dataclass(frozen=True, slots=True)
class ApiParts:
    """The outside of the API server."""

    store: Store
    etcd: Etcd
    clock: Clock
    authority: LocalAuthority
    admin_token: str
    auth: Auth
    """Logging in; started."""
    settings: ApiSettings
    history: HistoryReader | None = None
    """None: no mirror is configured."""
    audit: Trail | None = None
    """None: no audit trail is kept."""
    recordings: Archive | None = None
    """None: no recordings of shells are kept."""
