"""API keys: a user's or a service account's, told when they have run out."""

from typing import Any

import pytest
from pydantic import ValidationError

from tests.fakes.world import PROJECT, World, sweep
from tests.kinds.identities import add_credentials, hours, make_account, make_key, make_project, make_user
from vcstack.controllers import apikey
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.apikey import APIKey, APIKeySpec
from vcstack.specs.meta import format_time
from vcstack.specs.permissions import Rule


async def make_world(world: World) -> None:
    await make_project(world)
    await make_account(world)
    await make_user(world)


async def test_a_key_becomes_ready_and_a_second_run_writes_nothing(world: World) -> None:
    await make_world(world)
    await make_key(world, "mine", user="alice", source_networks=["192.0.2.0/24", "2001:db8::/32"])
    await make_key(world, "ci", PROJECT, service_account="ci", rules=[Rule(verbs=["get"], kinds=["Instance"])])
    await world.settle(apikey.build)
    assert all(k.is_true("Ready") for k in (await world.admin.list(APIKey)).items)
    assert await world.writes_of(apikey.build) == 0


@pytest.mark.parametrize(
    ("project", "spec", "field"),
    [
        (None, {}, "spec.user"),
        (None, {"user": "nobody"}, "spec.user"),
        (None, {"user": "alice", "service_account": "ci"}, "spec.serviceAccount"),
        (PROJECT, {"user": "alice"}, "spec.user"),
        (PROJECT, {}, "spec.serviceAccount"),
        (PROJECT, {"service_account": "nobody"}, "spec.serviceAccount"),
        (None, {"user": "alice", "rules": [Rule(verbs=["get"], kinds=["Nothing"])]}, "spec.rules[0].kinds[0]"),
    ],
)
async def test_a_key_of_nobody_or_of_the_wrong_one_is_refused(
    world: World, project: str | None, spec: dict[str, Any], field: str
) -> None:
    await make_world(world)
    with pytest.raises(Invalid) as refused:
        await world.create_freely(APIKey.new("k", APIKeySpec(**spec), project=project))
    assert field in [c.field for c in refused.value.causes]


@pytest.mark.parametrize(
    "network", ["192.0.2.1/24", "192.0.2.0", "192.0.02.0/24", "::ffff:0/24", "all", "0x7f.0.0.0/8"]
)
def test_a_network_that_is_not_plain_is_refused(network: str) -> None:
    with pytest.raises(ValidationError):
        APIKeySpec(user="alice", source_networks=[network])


async def test_a_key_that_has_run_out_says_so_and_comes_back_with_a_new_expiry(world: World) -> None:
    await make_world(world)
    await make_key(world, "mine", user="alice", expires_at=hours(1))
    world.clock.skip(3600)
    await world.settle(apikey.build)
    key = await world.get(APIKey, "mine", None)
    told = key.find_condition("Accepted")
    assert told is not None
    assert (told.status, told.reason) == ("False", "Expired")
    key.spec.expires_at = hours(2)
    await world.admin.update(key)
    await world.settle(apikey.build)
    assert (await world.get(APIKey, "mine", None)).is_true("Ready")


async def test_a_key_says_that_its_secret_ended_with_the_right_of_whoever_made_it(world: World) -> None:
    await make_world(world)
    key = await make_key(world, "mine", user="alice")
    status = {"secretExpiresAt": format_time(hours(1)), "previousUntil": format_time(hours(2))}
    await world.set_status(key, **status)
    world.clock.skip(3600)
    await world.settle(apikey.build)
    assert (await world.get(APIKey, "mine", None)).is_true("Ready"), "the one before is good yet"
    world.clock.skip(3600)
    await world.settle(apikey.build)
    told = (await world.get(APIKey, "mine", None)).find_condition("Accepted")
    assert told is not None
    assert (told.status, told.reason) == ("False", "SecretExpired")
    await world.set_status(await world.get(APIKey, "mine", None), secretExpiresAt=None)
    await world.settle(apikey.build)
    assert (await world.get(APIKey, "mine", None)).is_true("Ready")


async def test_its_secrets_go_before_the_key_does_killed_where_it_may_be() -> None:
    async def scenario(world: World) -> None:
        credentials = add_credentials(world)
        await make_world(world)
        keys = [await make_key(world, n, user="alice") for n in ("one", "two")]
        for key in keys:
            await credentials.put(f"apikeys/{key.uid}", b"{}", 0)
        await world.settle(apikey.build)
        await world.delete(await world.get(APIKey, "one", None))
        await world.settle(apikey.build)
        assert await world.find(APIKey, "one", None) is None
        found = [await credentials.get(f"apikeys/{key.uid}") is not None for key in keys]
        assert found == [False, True]

    assert await sweep(scenario) > 2
