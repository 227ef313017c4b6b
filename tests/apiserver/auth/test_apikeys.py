"""API keys: shown once, kept hashed, exchanged, restricted, rotated with overlap, expiring."""

import asyncio
import dataclasses
from datetime import timedelta

import pytest

from tests.apiserver.auth.world import ADMIN, AWAY, HOME, Replica
from tests.fakes.memory_etcd import MemoryEtcd
from vcstack.apiserver.auth.bearers import Bearers
from vcstack.apiserver.auth.directory import KeyAccount
from vcstack.specs.errors import ApiError, Forbidden, TooManyRequests, Unauthorized, Unavailable
from vcstack.specs.meta import format_time
from vcstack.specs.registry import get_kind
from vcstack.store.etcd.errors import EtcdUnavailable

RULES = [{"verbs": ["get", "list"], "kinds": ["Instance"]}]


@pytest.fixture
async def key(replica: Replica) -> KeyAccount:
    """A key of alice's."""
    await replica.user()
    return await replica.key(user="alice", overlapSeconds=3600)


async def refused(replica: Replica, key_id: str, secret: str) -> None:
    with pytest.raises(Unauthorized):
        await replica.keys.exchange(key_id, secret, HOME)


async def test_a_key_is_exchanged_for_a_short_token_of_its_owner(replica: Replica, key: KeyAccount) -> None:
    issued = await replica.keys.issue(key)
    tokens = await replica.keys.exchange(issued.key_id, issued.secret, HOME)
    access = replica.access(tokens)
    assert (access.subject, access.key, access.session, access.rules) == ("user:alice", key.uid, "", None)
    assert tokens.refresh_token == ""
    assert tokens.expires_at - replica.clock.now() <= timedelta(minutes=10)
    assert issued.previous_until is None


async def test_a_service_account_s_key_speaks_for_it_with_the_key_s_rules(replica: Replica) -> None:
    await replica.store.create(get_kind("Project"), {"metadata": {"name": "demo"}, "spec": {}}, actor=ADMIN)
    account = {"metadata": {"project": "demo", "name": "robot"}, "spec": {}}
    await replica.store.create(get_kind("ServiceAccount"), account, actor=ADMIN)
    key = await replica.key(project="demo", serviceAccount="robot", rules=RULES, sourceNetworks=["192.0.2.0/24"])
    issued = await replica.keys.issue(key)
    access = replica.access(await replica.keys.exchange(issued.key_id, issued.secret, HOME))
    assert access.subject == "serviceaccount:demo/robot"
    assert [rule["kinds"] for rule in access.rules or ()] == [["Instance"]]
    assert access.may_come_from("192.0.2.200")
    assert not access.may_come_from(AWAY.address)
    await replica.store.merge_patch(
        get_kind("ServiceAccount"), "demo", "robot", {"spec": {"enabled": False}}, actor=ADMIN
    )
    await refused(replica, issued.key_id, issued.secret)


async def test_the_secret_lies_nowhere(replica: Replica, key: KeyAccount, memory_etcd: MemoryEtcd) -> None:
    issued = await replica.keys.issue(key)
    kept = b"\n".join(memory_etcd.snapshot().values())
    assert issued.secret.encode() not in kept
    record = await replica.credentials.get(f"apikeys/{key.uid}")
    assert record is not None
    assert issued.secret.encode() not in record.value


async def test_what_is_wrong_with_a_key_is_not_told(replica: Replica, key: KeyAccount) -> None:
    issued = await replica.keys.issue(key)
    answers = set()
    for key_id, secret in (
        (issued.key_id, "wrong"),
        (issued.key_id, issued.secret[:-1]),
        (issued.key_id, ""),
        ("ak-000000000000", issued.secret),
        ("", issued.secret),
        ("../users", issued.secret),
        (issued.key_id.upper(), issued.secret),
        (issued.key_id, "\ud800"),
        ("x" * 100_000, "y" * 100_000),
    ):
        replica.clock.skip(86400)
        with pytest.raises(ApiError) as caught:
            await replica.keys.exchange(key_id, secret, HOME)
        answers.add(caught.value.to_status().to_json())
    assert len(answers) == 1


