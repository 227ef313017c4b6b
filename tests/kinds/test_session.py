"""Sessions: written by the system, deleted by people or at their time."""

import pytest

from tests.fakes.world import World
from tests.kinds.identities import add_credentials, begin_session, hours, make_user
from vcstack.controllers import session
from vcstack.runtime.reconciler import Result
from vcstack.specs.errors import Forbidden, Invalid
from vcstack.specs.kinds.session import Session


async def test_a_session_ends_at_its_time_and_not_before(world: World) -> None:
    await make_user(world)
    made = await begin_session(world, "s-1", "alice", until=1)
    await world.settle(session.build)
    assert await world.controller(session.build).reconciler.reconcile(made, made.ref) == Result(3600.0)
    world.clock.skip(3600)
    await world.settle(session.build)
    assert await world.find(Session, "s-1") is None
    assert await world.writes_of(session.build) == 0


async def test_of_too_many_of_a_user_the_oldest_end(world: World) -> None:
    credentials = add_credentials(world)
    for user in ("alice", "bob"):
        await make_user(world, user)
    await begin_session(world, "s-bobs", "bob")

    async def begin(*numbers: int) -> None:
        for n in numbers:
            await begin_session(world, f"s-{n}", "alice", began=n / 1000)
            await credentials.put(f"sessions/s-{n}", b"{}", 0)
        await world.settle(session.build)

    async def names() -> set[str]:
        return {s.metadata.name for s in (await world.admin.list(Session)).items}

    await begin(*range(session.MOST))
    assert len(await names()) == session.MOST + 1
    await begin(session.MOST, session.MOST + 1)
    assert await names() == {"s-bobs", *(f"s-{n}" for n in range(2, session.MOST + 2))}
    assert await credentials.get("sessions/s-1") is None, "what is kept of it goes, too"
    assert await credentials.get("sessions/s-2") is not None
    assert await world.writes_of(session.build) == 0


async def test_people_delete_sessions_and_do_nothing_else_with_them(world: World) -> None:
    await make_user(world)
    made = await begin_session(world, "s-1", "alice")
    with pytest.raises(Forbidden):
        await world.admin.create(Session.new("s-2", made.spec))
    made.spec.expires_at = hours(100)
    with pytest.raises(Forbidden):
        await world.admin.update(made)
    await world.delete(made)
    assert await world.find(Session, "s-1") is None


async def test_there_is_no_session_of_nobody(world: World) -> None:
    with pytest.raises(Invalid):
        await begin_session(world, "s-1", "alice")
