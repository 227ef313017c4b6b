"""Events that the store has let go, from the mirror in a real PostgreSQL, with the rights of today."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import insert

from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import SYSTEM, Api, serving
from tests.vcctl.harness import Vcctl
from vcstack.pki.installation import Installation
from vcstack.specs.kinds.event import Event
from vcstack.specs.registry import get_kind
from vcstack.store.mirror.audit import AuditArchive
from vcstack.store.mirror.database import open_engine
from vcstack.store.mirror.history import HistoryReader
from vcstack.store.mirror.tables import EVENTS
from vcstack.store.store import Store

pytestmark = pytest.mark.daemons
Clients = dict[str, httpx2.AsyncClient]
NOW = datetime.now(UTC) + timedelta(days=1)
"""Later than any project of these tests is made."""
BOUNDLESS = "2000-01-01T00:00:00Z"


def row(project: str, name: str, at: datetime, **changes: Any) -> dict[str, Any]:
    return {
        "uid": f"ev-{project}-{name}", "project": project, "name": name, "revision": 7, "regarding_kind": "Instance",
        "regarding_name": "web-1", "regarding_uid": "in-1", "type": "Normal", "reason": "Started",
        "message": f"{name} happened", "actor": "vc-compute", "count": 3, "first_time": at, "last_time": at, **changes,
    }  # fmt: skip


@pytest.fixture
async def cloud(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path, postgres_dsn: str
) -> AsyncIterator[tuple[Api, Clients]]:
    """Two projects with events; alice is a reader of the first, olga an auditor of the cloud."""
    engine = open_engine(postgres_dsn)
    await AuditArchive(engine, postgres_dsn).prepare()
    async with AsyncExitStack() as stack:
        history = HistoryReader(engine)
        api = await stack.enter_async_context(
            serving(memory_store, memory_etcd, pki_installation, tmp_path, history=history)
        )
        await put_roles(api)
        for project in ("mine", "theirs"):
            await put(api, "Project", project, {})
        clients = {"admin": await stack.enter_async_context(api.raw())}
        for name, role, where in (("alice", "reader", "mine"), ("olga", "auditor", None)):
            await put(api, "User", name, {})
            await bind(api, name, name, role, where)
            clients[name] = await stack.enter_async_context(as_(api, await log_in(api, name)))
        since_then, before = NOW + timedelta(minutes=1), NOW - timedelta(days=3)
        rows = [row("mine", f"new-{n}", since_then + timedelta(seconds=n)) for n in range(4)]
        rows += [row("mine", "of-an-older-project", before), row("theirs", "hidden", since_then)]
        rows += [row("mine", "warning", since_then + timedelta(seconds=9), type="Warning", regarding_uid="in-2")]
        rows += [row("", "of-a-host", since_then, regarding_kind="Host", regarding_name="h1")]
        async with engine.begin() as connection:
            await connection.execute(insert(EVENTS), rows)
        yield api, clients
    await engine.dispose()


async def names(client: httpx2.AsyncClient, path: str = "/api/v1/events", **params: Any) -> list[str]:
    answer = await client.get(path, params={"since": BOUNDLESS, **params})
    assert answer.status_code == 200, answer.text
    return [item["metadata"]["name"] for item in answer.json()["items"]]


MINE = "/api/v1/projects/mine/events"
NEW = ["warning", "new-3", "new-2", "new-1", "new-0"]


async def test_they_come_as_events_the_newest_first(cloud: tuple[Api, Clients]) -> None:
    _, clients = cloud
    assert await names(clients["admin"], MINE) == [*NEW, "of-an-older-project"]
    answer = await clients["admin"].get(MINE, params={"since": BOUNDLESS, "limit": 1})
    event = Event.from_wire(answer.json()["items"][0])
    assert (event.spec.count, event.spec.actor, event.spec.regarding.name) == (3, "vc-compute", "web-1")
    assert event.spec.last_time == NOW + timedelta(minutes=1, seconds=9)


async def test_pages_follow_each_other_without_a_seam(cloud: tuple[Api, Clients]) -> None:
    _, clients = cloud
    found: list[str] = []
    params: dict[str, Any] = {"since": BOUNDLESS, "limit": 2}
    for _ in range(3):
        page = (await clients["admin"].get(MINE, params=params)).json()
        found += [item["metadata"]["name"] for item in page["items"]]
        params["continue"] = page["metadata"].get("continue")
    assert found == [*NEW, "of-an-older-project"]
    assert params["continue"] is None


async def test_they_are_selected_by_time_and_fields(cloud: tuple[Api, Clients]) -> None:
    _, clients = cloud
    until = (NOW + timedelta(minutes=1, seconds=2)).isoformat()
    assert await names(clients["admin"], MINE, since=NOW.isoformat(), until=until) == ["new-1", "new-0"]
    assert await names(clients["admin"], MINE, fieldSelector="spec.type=Warning") == ["warning"]
    assert await names(clients["admin"], MINE, fieldSelector="spec.regarding.uid=in-2") == ["warning"]
    assert await names(clients["admin"], MINE, fieldSelector="spec.type!=Normal") == ["warning"]


async def test_a_tenant_sees_its_own_and_none_of_an_older_project_of_the_name(cloud: tuple[Api, Clients]) -> None:
    _, clients = cloud
    assert await names(clients["alice"], MINE) == NEW
    assert set(await names(clients["alice"])) == set(NEW)
    assert (
        await clients["alice"].get("/api/v1/projects/theirs/events", params={"since": BOUNDLESS})
    ).status_code == 404


async def test_who_may_see_all_events_sees_all(cloud: tuple[Api, Clients]) -> None:
    _, clients = cloud
    everything = {*NEW, "of-an-older-project", "hidden", "of-a-host"}
    assert set(await names(clients["olga"])) == everything
    assert set(await names(clients["admin"])) == everything


@pytest.mark.parametrize(
    "params",
    [{"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}, {"continue": "x"}, {"limit": 0}, {"until": "x"},
     {"watch": "true"}, {"fieldSelector": "spec.nothing=1"}, {"labelSelector": "a=b"}, {"continue": "WzEsMl0="}],
)  # fmt: skip
async def test_a_wrong_query_is_refused(cloud: tuple[Api, Clients], params: dict[str, Any]) -> None:
    _, clients = cloud
    assert (await clients["admin"].get(MINE, params={"since": BOUNDLESS, **params})).status_code == 400


async def test_without_a_mirror_there_is_no_past(api: Api) -> None:
    async with api.raw() as admin:
        answer = await admin.get("/api/v1/events", params={"since": BOUNDLESS})
    assert answer.status_code == 404
    assert "PostgreSQL" in answer.text


async def test_vcctl_shows_them_beside_those_of_today(cloud: tuple[Api, Clients], tmp_path: Path) -> None:
    api, _ = cloud
    spec = {
        "regarding": {"kind": "Instance", "name": "web-1", "uid": "in-1"}, "type": "Normal", "reason": "Live",
        "message": "live happened", "actor": "tests", "firstTime": NOW.isoformat(), "lastTime": NOW.isoformat(),
    }  # fmt: skip
    wire = {"metadata": {"name": "live", "project": "mine"}, "spec": spec}
    await api.store.create(get_kind("Event"), wire, actor=SYSTEM)
    vcctl = Vcctl(api, tmp_path)
    out = await vcctl.ok("events", "-p", "mine", "--since", "7d")
    assert told(out) == ["of-an-older-project", "live", "new-0", "new-1", "new-2", "new-3", "warning"]
    gone = await vcctl.ok("events", "instance", "web-1", "-p", "mine", "--since", "7d", "--warnings")
    assert "warning happened" in gone
    assert told(await vcctl.ok("events", "-p", "mine")) == ["live"]


def told(output: str) -> list[str]:
    """The first words of the messages."""
    return [line.split()[-2] for line in output.splitlines() if line.rstrip().endswith(" happened")]
