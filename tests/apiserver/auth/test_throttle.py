"""Guessing gets slow, and nobody is locked out by others."""

import asyncio
import dataclasses

import pytest

from tests.apiserver.auth.world import AWAY, HOME, PASSWORD, Replica, with_device
from tests.fakes.manual_clock import ManualClock
from vcstack.apiserver.auth.sessions import Tokens
from vcstack.apiserver.auth.throttle import REFUSED, Throttle, ThrottleSettings, source_of
from vcstack.specs.errors import TooManyRequests, Unauthorized, Unavailable

SETTINGS = ThrottleSettings()


def wait_of(throttle: Throttle, account: str, address: str) -> int:
    """Return how long one has to wait, 0 when an attempt was let through."""
    try:
        throttle.attempt(account, address)
    except TooManyRequests as error:
        return error.details.retry_after_seconds or 0
    return 0


def test_the_first_failures_are_free_and_each_next_one_waits_twice_as_long() -> None:
    clock = ManualClock()
    throttle = Throttle(clock)
    assert [wait_of(throttle, "alice", "192.0.2.1") for _ in range(6)] == [0, 0, 0, 0, 0, 2]
    waits = []
    for _ in range(12):
        waits.append(wait := wait_of(throttle, "alice", "192.0.2.1"))
        clock.skip(wait)
        assert wait_of(throttle, "alice", "192.0.2.1") == 0
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[-1] == 900


def test_guesses_against_one_account_do_not_slow_others_or_other_sources() -> None:
    throttle = Throttle(ManualClock())
    while not wait_of(throttle, "alice", "192.0.2.1"):
        pass
    assert wait_of(throttle, "alice", "192.0.2.2") == 0
    assert wait_of(throttle, "bob", "192.0.2.1") == 0


def test_one_password_tried_on_every_account_is_slowed_by_its_source() -> None:
    clock = ManualClock()
    throttle = Throttle(clock)
    tried = next(i for i in range(1000) if wait_of(throttle, f"user{i}", "192.0.2.1"))
    assert tried == SETTINGS.source_burst
    assert wait_of(throttle, "user5000", "192.0.2.2") == 0
    clock.skip(SETTINGS.source_seconds)
    assert wait_of(throttle, "user5001", "192.0.2.1") == 0
    assert wait_of(throttle, "user5002", "192.0.2.1") > 0


def test_what_was_no_guess_costs_nothing_and_clears_nothing() -> None:
    """An overload that an attacker brings about does not begin his free guesses anew."""
    throttle = Throttle(ManualClock())
    for _ in range(SETTINGS.free - 1):
        assert wait_of(throttle, "alice", "192.0.2.1") == 0
    for _ in range(2 * SETTINGS.source_burst):
        with pytest.raises(Unavailable), throttle.attempt("alice", "192.0.2.1"):
            raise Unavailable("away")
    assert wait_of(throttle, "alice", "192.0.2.1") == 0
    assert wait_of(throttle, "alice", "192.0.2.1") == SETTINGS.first_seconds


def test_successes_cost_their_source_nothing() -> None:
    throttle = Throttle(ManualClock())
    for i in range(1000):
        throttle.attempt(f"user{i}", "192.0.2.1").succeed()


def test_a_known_device_is_counted_by_itself() -> None:
    throttle = Throttle(ManualClock())
    for i in range(100):
        wait_of(throttle, f"user{i % 7}", "192.0.2.1")
    assert wait_of(throttle, "alice", "192.0.2.1") > 0
    for _ in range(SETTINGS.free):
        throttle.attempt("alice", "192.0.2.1", device="d1")
    with pytest.raises(TooManyRequests):
        throttle.attempt("alice", "192.0.2.1", device="d1")


def test_failures_are_forgotten_after_an_hour() -> None:
    clock = ManualClock()
    throttle = Throttle(clock)
    while not wait_of(throttle, "alice", "192.0.2.1"):
        pass
    clock.skip(3600)
    assert [wait_of(throttle, "alice", "192.0.2.1") for _ in range(4)] == [0] * 4


def test_memory_is_bounded_however_many_names_and_addresses_come() -> None:
    throttle = Throttle(ManualClock(), ThrottleSettings(entries=100))
    for i in range(1000):
        wait_of(throttle, f"user{i}", f"10.0.{i // 250}.{i % 250}")
    assert len(throttle._accounts._entries) == len(throttle._sources._entries) == 100


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("", "nonsense"),
    ],
)
def test_a_source_is_an_address_or_a_v6_network(one: str, same: str) -> None:
    assert source_of(one) == source_of(same)
    assert source_of(one) != source_of("2001:db8:1:3::1")


async def test_an_attacker_locks_nobody_out_elsewhere(replica: Replica) -> None:
    await replica.user()
    for _ in range(50):
        with pytest.raises((Unauthorized, TooManyRequests)):
            await replica.login.login("alice", "guess", AWAY)
    assert await replica.tokens_of(client=HOME)
    with pytest.raises(TooManyRequests, match=REFUSED):
        await replica.login.login("alice", PASSWORD, AWAY)


async def test_a_known_device_behind_the_attacker_s_address_gets_in(replica: Replica) -> None:
    await replica.user()
    device = with_device(AWAY, await replica.tokens_of(client=AWAY))
    for i in range(60):
        with pytest.raises((Unauthorized, TooManyRequests)):
            await replica.login.login(f"user{i}" if i % 2 else "alice", "guess", AWAY)
    assert await replica.tokens_of(client=device)
    forged = dataclasses.replace(AWAY, device=device.device[:-1] + ("0" if device.device[-1] != "0" else "1"))
    with pytest.raises(TooManyRequests):
        await replica.login.login("alice", PASSWORD, forged)


async def test_a_device_token_is_of_one_user_and_ends_with_the_password(replica: Replica) -> None:
    await replica.user()
    await replica.user("bob")
    tokens = await replica.tokens_of(client=AWAY)
    for _ in range(SETTINGS.free):
        with pytest.raises(Unauthorized):
            await replica.login.login("bob", "guess", AWAY)
    with pytest.raises(TooManyRequests):
        await replica.login.login("bob", PASSWORD, with_device(AWAY, tokens))
    await replica.login.change_password(replica.access(tokens), PASSWORD, "nine green lanterns hum", HOME)
    for _ in range(SETTINGS.free):
        with pytest.raises(Unauthorized):
            await replica.login.login("alice", "guess", AWAY)
    with pytest.raises(TooManyRequests):
        await replica.login.login("alice", "nine green lanterns hum", with_device(AWAY, tokens))


async def test_many_guesses_at_once_pass_no_more_than_one_after_the_other(replica: Replica) -> None:
    await replica.user()
    guesses = (replica.login.login("alice", "guess", AWAY) for _ in range(40))
    done = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(each, Unauthorized) for each in done) == SETTINGS.free
    assert not [each for each in done if isinstance(each, Tokens)]


async def test_changing_the_password_is_no_way_around(replica: Replica) -> None:
    await replica.user()
    stolen = replica.access(await replica.tokens_of(client=AWAY))
    for _ in range(SETTINGS.free):
        with pytest.raises(Unauthorized):
            await replica.login.change_password(stolen, "guess", "nine green lanterns hum", AWAY)
    with pytest.raises(TooManyRequests):
        await replica.login.change_password(stolen, PASSWORD, "nine green lanterns hum", AWAY)
