"""Rate limits at a real server: who is refused, what he is told, and who is not."""

import asyncio

import pytest
import structlog.testing

from tests.apiserver.limits.conftest import OBJECT, OTHERS, PROJECT, Http, Serve, count, policy, users
from tests.apiserver.test_accounts import ADMIN, as_, log_in
from tests.fakes.manual_clock import ManualClock
from tests.fixtures.api import error_of
from vcstack.specs.registry import get_kind

NEW = {"metadata": {"name": "red"}, "spec": {}}


async def test_who_is_refused_is_told_which_limit_and_when_to_try_again(serve: Serve, clock: ManualClock) -> None:
    api = await serve()
    await policy(api, "lists", "Subject", 3, "List")
    async with users(api, "alice") as (alice,):
        assert await count(alice, 3) == 3
        answer = await alice.get(OBJECT)
        body = error_of(answer)
        assert (answer.status_code, body["reason"]) == (429, "RateLimited")
        assert body["message"] == (
            "user:alice has sent as many requests as limit 'lists' of RateLimitPolicy lists allows: 6 a minute, "
            "3 at once; try again in 10 s, or have an administrator raise the limit"
        )
        assert body["details"]["limit"] == {
            "reason": "RateLimitExceeded",
            "name": "lists",
            "policy": "lists",
            "per": "Subject",
            "requestsPerMinute": 6,
            "burst": 3,
        }
        assert answer.headers["retry-after"] == "10"
        assert answer.headers["ratelimit-policy"] == '"lists";q=6;w=60'
        assert answer.headers["ratelimit"] == '"lists";r=0;t=10'
        clock.skip(9.9)
        assert await count(alice, 1) == 0
        clock.skip(0.2)
        assert await count(alice, 2) == 1


async def test_who_has_used_more_than_half_is_told_how_much_is_left(serve: Serve) -> None:
    api = await serve()
    await policy(api, "lists", "Subject", 4, "List")
    async with users(api, "alice") as (alice,):
        assert "ratelimit" not in (await alice.get(OBJECT)).headers
        answer = await alice.get(OBJECT)
        assert answer.headers["ratelimit-policy"] == '"lists";q=6;w=60'
        assert answer.headers["ratelimit"].startswith('"lists";r=2;t=')


async def test_a_subject_uses_up_what_is_its_own_only(serve: Serve) -> None:
    api = await serve()
    await policy(api, "all", "Subject", 2)
    async with users(api, "alice", "bob") as (alice, bob), api.raw() as admin:
        assert await count(alice, 5) == 2
        assert await count(bob, 5) == 2
        assert await count(admin, 50) == 50, "the administrator is how a limit that is too low gets repaired"


async def test_classes_of_requests_are_counted_apart_where_limits_say_so(serve: Serve) -> None:
    api = await serve()
    await policy(api, "lists", "Subject", 1, "List")
    await policy(api, "writes", "Subject", 2, "Write")
    async with users(api, "alice") as (alice,):
        assert await count(alice, 3) == 1
        assert await count(alice, 3, method="POST", json=NEW) == 2
        assert await count(alice, 5, f"{OBJECT}/red") == 5


async def test_a_project_has_a_bucket_that_its_members_share(serve: Serve) -> None:
    api = await serve()
    await policy(api, "work", "Project", 4, "List")
    async with users(api, "alice", "bob") as (alice, bob):
        assert await count(alice, 3) == 3
        assert await count(bob, 3) == 1


async def test_nobody_uses_up_the_limits_of_a_project_that_is_not_his(serve: Serve) -> None:
    api = await serve()
    await policy(api, "work", "Project", 4, "List")
    async with users(api, "alice", "mallory") as (alice, mallory):
        assert await count(mallory, 20) == 20, "what he may not see is missing, not limited"
        assert await count(alice, 5) == 4


async def test_the_policy_that_fits_most_closely_holds(serve: Serve) -> None:
    api = await serve()
    await policy(api, "all", "Subject", 1, "List")
    await policy(api, "domain", "Subject", 2, "List", domain="acme")
    await policy(api, "project", "Subject", 3, "List", project=PROJECT)
    await policy(api, "alice", "Subject", 4, "List", subject={"kind": "User", "name": "alice"})
    async with users(api, "alice", "bob", "mallory") as (alice, bob, mallory):
        assert await count(alice, 9) == 4
        assert await count(bob, 9) == 3
        assert await count(mallory, 9, f"/api/v1/projects/{OTHERS}/networks") == 1
        await api.store.delete(get_kind("RateLimitPolicy"), None, "project", actor=ADMIN)
        assert await count(bob, 9) == 2


async def test_a_policy_holds_and_ends_with_the_very_next_request(serve: Serve) -> None:
    api = await serve()
    async with users(api, "alice") as (alice,), api.raw() as admin:
        assert await count(alice, 20) == 20
        limit = {"name": "x", "per": "Subject", "requestsPerMinute": 1, "burst": 1}
        wire = {"metadata": {"name": "x"}, "spec": {"limits": [limit]}}
        assert (await admin.post("/api/v1/ratelimitpolicies", json=wire)).status_code == 201
        assert await count(alice, 5) == 1
        assert (await admin.delete("/api/v1/ratelimitpolicies/x")).status_code == 204
        assert await count(alice, 5) == 5


async def test_built_in_limits_stop_a_flood(serve: Serve) -> None:
    api = await serve()
    async with users(api, "alice") as (alice,):
        assert await count(alice, 320) == 300
        assert await count(alice, 5, f"{OBJECT}/none") == 5


async def test_what_is_no_route_counts_too(serve: Serve) -> None:
    api = await serve()
    await policy(api, "all", "Subject", 3)
    async with users(api, "alice") as (alice,):
        assert await count(alice, 6, "/api/v1/netwroks") == 3


