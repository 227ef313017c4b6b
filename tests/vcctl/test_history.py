"""history, get --at-revision and rollback."""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import serving
from tests.vcctl.harness import Hands, Vcctl
from tests.vcctl.scene import set_scene
from vcstack.pki.installation import Installation
from vcstack.specs.errors import NotFound
from vcstack.specs.kinds.sshkey import SSHKey
from vcstack.specs.reach import Reach
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.store.store import Store
from vcstack.vcctl.errors import ExitCode


class Recorded:
    """One revision of what was noted."""

    def __init__(self, wire: dict[str, Any]) -> None:
        self.wire = wire

    def to_wire(self) -> dict[str, Any]:
        return self.wire


class Notes:
    """A history that a test writes by noting the present state."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._noted: dict[Ref, list[dict[str, Any]]] = {}
        self._days: dict[str, int] = {}
        self.reach: Reach | None = None

    async def note(self, ref: Ref, day: int = 1) -> str:
        """Remember the object as it is and return its revision; the day is one of November."""
        stored = await self._store.get(get_kind(ref.kind), ref.project, ref.name)
        self._noted.setdefault(ref, []).insert(0, stored.wire)
        self._days[stored.wire["metadata"]["resourceVersion"]] = day
        return str(stored.wire["metadata"]["resourceVersion"])

    async def read_position(self) -> int:
        return sys.maxsize  # it is never behind

    async def list_revisions(
        self, ref: Ref, *, limit: int = 100, before: int | None = None, since: Any = None, uid: str | None = None
    ) -> Sequence[Recorded]:
        return [
            Recorded(
                {
                    "revision": wire["metadata"]["resourceVersion"],
                    "uid": wire["metadata"]["uid"],
                    "operation": "Updated",
                    "actor": "admin",
                    "manager": "vcctl",
                    "time": f"2026-11-{self._days[wire['metadata']['resourceVersion']]:02}T00:00:00Z",
                    "diff": [{"path": "spec.mtuBytes", "old": None, "new": wire["spec"].get("mtuBytes")}],
                }
            )
            for wire in self._noted.get(ref, [])
            if before is None or int(wire["metadata"]["resourceVersion"]) < before
        ][:limit]

    async def get_at_revision(
        self, ref: Ref, revision: int, *, since: Any = None, uid: str | None = None
    ) -> Mapping[str, Any]:
        for wire in self._noted.get(ref, []):
            if int(wire["metadata"]["resourceVersion"]) <= revision:
                return wire
        raise NotFound(f"{ref} did not exist at revision {revision}")

    async def find_reach(self, ref: Ref, *, since: Any = None, uid: str | None = None) -> Reach | None:
        return self.reach


NETWORK = Ref("Network", "demo", "web")


@pytest.fixture
def notes(memory_store: Store) -> Notes:
    return Notes(memory_store)


@pytest.fixture
async def vcctl(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path, notes: Notes
) -> AsyncIterator[Vcctl]:
    async with serving(memory_store, memory_etcd, pki_installation, tmp_path, history=notes) as api:
        yield Vcctl(api, tmp_path)


async def two_revisions(vcctl: Vcctl, notes: Notes) -> tuple[str, str]:
    await set_scene(vcctl)
    await vcctl.ok("label", "network", "web", "age=old")
    old = await notes.note(NETWORK)
    await vcctl.ok("patch", "network", "web", "--patch", "{spec: {mtuBytes: 1400}, metadata: {labels: {age: new}}}")
    return old, await notes.note(NETWORK, day=3)


async def test_history_is_a_table_of_who_changed_what(vcctl: Vcctl, notes: Notes) -> None:
    old, new = await two_revisions(vcctl, notes)
    head, *rows = (await vcctl.ok("history", "network", "web")).splitlines()
    assert head.split()[:3] == ["REVISION", "AGE", "OPERATION"]
    assert [r.split()[0] for r in rows] == [new, old]
    assert "spec.mtuBytes" in rows[0]
    assert "spec.mtuBytes: (nothing) -> 1400" in await vcctl.ok("history", "network/web", "--diff")


async def test_that_older_versions_were_removed_is_told(vcctl: Vcctl, notes: Notes) -> None:
    old, _ = await two_revisions(vcctl, notes)
    assert "removed" not in (await vcctl("history", "network/web")).err
    notes.reach = Reach(int(old), lacks=True)
    assert f"it reaches back to revision {old}" in (await vcctl("history", "network/web")).err
    assert "removed" not in (await vcctl("history", "network/web", "--limit", "2")).err, "there may be more"
    ended = await vcctl("rollback", "network", "web", "--to-time", "2026-10-31")
    assert ended.code == ExitCode.REFUSED
    assert f"history reaches back to revision {old}" in ended.err


async def test_an_object_without_history_is_not_found(vcctl: Vcctl, notes: Notes) -> None:
    await set_scene(vcctl)
    assert (await vcctl("history", "network", "web")).code == ExitCode.NOT_FOUND


async def test_the_past_can_be_looked_at(vcctl: Vcctl, notes: Notes) -> None:
    old, _ = await two_revisions(vcctl, notes)
    out = await vcctl.ok("get", "network", "web", "--at-revision", old, "-o", "jsonpath={.metadata.labels.age}")
    assert out == "old\n"
    assert (await vcctl("get", "network", "web", "--at-revision", "1")).code == ExitCode.NOT_FOUND
    assert (await vcctl("get", "networks", "--at-revision", old)).code == ExitCode.USAGE


async def test_rollback_shows_the_plan_asks_and_does_it(vcctl: Vcctl, notes: Notes) -> None:
    old, _ = await two_revisions(vcctl, notes)
    ended = await vcctl("rollback", "network", "web", "--to-revision", old)
    assert ended.code == ExitCode.USAGE
    assert "spec.mtuBytes  reboot" in ended.out
    assert "--yes" in ended.err
    assert "rolled back" in await vcctl.ok("rollback", "network", "web", "--to-revision", old, "--yes")
    assert await vcctl.ok("get", "network", "web", "-o", "jsonpath={.spec} {.metadata.labels.age}") == "{} old\n"
    assert "already" in await vcctl.ok("rollback", "network", "web", "--to-revision", old)


async def test_rollback_finds_the_revision_of_a_time(vcctl: Vcctl, notes: Notes) -> None:
    old, new = await two_revisions(vcctl, notes)
    for time, revision in (("2026-11-02", old), ("2026-11-03T00:00:00Z", new)):
        ended = await vcctl("rollback", "network", "web", "--to-time", time)
        assert f"at revision {revision}" in ended.out
    assert (await vcctl("rollback", "network", "web", "--to-time", "2026-10-31")).code == ExitCode.NOT_FOUND


async def test_a_dry_run_of_rollback_changes_nothing(vcctl: Vcctl, notes: Notes) -> None:
    old, _ = await two_revisions(vcctl, notes)
    assert "rolled back (dry run)" in await vcctl.ok("rollback", "network", "web", "--to-revision", old, "--dry-run")
    assert await vcctl.ok("get", "network", "web", "-o", "jsonpath={.spec.mtuBytes}") == "1400\n"


async def test_what_was_deleted_is_made_again(vcctl: Vcctl, notes: Notes) -> None:
    await set_scene(vcctl)
    await vcctl.ok("apply", "-f", "-", stdin="kind: SSHKey\nmetadata: {name: me}\nspec: {publicKey: " + KEY + "}\n")
    key = Ref("SSHKey", "demo", "me")
    revision = await notes.note(key)
    hands = Hands(vcctl.api)
    await hands.client.remove_finalizer(await hands.get(SSHKey, "me"), *get_kind("SSHKey").finalizers)
    await vcctl.ok("delete", "sshkey", "me", "--timeout", "60s")
    assert "made again" in await vcctl.ok("rollback", "sshkey", "me", "--to-revision", revision, "--yes")
    assert "me" in await vcctl.ok("get", "sshkeys")


async def test_what_never_changes_cannot_be_rolled_back(vcctl: Vcctl, notes: Notes) -> None:
    await set_scene(vcctl)
    subnet = Ref("Subnet", "demo", "web-v4")
    revision = await notes.note(subnet)
    notes._noted[subnet][0] = {**notes._noted[subnet][0], "spec": {"network": "web", "cidr": "10.99.0.0/24"}}
    ended = await vcctl("rollback", "subnet", "web-v4", "--to-revision", revision, "--yes")
    assert ended.code == ExitCode.REFUSED
    assert "spec.cidr never changes" in ended.err


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGkZ8c1Zb1m0xk1mVYwHq1J0kq2o5m3J0u3h8mJb1c2d"
