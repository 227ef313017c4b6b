"""vcctl where requests are limited: it waits as it is told and says so; policies are shown like any kind."""

from typing import Any

import pytest

from tests.fixtures.api import SYSTEM
from tests.vcctl.harness import Vcctl
from tests.vcctl.test_login_access import Scene, binding, thing
from vcstack.specs.permissions import built_in_roles
from vcstack.specs.registry import get_kind
from vcstack.vcctl.errors import ExitCode


def policy(name: str, per_minute: int, burst: int, **spec: Any) -> dict[str, Any]:
    limit = {"name": name, "per": "Subject", "routes": ["List"], "requestsPerMinute": per_minute, "burst": burst}
    return thing("RateLimitPolicy", name, {"limits": [limit], **spec})


@pytest.fixture
async def people(vcctl: Vcctl) -> Scene:
    """A project and alice, who is a member of it and logged in."""
    found = Scene(vcctl)
    member = built_in_roles()["member"]
    wire = {"metadata": {"name": "member"}, "spec": {"rules": [rule.to_wire() for rule in member.rules]}}
    await vcctl.api.store.create(get_kind("Role"), wire, actor=SYSTEM)
    member_of = binding("alice", "User:alice", "member", "demo")
    await found.apply(thing("Project", "demo"), thing("User", "alice"), member_of)
    await found.log_in("alice")
    return found


async def test_a_command_waits_as_it_is_told_and_says_why(people: Scene) -> None:
    await people.apply(policy("one-a-second", 60, 1))
    # Four lists in one command: a slow machine, too, asks for the next one sooner than a second later.
    ended = await people("alice", "get", "networks,subnets,ports,instances")
    assert ended.code == 0, ended
    assert "Waiting 1 s: user:alice has sent as many requests as limit" in ended.err


async def test_a_policy_is_shown_and_explained_like_anything_else(people: Scene) -> None:
    await people.apply(policy("calm", 600, 50, subject={"kind": "User", "name": "alice"}))
    shown = await people.ok("admin", "get", "rlp")
    heading, row = shown.splitlines()
    assert heading.split() == ["NAME", "READY", "SUBJECT", "PROJECT", "DOMAIN", "LIMITS", "APPLIED", "AGE"]
    assert {"calm", "alice"} <= set(row.split())
    assert "requestsPerMinute" in await people.ok("admin", "explain", "ratelimitpolicy.spec.limits")
    refused = await people("admin", "apply", "--no-wait", "-f", people.plan(policy("calm", 0, 50)))
    assert refused.code != 0
    assert "requestsPerMinute" in refused.err


async def test_who_is_no_administrator_makes_no_policy(people: Scene) -> None:
    ended = await people("alice", "apply", "--no-wait", "-f", people.plan(policy("mine", 60_000, 5000)))
    assert ended.code == ExitCode.NOT_FOUND, "as if there were no such thing, like all that is the cloud's"
    assert "mine" not in await people.ok("admin", "get", "rlp")
