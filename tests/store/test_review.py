"""What people's writes are held to is what holds when they are done, whoever wrote it and wherever."""

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.store.objects import ADMIN, NETWORK, create, make_network, make_project, wire
from vcstack.specs.errors import PolicyDenied
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import AnyResource
from vcstack.store.store import Store

POLICY = get_kind("Policy")
STRICT = wire("strict", POLICY.example["spec"], None)


class Review:
    """Refuses what a policy is there against in this process; at first another process makes one meanwhile."""

    def __init__(self, here: Store, there: Store) -> None:
        self._here, self._there = here, there
        self.asked: list[str] = []

    def __call__(self, verb: str, new: AnyResource, live: Mapping[str, Any] | None) -> Awaitable[None] | None:
        self.asked.append(verb)
        return self._hold(bool(self._here.cache.table(POLICY).objects))

    async def _hold(self, refuse: bool) -> None:
        if refuse:
            raise PolicyDenied("denied")
        await self._there.create(POLICY, STRICT, actor=ADMIN)


@pytest.mark.parametrize("verb", ["create", "update", "delete"])
async def test_a_policy_made_while_a_write_is_looked_at_is_not_passed_by(
    any_store: Store, any_etcd: Any, verb: str
) -> None:
    await make_project(any_store)
    await make_network(any_store)
    async with Store(any_etcd) as other:
        review = Review(any_store, other)
        actor = replace(ADMIN, review=review)
        if verb == "create":
            writing = any_store.create(NETWORK, wire("late"), actor=actor)
        elif verb == "update":
            patch = {"metadata": {"labels": {"a": "b"}}}
            writing = any_store.merge_patch(NETWORK, "demo", "web", patch, actor=actor)
        else:
            writing = any_store.delete(NETWORK, "demo", "web", actor=actor)  # type: ignore[assignment]
        with pytest.raises(PolicyDenied):
            await writing
    assert review.asked[0] == review.asked[-1] == verb
    assert len(review.asked) >= 2
    live = (await any_store.get(NETWORK, "demo", "web")).wire["metadata"]
    assert "deletionTimestamp" not in live
    assert "labels" not in live


async def test_what_nobody_holds_to_policies_does_not_wait_for_any(any_store: Store) -> None:
    await make_project(any_store)
    await any_store.create(POLICY, STRICT, actor=ADMIN)
    assert await create(any_store, NETWORK, wire("web"))
