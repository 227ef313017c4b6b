"""Secrets of identities in etcd: encrypted, bound to their place, compare-and-swap, seen by nothing else."""

import asyncio
import os

import pytest
from sqlalchemy import text

from tests.fakes.manual_clock import ManualClock
from tests.fakes.master_keys import MasterKeys
from tests.fakes.memory_etcd import MemoryEtcd, Phase
from tests.store.mirror.test_mirror import reached, running
from vcstack.crypto.envelope import Envelopes, version_of
from vcstack.crypto.errors import Tampered
from vcstack.crypto.masterkey import LocalMasterKey
from vcstack.specs.errors import Conflict, Unavailable
from vcstack.store.credentials import CREDENTIALS, Credentials
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import EtcdUnavailable, OutcomeUnknown
from vcstack.store.mirror.database import open_engine
from vcstack.store.mirror.mirror import Mirror
from vcstack.store.rewrap import Rewrapper
from vcstack.store.store import Store

Etcd = MemoryEtcd | EtcdClient
CANARY = b"canary-3f1c9a7e55d2"
KEYS = {1: LocalMasterKey(os.urandom(32)), 2: LocalMasterKey(os.urandom(32))}


def credentials_on(etcd: Etcd, active: int = 1, clock: ManualClock | None = None) -> Credentials:
    return Credentials(etcd, Envelopes(MasterKeys(KEYS, active)), clock or ManualClock())


async def test_a_record_is_read_back_as_written_and_lies_encrypted(any_etcd: Etcd) -> None:
    credentials = credentials_on(any_etcd)
    revision = await credentials.put("users/usr-1/password", CANARY, 0)
    assert await credentials.get("users/usr-1/password") == (CANARY, revision)
    kept = await any_etcd.range(b"/")
    assert [kv.key for kv in kept.kvs] == [CREDENTIALS + b"users/usr-1/password"]
    assert CANARY not in kept.kvs[0].value


async def test_a_write_says_which_version_it_replaces(any_etcd: Etcd) -> None:
    credentials = credentials_on(any_etcd)
    first = await credentials.put("users/usr-1/mfa", b"1", 0)
    await credentials.put("users/usr-1/mfa", b"2", first)
    for stale in (0, first):
        with pytest.raises(Conflict):
            await credentials.put("users/usr-1/mfa", b"3", stale)
    with pytest.raises(Conflict):
        await credentials.delete("users/usr-1/mfa", first)
    found = await credentials.get("users/usr-1/mfa")
    assert found is not None
    assert found.value == b"2"


async def test_changes_at_once_are_all_made_one_after_the_other(any_etcd: Etcd) -> None:
    credentials = credentials_on(any_etcd)

    def add(before: bytes | None) -> bytes:
        return str(int(before or b"0") + 1).encode()

    await asyncio.gather(*(credentials.update("users/usr-1/mfa", add) for _ in range(8)))
    found = await credentials.get("users/usr-1/mfa")
    assert found is not None
    assert found.value == b"8"


async def test_a_change_that_raises_changes_nothing(any_etcd: Etcd) -> None:
    credentials = credentials_on(any_etcd)
    await credentials.put("users/usr-1/mfa", b"1", 0)

    def refuse(before: bytes | None) -> bytes:
        raise Conflict("no")

    with pytest.raises(Conflict, match="no"):
        await credentials.update("users/usr-1/mfa", refuse)
    assert await credentials.update("users/usr-1/mfa", lambda before: before) == b"1"
    assert await credentials.update("users/usr-1/mfa", lambda before: None) is None
    assert await credentials.get("users/usr-1/mfa") is None


async def test_deleting_below_an_identity_leaves_its_neighbour(any_etcd: Etcd) -> None:
    credentials = credentials_on(any_etcd)
    for path in ("users/usr-1/password", "users/usr-1/mfa", "users/usr-10/password"):
        await credentials.put(path, b"x", 0)
    await credentials.delete_prefix("users/usr-1")
    left = [kv.key for kv in (await any_etcd.range(CREDENTIALS)).kvs]
    assert left == [CREDENTIALS + b"users/usr-10/password"]


async def test_only_one_of_two_deletes_it(any_etcd: Etcd) -> None:
    credentials = credentials_on(any_etcd)
    await credentials.put("challenges/abc", b"x", 0)
    done = await asyncio.gather(*(credentials.delete("challenges/abc") for _ in range(2)))
    assert sorted(done) == [False, True]


async def test_a_record_copied_to_another_identity_cannot_be_read_there(any_etcd: Etcd) -> None:
    credentials = credentials_on(any_etcd)
    await credentials.put("users/usr-1/password", b"mine", 0)
    kv = (await any_etcd.get(CREDENTIALS + b"users/usr-1/password")).kv
    assert kv is not None
    await any_etcd.put(CREDENTIALS + b"users/usr-2/password", kv.value)
    with pytest.raises(Tampered):
        await credentials.get("users/usr-2/password")


