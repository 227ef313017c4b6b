"""Sessions: refresh tokens are good once, an old one ends the session, a made-up one ends nothing."""

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.apiserver.auth.world import ADMIN, AWAY, HOME, PASSWORD, Replica
from tests.fakes.memory_etcd import MemoryEtcd, Phase
from vcstack.apiserver.auth.challenges import Challenge
from vcstack.apiserver.auth.records import ChallengeKind
from vcstack.apiserver.auth.sessions import Client
from vcstack.specs.errors import Unauthorized, Unavailable
from vcstack.specs.registry import get_kind
from vcstack.store.credentials import CREDENTIALS
from vcstack.store.etcd.errors import EtcdUnavailable, OutcomeUnknown
from vcstack.store.etcd.ops import Put

IDLE, LIFETIME = timedelta(hours=8), timedelta(hours=24)


@pytest.fixture
async def alice(replica: Replica) -> Replica:
    await replica.user()
    return replica


async def refused(replica: Replica, token: str) -> None:
    with pytest.raises(Unauthorized):
        await replica.login.refresh(token, HOME)


async def test_a_refresh_gives_new_tokens_of_the_same_session(alice: Replica) -> None:
    first = await alice.tokens_of()
    second = await alice.login.refresh(first.refresh_token, HOME)
    assert second.session == first.session
    assert second.refresh_token != first.refresh_token
    assert alice.access(second).session == first.session
    assert await alice.login.refresh(second.refresh_token, HOME)


async def test_an_old_refresh_token_ends_the_session_for_thief_and_victim(alice: Replica, other: Replica) -> None:
    stolen = await alice.tokens_of()
    victim = await alice.login.refresh(stolen.refresh_token, HOME)
    victim = await alice.login.refresh(victim.refresh_token, HOME)
    await refused(other, stolen.refresh_token)
    assert await alice.session_names() == []
    for replica in (alice, other):
        await refused(replica, victim.refresh_token)


async def test_of_many_uses_of_one_token_at_once_all_of_one_client_get_the_same_and_no_other_client_any(
    alice: Replica, other: Replica
) -> None:
    tokens = await alice.tokens_of()
    uses = [replica.login.refresh(tokens.refresh_token, HOME) for replica in (alice, other) * 4]
    done = await asyncio.gather(*uses)
    assert len({each.refresh_token for each in done}) == 1
    assert await alice.login.refresh(done[0].refresh_token, HOME)
    tokens = await alice.tokens_of()
    clients = [HOME, AWAY, dataclasses.replace(HOME, program="curl/8"), dataclasses.replace(AWAY, program="vcctl/1")]
    pairs = [(replica, client) for client in clients for replica in (alice, other)]
    uses = [replica.login.refresh(tokens.refresh_token, client) for replica, client in pairs]
    found = await asyncio.gather(*uses, return_exceptions=True)
    served = {client for (_, client), each in zip(pairs, found, strict=True) if not isinstance(each, Unauthorized)}
    assert len(served) == 1
    assert tokens.session not in await alice.session_names()


async def test_a_client_that_lost_the_answer_gets_the_same_again_for_half_a_minute(alice: Replica) -> None:
    tokens = await alice.tokens_of()
    lost = await alice.login.refresh(tokens.refresh_token, HOME)
    alice.clock.skip(29)
    again = await alice.login.refresh(tokens.refresh_token, HOME)
    assert again.refresh_token == lost.refresh_token
    assert alice.access(again).session == tokens.session
    assert again.session_expires_at == tokens.session_expires_at
    alice.clock.skip(1)
    await refused(alice, tokens.refresh_token)
    assert await alice.session_names() == []
    await refused(alice, again.refresh_token)


@pytest.mark.parametrize("client", [AWAY, dataclasses.replace(HOME, program="curl/8")], ids=["machine", "program"])
async def test_a_stolen_token_is_good_for_nobody_else_even_at_once(alice: Replica, client: Client) -> None:
    tokens = await alice.tokens_of()
    renewed = await alice.login.refresh(tokens.refresh_token, HOME)
    with pytest.raises(Unauthorized):
        await alice.login.refresh(tokens.refresh_token, client)
    assert await alice.session_names() == []
    await refused(alice, renewed.refresh_token)


async def test_only_the_last_token_is_given_its_successor_again(alice: Replica) -> None:
    """Whoever took the successor too is found out as soon as one of the two goes on."""
    tokens = await alice.tokens_of()
    renewed = await alice.login.refresh(tokens.refresh_token, HOME)
    await alice.login.refresh(renewed.refresh_token, HOME)
    await refused(alice, tokens.refresh_token)
    assert await alice.session_names() == []