async def test_a_login_is_limited_by_address_before_a_password_is_looked_at(serve: Serve) -> None:
    api = await serve()
    async with users(api, "alice") as (alice,), api.raw(api.settings(token=None)) as nobody, api.raw() as admin:
        await policy(api, "logins", "Address", 5, "Login")
        right = {"user": "alice", "password": "seven wet umbrellas dance"}
        assert await count(nobody, 8, "/api/v1/auth/login", "POST", json=right) == 5
        answer = await nobody.post("/api/v1/auth/login", json=right)
        assert error_of(answer)["message"].startswith("address 127.0.0.1 has sent as many requests as limit 'logins'")
        assert await count(alice, 5) == 5, "who is logged in works on"
        assert await count(admin, 5) == 5


async def test_credentials_that_are_no_good_are_limited_before_their_signature_is_checked(serve: Serve) -> None:
    api = await serve()
    fresh = await log_in(api, "bob")
    await policy(api, "strangers", "Address", 5, "Anonymous")
    forged = fresh[:-8] + "AAAAAAAA"
    async with users(api, "alice") as (alice,), as_(api, forged) as mallory, as_(api, fresh) as bob, api.raw() as admin:
        assert await count(alice, 1) == 1
        found = [(await mallory.get(OBJECT)).status_code for _ in range(8)]
        assert found == [401] * 5 + [429] * 3
        assert await count(bob, 1) == 0, "a good token that is not known yet is not looked at: that would cost"
        assert await count(alice, 20) == 20, "one that is known costs nothing to look at"
        assert await count(admin, 20) == 20


@pytest.mark.parametrize("path", [OBJECT, "/version", "/nowhere"])
async def test_requests_of_nobody_are_limited_by_address(serve: Serve, path: str) -> None:
    api = await serve()
    await policy(api, "strangers", "Address", 5, "Anonymous")
    async with api.raw(api.settings(token=None)) as nobody:
        assert await count(nobody, 8, path) == 5


async def test_health_is_never_limited(serve: Serve) -> None:
    api = await serve()
    await policy(api, "strangers", "Address", 1)
    async with api.raw(api.settings(token=None)) as nobody:
        assert await count(nobody, 3, "/version") == 1
        for path in ("/healthz", "/readyz"):
            assert {(await nobody.get(path)).status_code for _ in range(30)} == {200}


async def test_addresses_of_those_who_are_known_are_limited_only_by_a_policy(serve: Serve) -> None:
    api = await serve()
    async with users(api, "alice", "bob") as (alice, bob):
        await policy(api, "office", "Address", 6, "List")
        assert await count(alice, 4) + await count(bob, 4) == 6


async def test_of_addresses_the_policy_that_fits_most_closely_holds(serve: Serve) -> None:
    api = await serve()
    theirs = f"/api/v1/projects/{OTHERS}/networks"
    async with users(api, "alice", "bob", "mallory") as (alice, bob, mallory):
        await policy(api, "acme", "Address", 4, "List", domain="acme")
        await policy(api, "bob", "Address", 2, "List", subject={"kind": "User", "name": "bob"})
        assert await count(bob, 9) == 2
        assert await count(alice, 9) == 4
        assert await count(mallory, 9, theirs) == 9
        await policy(api, "all", "Address", 3, "List")
        assert await count(mallory, 9, theirs) == 3


async def test_no_limit_of_addresses_keeps_the_administrator_from_repairing_it(serve: Serve) -> None:
    api = await serve()
    async with users(api, "alice") as (alice,), api.raw() as admin:
        await policy(api, "office", "Address", 3)
        assert await count(alice, 9) == 3
        assert await count(admin, 9) == 9
        assert (await admin.delete("/api/v1/ratelimitpolicies/office")).status_code == 204
        assert await count(alice, 5) == 5


async def test_behind_a_proxy_each_client_has_its_own_count(serve: Serve) -> None:
    import ipaddress

    api = await serve(trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),))
    await policy(api, "strangers", "Address", 3, "Anonymous")

    def behind(address: str) -> Http:
        client = api.raw(api.settings(token=None))
        client.headers["x-forwarded-for"] = address
        return client

    async with behind("203.0.113.1") as one, behind("203.0.113.2") as two:
        assert await count(one, 5, "/version") == 3
        assert await count(two, 5, "/version") == 3


async def test_nobody_gets_another_address_by_a_header(serve: Serve) -> None:
    api = await serve()
    await policy(api, "strangers", "Address", 3, "Anonymous")
    async with api.raw(api.settings(token=None)) as nobody:
        passed = [await count(nobody, 1, "/version", headers={"x-forwarded-for": f"203.0.113.{n}"}) for n in range(6)]
    assert sum(passed) == 3


async def test_a_flood_that_is_refused_does_not_fill_the_log(serve: Serve, clock: ManualClock) -> None:
    api = await serve()
    await policy(api, "lists", "Subject", 3, "List")
    async with users(api, "alice") as (alice,):
        assert await count(alice, 3) == 3
        with structlog.testing.capture_logs() as lines:
            assert await count(alice, 30) == 0
            clock.skip(10.5)
            assert await count(alice, 2) == 1
    loud = [line for line in lines if line["log_level"] != "debug"]
    assert [(x["event"], x["sender"], x["limit"], x["refused"]) for x in loud] == [
        ("requests refused", "user:alice", "lists", 1),
        ("requests refused", "user:alice", "lists", 30),
    ]


async def test_many_at_once_do_not_pass_together(serve: Serve) -> None:
    api = await serve()
    await policy(api, "lists", "Subject", 7, "List")
    async with users(api, "alice") as (alice,):
        passed = await asyncio.gather(*(count(alice, 1) for _ in range(40)))
    assert sum(passed) == 7
