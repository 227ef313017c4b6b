"""A new master key: everything moves to it, whatever happens on the way."""

import os
from typing import Any

from tests.fakes.crash import Killed
from tests.fakes.manual_clock import ManualClock
from tests.fakes.master_keys import MasterKeys, credentials_on
from tests.fakes.memory_etcd import MemoryEtcd, Phase
from tests.store.objects import ADMIN, make_project, wire
from vcstack.crypto.masterkey import KEY_BYTES, LocalMasterKey
from vcstack.programs.rewrapping import REPORTER, RewrapCollector, RewrapReport
from vcstack.specs.kinds.masterkey import MasterKey
from vcstack.specs.registry import get_kind
from vcstack.store.keymaterial import KeyMaterial
from vcstack.store.rewrap import Progress, Rewrapper
from vcstack.store.store import Store

SECRET = get_kind("Secret")
VALUE, WORDS = "correct horse", b"attack at dawn"


class Site:
    """A store with a secret, a key and a credential, under master key 1 of two."""

    def __init__(self, etcd: Any) -> None:
        self.etcd = etcd
        self.keys = MasterKeys({n: LocalMasterKey(os.urandom(KEY_BYTES)) for n in (1, 2)}, active=1)
        self.credentials = credentials_on(etcd, self.keys)
        self.material = KeyMaterial(self.credentials)
        self.rewrapper = Rewrapper(etcd, self.credentials, ManualClock())

    async def fill(self) -> None:
        async with self.store() as store:
            await make_project(store)
            for n in range(3):
                await store.create(SECRET, wire(f"s-{n}", {"data": {"password": VALUE}}), actor=ADMIN)
        await self.material.ensure("kms-1", "AES-256-GCM", ManualClock().now())
        self.text = self.material.kms.encrypt(await self.material.load("kms-1"), WORDS)
        await self.credentials.put("users/usr-1/password", b"hash", 0)

    def store(self) -> Store:
        return Store(self.etcd, credentials=self.credentials)

    async def check_without_the_old_key(self) -> None:
        keys = MasterKeys({2: self.keys.keys[2]}, active=2)
        credentials = credentials_on(self.etcd, keys)
        async with Store(self.etcd, credentials=credentials) as store:
            for n in range(3):
                assert (await store.reveal(SECRET, "demo", f"s-{n}"))["spec"]["data"] == {"password": VALUE}
        material = KeyMaterial(credentials)
        assert material.kms.decrypt(await material.load("kms-1"), self.text) == WORDS
        assert await credentials.get("users/usr-1/password") is not None


async def test_everything_moves_and_is_read_without_the_old_key(any_etcd: Any) -> None:
    site = Site(any_etcd)
    await site.fill()
    before = await site.rewrapper.count()
    assert (before.needed, before.left) == ({1: 6}, 0)  # the key's record and its version count both
    site.keys.active = 2
    assert (await site.rewrapper.count()).left == 6
    assert await site.rewrapper.rewrap() == 5
    after = await site.rewrapper.count()
    assert (after.active, after.needed, after.left) == (2, {2: 6}, 0)
    assert await site.rewrapper.rewrap() == 0
    await site.check_without_the_old_key()


async def test_objects_and_their_versions_do_not_change(memory_etcd: MemoryEtcd) -> None:
    site = Site(memory_etcd)
    await site.fill()
    async with site.store() as store:
        before = list((await store.list(SECRET)).items)
        site.keys.active = 2
        await site.rewrapper.rewrap()
        assert (await store.list(SECRET)).items == before


class Mortal:
    """An etcd whose client dies before or after its n-th write."""

    def __init__(self, etcd: MemoryEtcd, at: int, *, after: bool) -> None:
        self._etcd, self._left, self._after = etcd, at, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._etcd, name)

    async def txn(self, *args: Any) -> Any:
        self._left -= 1
        if self._left < 0 and not self._after:
            raise Killed
        result = await self._etcd.txn(*args)
        if self._left < 0:
            raise Killed
        return result


