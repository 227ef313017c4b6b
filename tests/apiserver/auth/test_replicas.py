"""Two API servers on a real etcd, each with its own cache: what must hold once for both."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.apiserver.auth.world import ADMIN, AWAY, HOME, Replica, SkewedClock, make_envelopes, make_pair
from vcstack.apiclient.authmessages import ChallengeKind
from vcstack.apiserver.auth.sessions import Tokens
from vcstack.specs.errors import Unauthorized
from vcstack.specs.registry import get_kind
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.store import Store

pytestmark = pytest.mark.daemons


@pytest.fixture
async def pair(etcd_client: EtcdClient) -> AsyncIterator[tuple[Replica, Replica]]:
    async with Store(etcd_client) as one, Store(etcd_client) as two:
        clock, envelopes = SkewedClock(), make_envelopes()
        made = await make_pair((one, two), etcd_client, clock, envelopes)
        await made[0].user()
        yield made
        for replica in made:
            replica.close()


async def test_a_session_begun_here_is_refreshed_there_and_ended_for_both(pair: tuple[Replica, Replica]) -> None:
    here, there = pair
    tokens = await here.tokens_of()
    assert there.access(tokens).session == tokens.session
    tokens = await there.login.refresh(tokens.refresh_token, HOME)
    await here.store.delete(get_kind("Session"), None, tokens.session, actor=ADMIN)
    assert not await there.directory.has_session(tokens.session)
    with pytest.raises(Unauthorized):
        await there.login.refresh(tokens.refresh_token, HOME)


async def test_a_refresh_token_shown_to_both_at_once_gives_one_client_the_same_and_two_clients_nothing_lasting(
    pair: tuple[Replica, Replica],
) -> None:
    tokens = await pair[0].tokens_of()
    done = await asyncio.gather(*(replica.login.refresh(tokens.refresh_token, HOME) for replica in pair * 8))
    assert len({each.refresh_token for each in done}) == 1
    uses = (
        replica.login.refresh(done[0].refresh_token, client)
        for replica, client in zip(pair * 8, (HOME, AWAY) * 8, strict=True)
    )
    found = await asyncio.gather(*uses, return_exceptions=True)
    assert len({each.refresh_token for each in found if isinstance(each, Tokens)}) <= 1
    assert {type(each) for each in found} <= {Tokens, Unauthorized}
    for replica in pair:
        assert await replica.session_names() == []


async def test_a_code_shown_to_both_at_once_is_good_once(pair: tuple[Replica, Replica]) -> None:
    secret, codes = await pair[0].enrol()
    for code in (pair[0].code(secret), codes[0]):
        steps = [(replica, await replica.challenge_of(ChallengeKind.VERIFY_MFA)) for replica in pair * 4]
        uses = (replica.login.verify_mfa(step.token, code, HOME) for replica, step in steps)
        done = await asyncio.gather(*uses, return_exceptions=True)
        assert sum(isinstance(each, Tokens) for each in done) == 1
        assert {type(each) for each in done} == {Tokens, Unauthorized}


async def test_a_challenge_of_one_is_met_at_the_other(pair: tuple[Replica, Replica]) -> None:
    secret, _ = await pair[0].enrol()
    step = await pair[0].challenge_of(ChallengeKind.VERIFY_MFA)
    tokens = await pair[1].login.verify_mfa(step.token, pair[1].code(secret), HOME)
    assert pair[0].access(tokens).methods == ("pwd", "otp", "mfa")
