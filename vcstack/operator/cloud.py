"""VC Stack as the operator sees it: its own objects, live by a watch of each kind that has custom resources."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from vcstack.apiclient.auth import AuthClient
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.credentials import ApiKey, KeyCredentials
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.apiclient.wire import Wire, WireClient
from vcstack.clock import Clock
from vcstack.operator.kubernetes import Key
from vcstack.operator.manifests import LABEL
from vcstack.operator.settings import OperatorSettings
from vcstack.runtime.backoff import Backoff
from vcstack.specs.access import EventType
from vcstack.specs.errors import ApiError, Conflict, Expired, NotFound, Unavailable
from vcstack.specs.registry import KindDefinition
from vcstack.specs.resource import Ref

log = structlog.get_logger()
USER_AGENT = "vc-operator/1"
PATIENCE_SECONDS = 10.0
"""A worker that waits for a limit on requests keeps others waiting."""
RETRY_LIMIT_SECONDS = 5.0
REOPEN_SECONDS = 0.05
"""Between the end of a watch and the next, so that a server that ends them at once is not flooded."""
MISSING_REFERENCES = "Allow"
"""Custom resources come in any order."""


class FileKeyCredentials:
    """Access tokens for the API key in a file, which may be replaced by another one at any time."""

    def __init__(self, path: Path, auth: AuthClient, clock: Clock) -> None:
        self._path = path
        self._auth = auth
        self._clock = clock
        self._key: ApiKey | None = None
        self._inner: KeyCredentials | None = None

    async def token(self, *, refused: str = "") -> str:
        """Return an access token, another one than that which was refused. Raises ApiError."""
        try:
            key = ApiKey.read(self._path)
        except OSError as error:
            raise Unavailable(f"the API key cannot be read: {error}") from error
        if self._inner is None or key != self._key:
            self._key, self._inner = key, KeyCredentials(key, self._auth, clock=self._clock)
        return await self._inner.token(refused=refused)

    async def aclose(self) -> None:
        """Close the connection that tokens come from."""
        await self._auth.connection.aclose()


def connect(settings: OperatorSettings, clock: Clock) -> ApiClient:
    """Return a client that speaks for the operator's service account; nothing is sent yet."""
    connection = ConnectionSettings(
        api_url=settings.api_url, ca_file=settings.ca_file, user_agent=USER_AGENT, patience_seconds=PATIENCE_SECONDS
    )
    return ApiClient.connect(
        connection, FileKeyCredentials(settings.key_file, AuthClient(Connection(connection)), clock)
    )