@pytest.mark.parametrize("path", ["users", "users/../x", "users//x", "/users/x", "users/x/", "Users/x", "users/\0"])
async def test_a_place_that_is_none_is_refused(memory_etcd: MemoryEtcd, path: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        await credentials_on(memory_etcd).get(path)


async def test_a_short_lived_record_vanishes_by_itself(memory_etcd: MemoryEtcd) -> None:
    credentials = credentials_on(memory_etcd)
    await credentials.put("challenges/abc", b"x", 0, ttl_seconds=600)
    memory_etcd.advance(599)
    assert await credentials.get("challenges/abc") is not None
    memory_etcd.advance(60)
    assert await credentials.get("challenges/abc") is None


async def test_a_lease_that_is_gone_is_replaced(memory_etcd: MemoryEtcd) -> None:
    credentials = credentials_on(memory_etcd)
    await credentials.put("challenges/abc", b"x", 0, ttl_seconds=600)
    memory_etcd.advance(700)  # etcd's time, not the clock's: the lease is still believed in
    await credentials.put("challenges/def", b"y", 0, ttl_seconds=600)
    assert await credentials.get("challenges/def") is not None


async def test_a_write_whose_answer_was_lost_is_found_to_be_done(memory_etcd: MemoryEtcd) -> None:
    credentials = credentials_on(memory_etcd)

    def lose_once(call: str, phase: Phase) -> None:
        if (call, phase) == ("txn", "after"):
            memory_etcd.hook = lambda call, phase: None
            raise OutcomeUnknown("cut")

    memory_etcd.hook = lose_once
    revision = await credentials.put("users/usr-1/mfa", b"1", 0)
    assert await credentials.get("users/usr-1/mfa") == (b"1", revision)


async def test_etcd_away_is_said_as_such(memory_etcd: MemoryEtcd) -> None:
    def away(call: str, phase: Phase) -> None:
        raise EtcdUnavailable("away")

    memory_etcd.hook = away
    credentials = credentials_on(memory_etcd)
    with pytest.raises(Unavailable):
        await credentials.get("users/usr-1/mfa")
    with pytest.raises(Unavailable):
        await credentials.put("users/usr-1/mfa", b"1", 0)


async def test_rewrapping_moves_every_record_to_the_active_master_key_and_keeps_its_lease(any_etcd: Etcd) -> None:
    old, new = credentials_on(any_etcd, 1), credentials_on(any_etcd, 2)
    await old.put("users/usr-1/mfa", b"1", 0)
    await old.put("challenges/abc", b"2", 0, ttl_seconds=600)
    rewrapper = Rewrapper(any_etcd, new, ManualClock())
    assert await rewrapper.rewrap() == 2
    assert await rewrapper.rewrap() == 0
    kvs = (await any_etcd.range(CREDENTIALS)).kvs
    assert {version_of(kv.value.decode()) for kv in kvs} == {2}
    assert [bool(kv.lease) for kv in kvs] == [True, False]
    only_new = Credentials(any_etcd, Envelopes(MasterKeys({2: KEYS[2]}, 2)), ManualClock())
    found = await only_new.get("users/usr-1/mfa")
    assert found is not None
    assert found.value == b"1"


async def test_a_master_key_that_is_not_here_is_unavailable_not_a_fault(memory_etcd: MemoryEtcd) -> None:
    await credentials_on(memory_etcd, 2).put("users/usr-1/mfa", b"1", 0)
    without = Credentials(memory_etcd, Envelopes(MasterKeys({1: KEYS[1]}, 1)), ManualClock())
    with pytest.raises(Unavailable):
        await without.get("users/usr-1/mfa")


async def test_the_watch_cache_takes_no_credential_in(any_etcd: Etcd) -> None:
    credentials = credentials_on(any_etcd)
    await credentials.put("users/usr-1/password", CANARY, 0)
    async with Store(any_etcd) as store:
        await credentials.put("sessions/s-1", CANARY, 0)
        await store.cache.fresh()
        tables = store.cache._tables.values()
        assert not any(table.objects for table in tables)
        assert not any(b".credentials" in repr(vars(store.cache.claims)).encode() for _ in (0,))


@pytest.mark.daemons
async def test_the_mirror_and_its_history_have_no_trace_of_a_credential(
    etcd_client: EtcdClient, postgres_dsn: str
) -> None:
    """Each table of the database is searched for the secret, its ciphertext and its place."""
    credentials = credentials_on(etcd_client)
    await credentials.put("users/usr-1/password", CANARY, 0)
    engine = open_engine(postgres_dsn)
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await reached(mirror, await etcd_client.current_revision())  # by its listing
        await credentials.update("users/usr-1/password", lambda before: CANARY + b"2")  # by its watch
        await credentials.delete_prefix("users/usr-1")
        await credentials.put("apikeys/ak-1", CANARY, 0)
        await reached(mirror, await etcd_client.current_revision())
    query = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    async with engine.connect() as connection:
        tables = [tuple(row) for row in await connection.execute(text(query))]
        rows = [
            str(row)
            for schema, table in tables
            for row in await connection.execute(text(f'SELECT t::text FROM "{schema}"."{table}" t'))
        ]
    await engine.dispose()
    assert len(tables) > 1
    assert rows
    for trace in (CANARY.decode(), "vcs1:", ".credentials", "usr-1", "ak-1"):
        assert not [row for row in rows if trace in row]