async def test_rotation_leaves_the_secret_before_it_good_for_the_overlap(replica: Replica, key: KeyAccount) -> None:
    first = await replica.keys.issue(key)
    second = await replica.keys.issue(key)
    assert second.previous_until == replica.clock.now() + timedelta(seconds=3600)
    assert second.key_id == first.key_id
    for issued in (first, second):
        assert await replica.keys.exchange(issued.key_id, issued.secret, HOME)
    replica.clock.skip(3600)
    await refused(replica, first.key_id, first.secret)
    assert await replica.keys.exchange(second.key_id, second.secret, HOME)


async def test_a_third_secret_ends_the_first_at_once_and_no_overlap_grows(replica: Replica, key: KeyAccount) -> None:
    first, second, third = [await replica.keys.issue(key) for _ in range(3)]
    await refused(replica, first.key_id, first.secret)
    for issued in (second, third):
        assert await replica.keys.exchange(issued.key_id, issued.secret, HOME)


async def test_without_overlap_the_old_secret_ends_at_once(replica: Replica, key: KeyAccount) -> None:
    first = await replica.keys.issue(key)
    leaked = dataclasses.replace(key, overlap_seconds=0)
    second = await replica.keys.issue(leaked)
    await refused(replica, first.key_id, first.secret)
    assert await replica.keys.exchange(second.key_id, second.secret, HOME)


async def test_two_rotations_at_once_leave_two_good_secrets(replica: Replica, key: KeyAccount) -> None:
    issued = await asyncio.gather(replica.keys.issue(key), replica.keys.issue(key))
    for each in issued:
        assert await replica.keys.exchange(each.key_id, each.secret, HOME)


async def test_a_token_of_an_old_secret_or_an_expiring_key_ends_with_it(replica: Replica) -> None:
    await replica.user()
    end = replica.clock.now() + timedelta(seconds=120)
    key = await replica.key(user="alice", expiresAt=format_time(end), overlapSeconds=60)
    first = await replica.keys.issue(key)
    await replica.keys.issue(key)
    tokens = await replica.keys.exchange(first.key_id, first.secret, HOME)
    assert tokens.expires_at == replica.clock.now() + timedelta(seconds=60)
    second = await replica.keys.issue(key)
    assert (await replica.keys.exchange(second.key_id, second.secret, HOME)).expires_at == end
    replica.clock.skip(120)
    await refused(replica, second.key_id, second.secret)


async def test_a_secret_of_somebody_whose_right_ends_does_too_also_beside_the_next(
    replica: Replica, key: KeyAccount
) -> None:
    end = replica.clock.now() + timedelta(seconds=120)
    lent = await replica.keys.issue(key, expires_at=end)
    tokens = await replica.keys.exchange(lent.key_id, lent.secret, HOME)
    assert tokens.expires_at == end
    access = replica.tokens.verify(tokens.access_token)
    assert access.rights_until == end
    assert Bearers(replica.store.cache, replica.clock).find(access)
    lasting = await replica.keys.issue(key)
    assert (lasting.expires_at, lasting.previous_until) == (None, end)
    tokens = await replica.keys.exchange(lasting.key_id, lasting.secret, HOME)
    assert replica.tokens.verify(tokens.access_token).rights_until is None
    replica.clock.skip(120)
    await refused(replica, lent.key_id, lent.secret)
    assert Bearers(replica.store.cache, replica.clock).find(access) is None, "what goes on by it ends, too"
    assert await replica.keys.exchange(lasting.key_id, lasting.secret, HOME)


