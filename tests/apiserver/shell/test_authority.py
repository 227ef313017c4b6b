"""The SSH authority of a project: who learns it, made once, kept sealed, gone with the project."""

import asyncio
import base64
import os

import pytest

from tests.apiserver.test_accounts import ADMIN, as_, log_in, put
from tests.apiserver.test_tenancy import put_roles
from tests.fakes.manual_clock import ManualClock
from tests.fakes.master_keys import MasterKeys, credentials_on
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fakes.world import PROJECT, World
from tests.fixtures.api import SYSTEM, Api, bind, create_samples, error_of
from vcstack.controllers import project as projects
from vcstack.crypto.envelope import version_of
from vcstack.crypto.masterkey import LocalMasterKey
from vcstack.pki.ssh import public_line
from vcstack.specs.errors import Conflict, NotFound
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.securitygroup import SecurityGroup
from vcstack.specs.registry import get_kind
from vcstack.store.authorities import SHELLS
from vcstack.store.credentials import CREDENTIALS
from vcstack.store.etcd.ops import Compare
from vcstack.store.rewrap import Rewrapper
from vcstack.store.shellkeys import ShellKeyRecords
from vcstack.store.store import Store

URL = "/api/v1/projects/demo/sshauthority"
KEYS = CREDENTIALS + SHELLS.encode() + b"/"


async def test_all_who_ask_are_told_the_same_key_and_other_projects_have_another(api: Api) -> None:
    await create_samples(api, "Project")
    await put(api, "Project", "other", {})
    async with api.raw() as client:
        answers = await asyncio.gather(*(client.get(URL) for _ in range(8)))
        other = await client.get(URL.replace("demo", "other"))
        assert error_of(await client.get(URL.replace("demo", "none")))["code"] == 404
        assert error_of(await client.post(URL))["code"] == 405
        assert error_of(await client.get(URL, params={"x": "y"}))["code"] == 400
    told = {answer.json()["publicKey"] for answer in answers}
    assert len(told) == 1
    [line] = told
    kind, encoded = line.split(" ")
    assert kind == "ssh-ed25519"
    assert len(base64.b64decode(encoded)) == 51
    assert other.json()["publicKey"] not in told
    assert len((await api.etcd.range(KEYS)).kvs) == 2


async def test_members_are_told_and_strangers_learn_nothing(api: Api) -> None:
    await create_samples(api)
    await put_roles(api)
    await put(api, "RoleBinding", "alice", {"subject": {"kind": "User", "name": "alice"}, "role": "reader"}, "demo")
    await put(api, "User", "erin", {})
    async with as_(api, await log_in(api, "alice")) as alice, as_(api, await log_in(api, "erin")) as erin:
        assert (await alice.get(URL)).status_code == 200
        assert error_of(await erin.get(URL))["code"] == 404


async def test_a_host_is_told_whose_instances_it_runs(api: Api) -> None:
    await create_samples(api)
    await put(api, "Project", "other", {})
    await api.register("h2")
    await bind(api, "Instance", "web-1", "h9")
    async with api.raw(api.host_settings("h9")) as ours, api.raw(api.host_settings("h2")) as theirs:
        assert (await ours.get(URL)).json()["publicKey"].startswith("ssh-ed25519 ")
        assert error_of(await ours.get(URL.replace("demo", "other")))["code"] == 403
        assert error_of(await theirs.get(URL))["code"] == 403


async def test_a_new_master_key_takes_over_the_authority(memory_etcd: MemoryEtcd, memory_store: Store) -> None:
    masters = {number: LocalMasterKey(os.urandom(32)) for number in (1, 2)}
    await memory_store.create(get_kind("Project"), {"metadata": {"name": "demo"}, "spec": {}}, actor=SYSTEM)
    old, new = (credentials_on(memory_etcd, MasterKeys(masters, active)) for active in (1, 2))
    before = await ShellKeyRecords(memory_etcd, old, memory_store.cache).ensure("demo")
    await Rewrapper(memory_etcd, new, ManualClock()).rewrap()
    [kept] = (await memory_etcd.range(KEYS)).kvs
    assert version_of(kept.value.decode()) == 2
    assert await ShellKeyRecords(memory_etcd, new, memory_store.cache).ensure("demo") == before
    assert before.authority not in kept.value
    assert repr(before) == f"ShellKeys(project={before.project!r})"
    assert public_line(before.authority) == before.public_key


async def test_the_keys_go_with_the_project_and_are_not_made_while_it_goes(world: World) -> None:
    made = await world.create(Project.new(PROJECT, ProjectSpec()))
    await world.settle(projects.build)
    records = ShellKeyRecords(world.etcd, credentials_on(world.etcd), world.store.cache)
    other = await world.create(Project.new("other", ProjectSpec()))
    await records.ensure(PROJECT)
    await world.delete(await world.get(Project, PROJECT, None))
    await world.delete(await world.get(Project, "other", None))
    with pytest.raises(Conflict, match="being deleted"):
        await records.ensure("other")
    await world.settle(projects.build)
    await world.remove_finalizers(await world.get(SecurityGroup, "default"))
    await world.settle(projects.build)
    with pytest.raises(NotFound):
        await records.ensure(PROJECT)
    assert await records.find(made.uid) is None
    assert await records.find(other.uid) is None
    assert not (await world.etcd.range(KEYS)).kvs


class Deleting:
    """etcd, with a project that is deleted right before the first write."""

    def __init__(self, etcd: MemoryEtcd, store: Store) -> None:
        self._etcd, self._store, self._done = etcd, store, False

    async def txn(self, compares: list[Compare], ops: list[object]) -> object:
        if not self._done:
            self._done = True
            await self._store.delete(get_kind("Project"), None, "demo", actor=ADMIN)
        return await self._etcd.txn(compares, ops)  # type: ignore[arg-type]


async def test_a_project_that_is_deleted_right_then_gets_no_keys(memory_etcd: MemoryEtcd, memory_store: Store) -> None:
    await memory_store.create(get_kind("Project"), {"metadata": {"name": "demo"}, "spec": {}}, actor=SYSTEM)
    records = ShellKeyRecords(
        Deleting(memory_etcd, memory_store),  # type: ignore[arg-type]
        credentials_on(memory_etcd),
        memory_store.cache,
    )
    with pytest.raises(Conflict, match="being deleted"):
        await records.ensure("demo")
    assert not (await memory_etcd.range(KEYS)).kvs
