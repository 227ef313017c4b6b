"""Sessions: written by the system, deleted by people or at their time."""

import pytest

from tests.fakes.world import World
from tests.kinds.identities import begin_session, hours, make_user
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
