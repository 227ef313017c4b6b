"""Logging in, step by step, and everything that must not work."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from tests.apiserver.auth.world import ADMIN, AWAY, CHEAP, HOME, PASSWORD, SYSTEM, Replica, SkewedClock, with_device
from tests.apiserver.auth.world import replica as make_replica
from tests.fakes.memory_etcd import MemoryEtcd
from vcstack.apiclient.authmessages import ChallengeKind
from vcstack.apiserver.auth.challenges import Challenge
from vcstack.apiserver.auth.passwords import HashingSettings
from vcstack.apiserver.auth.sessions import Tokens
from vcstack.crypto.envelope import Envelopes
from vcstack.specs.errors import (
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

VERIFY, ENROL, SET = ChallengeKind.VERIFY_MFA, ChallengeKind.ENROL_MFA, ChallengeKind.SET_PASSWORD
ANOTHER = "nine green lanterns hum"


def hashes() -> float:
    """Return how many were made so far."""
    return REGISTRY.get_sample_value("vcstack_password_hash_seconds_count") or 0.0


async def test_a_password_gives_tokens_and_a_session_that_people_see(replica: Replica) -> None:
    await replica.user()
    tokens = await replica.tokens_of()
    access = replica.access(tokens)
    assert (access.subject, access.session, access.methods) == ("user:alice", tokens.session, ("pwd",))
    session = (await replica.store.get(get_kind("Session"), None, tokens.session)).wire["spec"]
    assert session["subject"] == {"kind": "User", "name": "alice"}
    assert session["client"] == "192.0.2.10 vcctl/1"
    status = await replica.status_of("User", "alice")
    assert (status["lastLoginAt"], status["mfaEnrolled"]) == ("2026-11-01T12:00:00Z", False)


async def test_no_answer_tells_which_users_there_are(replica: Replica) -> None:
    await replica.user("alice")
    await replica.user("disabled", enabled=True)
    await replica.change_user("disabled", enabled=False)
    await replica.user("fresh", password="")
    attempts = [
        ("alice", "wrong"),
        ("nobody", PASSWORD),
        ("disabled", PASSWORD),
        ("fresh", ""),
        ("fresh", "wrong"),
        ("Alice", PASSWORD),
        ("\N{CYRILLIC SMALL LETTER A}lice", PASSWORD),
        ("alice ", PASSWORD),
        ("alice\0", PASSWORD),
        ("../alice", PASSWORD),
        ("\ud800", PASSWORD),
        ("a" * 100_000, PASSWORD),
        ("", ""),
    ]
    answers = []
    for user, password in attempts:
        with pytest.raises(ApiError) as caught:
            await replica.login.login(user, password, HOME)
        answers.append((type(caught.value), caught.value.to_status().to_json()))
    assert set(answers) == {(Unauthorized, answers[0][1])}


async def test_an_unknown_user_costs_the_work_of_a_known_one(replica: Replica, memory_etcd: MemoryEtcd) -> None:
    """The same calls of etcd in the same order, and one hash; that its parameters are the same is said elsewhere."""
    await replica.user("alice")
    await replica.user("disabled")
    await replica.change_user("disabled", enabled=False)
    await replica.user("fresh", password="")
    work = {}
    for user in ("alice", "nobody", "disabled", "fresh", "no name at all"):
        calls: list[tuple[str, str]] = []
        memory_etcd.hook = lambda call, phase, calls=calls: calls.append((call, phase))  # type: ignore[misc]
        before = hashes()
        with pytest.raises(Unauthorized):
            await replica.login.login(user, "wrong", HOME)
        work[user] = (hashes() - before, tuple(calls))
    assert {hashed for hashed, _ in work.values()} == {1}
    # What can be no name is known to be none without asking etcd; whoever asks knows that as well.
    del work["no name at all"]
    assert set(work.values()) == {work["alice"]}


async def test_the_same_refusal_and_waiting_is_for_unknown_users(replica: Replica) -> None:
    await replica.user()
    outcomes: dict[str, list[str]] = {"alice": [], "nobody": []}
    for user, seen in outcomes.items():
        for _ in range(8):
            with pytest.raises(ApiError) as caught:
                await replica.login.login(user, "wrong", HOME)
            seen.append(f"{type(caught.value).__name__} {caught.value.message}")
    assert outcomes["alice"] == outcomes["nobody"]


async def test_a_one_time_secret_only_allows_to_set_a_password(replica: Replica) -> None:
    await replica.user(password="")
    issued = await replica.login.issue_initial_secret("alice")
    challenge = await replica.challenge_of(SET, issued.secret)
    assert await replica.session_names() == []
    with pytest.raises(Unauthorized):
        await replica.login.verify_mfa(challenge.token, "000000", HOME)
    with pytest.raises(Invalid, match="shorter"):
        await replica.login.set_password(challenge.token, "short", HOME)
    tokens = await replica.login.set_password(challenge.token, PASSWORD, HOME)
    assert isinstance(tokens, Tokens)
    assert (await replica.status_of("User", "alice"))["passwordSetAt"]
    for used_up in (issued.secret, issued.secret.replace("-", "")):
        with pytest.raises(Unauthorized):
            await replica.login.login("alice", used_up, HOME)
    with pytest.raises(Unauthorized):
        await replica.login.set_password(challenge.token, ANOTHER, HOME)
    assert await replica.tokens_of()


async def test_of_two_who_show_the_one_time_secret_one_sets_the_password(replica: Replica, other: Replica) -> None:
    await replica.user(password="")
    issued = await replica.login.issue_initial_secret("alice")
    first = await replica.challenge_of(SET, issued.secret)
    second = await other.challenge_of(SET, issued.secret, client=AWAY)
    done = await asyncio.gather(
        replica.login.set_password(first.token, PASSWORD, HOME),
        other.login.set_password(second.token, ANOTHER, AWAY),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in done) == ["Tokens", "Unauthorized"]


async def test_a_one_time_secret_runs_out(replica: Replica) -> None:
    await replica.user(password="")
    issued = await replica.login.issue_initial_secret("alice")
    challenge = await replica.challenge_of(SET, issued.secret)
    replica.clock.skip((issued.expires_at - replica.clock.now()).total_seconds() + 1)
    with pytest.raises(Unauthorized):
        await replica.login.set_password(challenge.token, PASSWORD, HOME)
    with pytest.raises(Unauthorized):
        await replica.login.login("alice", issued.secret, HOME)


async def test_an_administrator_s_reset_ends_password_sessions_and_logins_under_way(replica: Replica) -> None:
    await replica.user()
    await replica.enrol()
    challenge = await replica.challenge_of(VERIFY)
    assert len(await replica.session_names()) == 1  # of the enrolment
    issued = await replica.login.issue_initial_secret("alice")
    assert await replica.session_names() == []
    with pytest.raises(Unauthorized):
        await replica.login.login("alice", PASSWORD, HOME)
    with pytest.raises(Unauthorized):
        await replica.login.verify_mfa(challenge.token, "000000", HOME)
    again = await replica.login.issue_initial_secret("alice")
    with pytest.raises(Unauthorized):
        await replica.login.login("alice", issued.secret, HOME)
    step = await replica.challenge_of(SET, again.secret)
    after = await replica.login.set_password(step.token, ANOTHER, HOME)
    assert isinstance(after, Challenge)
    assert after.kind is VERIFY  # the second factor stayed


async def test_a_reset_is_for_users_that_are_there_and_have_their_password_here(replica: Replica) -> None:
    with pytest.raises(NotFound):
        await replica.login.issue_initial_secret("nobody")
    oidc = {"issuerUrl": "https://id.corp.example", "clientId": "cloud"}
    provider = {"metadata": {"name": "corp"}, "spec": {"type": "OIDC", "oidc": oidc}}
    await replica.store.create(get_kind("IdentityProvider"), provider, actor=ADMIN)
    await replica.user("bob", password="", identityProvider="corp", externalId="42")
    with pytest.raises(Conflict):
        await replica.login.issue_initial_secret("bob")
    with pytest.raises(Unauthorized):
        await replica.login.login("bob", PASSWORD, HOME)


async def test_a_second_factor_is_enrolled_and_then_asked_for(replica: Replica) -> None:
    await replica.user()
    secret, _ = await replica.enrol()
    challenge = await replica.challenge_of(VERIFY)
    tokens = await replica.login.verify_mfa(challenge.token, replica.code(secret), HOME)
    assert replica.access(tokens).methods == ("pwd", "otp", "mfa")
    assert (await replica.status_of("User", "alice"))["mfaEnrolled"] is True
    with pytest.raises(Unauthorized):
        await replica.login.verify_mfa(challenge.token, replica.code(secret, 30), HOME)


async def test_a_replayed_code_is_refused_also_by_another_replica(replica: Replica, other: Replica) -> None:
    await replica.user()
    secret, _ = await replica.enrol()
    other.clock.skip(60)
    here, there = await replica.challenge_of(VERIFY), await other.challenge_of(VERIFY)
    code = replica.code(secret)
    await replica.login.verify_mfa(here.token, code, HOME)
    with pytest.raises(Unauthorized, match="used already"):
        await other.login.verify_mfa(there.token, code, HOME)


async def test_of_many_who_show_the_same_code_at_once_one_gets_in(replica: Replica, other: Replica) -> None:
    await replica.user()
    secret, codes = await replica.enrol()
    other.clock.skip(60)
    for code in (replica.code(secret), codes[0]):
        steps = [(r, await r.challenge_of(VERIFY)) for r in (replica, other) * 4]
        done = await asyncio.gather(
            *(r.login.verify_mfa(step.token, code, HOME) for r, step in steps), return_exceptions=True
        )
        assert [type(each).__name__ for each in done].count("Tokens") == 1
        assert [type(each).__name__ for each in done].count("Unauthorized") == 7


async def test_recovery_codes_get_in_once_each(replica: Replica) -> None:
    await replica.user()
    _, codes = await replica.enrol()
    for code in codes[:2]:
        step = await replica.challenge_of(VERIFY)
        assert await replica.login.verify_mfa(step.token, code, HOME)
        step = await replica.challenge_of(VERIFY)
        with pytest.raises(Unauthorized):
            await replica.login.verify_mfa(step.token, code, HOME)


async def test_new_recovery_codes_end_the_old_ones(replica: Replica) -> None:
    await replica.user()
    secret, old = await replica.enrol()
    step = await replica.challenge_of(VERIFY)
    access = replica.access(await replica.login.verify_mfa(step.token, replica.code(secret), HOME))
    replica.clock.skip(60)
    new = await replica.login.renew_recovery_codes(access, PASSWORD, replica.code(secret), HOME)
    for code, good in ((old[0], False), (new[0], True)):
        step = await replica.challenge_of(VERIFY)
        if good:
            assert await replica.login.verify_mfa(step.token, code, HOME)
        else:
            with pytest.raises(Unauthorized):
                await replica.login.verify_mfa(step.token, code, HOME)


async def test_a_challenge_bears_five_guesses(replica: Replica) -> None:
    await replica.user()
    secret, _ = await replica.enrol()
    step = await replica.challenge_of(VERIFY)
    for _ in range(5):
        with pytest.raises(Unauthorized, match="code is wrong"):
            await replica.login.verify_mfa(step.token, "abcdef", HOME)
    with pytest.raises(Unauthorized, match="begin it again"):
        await replica.login.verify_mfa(step.token, replica.code(secret), HOME)


async def test_guessing_codes_over_many_logins_and_replicas_has_to_wait_but_not_the_known_device(
    replica: Replica, other: Replica
) -> None:
    await replica.user()
    known = with_device(HOME, await replica.tokens_of())
    secret, _ = await replica.enrol()
    other.clock.skip(60)
    for guesser in (replica, other):
        step = await guesser.challenge_of(VERIFY, client=AWAY)
        for _ in range(5):
            with pytest.raises(Unauthorized):
                await guesser.login.verify_mfa(step.token, "abcdef", AWAY)
    for guesser in (replica, other):
        step = await guesser.challenge_of(VERIFY, client=AWAY)
        with pytest.raises(TooManyRequests):
            await guesser.login.verify_mfa(step.token, replica.code(secret), AWAY)
    step = await replica.challenge_of(VERIFY, client=known)
    assert await replica.login.verify_mfa(step.token, replica.code(secret), known)


async def test_guessing_codes_on_a_known_device_has_to_wait_too(replica: Replica) -> None:
    """Else a stolen device token and a password would be enough to try codes until one fits."""
    await replica.user()
    known = with_device(HOME, await replica.tokens_of())
    await replica.enrol()
    for _ in range(5):
        step = await replica.challenge_of(VERIFY, client=known)
        with pytest.raises(Unauthorized):
            await replica.login.verify_mfa(step.token, "abcdef", known)
    step = await replica.challenge_of(VERIFY, client=known)
    with pytest.raises(TooManyRequests):
        await replica.login.verify_mfa(step.token, "abcdef", known)


class Held:
    """An etcd whose transactions wait."""

    def __init__(self, etcd: MemoryEtcd) -> None:
        self._etcd, self.reached, self.go = etcd, asyncio.Event(), asyncio.Event()
        self.go.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._etcd, name)

    async def txn(self, *args: Any) -> Any:
        self.reached.set()
        await self.go.wait()
        return await self._etcd.txn(*args)


async def test_a_login_under_way_with_the_password_before_begins_no_session(
    replica: Replica, memory_store: Store, memory_etcd: MemoryEtcd, clock: SkewedClock, envelopes: Envelopes
) -> None:
    """A reset ends all sessions; one that began a moment later with what it ended would stay."""
    await replica.user()
    etcd: Any = Held(memory_etcd)
    slow = Replica(memory_store, etcd, clock, envelopes)
    await slow.start()
    etcd.reached.clear()
    etcd.go.clear()
    late = asyncio.create_task(slow.login.login("alice", PASSWORD, AWAY))
    await etcd.reached.wait()  # the password was right, and the session is about to be written
    await replica.login.issue_initial_secret("alice")
    etcd.go.set()
    with pytest.raises(Unauthorized):
        await late
    assert await replica.session_names() == []
    slow.close()


async def test_who_comes_while_too_many_log_in_has_not_failed(
    replica: Replica, memory_store: Store, memory_etcd: MemoryEtcd, clock: SkewedClock, envelopes: Envelopes
) -> None:
    """Else a flood of logins would lock out whoever does as told and tries again."""
    await replica.user()
    full = HashingSettings(memory_kib=CHEAP.memory_kib, passes=1, at_once=1, waiting=-1)
    busy = await make_replica(memory_store, memory_etcd, clock, envelopes, full)
    for _ in range(10):
        with pytest.raises(Unavailable, match="too many logins at once"):
            await busy.login.login("alice", PASSWORD, HOME)
    busy.close()


async def test_a_user_who_must_have_a_second_factor_enrols_while_logging_in(replica: Replica) -> None:
    await replica.user()
    await replica.change_user(mfaRequired=True)
    step = await replica.challenge_of(ENROL)
    enrolment = await replica.login.begin_enrolment(step.token)
    with pytest.raises(Unauthorized):
        await replica.login.confirm_enrolment(step.token, "abcdef", HOME)
    done = await replica.login.confirm_enrolment(step.token, replica.code(enrolment.secret), HOME)
    assert done.tokens is not None
    assert len(done.recovery_codes) == 10
    with pytest.raises(Unauthorized):
        await replica.login.begin_enrolment(step.token)
    access = replica.access(done.tokens)
    replica.clock.skip(60)
    with pytest.raises(Forbidden):
        await replica.login.disable_mfa(access, PASSWORD, replica.code(enrolment.secret), HOME)


async def test_a_challenge_to_enrol_does_not_replace_a_factor_enrolled_meanwhile(replica: Replica) -> None:
    await replica.user()
    await replica.change_user(mfaRequired=True)
    mine, theirs = await replica.challenge_of(ENROL), await replica.challenge_of(ENROL, client=AWAY)
    enrolment = await replica.login.begin_enrolment(mine.token)
    await replica.login.confirm_enrolment(mine.token, replica.code(enrolment.secret), HOME)
    with pytest.raises(Unauthorized):
        await replica.login.begin_enrolment(theirs.token)


async def test_a_stolen_access_token_is_not_enough_to_change_how_one_logs_in(replica: Replica) -> None:
    await replica.user()
    stolen = replica.access(await replica.tokens_of())
    for attempt in (
        replica.login.enrol(stolen, "wrong", "", AWAY),
        replica.login.change_password(stolen, "wrong", ANOTHER, AWAY),
        replica.login.disable_mfa(stolen, "wrong", "", AWAY),
        replica.login.renew_recovery_codes(stolen, "wrong", "", AWAY),
    ):
        with pytest.raises(Unauthorized):
            await attempt


async def test_replacing_an_enrolled_factor_takes_a_code_of_it(replica: Replica) -> None:
    await replica.user()
    secret, _ = await replica.enrol()
    step = await replica.challenge_of(VERIFY)
    access = replica.access(await replica.login.verify_mfa(step.token, replica.code(secret), HOME))
    replica.clock.skip(60)
    with pytest.raises(Unauthorized):
        await replica.login.enrol(access, PASSWORD, "", HOME)
    await replica.login.enrol(access, PASSWORD, replica.code(secret), HOME)
    replica.clock.skip(60)
    step = await replica.challenge_of(VERIFY)  # until it is confirmed, the present one goes on
    assert await replica.login.verify_mfa(step.token, replica.code(secret), HOME)


async def test_a_factor_can_be_removed_by_the_user_and_by_an_administrator(replica: Replica) -> None:
    await replica.user()
    secret, _ = await replica.enrol()
    step = await replica.challenge_of(VERIFY)
    access = replica.access(await replica.login.verify_mfa(step.token, replica.code(secret), HOME))
    replica.clock.skip(60)
    await replica.login.disable_mfa(access, PASSWORD, replica.code(secret), HOME)
    assert await replica.tokens_of()
    assert (await replica.status_of("User", "alice"))["mfaEnrolled"] is False
    await replica.enrol()
    await replica.login.reset_mfa("alice")
    assert await replica.session_names() == []
    assert await replica.tokens_of()


async def test_changing_the_password_ends_the_other_sessions_and_keeps_this_one(replica: Replica) -> None:
    await replica.user()
    mine, theirs = await replica.tokens_of(), await replica.tokens_of(client=AWAY)
    await replica.login.change_password(replica.access(mine), PASSWORD, ANOTHER, HOME)
    assert await replica.session_names() == [mine.session]
    assert await replica.login.refresh(mine.refresh_token, HOME)
    with pytest.raises(Unauthorized):
        await replica.login.refresh(theirs.refresh_token, HOME)
    with pytest.raises(Unauthorized):
        await replica.tokens_of(password=PASSWORD)
    assert await replica.tokens_of(password=ANOTHER)


@pytest.mark.parametrize("new", [PASSWORD, "short", "alicealicealice", "password1234", "a" * 257])
async def test_a_new_password_that_is_not_acceptable_changes_nothing(replica: Replica, new: str) -> None:
    await replica.user()
    access = replica.access(await replica.tokens_of())
    with pytest.raises(Invalid) as caught:
        await replica.login.change_password(access, PASSWORD, new, HOME)
    assert caught.value.causes[0].field == "newPassword"
    assert await replica.tokens_of()


async def test_a_hash_of_older_parameters_is_renewed_at_login(
    memory_store: Store, memory_etcd: MemoryEtcd, replica: Replica, envelopes: Envelopes
) -> None:
    await replica.user()
    dearer = HashingSettings(memory_kib=CHEAP.memory_kib * 2, passes=2)
    newer = await make_replica(memory_store, memory_etcd, replica.clock, envelopes, dearer)
    account = await newer.directory.find_user("alice")
    assert await newer.tokens_of()
    record = await newer.user_passwords.find(account)
    assert record is not None
    assert record.password is not None
    assert "m=128,t=2" in record.password
    assert await newer.tokens_of()
    await replica.tokens_of()  # with the cheaper parameters again
    access = newer.access(await replica.tokens_of())
    await newer.login.change_password(access, PASSWORD, ANOTHER, HOME)
    assert await newer.tokens_of(password=ANOTHER)
    newer.close()


async def test_a_user_deleted_and_made_again_is_another_one(replica: Replica) -> None:
    await replica.user()
    tokens = await replica.tokens_of()
    access = replica.access(tokens)
    definition = get_kind("User")
    wire = (await replica.store.get(definition, None, "alice")).wire
    await replica.store.delete(definition, None, "alice", actor=ADMIN)
    with pytest.raises(Unauthorized):
        await replica.tokens_of()
    await replica.store.finalize(definition, None, "alice", wire["metadata"]["finalizers"], actor=SYSTEM)
    await replica.user()
    with pytest.raises(Unauthorized):
        await replica.login.refresh(tokens.refresh_token, HOME)
    with pytest.raises(Unauthorized):
        await replica.login.change_password(access, PASSWORD, ANOTHER, HOME)


async def test_a_challenge_runs_out_and_is_for_one_step_only(replica: Replica) -> None:
    await replica.user()
    secret, _ = await replica.enrol()
    step = await replica.challenge_of(VERIFY)
    for wrong in (
        replica.login.set_password(step.token, ANOTHER, HOME),
        replica.login.begin_enrolment(step.token),
        replica.login.verify_mfa(step.token[:-1], replica.code(secret), HOME),
        replica.login.verify_mfa("", replica.code(secret), HOME),
        replica.login.verify_mfa("../../users." + step.token, replica.code(secret), HOME),
        replica.login.verify_mfa("x" * 1_000_000, replica.code(secret), HOME),
        replica.login.verify_mfa("0" * 20 + ".\ud800", replica.code(secret), HOME),
    ):
        with pytest.raises(Unauthorized):
            await wrong
    replica.clock.skip(601)
    with pytest.raises(Unauthorized):
        await replica.login.verify_mfa(step.token, replica.code(secret), HOME)


@pytest.mark.parametrize("shift", [timedelta(hours=1), timedelta(days=30)])
async def test_a_replica_with_a_wrong_clock_lets_no_code_in_and_locks_nobody_out(
    replica: Replica, other: Replica, shift: timedelta
) -> None:
    await replica.user()
    secret, codes = await replica.enrol()
    other.clock.skip(60)
    for sign in (1, -1):
        other.clock.skew = sign * shift
        step = await other.challenge_of(VERIFY)
        with pytest.raises(Unauthorized):
            await other.login.verify_mfa(step.token, replica.code(secret), HOME)
        assert await other.login.verify_mfa(step.token, codes.pop(), HOME)
    step = await replica.challenge_of(VERIFY)
    assert await replica.login.verify_mfa(step.token, replica.code(secret), HOME)


async def test_no_secret_lies_open_in_etcd_or_in_the_log(replica: Replica, memory_etcd: MemoryEtcd) -> None:
    with structlog.testing.capture_logs() as logs:
        await replica.user()
        secret, codes = await replica.enrol()
        issued = await replica.login.issue_initial_secret("alice")
        step = await replica.challenge_of(SET, issued.secret)
        after = await replica.login.set_password(step.token, ANOTHER, HOME)
        assert isinstance(after, Challenge)
        tokens = await replica.login.verify_mfa(after.token, codes[0], HOME)
        with pytest.raises(Unauthorized):
            await replica.login.login("alice", "a wrong password", HOME)
    secrets = [PASSWORD, ANOTHER, secret, *codes, issued.secret, issued.secret.replace("-", ""), "a wrong password"]
    secrets += [tokens.refresh_token, tokens.access_token, step.token, after.token, tokens.device_token, "$argon2id"]
    kept = b"\n".join(memory_etcd.snapshot().values()) + repr([batch.events for batch in memory_etcd._log]).encode()
    for each in secrets:
        assert each.encode() not in kept
        assert each not in repr(logs)
