"""Names come again: what another tenant had under a name is not told to who has it now. With a real PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.apiserver.test_accounts import ADMIN, as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import SYSTEM, Api, error_of, serving
from tests.fixtures.mirrors import reached
from tests.fixtures.pastproject import mirroring, reading
from vcstack.pki.installation import Installation
from vcstack.specs.registry import get_kind
from vcstack.store.mirror.mirror import Mirror
from vcstack.store.store import Store

pytestmark = pytest.mark.daemons
NETWORKS = "/api/v1/projects/shop/networks"


@dataclass(frozen=True)
class Made:
    """An object, and the revision at which it was made."""

    uid: str
    revision: int


@dataclass(frozen=True)
class Cloud:
    """A cloud whose history a real PostgreSQL has."""

    api: Api
    mirror: Mirror

    async def make(
        self, kind: str, name: str, project: str | None = None, labels: dict[str, str] | None = None, **spec: Any
    ) -> Made:
        """Return what was made."""
        metadata = {"name": name, "labels": labels or {}, **({"project": project} if project else {})}
        wire = {"metadata": metadata, "spec": spec}
        stored = await self.api.store.create(get_kind(kind), wire, actor=ADMIN)
        return Made(stored.wire["metadata"]["uid"], stored.revision)

    async def remove(self, kind: str, name: str, project: str | None = None) -> None:
        """Delete an object as its controllers do to the end."""
        definition = get_kind(kind)
        await self.api.store.delete(definition, project, name, actor=ADMIN)
        await self.api.store.finalize(definition, project, name, list(definition.finalizers), actor=SYSTEM)

    async def recorded(self) -> None:
        await reached(self.mirror, await self.api.store.cache.fresh())


@pytest.fixture
async def cloud(
    memory_store: Store,
    memory_etcd: MemoryEtcd,
    pki_installation: Installation,
    tmp_path: Path,
    postgres_dsn: str,
) -> AsyncIterator[Cloud]:
    async with (
        mirroring(memory_etcd, postgres_dsn) as mirror,
        reading(postgres_dsn) as history,
        serving(memory_store, memory_etcd, pki_installation, tmp_path, history=history) as api,
    ):
        await put_roles(api)
        cloud = Cloud(api, mirror)
        await cloud.recorded()  # what is gone before the mirror has begun, no history knows
        yield cloud


async def told(client: httpx2.AsyncClient, path: str) -> set[str]:
    """Return the uids of the objects that the history is about."""
    answer = await client.get(f"{path}/history")
    assert answer.status_code == 200, answer.text
    return {item["uid"] for item in answer.json()["items"]}


async def test_a_project_that_takes_a_name_over_learns_nothing_of_who_had_it_before(cloud: Cloud) -> None:
    await cloud.make("Project", "shop")
    theirs = await cloud.make("Network", "blue", "shop")
    gone = await cloud.make("Network", "gone", "shop")
    for name in ("blue", "gone"):
        await cloud.remove("Network", name, "shop")
    await cloud.remove("Project", "shop")
    await cloud.make("Project", "shop")
    ours = await cloud.make("Network", "blue", "shop")
    old = await cloud.make("Network", "old", "shop")
    await cloud.remove("Network", "old", "shop")
    await put(cloud.api, "User", "alice", {})
    await bind(cloud.api, "alice", "alice", "member", "shop")
    await cloud.recorded()
    async with as_(cloud.api, await log_in(cloud.api, "alice")) as alice:
        assert await told(alice, f"{NETWORKS}/blue") == {ours.uid}
        assert await told(alice, f"{NETWORKS}/gone") == set()
        assert await told(alice, f"{NETWORKS}/old") == {old.uid}, "what is gone of one's own is told"
        refused = await alice.get(f"{NETWORKS}/blue", params={"atRevision": theirs.revision})
        assert refused.status_code == 404
    async with cloud.api.raw() as admin:
        assert await told(admin, f"{NETWORKS}/blue") == {theirs.uid, ours.uid}
        assert await told(admin, f"{NETWORKS}/gone") == {gone.uid}
        past = await admin.get(f"{NETWORKS}/blue", params={"atRevision": theirs.revision})
        assert past.json()["metadata"]["uid"] == theirs.uid


async def test_a_user_of_a_name_that_was_anothers_has_its_own_history(cloud: Cloud) -> None:
    for domain in ("acme", "globex"):
        await cloud.make("Domain", domain)
    before = await cloud.make("User", "dora", domain="acme", email="dora@acme.example")
    await cloud.remove("User", "dora")
    now = await cloud.make("User", "dora", domain="globex")
    for name, role, where in (("gabi", "domain-admin", {"domain": "globex"}), ("audra", "auditor", {})):
        await put(cloud.api, "User", name, {})
        await bind(cloud.api, name, name, role, **where)
    await cloud.recorded()
    async with as_(cloud.api, await log_in(cloud.api, "gabi")) as gabi:
        assert await told(gabi, "/api/v1/users/dora") == {now.uid}
        refused = await gabi.get("/api/v1/users/dora", params={"atRevision": before.revision})
        assert refused.status_code == 404
    async with as_(cloud.api, await log_in(cloud.api, "audra")) as audra:
        assert await told(audra, "/api/v1/users/dora") == {before.uid, now.uid}


async def test_who_sees_some_objects_by_their_labels_sees_the_past_of_those_only(cloud: Cloud) -> None:
    await cloud.make("Project", "shop")
    for name in ("blue", "gone"):
        await cloud.make("Network", name, "shop", labels={"env": "prod"})
        await cloud.remove("Network", name, "shop")
    dev = await cloud.make("Network", "blue", "shop", labels={"env": "dev"})
    limited = [
        {"verbs": ["get"], "kinds": ["Network"], "labelSelector": "env=dev"},
        {"verbs": ["get"], "kinds": ["Network"], "subresources": ["history"], "labelSelector": "env=dev"},
        {"verbs": ["get"], "kinds": ["Project"], "subresources": ["timeline"]},
    ]
    await put(cloud.api, "Role", "dev", {"rules": limited})
    await put(cloud.api, "User", "alice", {})
    await bind(cloud.api, "alice", "alice", "dev", "shop")
    await cloud.recorded()
    async with as_(cloud.api, await log_in(cloud.api, "alice")) as alice:
        assert await told(alice, f"{NETWORKS}/blue") == {dev.uid}
        refused = await alice.get(f"{NETWORKS}/gone/history")
        assert (refused.status_code, error_of(refused)["reason"]) == (404, "NotFound")
        lines = (await alice.get("/api/v1/projects/shop/timeline")).json()["items"]
        assert [i["uid"] for i in lines if i["kind"] == "Network"] == [dev.uid]
