"""The timeline of a project: who sees which lines, and paging."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_history import FakeHistory
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import Api, error_of, serving
from vcstack.pki.installation import Installation
from vcstack.specs.reach import ProjectReach
from vcstack.specs.resource import Ref
from vcstack.store.store import Store

TIMELINE = "/api/v1/projects/mine/timeline"


@dataclass(frozen=True)
class Line:
    """A revision of the fake."""

    revision: int
    ref: Ref
    uid: str = ""

    def to_wire(self) -> dict[str, Any]:
        return {"revision": str(self.revision), "kind": self.ref.kind, "name": self.ref.name}


class FakeTimeline(FakeHistory):
    """Lines about some objects of the project mine."""

    def __init__(self) -> None:
        super().__init__()
        self.since: list[datetime] = []
        self.project_reach: ProjectReach | None = None
        refs = [
            Ref("Project", None, "mine"), Ref("Network", "mine", "blue"), Ref("RoleBinding", "mine", "alice"),
            Ref("Instance", "mine", "vm"), Ref("Gone", "mine", "x"),
        ]  # fmt: skip
        self.lines = [Line(n, ref) for n, ref in enumerate(refs, 1)][::-1]

    async def list_of_project(
        self, project: str, *, since: datetime, limit: int = 100, before: int | None = None
    ) -> list[Line]:
        assert project == "mine"
        self.since.append(since)
        older = [line for line in self.lines if before is None or line.revision < before]
        return older[:limit] + [line for line in older[limit:] if line.revision == older[limit - 1].revision]

    async def find_project_reach(self, project: str, *, since: datetime) -> ProjectReach | None:
        return self.project_reach


@pytest.fixture
def history() -> FakeTimeline:
    return FakeTimeline()


@pytest.fixture
async def cloud(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path, history: FakeTimeline
) -> AsyncIterator[Api]:
    async with serving(memory_store, memory_etcd, pki_installation, tmp_path, history=history) as api:
        await put_roles(api)
        await put(api, "Project", "mine", {})
        await put(api, "Network", "blue", {}, "mine")
        yield api


async def test_the_administrator_sees_all_kinds_that_there_are(cloud: Api, history: FakeTimeline) -> None:
    async with cloud.raw() as client:
        found = (await client.get(TIMELINE)).json()
        born = (await client.get("/api/v1/projects/mine")).json()["metadata"]["creationTimestamp"]
    assert [i["kind"] for i in found["items"]] == ["Instance", "RoleBinding", "Network", "Project"]
    assert found["metadata"] == {}
    assert history.since == [datetime.fromisoformat(born)]  # not what another one of that name was


async def test_pages_lead_on_to_each_other(cloud: Api) -> None:
    async with cloud.raw() as client:
        seen, before = [], None
        for _ in range(5):
            page = (await client.get(TIMELINE + "?limit=2" + (f"&before={before}" if before else ""))).json()
            seen += [i["kind"] for i in page["items"]]
            before = page["metadata"].get("before")
            if before is None:
                break
    assert seen == ["Instance", "RoleBinding", "Network", "Project"]


async def test_no_page_ends_within_what_was_written_together(cloud: Api, history: FakeTimeline) -> None:
    history.lines = [Line(revision, line.ref) for revision, line in zip((3, 3, 2, 2, 1), history.lines, strict=True)]
    async with cloud.raw() as client:
        first = (await client.get(TIMELINE + "?limit=2")).json()
        second = (await client.get(TIMELINE + "?limit=2&before=2")).json()
    assert [i["revision"] for i in first["items"]] == ["3"], "of a kind that is no more nothing is shown"
    assert first["metadata"] == {"before": "3"}
    assert [i["revision"] for i in second["items"]] == ["1"]
    async with cloud.raw() as client:
        assert (await client.get(TIMELINE + "?limit=1&before=3")).json() == {
            "kind": "Timeline",
            "metadata": {"before": "2"},
            "items": [
                {"revision": "2", "kind": "RoleBinding", "name": "alice"},
                {"revision": "2", "kind": "Network", "name": "blue"},
            ],
        }


async def test_a_page_tells_how_far_back_nothing_is_missing(cloud: Api, history: FakeTimeline) -> None:
    async with cloud.raw() as client:
        history.project_reach = ProjectReach(0, None, 4)
        assert (await client.get(TIMELINE)).json()["metadata"] == {"reach": {"revision": "0", "cuts": "4"}}
        history.project_reach = ProjectReach(3, datetime(2026, 11, 1, tzinfo=UTC), 0)
        found = (await client.get(TIMELINE + "?limit=1")).json()["metadata"]
    assert found == {"before": "5", "reach": {"revision": "3", "time": "2026-11-01T00:00:00Z", "cuts": "0"}}


async def test_lines_are_for_who_may_read_the_objects_history(cloud: Api) -> None:
    for name, role in (("alice", "reader"), ("bob", "project-admin"), ("mallory", "")):
        await put(cloud, "User", name, {})
        if role:
            await bind(cloud, name, name, role, "mine")
    async with as_(cloud, await log_in(cloud, "alice")) as alice, as_(cloud, await log_in(cloud, "bob")) as bob:
        assert [i["kind"] for i in (await alice.get(TIMELINE)).json()["items"]] == ["Instance", "Network", "Project"]
        assert "RoleBinding" in [i["kind"] for i in (await bob.get(TIMELINE)).json()["items"]]
    async with as_(cloud, await log_in(cloud, "mallory")) as mallory:
        assert error_of(await mallory.get(TIMELINE))["code"] == 404


async def test_what_makes_no_sense_is_refused(cloud: Api, api: Api) -> None:
    async with cloud.raw() as client:
        assert error_of(await client.get("/api/v1/projects/nothing/timeline"))["code"] == 404
        assert error_of(await client.get(TIMELINE + "?limit=0"))["code"] == 400
        assert error_of(await client.get(TIMELINE + "?limit=501"))["code"] == 400
        assert error_of(await client.post(TIMELINE))["code"] == 405
    async with api.raw() as client:
        assert "no PostgreSQL" in error_of(await client.get(TIMELINE))["message"]