async def test_a_successor_is_given_again_only_while_the_session_is_good(alice: Replica) -> None:
    tokens = await alice.tokens_of()
    await alice.login.refresh(tokens.refresh_token, HOME)
    await alice.change_user(enabled=False)
    await refused(alice, tokens.refresh_token)
    assert await alice.session_names() == []


async def test_what_is_kept_of_a_session_is_not_enough_to_make_its_next_token(alice: Replica) -> None:
    tokens = await alice.tokens_of()
    renewed = await alice.login.refresh(tokens.refresh_token, HOME)
    found = await alice.credentials.get(f"sessions/{tokens.session}")
    assert found is not None
    for token in (tokens, renewed):
        _, _, random, tag = token.refresh_token.split(".")
        assert random.encode() not in found.value
        assert tag.encode() not in found.value


@pytest.mark.parametrize(
    "forge",
    [
        lambda t: "",
        lambda t: "x",
        lambda t: t[:-1],
        lambda t: t[:-1] + ("0" if t[-1] != "0" else "1"),
        lambda t: t + "0",
        lambda t: t.partition(".")[0],
        lambda t: t.partition(".")[0] + ".0.x.y",
        lambda t: t.partition(".")[0] + ".99." + t.partition(".")[2].partition(".")[2],
        lambda t: t.upper(),
        lambda t: t + "\n",
        lambda t: "s-" + "0" * 20 + "." + t.partition(".")[2],
        lambda t: "../users." + t.partition(".")[2],
        lambda t: t + "é\ud800",
        lambda t: t * 1000,
    ],
)
async def test_a_made_up_token_ends_nobody_s_session(alice: Replica, forge: Callable[[str], str]) -> None:
    """The session's id is no secret: knowing it must not be enough to log somebody out."""
    tokens = await alice.tokens_of()
    await refused(alice, forge(tokens.refresh_token))
    with pytest.raises(Unauthorized):
        await alice.login.logout(forge(tokens.refresh_token))
    assert await alice.login.refresh(tokens.refresh_token, HOME)


async def test_an_access_token_is_no_refresh_token_and_the_other_way_round(alice: Replica) -> None:
    tokens = await alice.tokens_of()
    await refused(alice, tokens.access_token)
    with pytest.raises(Unauthorized):
        alice.tokens.verify(tokens.refresh_token)


async def test_a_session_ends_when_it_was_idle_for_too_long(alice: Replica) -> None:
    tokens = await alice.tokens_of()
    alice.clock.skip(IDLE.total_seconds() - 1)
    tokens = await alice.login.refresh(tokens.refresh_token, HOME)
    alice.clock.skip(IDLE.total_seconds())
    await refused(alice, tokens.refresh_token)
    assert await alice.session_names() == []


async def test_a_session_ends_however_much_it_is_used(alice: Replica) -> None:
    tokens = await alice.tokens_of()
    end = tokens.session_expires_at
    assert end is not None
    while (left := end - alice.clock.now()) > timedelta(seconds=1):
        alice.clock.skip(min(IDLE - timedelta(minutes=1), left - timedelta(seconds=1)).total_seconds())
        tokens = await alice.login.refresh(tokens.refresh_token, HOME)
        assert tokens.session_expires_at == end
        assert tokens.expires_at <= end
    alice.clock.skip(1)
    await refused(alice, tokens.refresh_token)


async def set_value(replica: Replica, setting: str, value: str | bool, domain: str | None = None) -> None:
    name = f"{setting.lower().replace('.', '-')}-{domain or 'cloud'}"
    wire = {"metadata": {"name": name}, "spec": {"setting": setting, "value": value, "domain": domain}}
    await replica.store.create(get_kind("Setting"), wire, actor=ADMIN)


async def test_how_long_sessions_last_is_set_for_the_users_domain_and_counts_at_the_next_refresh(
    alice: Replica, other: Replica
) -> None:
    await alice.store.create(get_kind("Domain"), {"metadata": {"name": "acme"}, "spec": {}}, actor=ADMIN)
    await alice.user("bob", domain="acme")
    running = await alice.tokens_of("bob")
    await set_value(alice, "sessions.idle", "1h", "acme")
    await set_value(alice, "sessions.lifetime", "2h", "acme")
    renewed = await other.login.refresh(running.refresh_token, HOME)
    assert renewed.session_expires_at == running.session_expires_at
    shorter = await other.tokens_of("bob")
    assert shorter.session_expires_at == other.clock.now() + timedelta(hours=2)
    assert (await other.tokens_of()).session_expires_at == other.clock.now() + LIFETIME
    for replica in (alice, other):
        replica.clock.skip(3600)
    await refused(other, renewed.refresh_token)