class Cloud:
    """Reads and writes objects; tells of those that change, and when VC Stack answers again."""

    def __init__(self, client: WireClient, name: str, clock: Clock, changed: Callable[[Key], None]) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._changed = changed
        self._objects: dict[Ref, Wire] = {}
        self._keys: dict[Ref, set[Key]] = {}
        self._refs: dict[Key, Ref] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self.connected: dict[str, bool] = {}
        """By kind, whether its watch runs."""

    async def aclose(self) -> None:
        """End the watches and close the connections."""
        for task in self._following.values():
            task.cancel()
        await asyncio.gather(*self._following.values(), return_exceptions=True)
        self._following.clear()
        await self._client.aclose()

    def register(self, key: Key, ref: Ref) -> None:
        """Have the custom resource looked at whenever that object changes."""
        if self._refs.get(key) != ref:
            self.forget(key)
            self._refs[key] = ref
            self._keys.setdefault(ref, set()).add(key)
        if ref.kind not in self._following:
            self._following[ref.kind] = asyncio.create_task(self._follow(key.definition), name=f"watch {ref.kind}")

    def forget(self, key: Key) -> None:
        """Look no more at the custom resource's object."""
        ref = self._refs.pop(key, None)
        if ref is not None:
            self._keys[ref].discard(key)
            if not self._keys[ref]:
                del self._keys[ref]
                self._objects.pop(ref, None)

    async def find(self, ref: Ref, definition: KindDefinition, *, fresh: bool = False) -> Wire | None:
        """Return the object, from the watch if it has it; None when there is none. Raises ApiError."""
        if not fresh and ref in self._objects:
            return self._objects[ref]
        try:
            found = await self._client.get_wire(definition, ref.name, ref.project)
        except NotFound:
            self._objects.pop(ref, None)
            return None
        self._note(ref, found)
        return found

    async def demand_sight(self, definition: KindDefinition) -> None:
        """Return when the account may see the kind's objects anywhere. Raises ApiError.

        Where it may nothing, nothing seems to be there: an object that is not found need not be gone.
        """
        await self._client.list_page(definition, labels=f"{LABEL}={self._name}", limit=1)

    async def apply(self, ref: Ref, definition: KindDefinition, wire: Wire, live: Wire | None, *, force: bool) -> Wire:
        """Return the object after server-side apply to that very object, or to none.

        Raises:
            Conflict: it is another object, or is there meanwhile (find_race); or fields belong to other managers.
        """
        # A version that no object has: with it an apply makes an object and never changes one that is there.
        guard = {"uid": live["metadata"]["uid"]} if live is not None else {"resourceVersion": "0"}
        given = {**wire, "metadata": {**wire["metadata"], **guard}}
        try:
            found = await self._client.apply_wire(
                definition, given, manager=self._name, force=force, missing_references=MISSING_REFERENCES
            )
        except Conflict:
            self._objects.pop(ref, None)
            raise
        self._note(ref, found)
        return found

    async def delete(self, ref: Ref, definition: KindDefinition, uid: str) -> Wire | None:
        """Ask for the deletion of that very object; return it while it is being deleted. Raises ApiError."""
        self._objects.pop(ref, None)
        try:
            return await self._client.delete_wire(definition, ref.name, project=ref.project, uid=uid)
        except NotFound:
            return None

    async def release(self, ref: Ref, definition: KindDefinition, live: Wire, annotations: tuple[str, ...]) -> None:
        """Let go of an object that stays. Raises ApiError."""
        meta = {"uid": live["metadata"]["uid"], "labels": {LABEL: None}, "annotations": dict.fromkeys(annotations)}
        await self._client.merge_patch_wire(definition, ref.name, {"metadata": meta}, project=ref.project)
        self._objects.pop(ref, None)

    async def _follow(self, definition: KindDefinition) -> None:
        """Keep up with the kind's objects, whatever becomes of connections and servers."""
        backoff, failures, version = Backoff(first_seconds=0.2, limit_seconds=RETRY_LIMIT_SECONDS), 0, ""
        labels = f"{LABEL}={self._name}"
        while True:
            try:
                if not version:
                    page = await self._client.list_wire(definition, labels=labels)
                    version = page.resource_version
                    self._replace(definition.kind, page.items)
                self._note_connected(definition.kind, connected=True)
                async for event in self._client.watch_wire(definition, since=version, labels=labels):
                    version, failures = event.resource_version, 0
                    self._note_connected(definition.kind, connected=True)
                    if event.type is not EventType.BOOKMARK:
                        self._note_event(definition.kind, event.type, event.object)
                await self._clock.sleep(REOPEN_SECONDS)
                continue
            except Expired:
                version = ""
            except ApiError as error:
                failures += 1
                if failures > 1:
                    self._note_connected(definition.kind, connected=False)
                log.warning("the watch of VC Stack broke", kind=definition.kind, error=error.message)
            await self._clock.sleep(backoff.delay(max(failures, 1)))

    def _note_connected(self, kind: str, *, connected: bool) -> None:
        """Remember it; when VC Stack is there again, whatever waited for it is looked at."""
        before = self.connected.get(kind)
        self.connected[kind] = connected
        if connected and before is False:
            for ref in [r for r in self._keys if r.kind == kind]:
                self._tell(ref)

    def _replace(self, kind: str, items: list[Wire]) -> None:
        found = {_ref_of(kind, wire): wire for wire in items}
        for ref in [r for r in self._keys if r.kind == kind]:
            self._objects.pop(ref, None)
            if ref in found:
                self._objects[ref] = found[ref]
            self._tell(ref)

    def _note_event(self, kind: str, type_: EventType, wire: Wire) -> None:
        ref = _ref_of(kind, wire)
        if ref not in self._keys:
            return
        if type_ is EventType.DELETED:
            # Perhaps only its label is gone: who wants it reads it.
            self._objects.pop(ref, None)
        else:
            self._objects[ref] = wire
        self._tell(ref)

    def _note(self, ref: Ref, wire: Wire) -> None:
        """Remember what a request answered, unless the watch, which may be faster, has told of something newer."""
        known = self._objects.get(ref)
        if known is not None and _version_of(known) >= _version_of(wire):
            return
        if (wire["metadata"].get("labels") or {}).get(LABEL) == self._name and self.connected.get(ref.kind):
            self._objects[ref] = wire

    def _tell(self, ref: Ref) -> None:
        for key in self._keys.get(ref, ()):
            self._changed(key)


def find_race(error: Conflict) -> bool:
    """Return whether the object is another one than was believed, so that looking again helps."""
    return any(c.field in ("metadata.uid", "metadata.resourceVersion", "uid") for c in error.causes)


def _version_of(wire: Wire) -> int:
    return int(wire["metadata"]["resourceVersion"])


def _ref_of(kind: str, wire: Wire) -> Ref:
    return Ref(kind, wire["metadata"].get("project"), wire["metadata"]["name"])