@pytest.mark.parametrize("shift", [timedelta(hours=1), timedelta(days=30)])
async def test_a_replica_with_a_wrong_clock_lets_no_key_live_longer_elsewhere(
    replica: Replica, other: Replica, shift: timedelta
) -> None:
    await replica.user()
    end = replica.clock.now() + timedelta(minutes=30)
    issued = await replica.keys.issue(await replica.key(user="alice", expiresAt=format_time(end)))
    other.clock.skew = shift
    await refused(other, issued.key_id, issued.secret)
    good = await replica.keys.exchange(issued.key_id, issued.secret, HOME)
    assert replica.tokens.verify(good.access_token)
    other.clock.skew = timedelta()
    replica.clock.skew = shift  # the other one is behind, and takes the key for good
    await refused(replica, issued.key_id, issued.secret)
    late = await other.keys.exchange(issued.key_id, issued.secret, HOME)
    with pytest.raises(Unauthorized):
        replica.tokens.verify(late.access_token)


async def test_a_key_is_used_from_its_networks_only(replica: Replica) -> None:
    await replica.user()
    key = await replica.key(user="alice", sourceNetworks=["192.0.2.0/24", "2001:db8::/32"])
    issued = await replica.keys.issue(key)
    for address, good in (
        ("192.0.2.10", True),
        ("::ffff:192.0.2.10", True),
        ("2001:db8::7", True),
        ("192.0.3.1", False),
        ("::1", False),
        ("", False),
        ("192.0.2.10, 198.51.100.7", False),
    ):
        client = dataclasses.replace(HOME, address=address)
        if good:
            assert await replica.keys.exchange(issued.key_id, issued.secret, client)
        else:
            with pytest.raises(Forbidden):
                await replica.keys.exchange(issued.key_id, issued.secret, client)


async def test_a_key_ends_with_its_owner_its_object_and_its_records(replica: Replica, key: KeyAccount) -> None:
    issued = await replica.keys.issue(key)
    await replica.change_user(enabled=False)
    await refused(replica, issued.key_id, issued.secret)
    await replica.change_user(enabled=True)
    assert await replica.keys.exchange(issued.key_id, issued.secret, HOME)
    await replica.keys.forget(key.uid)
    await refused(replica, issued.key_id, issued.secret)
    issued = await replica.keys.issue(key)
    await replica.store.delete(get_kind("APIKey"), None, "ci", actor=ADMIN)
    await refused(replica, issued.key_id, issued.secret)


async def test_guessing_at_a_key_gets_slow(replica: Replica, key: KeyAccount) -> None:
    issued = await replica.keys.issue(key)
    for _ in range(5):
        with pytest.raises(Unauthorized):
            await replica.keys.exchange(issued.key_id, "guess", AWAY)
    with pytest.raises(TooManyRequests):
        await replica.keys.exchange(issued.key_id, issued.secret, AWAY)
    assert await replica.keys.exchange(issued.key_id, issued.secret, HOME)


async def test_use_is_written_down_to_within_minutes(
    replica: Replica, key: KeyAccount, memory_etcd: MemoryEtcd
) -> None:
    issued = await replica.keys.issue(key)
    await replica.keys.exchange(issued.key_id, issued.secret, HOME)
    assert (await replica.status_of("APIKey", "ci"))["lastUsedAt"] == "2026-11-01T12:00:00Z"
    writes = memory_etcd.writes
    for _ in range(20):
        await replica.keys.exchange(issued.key_id, issued.secret, HOME)
    assert memory_etcd.writes == writes
    replica.clock.skip(300)
    await replica.keys.exchange(issued.key_id, issued.secret, HOME)
    assert (await replica.status_of("APIKey", "ci"))["lastUsedAt"] == "2026-11-01T12:05:00Z"


async def test_while_etcd_is_away_no_program_is_counted_as_guessing(
    replica: Replica, key: KeyAccount, memory_etcd: MemoryEtcd
) -> None:
    """They try again for as long as it takes, and go on as soon as it is back."""
    issued = await replica.keys.issue(key)

    def away(call: str, phase: str) -> None:
        raise EtcdUnavailable("away")

    memory_etcd.hook = away
    for _ in range(10):
        with pytest.raises(Unavailable):
            await replica.keys.exchange(issued.key_id, issued.secret, HOME)
    memory_etcd.hook = lambda call, phase: None
    assert await replica.keys.exchange(issued.key_id, issued.secret, HOME)