async def test_a_second_factor_can_be_demanded_of_all_in_a_domain(alice: Replica) -> None:
    await alice.store.create(get_kind("Domain"), {"metadata": {"name": "acme"}, "spec": {}}, actor=ADMIN)
    await alice.user("bob", domain="acme")
    await set_value(alice, "login.mfaRequired", True, "acme")
    step = await alice.login.login("bob", PASSWORD, HOME)
    assert isinstance(step, Challenge)
    assert step.kind is ChallengeKind.ENROL_MFA
    assert await alice.tokens_of()


async def test_what_is_kept_of_a_session_vanishes_by_itself(alice: Replica, memory_etcd: MemoryEtcd) -> None:
    await alice.tokens_of()
    memory_etcd.advance(LIFETIME.total_seconds() * 1.1)
    assert not [key for key in memory_etcd.snapshot() if key.startswith(CREDENTIALS + b"sessions/")]


async def test_deleting_the_session_s_object_ends_it(alice: Replica) -> None:
    tokens = await alice.tokens_of()
    await alice.store.delete(get_kind("Session"), None, tokens.session, actor=ADMIN)
    assert not await alice.directory.has_session(tokens.session)
    await refused(alice, tokens.refresh_token)


async def test_a_user_who_was_disabled_refreshes_no_more(alice: Replica) -> None:
    tokens = await alice.tokens_of()
    await alice.change_user(enabled=False)
    await refused(alice, tokens.refresh_token)
    assert await alice.session_names() == []


async def test_logging_out_ends_this_session_only(alice: Replica) -> None:
    here, there, by_access = await alice.tokens_of(), await alice.tokens_of(client=AWAY), await alice.tokens_of()
    await alice.login.logout(here.refresh_token)
    await alice.login.logout_session(alice.access(by_access))
    assert await alice.session_names() == [there.session]
    await refused(alice, here.refresh_token)
    await refused(alice, by_access.refresh_token)
    assert await alice.login.refresh(there.refresh_token, HOME)


async def test_etcd_away_uses_no_token_up(alice: Replica, memory_etcd: MemoryEtcd) -> None:
    tokens = await alice.tokens_of()

    def away(call: str, phase: Phase) -> None:
        raise EtcdUnavailable("away")

    memory_etcd.hook = away
    with pytest.raises(Unavailable):
        await alice.login.refresh(tokens.refresh_token, HOME)
    memory_etcd.hook = lambda call, phase: None
    assert await alice.login.refresh(tokens.refresh_token, HOME)


async def test_a_lost_answer_of_etcd_gives_the_tokens_all_the_same(alice: Replica, memory_etcd: MemoryEtcd) -> None:
    tokens = await alice.tokens_of()

    def lose_once(call: str, phase: Phase) -> None:
        if (call, phase) == ("txn", "after"):
            memory_etcd.hook = lambda call, phase: None
            raise OutcomeUnknown("cut")

    memory_etcd.hook = lose_once
    renewed = await alice.login.refresh(tokens.refresh_token, HOME)
    assert await alice.login.refresh(renewed.refresh_token, HOME)


async def test_rewrapping_credentials_meanwhile_ends_no_session(alice: Replica, memory_etcd: MemoryEtcd) -> None:
    """A record that was written between reading and writing is no proof of a stolen token."""
    tokens = await alice.tokens_of()
    key = CREDENTIALS + f"sessions/{tokens.session}".encode()
    value = memory_etcd.snapshot()[key]

    def touch_once(call: str, phase: Phase) -> None:
        if (call, phase) == ("txn", "before"):
            memory_etcd.hook = lambda call, phase: None
            memory_etcd._apply((Put(key, value),))

    memory_etcd.hook = touch_once
    renewed = await alice.login.refresh(tokens.refresh_token, HOME)
    assert await alice.login.refresh(renewed.refresh_token, HOME)


@pytest.mark.parametrize("shift", [timedelta(hours=1), timedelta(days=30)])
async def test_a_replica_with_a_clock_behind_keeps_a_session_and_one_ahead_may_end_it(
    alice: Replica, other: Replica, shift: timedelta
) -> None:
    tokens = await alice.tokens_of()
    other.clock.skew = -shift
    tokens = await other.login.refresh(tokens.refresh_token, HOME)
    other.clock.skew = shift
    if shift < IDLE:
        # By the clock behind, idleness was counted from an hour ago; there is room for that.
        assert await other.login.refresh(tokens.refresh_token, HOME)
    else:
        await refused(other, tokens.refresh_token)


async def test_what_people_read_of_a_client_cannot_forge_lines(alice: Replica) -> None:
    forged = dataclasses.replace(AWAY, program="curl\r\nlogin user=root \x1b[2J" + "x" * 5000)
    tokens = await alice.tokens_of(client=forged)
    client = (await alice.store.get(get_kind("Session"), None, tokens.session)).wire["spec"]["client"]
    assert client.isprintable()
    assert len(client) < 150
