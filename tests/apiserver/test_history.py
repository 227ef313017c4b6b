"""History through the API: from a reader of the mirror, and 503 while PostgreSQL is away."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import SYSTEM, Api, error_of, serving
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.pki.installation import Installation
from vcstack.specs.errors import BadRequest, Expired, NotFound, Unavailable
from vcstack.specs.reach import Reach
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.store.store import Store

INSTANCE = get_kind("Instance")


@dataclass(frozen=True)
class Change:
    """A revision of the fake."""

    revision: int

    def to_wire(self) -> dict[str, Any]:
        return {"revision": str(self.revision), "operation": "Updated", "actor": "admin", "diff": []}


class FakeHistory:
    """Revisions 1 to 9 of one object; ``away``: PostgreSQL does not answer."""

    def __init__(self) -> None:
        self.away = False
        self.position = 2**63
        """How far it has come."""
        self.asked: list[tuple[Ref, int, int | None]] = []
        self.reach: Reach | None = None

    async def read_position(self) -> int:
        return self.position

    async def list_revisions(
        self, ref: Ref, *, limit: int = 100, before: int | None = None, since: Any = None, uid: str | None = None
    ) -> Sequence[Change]:
        if self.away:
            raise Unavailable("History cannot be read: PostgreSQL does not answer.")
        self.asked.append((ref, limit, before))
        return [Change(n) for n in range(9, 0, -1) if before is None or n < before][:limit]

    async def get_at_revision(
        self, ref: Ref, revision: int, *, since: Any = None, uid: str | None = None
    ) -> Mapping[str, Any]:
        if self.away:
            raise Unavailable("History cannot be read: PostgreSQL does not answer.")
        if revision < 3:
            raise NotFound(f"{ref} did not exist at revision {revision}")
        if self.reach is not None and revision < self.reach.revision:
            raise self.reach.refuse(ref, "atRevision")
        return {"kind": ref.kind, "metadata": {"name": ref.name}, "spec": {"at": revision}}

    async def find_reach(self, ref: Ref, *, since: Any = None, uid: str | None = None) -> Reach | None:
        return self.reach


@pytest.fixture
def history() -> FakeHistory:
    return FakeHistory()


@pytest.fixture
async def api_with(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path, history: FakeHistory
) -> AsyncIterator[Api]:
    async with serving(memory_store, memory_etcd, pki_installation, tmp_path, history=history) as api:
        yield api


@pytest.fixture
async def client(api_with: Api) -> AsyncIterator[ApiClient]:
    async with Connection(api_with.settings(attempts=1)) as connection:
        yield ApiClient(connection)


async def test_revisions_come_newest_first_and_page_on(client: ApiClient, history: FakeHistory) -> None:
    first = await client.history(INSTANCE, "web-1", project="demo", limit=2)
    assert [r["revision"] for r in first] == ["9", "8"]
    rest = await client.history(INSTANCE, "web-1", project="demo", limit=2, before=first[-1]["revision"])
    assert [r["revision"] for r in rest] == ["7", "6"]
    assert history.asked[0] == (Ref("Instance", "demo", "web-1"), 2, None)


async def test_an_object_is_shown_as_it_was(client: ApiClient) -> None:
    wire = await client.get_at_revision(INSTANCE, "web-1", "5", project="demo")
    assert wire["spec"] == {"at": 5}
    with pytest.raises(NotFound):
        await client.get_at_revision(INSTANCE, "web-1", "2", project="demo")


async def test_what_was_removed_is_refused_with_what_can_be_had(api_with: Api, history: FakeHistory) -> None:
    path = "/api/v1/projects/demo/instances/web-1"
    async with api_with.raw() as raw:
        assert (await raw.get(f"{path}/history")).json()["metadata"] == {}
        history.reach = Reach(5, lacks=True)
        page = (await raw.get(f"{path}/history?limit=5")).json()
        assert page["metadata"] == {"reach": {"revision": "5"}}
        for query, parameter in ((f"{path}?atRevision=4", "atRevision"), (f"{path}/history?before=5", "before")):
            error = error_of(await raw.get(query))
            assert (error["code"], error["reason"]) == (410, "Expired")
            assert "history reaches back to revision 5" in error["message"]
            (cause,) = error["details"]["causes"]
            assert cause == {
                "field": f"query.{parameter}",
                "reason": "RevisionRemoved",
                "message": "must be 5 or later",
            }
        assert (await raw.get(f"{path}?atRevision=5")).json()["spec"] == {"at": 5}
        # Who pages to the end of what is whole, as far as one knows, comes to an end and to no error.
        history.reach = Reach(5, lacks=False)
        assert (await raw.get(f"{path}/history?before=1")).json()["items"] == []


async def test_a_client_knows_the_error(client: ApiClient, history: FakeHistory) -> None:
    history.reach = Reach(5, lacks=True)
    with pytest.raises(Expired, match="revision 5"):
        await client.get_at_revision(INSTANCE, "web-1", "4", project="demo")


@pytest.mark.parametrize("revision", ["x", "-1", "1.5", "9" * 30])
async def test_a_revision_that_is_none_is_refused(client: ApiClient, revision: str) -> None:
    with pytest.raises(BadRequest):
        await client.get_at_revision(INSTANCE, "web-1", revision, project="demo")


async def test_what_history_has_not_come_to_yet_is_not_told_as_it_was_before(
    client: ApiClient, history: FakeHistory, memory_store: Store
) -> None:
    for n in range(5):
        await memory_store.create(get_kind("Project"), {"metadata": {"name": f"p{n}"}}, actor=SYSTEM)
    newest = await memory_store.cache.fresh()
    history.position = newest - 1
    assert (await client.get_at_revision(INSTANCE, "web-1", str(newest - 1), project="demo"))["spec"]
    with pytest.raises(Unavailable, match=f"has come to revision {newest - 1} of "):
        await client.get_at_revision(INSTANCE, "web-1", str(newest), project="demo")
    asked = asyncio.create_task(client.get_at_revision(INSTANCE, "web-1", str(2**53), project="demo"))
    await asyncio.sleep(0)
    history.position = await memory_store.cache.fresh() + 1000
    assert (await asked)["spec"], "more than there is need not be waited for"


async def test_without_postgresql_history_is_unavailable_and_everything_else_works(
    client: ApiClient, history: FakeHistory
) -> None:
    history.away = True
    with pytest.raises(Unavailable, match="PostgreSQL"):
        await client.history(INSTANCE, "web-1", project="demo")
    with pytest.raises(Unavailable, match="PostgreSQL"):
        await client.get_at_revision(INSTANCE, "web-1", "5", project="demo")
    assert (await client.list_wire(INSTANCE)).items == []


async def test_without_a_mirror_it_says_so(api: Api, admin: ApiClient) -> None:
    with pytest.raises(NotFound, match="no history is kept"):
        await admin.history(INSTANCE, "web-1", project="demo")
