"""quota, and apply where quotas leave no room, against the real API."""

import json
from typing import Any

from tests.vcctl.harness import Vcctl
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor
from vcstack.vcctl.errors import ExitCode

ADMIN = Actor("admin", "tests")
Wire = dict[str, Any]


async def put(vcctl: Vcctl, kind: str, name: str, spec: Wire, project: str | None = None) -> None:
    metadata = {"name": name, **({"project": project} if project else {})}
    await vcctl.api.store.create(get_kind(kind), {"metadata": metadata, "spec": spec}, actor=ADMIN)


async def make_world(vcctl: Vcctl) -> None:
    """Make project demo in domain acme: two networks at most, and six vCPUs in all of acme."""
    await put(vcctl, "Domain", "acme", {})
    await put(vcctl, "Project", "demo", {"domain": "acme"})
    await put(vcctl, "Quota", "small", {"limits": {"networks": 2, "vcpus": 5}}, "demo")
    await put(vcctl, "Quota", "acme", {"domain": "acme", "limits": {"vcpus": 6}})
    await put(vcctl, "Flavor", "big", {"vcpus": 4, "memoryMiB": 512, "rootDiskGiB": 4})
    await put(vcctl, "Image", "tiny", {"format": "QCOW2"}, None)


def network(name: str) -> Wire:
    return {"apiVersion": "vcstack.io/v1", "kind": "Network", "metadata": {"name": name}, "spec": {}}


async def test_a_set_for_which_there_is_no_room_is_refused_before_anything_is_written(vcctl: Vcctl) -> None:
    await make_world(vcctl)
    file = vcctl.write("a.yaml", *(network(f"n{n}") for n in range(3)))
    ended = await vcctl("apply", "-f", file)
    assert ended.code == ExitCode.REFUSED
    assert ended.err.count("networks: 3 asked, 0 of 2 in use (quota small of project demo)") == 1
    assert "Hint: vcctl quota" in ended.err
    assert "n0" not in (await vcctl("get", "networks")).out
    await vcctl.ok("apply", "-f", vcctl.write("b.yaml", *(network(f"n{n}") for n in range(2))))
    await vcctl.ok("apply", "-f", vcctl.write("b.yaml", *(network(f"n{n}") for n in range(2))))


async def test_a_plan_for_which_there_is_no_room_any_more_is_not_begun(vcctl: Vcctl) -> None:
    await make_world(vcctl)
    file, plan = vcctl.write("a.yaml", *(network(f"n{n}") for n in range(2))), str(vcctl.folder / "change.plan")
    await vcctl.ok("plan", "-f", file, "-o", plan)
    await put(vcctl, "Network", "other", {}, "demo")
    ended = await vcctl("apply", "--plan", plan)
    assert ended.code == ExitCode.REFUSED
    assert "networks: 2 asked, 1 of 2 in use" in ended.err
    assert "n0" not in (await vcctl("get", "networks")).out


async def test_quota_shows_used_limit_and_what_is_largest(vcctl: Vcctl) -> None:
    await make_world(vcctl)
    await put(vcctl, "Instance", "web-1", {"flavor": "big", "image": "tiny"}, "demo")
    mine = [line.split() for line in (await vcctl.ok("quota")).splitlines()]
    assert mine == [
        ["QUOTA", "OF", "LIMITED", "USED", "LIMIT", "LARGEST"],
        ["small", "project", "demo", "networks", "0", "2"],
        ["small", "project", "demo", "vcpus", "4", "5", "instance/web-1", "4"],
        ["acme", "domain", "acme", "vcpus", "4", "(mine)", "6"],
    ]
    domain = [line.split() for line in (await vcctl.ok("quota", "--domain", "acme")).splitlines()]
    assert domain[1:] == [["acme", "domain", "acme", "vcpus", "4", "6", "project/demo", "4"]]
    found = json.loads(await vcctl.ok("quota", "--all", "-o", "json"))
    assert sorted(usage["name"] for usage in found) == ["acme", "small"]


async def test_two_places_at_once_are_refused(vcctl: Vcctl) -> None:
    for words in (("quota", "--all", "--domain", "acme"), ("settings", "--cloud", "--domain", "acme")):
        refused = await vcctl(*words)
        assert (refused.code, "Name one of them" in refused.err) == (ExitCode.USAGE, True), refused


async def test_a_place_without_a_quota_says_so(vcctl: Vcctl) -> None:
    await make_world(vcctl)
    ended = await vcctl("quota", "--domain", "other")
    assert (ended.code, ended.out) == (ExitCode.OK, "")
    assert "There is no quota of domain" in ended.err
