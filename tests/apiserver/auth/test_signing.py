"""Signing keys: shared, rotated with overlap, sane with wrong clocks."""

import asyncio
import json
from datetime import timedelta

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.apiserver.auth.world import Replica, make_envelopes
from tests.fakes.manual_clock import BEGINNING, ManualClock
from tests.fakes.memory_etcd import MemoryEtcd, Phase
from vcstack.apiserver.auth.signing import ALGORITHM, SigningKeys, SigningSettings, active_key, build_plan
from vcstack.apiserver.auth.tokens import Bearer
from vcstack.specs.errors import Unauthorized, Unavailable
from vcstack.store.credentials import Credentials
from vcstack.store.etcd.errors import EtcdUnavailable

ALICE = Bearer(subject="user:alice", uid="usr-1", session="s-1")
SETTINGS = SigningSettings()


async def test_replicas_that_start_at_once_agree_on_one_key(memory_etcd: MemoryEtcd) -> None:
    envelopes, clock = make_envelopes(), ManualClock()
    keys = [SigningKeys(Credentials(memory_etcd, envelopes, clock), clock) for _ in range(5)]
    await asyncio.gather(*(each.load() for each in keys))
    assert len({each.signer()[0] for each in keys}) == 1


async def test_nothing_is_signed_before_the_keys_were_read(memory_etcd: MemoryEtcd) -> None:
    clock = ManualClock()
    with pytest.raises(Unavailable):
        SigningKeys(Credentials(memory_etcd, make_envelopes(), clock), clock).signer()


async def test_the_private_key_lies_encrypted(replica: Replica, memory_etcd: MemoryEtcd) -> None:
    private = replica.signing.signer()[1].as_dict(private=True)["d"]
    assert not [value for value in memory_etcd.snapshot().values() if str(private).encode() in value]


async def test_what_is_published_verifies_and_holds_no_private_part(replica: Replica) -> None:
    token, _ = replica.tokens.issue(ALICE)
    published = json.loads(json.dumps(replica.signing.publish()))
    assert [set(key) for key in published["keys"]] == [{"kty", "crv", "x", "kid", "use", "alg"}]
    decoded = jwt.decode(token, KeySet.import_key_set(published), algorithms=[ALGORITHM])
    assert decoded.claims["sub"] == "user:alice"


async def test_a_new_key_is_published_before_it_signs_and_the_old_one_verifies_after(
    replica: Replica, other: Replica
) -> None:
    old = replica.signing.signer()[0]
    for each in (replica, other):
        each.clock.skip((SETTINGS.rotate - SETTINGS.lead).total_seconds())
    await replica.signing.load()
    assert len(replica.signing.publish()["keys"]) == 2
    assert replica.signing.signer()[0] == old
    await other.signing.load()
    for each in (replica, other):
        each.clock.skip(SETTINGS.lead.total_seconds() - 1)
    token, _ = replica.tokens.issue(ALICE)
    for each in (replica, other):
        each.clock.skip(2)
    new = replica.signing.signer()[0]
    assert new != old
    assert other.signing.signer()[0] == new
    for seconds in (0, 599):
        other.clock.skip(seconds)
        await other.signing.load()
        assert other.tokens.verify(token).kid == old
    other.clock.skip(SETTINGS.overlap.total_seconds())
    await other.signing.load()
    assert [key["kid"] for key in other.signing.publish()["keys"]] == [new]


async def test_no_request_fails_through_years_of_rotation(replica: Replica, other: Replica) -> None:
    """The replicas look for keys at different times; each accepts what the other has just signed."""
    kids = set()
    for step in range(2000):
        for each in (replica, other):
            each.clock.skip(3600 * 9 + 7)
        await (replica if step % 2 else other).signing.load()
        await (other if step % 2 else replica).signing.load()
        for signs, verifies in ((replica, other), (other, replica)):
            kids.add(verifies.tokens.verify(signs.tokens.issue(ALICE)[0]).kid)
    assert 24 <= len(kids) <= 26  # 750 days
    assert len(replica.signing.publish()["keys"]) <= 2


async def test_rotation_on_demand_keeps_tokens_good(replica: Replica, other: Replica) -> None:
    token, _ = replica.tokens.issue(ALICE)
    old = replica.signing.signer()[0]
    await replica.signing.rotate()
    assert replica.signing.signer()[0] == old
    await other.signing.load()
    for each in (replica, other):
        each.clock.skip(SETTINGS.lead.total_seconds())
    assert replica.signing.signer()[0] != old
    assert other.tokens.verify(replica.tokens.issue(ALICE)[0])
    assert other.tokens.verify(token)


async def test_replacing_all_keys_ends_every_token_remembered_ones_too(replica: Replica, other: Replica) -> None:
    token, _ = replica.tokens.issue(ALICE)
    other.tokens.verify(token)
    await replica.signing.replace_all()
    await other.signing.load()
    for each in (replica, other):
        with pytest.raises(Unauthorized):
            each.tokens.verify(token)
    assert other.tokens.verify(replica.tokens.issue(ALICE)[0])


async def test_the_loop_finds_what_another_replica_changed_and_lives_through_an_outage(
    replica: Replica, other: Replica, memory_etcd: MemoryEtcd
) -> None:
    task = asyncio.create_task(other.signing.run())

    def away(call: str, phase: Phase) -> None:
        raise EtcdUnavailable("away")

    await replica.signing.replace_all()
    new = replica.signing.signer()[0]
    hook, memory_etcd.hook = memory_etcd.hook, away
    assert isinstance(other.clock, ManualClock)
    await other.clock.advance(16)
    assert other.signing.find(new) is None
    assert other.signing.signer()
    memory_etcd.hook = hook
    await other.clock.advance(16)
    assert other.signing.signer()[0] == new
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("shift", [timedelta(hours=1), timedelta(days=30), timedelta(days=400)])
async def test_a_replica_with_a_clock_far_ahead_does_not_break_the_others(
    replica: Replica, other: Replica, shift: timedelta
) -> None:
    other.clock.skip(shift.total_seconds())
    for _ in range(5):
        await other.signing.load()
        other.clock.skip(3600)
    await replica.signing.load()
    assert replica.tokens.verify(replica.tokens.issue(ALICE)[0])
    assert len(replica.signing.publish()["keys"]) <= 3


@pytest.mark.parametrize("shift", [timedelta(hours=1), timedelta(days=30)])
async def test_a_replica_with_a_clock_set_back_signs_with_a_key_that_all_know(
    replica: Replica, other: Replica, shift: timedelta
) -> None:
    other.clock.skip(-shift.total_seconds())
    await other.signing.load()
    assert other.signing.signer()[0] == replica.signing.signer()[0]
    assert other.tokens.verify(other.tokens.issue(ALICE)[0])


def test_a_plan_that_is_due_to_nobody_changes_nothing() -> None:
    keys = build_plan([], BEGINNING, SETTINGS)
    assert build_plan(keys, BEGINNING, SETTINGS) == keys
    assert build_plan(keys, BEGINNING + timedelta(days=29), SETTINGS) == keys
    assert active_key(keys, BEGINNING - timedelta(days=1)) == keys[0]