async def test_killed_at_any_write_it_goes_on_where_it_was() -> None:
    for at in range(7):
        for after in (False, True):
            etcd = MemoryEtcd()
            site = Site(etcd)
            await site.fill()
            site.keys.active = 2
            mortal: Any = Mortal(etcd, at, after=after)
            killed = False
            try:
                await Rewrapper(mortal, credentials_on(mortal, site.keys), ManualClock()).rewrap()
            except Killed:
                killed = True
            assert killed is (at < 6)
            await site.rewrapper.rewrap()
            await site.check_without_the_old_key()


async def test_what_is_damaged_is_counted_and_stops_nothing(memory_etcd: MemoryEtcd) -> None:
    site = Site(memory_etcd)
    await site.fill()
    await memory_etcd.put(b"/vcstack/.credentials/users/usr-2/password", b"rubbish")
    await memory_etcd.put(b"/vcstack/.credentials/aaa/usr-2", b"vcs1:1:AAAA:AAAA")
    site.keys.active = 2
    assert await site.rewrapper.rewrap() == 5
    progress = await site.rewrapper.count()
    assert progress.unreadable == 2
    assert progress.left == 2
    await site.check_without_the_old_key()


async def test_a_record_written_meanwhile_is_not_overwritten(memory_etcd: MemoryEtcd) -> None:
    site = Site(memory_etcd)
    await site.fill()
    site.keys.active = 2

    class Racing(Mortal):
        async def txn(self, compares: Any, success: Any, failure: Any = ()) -> Any:
            if success[0].key.endswith(b"users/usr-1/password"):
                found = await site.credentials.get("users/usr-1/password")
                assert found is not None
                await site.credentials.put("users/usr-1/password", b"newer", found.revision)
            return await self._etcd.txn(compares, success, failure)

    racing: Any = Racing(memory_etcd, 99, after=False)
    await Rewrapper(racing, credentials_on(racing, site.keys), ManualClock()).rewrap()
    found = await site.credentials.get("users/usr-1/password")
    assert found is not None
    assert found.value == b"newer"
    assert (await site.rewrapper.count()).left == 0


async def test_how_much_is_left_is_shown_and_goes_down(memory_etcd: MemoryEtcd) -> None:
    site = Site(memory_etcd)
    await site.fill()
    shown = RewrapCollector(lambda: site.rewrapper.left)
    assert list(shown.collect()) == []  # nobody has counted yet
    site.keys.active = 2
    seen: list[float] = []

    def look(call: str, phase: Phase) -> None:
        if phase == "before":
            seen.extend(sample.value for gauge in shown.collect() for sample in gauge.samples)

    memory_etcd.hook = look
    assert await site.rewrapper._scan(2) == 2
    memory_etcd.hook = lambda call, phase: None
    assert seen[0] >= 5
    assert seen == sorted(seen, reverse=True)
    [gauge] = shown.collect()
    assert [sample.value for sample in gauge.samples] == [0]


async def test_the_object_of_the_master_key_says_how_far_it_is(memory_etcd: MemoryEtcd) -> None:
    site = Site(memory_etcd)
    await site.fill()
    site.keys.active = 2
    async with site.store() as store:
        client, seen = store.bound(REPORTER), list[tuple[int | None, int | None, bool]]()
        report = RewrapReport(client, ManualClock())

        async def tell(counted: Progress, left: int) -> None:
            await report.write(counted, left)
            found = await client.get(MasterKey, "master")
            seen.append((found.status.active_version, found.status.left, found.is_true("Ready")))

        rewrapper = Rewrapper(memory_etcd, site.credentials, ManualClock(), tell)
        await rewrapper._scan(2)
        assert seen == [(2, 6, False), (2, 0, True)]
        found = await client.get(MasterKey, "master")
        assert [(each.version, each.envelopes) for each in found.status.versions or ()] == [(2, 6)]
        writes = memory_etcd.writes
        await rewrapper._scan(2)
        assert memory_etcd.writes == writes, "what is so already is not written again"
        await memory_etcd.put(b"/vcstack/.credentials/users/usr-2/password", b"damaged")
        await rewrapper._scan(2)
        condition = (await client.get(MasterKey, "master")).find_condition("Rewrapped")
        assert condition is not None
        assert (condition.status, condition.reason) == ("False", "Unreadable")
