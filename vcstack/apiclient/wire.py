"""The API as it is on the wire: JSON objects in and out, for vcctl and for what works on all kinds alike."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from vcstack.apiclient.connection import APPLY_JSON, APPLY_YAML, MERGE_PATCH, Connection, Params, decode
from vcstack.apiclient.explainmessages import RelatedReply, WhyFinding, WhyReply
from vcstack.apiclient.paths import API_ROOT, collection_path, object_path
from vcstack.apiclient.planmessages import ApplyPlanReply, PlannedElsewhere
from vcstack.apiclient.watch import WireEvent, read_events
from vcstack.specs.access import Propagation
from vcstack.specs.model import Model
from vcstack.specs.registry import KindDefinition

Wire = dict[str, Any]
PAGE_SIZE = 1000
"""Objects a request when a whole list is read: large pages list several times faster than small ones."""


@dataclass(frozen=True, slots=True)
class WirePage:
    """One page of a list, or the whole of it."""

    items: list[Wire]
    resource_version: str
    """Of the first page: where to begin watching from."""
    continue_token: str = ""
    """Asks for the next page; empty on the last."""
    remaining: int | None = None
    """How many objects come after this page, if the server knows."""


class WireClient:
    """All verbs on any kind by its definition. ``project`` None: global, or for lists across projects.

    Writes take ``dry_run`` (everything but the write, and the result is returned) and
    ``missing_references`` ("Allow": what a field refers to may come later).
    All methods raise ``vcstack.specs.errors``.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def aclose(self) -> None:
        """Close the connections."""
        await self.connection.aclose()

    async def get_wire(self, definition: KindDefinition, name: str, project: str | None = None) -> Wire:
        """Return the object, consistently read."""
        return decode(await self.connection.request("GET", object_path(definition, project, name)))

    async def list_page(
        self,
        definition: KindDefinition,
        *,
        project: str | None = None,
        labels: str = "",
        fields: str = "",
        limit: int | None = None,
        continue_token: str = "",
    ) -> WirePage:
        """Return one page; pages follow each other over the revision of the first one."""
        params: Params = {
            "labelSelector": labels or None,
            "fieldSelector": fields or None,
            "limit": limit,
            "continue": continue_token or None,
        }
        path = collection_path(definition, project)
        body = decode(await self.connection.request("GET", path, params=params))
        meta = body["metadata"]
        return WirePage(
            items=body["items"],
            resource_version=meta["resourceVersion"],
            continue_token=meta.get("continue", ""),
            remaining=meta.get("remainingItemCount"),
        )

    async def list_wire(
        self,
        definition: KindDefinition,
        *,
        project: str | None = None,
        labels: str = "",
        fields: str = "",
        page_size: int = PAGE_SIZE,
    ) -> WirePage:
        """Return all objects, read page by page over one revision. Raises Expired if reading took too long."""
        items: list[Wire] = []
        token, version = "", ""
        while True:
            page = await self.list_page(
                definition, project=project, labels=labels, fields=fields, limit=page_size, continue_token=token
            )
            items += page.items
            version = version or page.resource_version
            token = page.continue_token
            if not token:
                return WirePage(items, version)

    async def list_lent(self, definition: KindDefinition, project: str) -> WirePage:
        """Return what of the kind other projects share with this one, as borrowers see it."""
        path = collection_path(definition, project)
        body = decode(await self.connection.request("GET", path, params={"shared": "true"}))
        return WirePage(body["items"], body["metadata"]["resourceVersion"])

    async def create_wire(
        self, definition: KindDefinition, wire: Wire, *, dry_run: bool = False, missing_references: str | None = None
    ) -> Wire:
        """Return the object as created (or as it would be)."""
        path = collection_path(definition, _project_of(wire))
        return await self._write("POST", path, wire, dry_run=dry_run, missing_references=missing_references)

    async def replace_wire(
        self, definition: KindDefinition, wire: Wire, *, dry_run: bool = False, missing_references: str | None = None
    ) -> Wire:
        """Return the object as replaced; Conflict if metadata.resourceVersion is given and stale."""
        path = object_path(definition, _project_of(wire), _name_of(wire))
        return await self._write("PUT", path, wire, dry_run=dry_run, missing_references=missing_references)

    async def apply_wire(
        self,
        definition: KindDefinition,
        wire: Wire,
        *,
        manager: str,
        force: bool = False,
        dry_run: bool = False,
        missing_references: str | None = None,
    ) -> Wire:
        """Return the object after server-side apply; Conflict names fields that other managers own."""
        path = object_path(definition, _project_of(wire), _name_of(wire))
        params: Params = {"fieldManager": manager, "force": "true" if force else None}
        return await self._write(
            "PATCH", path, wire, dry_run=dry_run, missing_references=missing_references, params=params, as_=APPLY_JSON
        )

    async def apply_text(
        self, path: str, text: bytes, *, manager: str, force: bool = False, dry_run: bool = False
    ) -> Wire:
        """Return the object after server-side apply of YAML text to that path."""
        params: Params = {"fieldManager": manager, "force": "true" if force else None, "dryRun": _dry(dry_run)}
        answer = await self.connection.request("PATCH", path, params=params, content=text, content_type=APPLY_YAML)
        return decode(answer)

    async def merge_patch_wire(
        self,
        definition: KindDefinition,
        name: str,
        patch: Wire,
        *,
        project: str | None = None,
        subresource: Literal["", "status"] = "",
        dry_run: bool = False,
        missing_references: str | None = None,
    ) -> Wire:
        """Return the object after an RFC 7386 merge patch; metadata.uid and resourceVersion in it must match."""
        path = object_path(definition, project, name, subresource)
        return await self._write(
            "PATCH", path, patch, dry_run=dry_run, missing_references=missing_references, as_=MERGE_PATCH
        )

    async def delete_wire(
        self,
        definition: KindDefinition,
        name: str,
        *,
        project: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation = Propagation.BACKGROUND,
        dry_run: bool = False,
    ) -> Wire | None:
        """Return the object that is being deleted, or None when it is gone already. Raises NotFound if absent."""
        params: Params = {
            "propagationPolicy": propagation.value,
            "uid": uid,
            "resourceVersion": resource_version,
            "dryRun": _dry(dry_run),
        }
        answer = await self.connection.request("DELETE", object_path(definition, project, name), params=params)
        return None if answer.status_code == 204 else decode(answer)

    def watch_wire(
        self,
        definition: KindDefinition,
        *,
        since: str,
        project: str | None = None,
        labels: str = "",
        fields: str = "",
    ) -> AsyncGenerator[WireEvent]:
        """Yield what happens after ``since``; ends when the server closes the stream: watch again from there.

        Raises:
            Expired: list again.
            Unavailable: the connection is dead; resume from the last version seen.
        """
        params: Params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "labelSelector": labels or None,
            "fieldSelector": fields or None,
        }
        return read_events(self.connection, collection_path(definition, project), params)

    def watch_lent(self, definition: KindDefinition, project: str, *, since: str) -> AsyncGenerator[WireEvent]:
        """Yield what happens to what other projects share with this one; raises and ends as ``watch_wire``."""
        params: Params = {
            "shared": "true",
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
        }
        return read_events(self.connection, collection_path(definition, project), params)

    async def why(self, definition: KindDefinition, name: str, *, project: str | None = None) -> WhyFinding:
        """Return what really holds the object up."""
        path = object_path(definition, project, name, "why")
        return WhyReply.from_wire((await self.connection.request("GET", path)).content).finding

    async def related(self, definition: KindDefinition, name: str, *, project: str | None = None) -> RelatedReply:
        """Return what the object is connected with."""
        path = object_path(definition, project, name, "related")
        return RelatedReply.from_wire((await self.connection.request("GET", path)).content)

    async def history(
        self,
        definition: KindDefinition,
        name: str,
        *,
        project: str | None = None,
        limit: int | None = None,
        before: str | None = None,
    ) -> list[Wire]:
        """Return the object's revisions, newest first; ``before`` pages on to older ones."""
        params: Params = {"limit": limit, "before": before}
        path = object_path(definition, project, name, "history")
        items: list[Wire] = decode(await self.connection.request("GET", path, params=params))["items"]
        return items

    async def get_at_revision(
        self, definition: KindDefinition, name: str, revision: str, *, project: str | None = None
    ) -> Wire:
        """Return the object as it was at that revision.

        Raises:
            NotFound: it did not exist then.
            Expired: what it was then has been removed from history.
        """
        path = object_path(definition, project, name)
        return decode(await self.connection.request("GET", path, params={"atRevision": revision}))

    async def subresource(
        self,
        method: str,
        definition: KindDefinition,
        name: str,
        subresource: str,
        *,
        project: str | None = None,
        body: Model | Mapping[str, Any] | None = None,
        params: Params | None = None,
    ) -> Wire:
        """Return the answer of any JSON subresource; an empty answer is an empty mapping."""
        return await self._write(method, object_path(definition, project, name, subresource), body, params=params)

    async def follow_log(
        self, name: str, *, project: str, tail: int | None = None, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """Yield an instance's serial log: its last ``tail`` lines, then, if followed, what comes."""
        path = f"{API_ROOT}/projects/{project}/instances/{name}/log"
        params: Params = {"tail": tail, "follow": "true" if follow else None}
        limit = 24 * 3600.0 if follow else None
        async with self.connection.stream("GET", path, params=params, timeout_seconds=limit) as response:
            async for chunk in response.aiter_bytes():
                yield chunk

    async def check_quotas(self, wires: Sequence[Mapping[str, Any]]) -> None:
        """Ask whether quotas leave room for all these objects, applied together. Raises QuotaExceeded."""
        await self._write("POST", f"{API_ROOT}/quotacheck", {"items": list(wires)})

    async def plan(
        self,
        wires: Sequence[Wire],
        *,
        manager: str,
        force: bool = False,
        beside: Sequence[PlannedElsewhere] = (),
        replace: bool = False,
    ) -> ApplyPlanReply:
        """Return what an apply, or a replacement, would do. Raises TooLarge for what is too large for one request."""
        asked = {"items": list(wires), "fieldManager": manager, "force": force, "replace": replace}
        asked["beside"] = [other.to_wire() for other in beside]
        return ApplyPlanReply.from_wire(await self._write("POST", f"{API_ROOT}/plan", asked))

    async def effective_settings(self, *, project: str | None = None, domain: str | None = None) -> Wire:
        """Return which settings count in a project, a domain or the cloud, and where each is from."""
        params: Params = {"project": project, "domain": domain}
        return decode(await self.connection.request("GET", f"{API_ROOT}/effectivesettings", params=params))

    async def discover(self) -> Wire:
        """Return the kinds that the server knows."""
        return decode(await self.connection.request("GET", API_ROOT))

    async def get_version(self) -> Wire:
        """Return the server's version."""
        return decode(await self.connection.request("GET", "/version", anonymous=True))

    async def _write(
        self,
        method: str,
        path: str,
        body: Model | Mapping[str, Any] | None,
        *,
        dry_run: bool = False,
        missing_references: str | None = None,
        params: Params | None = None,
        as_: str = "application/json",
    ) -> Wire:
        query: Params = {**(params or {}), "dryRun": _dry(dry_run), "missingReferences": missing_references}
        content = None if body is None else _encode(body)
        answer = await self.connection.request(method, path, params=query, content=content, content_type=as_)
        return decode(answer) if answer.content else {}


def _encode(body: Model | Mapping[str, Any]) -> bytes:
    return body.to_json() if isinstance(body, Model) else orjson.dumps(body)


def _dry(dry_run: bool) -> str | None:
    return "All" if dry_run else None


def _project_of(wire: Wire) -> str | None:
    project: str | None = (wire.get("metadata") or {}).get("project")
    return project


def _name_of(wire: Wire) -> str:
    return (wire.get("metadata") or {}).get("name") or ""
