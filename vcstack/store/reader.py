"""Reads from the cache: get, list by pages over one revision, watch."""

import base64
from collections.abc import Iterator, Sequence

import orjson

from vcstack.specs.access import EventType
from vcstack.specs.errors import BadRequest, Expired, Unavailable
from vcstack.specs.registry import KindDefinition
from vcstack.store.cache import WatchCache
from vcstack.store.draft import not_found
from vcstack.store.encoding import to_json
from vcstack.store.etcd.errors import Compacted, EtcdError, FutureRevision
from vcstack.store.etcd_api import Etcd
from vcstack.store.keys import kind_prefix, object_key, row_of
from vcstack.store.records import ListPage, Stored, WatchItem
from vcstack.store.selection import Selection
from vcstack.store.stream import WatchStream, build_bookmark
from vcstack.store.table import Table
from vcstack.store.watchers import Watcher

CHUNK = 500
"""Objects of the past that are asked of etcd at once."""
TOO_OLD = "the list took too long: its version is no longer kept; begin again without continue"


class Reader:
    """All reads are linearizable: they show every write acknowledged before they came."""

    def __init__(self, etcd: Etcd, cache: WatchCache, bookmark_seconds: float, page_bytes: int) -> None:
        self._etcd = etcd
        self._cache = cache
        self._bookmark_seconds = bookmark_seconds
        self._page_bytes = page_bytes

    async def get(self, definition: KindDefinition, project: str | None, name: str) -> Stored:
        """Return the object. Raises NotFound."""
        await self._cache.fresh()
        entry = self._cache.find(definition, row_of(project, name))
        if entry is None:
            raise not_found(definition, project, name)
        return Stored(entry.json, entry.revision)

    async def list(
        self, definition: KindDefinition, selection: Selection, limit: int | None, continue_: str
    ) -> ListPage:
        """Return a page, of everything when there is no limit. Raises Expired, BadRequest."""
        pinned, after = _read_token(continue_) if continue_ else (0, "")
        await self._cache.fresh()
        table = self._cache.table(definition)
        if pinned and table.revision > pinned:
            return await self._list_old(definition, selection, limit, pinned, after)
        rows = _rows(table, selection, after)
        objects = table.objects
        if not selection.by_content and (limit is None or len(rows) <= limit):
            items = [objects[row].json for row in rows]
            if limit is None or sum(map(len, items)) <= self._page_bytes:
                return ListPage(items, pinned or self._cache.revision, "", 0)
        found = ((row, objects[row].json) for row in rows)
        return self._cut(found, selection, limit, pinned or self._cache.revision, len(rows))

    async def watch(self, definition: KindDefinition, selection: Selection, since: int | None) -> WatchStream:
        """Return the changes after that revision; with None everything there is as ADDED, a bookmark, then the changes.

        Raises:
            Expired: the revision is too old, or none that this store has had.
        """
        table = self._cache.table(definition)
        if since is None or since > self._cache.revision:
            await self._cache.fresh()
        if since is not None and since > self._cache.revision:
            raise Expired(f"version {since} does not exist here; list again and watch from the list's version")
        missed = self._present(table, selection) if since is None else table.changes_after(since, selection)
        settings = self._cache.settings
        watcher = Watcher(selection, settings.watcher_limit, settings.watcher_bytes)
        return WatchStream(
            self._cache,
            table,
            watcher,
            missed,
            revision=self._cache.revision if since is None else since,
            bookmark_seconds=self._bookmark_seconds,
        )

    def _present(self, table: Table, selection: Selection) -> Sequence[WatchItem]:
        entries = (table.objects[row] for row in _rows(table, selection, ""))
        present = [
            WatchItem(EventType.ADDED, entry.json, entry.revision)
            for entry in entries
            if not selection.by_content or selection.matches(orjson.loads(entry.json))
        ]
        return [*present, build_bookmark(table, self._cache.revision)]

    async def _list_old(
        self, definition: KindDefinition, selection: Selection, limit: int | None, revision: int, after: str
    ) -> ListPage:
        """Return a page of the past from etcd, because the kind has changed since the first page."""
        prefix = kind_prefix(definition)
        place = prefix + (f"{selection.project}/".encode() if selection.project else b"")
        found: list[tuple[str, bytes]] = []
        start, total, size = object_key(definition, after) + b"\0", 0, 0
        wanted = min(limit + 1, CHUNK) if limit else 0
        try:
            while True:
                answer = await self._etcd.range(place, start=start, limit=wanted, revision=revision)
                total = total or answer.total
                for kv in answer.kvs:
                    if selection.projects is not None and _project_of(kv.key[len(prefix) :]) not in selection.projects:
                        continue
                    json = to_json(definition, kv.value, kv.mod_revision)
                    if not selection.by_content or selection.matches(orjson.loads(json)):
                        found.append((kv.key[len(prefix) :].decode(), json))
                        size += len(json)
                if not answer.more or (limit and (len(found) > limit or size > self._page_bytes)):
                    break
                start = answer.kvs[-1].key + b"\0"
        except (Compacted, FutureRevision) as error:
            raise Expired(TOO_OLD) from error
        except EtcdError as error:
            raise Unavailable("the store does not answer; try again") from error
        plain = Selection(selection.project)
        page = self._cut(iter(found), plain, limit, revision, total)
        return page._replace(remaining=None) if selection.by_content and page.continue_ else page

    def _cut(
        self, found: Iterator[tuple[str, bytes]], selection: Selection, limit: int | None, revision: int, total: int
    ) -> ListPage:
        items: list[bytes] = []
        last, needle, size = "", selection.needle, 0
        for row, json in found:
            if needle not in json:
                continue
            if selection.by_content and not selection.matches(orjson.loads(json)):
                continue
            size += len(json)
            if limit and (len(items) == limit or (size > self._page_bytes and items)):
                remaining = None if selection.by_content else total - len(items)
                return ListPage(items, revision, _build_token(revision, last), remaining)
            items.append(json)
            last = row
        return ListPage(items, revision, "", 0)


def _rows(table: Table, selection: Selection, after: str) -> Sequence[str]:
    """Return the places among which the selection's objects are: a host's own, when it asks for those."""
    anchor = selection.anchor
    if anchor is not None and anchor[0] == table.node_path:
        return table.rows_at_node(anchor[1], selection.project, after)
    if selection.projects is not None and selection.project is None:
        # In the order of all rows, where a project's end with "/".
        inside = sorted(selection.projects, key=lambda project: project + "/")
        return [row for project in inside for row in table.rows(project, after)]
    return table.rows(selection.project, after)


def _project_of(row: bytes) -> str:
    return row.partition(b"/")[0].decode()


def _build_token(revision: int, last: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([revision, last])).decode()


def _read_token(token: str) -> tuple[int, str]:
    try:
        revision, after = orjson.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError):
        raise BadRequest("continue: is no token of a list; begin again without it") from None
    if type(revision) is not int or revision < 1 or not isinstance(after, str):
        raise BadRequest("continue: is no token of a list; begin again without it")
    return revision, after
