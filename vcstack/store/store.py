"""The desired-state store: typed CRUD with optimistic concurrency, apply, claims and watch, on etcd.

Wire objects (JSON-ready dicts) go in, exact JSON bytes come out. Every writer passes through here, so
defaulting, validation, references, immutability, claims, field managers and fencing are the same for users
and controllers. All methods raise the errors of ``vcstack.specs.errors``.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import orjson

from vcstack.clock import Clock, SystemClock
from vcstack.specs.access import Propagation
from vcstack.specs.errors import AlreadyExists, ErrorDetails
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.specs.sensitive import has_sensitive, redact
from vcstack.store import verbs
from vcstack.store.actor import Actor
from vcstack.store.bound import BoundStore
from vcstack.store.cache import CacheSettings, WatchCache
from vcstack.store.claims import Limits
from vcstack.store.compose import Terms, encode_draft
from vcstack.store.credentials import Credentials
from vcstack.store.draft import Draft, Wire, build_new, not_found
from vcstack.store.etcd_api import Etcd
from vcstack.store.keys import row_of
from vcstack.store.quotasets import SetCheck
from vcstack.store.quotausage import QuotasInForce, QuotaUsage, read_in_force, read_usage
from vcstack.store.reader import Reader
from vcstack.store.records import ListPage, Stored
from vcstack.store.selection import Visible, parse_selection
from vcstack.store.stream import WatchStream
from vcstack.store.table import Entry
from vcstack.store.validation import validate
from vcstack.store.values import MAX_STEPS, Values, ValuesChanged, lost
from vcstack.store.writer import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """How the store behaves."""

    cache: CacheSettings = field(default_factory=CacheSettings)
    bookmark_seconds: float = 10.0
    """A watcher for whom nothing comes is told the version it is at that often."""
    page_bytes: int = 8 * 1024 * 1024
    """A page ends there, whatever its limit, but has one object at least: objects may be as large as 1 MiB."""


class Store:
    """The store of one process. Use it as an async context manager, or start and close it.

    ``project`` is None for global objects, and in lists and watches for all of a kind wherever they live.
    Writes take an Actor; ``dry_run`` does everything but the write and returns what would be stored.
    """

    def __init__(
        self,
        etcd: Etcd,
        clock: Clock | None = None,
        settings: StoreSettings | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Args:
        etcd: where all lies.
        clock: default the system's.
        settings: how it behaves.
        credentials: keeps the values of sensitive fields; without it they cannot be written.
        """
        settings = settings or StoreSettings()
        self.clock = clock or SystemClock()
        self.cache = WatchCache(etcd, settings.cache)
        self._reader = Reader(etcd, self.cache, settings.bookmark_seconds, settings.page_bytes)
        self._writer = Writer(etcd, self.cache, self.clock)
        self._values = Values(self.cache, credentials)
        self._set_turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Load the cache; waits for etcd as long as it takes."""
        await self.cache.start()

    async def close(self) -> None:
        """End all streams. The etcd client is the caller's to close."""
        await self.cache.close()

    def bound(self, actor: Actor) -> BoundStore:
        """Return typed access for one actor, as controllers have it."""
        return BoundStore(self, actor)

    async def get(self, definition: KindDefinition, project: str | None, name: str) -> Stored:
        """Return the object. Raises NotFound."""
        return await self._reader.get(definition, project, name)

    async def list(
        self,
        definition: KindDefinition,
        project: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int | None = None,
        continue_: str = "",
        visible: Visible | None = None,
        projects: frozenset[str] | None = None,
    ) -> ListPage:
        """Return a page; all pages of a list show the revision of the first. Raises Expired, BadRequest.

        ``visible``: what else must be true of an object; else it is as if it were not there. ``projects``: where it can
        be true, if that is known; others are not looked through.
        """
        selection = parse_selection(definition, project, label_selector, field_selector, visible, projects)
        return await self._reader.list(definition, selection, limit, continue_)

    async def watch(
        self,
        definition: KindDefinition,
        project: str | None = None,
        *,
        since: int | None = None,
        label_selector: str = "",
        field_selector: str = "",
        visible: Visible | None = None,
    ) -> WatchStream:
        """Return the changes after that revision; None: everything there is as ADDED first, then a bookmark.

        The stream ends when its reader is too slow or the cache was built anew: watch again from the last
        version seen. Raises Expired (list again), BadRequest.
        """
        selection = parse_selection(definition, project, label_selector, field_selector, visible)
        return await self._reader.watch(definition, selection, since)

    async def create(
        self,
        definition: KindDefinition,
        wire: Mapping[str, Any],
        *,
        actor: Actor,
        dry_run: bool = False,
        allow_missing_references: bool = False,
    ) -> Stored:
        """Return the object as created. Raises AlreadyExists, ClaimTaken, Invalid, NotFound (the project)."""
        verbs.check_writable(definition, actor)
        terms = Terms(actor, dry_run, allow_missing_references)
        if has_sensitive(definition.model):
            masked = self._values.mask_new(definition, wire)
            wire, terms = masked.wire, replace(terms, values=masked)
        draft = build_new(definition, wire, actor=actor, now=self.clock.now())

        def build(entry: Entry | None) -> Draft:
            if entry is not None:
                details = ErrorDetails(kind=definition.kind, project=draft.project or "", name=draft.name)
                raise AlreadyExists(f"{definition.kind} {draft.name} exists already", details=details)
            return draft

        return await self._writer.write(definition, row_of(draft.project, draft.name), build, terms)

    async def replace(
        self,
        definition: KindDefinition,
        project: str | None,
        name: str,
        wire: Mapping[str, Any],
        *,
        actor: Actor,
        dry_run: bool = False,
        allow_missing_references: bool = False,
    ) -> Stored:
        """Return the object with these labels, annotations, owners, finalizers and spec.

        metadata.uid and resourceVersion must match when they are given (Conflict).
        """

        async def write(given: Mapping[str, Any], terms: Terms) -> Stored:
            return await self._revise(definition, project, name, verbs.replace(definition, given, actor), terms)

        terms = Terms(actor, dry_run, allow_missing_references)
        return await self._hiding(definition, project, name, wire, terms, write)

    async def merge_patch(
        self,
        definition: KindDefinition,
        project: str | None,
        name: str,
        patch: Mapping[str, Any],
        *,
        actor: Actor,
        dry_run: bool = False,
        allow_missing_references: bool = False,
    ) -> Stored:
        """Return the object after an RFC 7386 merge patch; given uid and resourceVersion must match."""

        async def write(given: Mapping[str, Any], terms: Terms) -> Stored:
            return await self._revise(definition, project, name, verbs.merge(definition, given, actor), terms)

        terms = Terms(actor, dry_run, allow_missing_references)
        return await self._hiding(definition, project, name, patch, terms, write)

    async def apply(
        self,
        definition: KindDefinition,
        project: str | None,
        name: str,
        wire: Mapping[str, Any],
        *,
        actor: Actor,
        manager: str | None = None,
        force: bool = False,
        dry_run: bool = False,
        allow_missing_references: bool = False,
    ) -> Stored:
        """Return the object after server-side apply, created when it was absent.

        ``manager`` is the actor's unless given. Raises Conflict whose causes name the fields that other
        managers own and who they are; ``force`` takes them over.
        """

        async def write(given: Mapping[str, Any], terms: Terms) -> Stored:
            application = verbs.Application(definition, project, name, given, actor, manager or actor.manager, force)

            def build(entry: Entry | None) -> Draft:
                return application.build(_live(entry), entry.revision if entry else 0, self.clock.now())

            verbs.check_writable(definition, actor)
            return await self._writer.write(definition, row_of(project, name), build, terms)

        terms = Terms(actor, dry_run, allow_missing_references)
        return await self._hiding(definition, project, name, wire, terms, write)

    async def patch_status(
        self,
        definition: KindDefinition,
        project: str | None,
        name: str,
        status: Mapping[str, Any],
        *,
        actor: Actor,
        uid: str | None = None,
        resource_version: str | None = None,
        limits: Limits | None = None,
        dry_run: bool = False,
    ) -> Stored:
        """Return the object with the patch merged into status, conditions by type; Ready is derived.

        ``limits``: pool → name → sum allowed, for claims that follow from the new status.
        """
        revise = verbs.merge_status(definition, status, uid, resource_version)
        terms = Terms(actor, dry_run, limits=limits or {}, subresource="status")
        return await self._revise(definition, project, name, revise, terms)

    async def replace_status(
        self,
        definition: KindDefinition,
        project: str | None,
        name: str,
        status: Mapping[str, Any],
        *,
        actor: Actor,
        uid: str | None = None,
        resource_version: str | None = None,
        dry_run: bool = False,
    ) -> Stored:
        """Return the object with this status; Ready is derived."""
        revise = verbs.replace_status(definition, status, uid, resource_version)
        terms = Terms(actor, dry_run, subresource="status")
        return await self._revise(definition, project, name, revise, terms)

    async def finalize(
        self,
        definition: KindDefinition,
        project: str | None,
        name: str,
        remove: Sequence[str],
        *,
        actor: Actor,
        uid: str | None = None,
        resource_version: str | None = None,
        dry_run: bool = False,
    ) -> Stored | None:
        """Remove finalizers, absent ones too; None when the object went with its last one.

        Users may not remove the system's finalizers, hosts only the one of the kind that is theirs.
        """
        verbs.check_finalizers(definition, remove, actor)
        revise = verbs.remove_finalizers(definition, remove, uid, resource_version)
        stored = await self._revise(definition, project, name, revise, Terms(actor, dry_run), checked=False)
        return None if stored.gone else stored

    async def delete(
        self,
        definition: KindDefinition,
        project: str | None,
        name: str,
        *,
        actor: Actor,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation = Propagation.BACKGROUND,
        dry_run: bool = False,
    ) -> Stored | None:
        """Remove the object, or mark it while finalizers hold it; None when it is gone. Raises NotFound."""
        verbs.check_writable(definition, actor, deletes=True)
        revise = verbs.mark_deleted(definition, uid, resource_version, propagation, self.clock.now())
        stored = await self._revise(definition, project, name, revise, Terms(actor, dry_run), checked=False)
        return None if stored.gone else stored

    async def reveal(self, definition: KindDefinition, project: str | None, name: str) -> dict[str, Any]:
        """Return the object with the values of its sensitive fields. Raises NotFound, Unavailable."""
        return await self._values.reveal(definition, project, name)

    async def _hiding(
        self,
        definition: KindDefinition,
        project: str | None,
        name: str,
        wire: Mapping[str, Any],
        terms: Terms,
        write: Callable[[Mapping[str, Any], Terms], Awaitable[Stored]],
    ) -> Stored:
        """Write with stand-ins for the values of sensitive fields, if the kind has any."""
        if not has_sensitive(definition.model):
            return await write(wire, terms)
        for _ in range(MAX_STEPS):
            masked = await self._values.mask(definition, project, name, wire)
            with contextlib.suppress(ValuesChanged):
                return await write(masked.wire, replace(terms, values=masked))
        raise lost(definition, project, name)

    async def check_quotas(self, wires: Sequence[tuple[KindDefinition, Wire]], *, actor: Actor) -> None:
        """Look whether quotas leave room for all these objects, applied together; writes nothing.

        What is wrong with an object otherwise is not said here.

        Raises:
            QuotaExceeded: they do not; the causes name the limits.
        """
        await self.cache.fresh()
        await SetCheck(self.cache, actor, self.clock.now(), self._set_turn).run(wires)

    def imagine(self, definition: KindDefinition, wire: Mapping[str, Any], *, actor: Actor) -> dict[str, Any]:
        """Return what an apply would make in a project that is not there yet, checked by itself alone.

        Raises:
            Invalid: it could not be made anywhere.
        """
        metadata = wire["metadata"]
        application = verbs.Application(
            definition, metadata.get("project"), metadata["name"], wire, actor, actor.manager, force=True
        )
        draft = application.build(None, 0, self.clock.now())
        resource = validate(definition, draft.project, draft.name, encode_draft(draft))
        if actor.guard is not None:
            actor.guard(resource, None)
        return redact(definition.model, resource.to_wire())

    async def quota_usage(self, project: str | None, name: str) -> QuotaUsage:
        """Return how much of a quota's limits is in use. Raises NotFound."""
        definition = get_kind("Quota")
        return read_usage(self.cache, (await self._reader.get(definition, project, name)).wire)

    async def quotas_in_force(self, project: str) -> QuotasInForce:
        """Return the limits that hold in a project, and what it takes of them. Raises NotFound."""
        await self._reader.get(get_kind("Project"), None, project)
        return read_in_force(self.cache, project)

    async def _revise(
        self,
        definition: KindDefinition,
        project: str | None,
        name: str,
        revise: verbs.Revise,
        terms: Terms,
        *,
        checked: bool = True,
    ) -> Stored:
        def build(entry: Entry | None) -> Draft:
            if entry is None:
                raise not_found(definition, project, name)
            live: Wire = orjson.loads(entry.json)
            return revise(live, entry.revision)

        if checked:
            verbs.check_writable(definition, terms.actor)
        return await self._writer.write(definition, row_of(project, name), build, terms)


def _live(entry: Entry | None) -> Wire | None:
    return None if entry is None else orjson.loads(entry.json)
