"""apply and diff, against the real API."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.vcctl.harness import Hands, Vcctl
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor
from vcstack.vcctl.errors import ExitCode

Wire = dict[str, Any]


def project(name: str = "demo") -> Wire:
    return {"apiVersion": "vcstack.io/v1", "kind": "Project", "metadata": {"name": name}, "spec": {}}


def network(name: str, **spec: Any) -> Wire:
    return {"apiVersion": "vcstack.io/v1", "kind": "Network", "metadata": {"name": name}, "spec": spec}


def subnet(name: str, network: str, cidr: str = "10.0.0.0/24") -> Wire:
    return {"kind": "Subnet", "metadata": {"name": name}, "spec": {"network": network, "cidr": cidr}}


def group(name: str, *rules: Wire) -> Wire:
    return {"kind": "SecurityGroup", "metadata": {"name": name}, "spec": {"rules": list(rules)}}


def flavor(name: str, memory: int = 128) -> Wire:
    spec = {"vcpus": 1, "memoryMiB": memory, "rootDiskGiB": 1}
    return {"kind": "Flavor", "metadata": {"name": name}, "spec": spec}


async def test_objects_are_created_in_order_whatever_the_order_of_the_file(vcctl: Vcctl) -> None:
    file = vcctl.write("a.yaml", subnet("s", "web"), network("web"), project())
    assert [line.split(" (")[0] for line in (await vcctl.ok("apply", "-f", file)).splitlines()] == [
        "project/demo created",
        "network/web created",
        "subnet/s created",
    ]


def domain(name: str, parent: str) -> Wire:
    return {"kind": "Domain", "metadata": {"name": name}, "spec": {"parent": parent}}


async def test_domains_are_created_from_the_top_of_the_tree(vcctl: Vcctl) -> None:
    top = {"kind": "Domain", "metadata": {"name": "acme"}}
    inside = {"kind": "Project", "metadata": {"name": "web"}, "spec": {"domain": "c"}}
    file = vcctl.write("a.yaml", inside, domain("c", "b"), domain("b", "a"), top, domain("a", "acme"))
    assert "domain/c created" in await vcctl.ok("apply", "-f", file, "--dry-run")
    assert [line.split()[0] for line in (await vcctl.ok("apply", "-f", file)).splitlines()] == [
        *(f"domain/{name}" for name in ("acme", "a", "b", "c")),
        "project/web",
    ]


async def test_a_circle_of_domains_is_refused_by_name(vcctl: Vcctl) -> None:
    failed = await vcctl("apply", "-f", vcctl.write("a.yaml", domain("b", "a"), domain("a", "b")))
    assert failed.code != ExitCode.OK
    assert "spec.parent" in failed.err


async def test_applying_again_changes_nothing_and_a_change_configures(vcctl: Vcctl) -> None:
    file = vcctl.write("a.yaml", project(), network("web"))
    await vcctl.ok("apply", "-f", file)
    assert "created" not in (again := await vcctl.ok("apply", "-f", file))
    assert again.count("unchanged") == 2
    vcctl.write("a.yaml", project(), network("web", mtuBytes=1400))
    assert "network/web configured" in await vcctl.ok("apply", "-f", file)


async def test_what_a_manifest_no_longer_says_is_removed(vcctl: Vcctl) -> None:
    file = vcctl.write("a.yaml", project(), network("web", mtuBytes=1400))
    await vcctl.ok("apply", "-f", file)
    vcctl.write("a.yaml", project(), network("web"))
    await vcctl.ok("apply", "-f", file)
    assert await vcctl.ok("get", "network", "web", "-o", "jsonpath={.spec}") == "{}\n"


async def test_stdin_and_lists_are_read(vcctl: Vcctl) -> None:
    listed = json.dumps({"kind": "List", "items": [project("x")]})
    await vcctl.ok("apply", "-f", "-", stdin=listed)
    assert "project/x" in await vcctl.ok("get", "projects", "-o", "name")


async def test_what_get_prints_can_be_applied(vcctl: Vcctl, hands: Hands) -> None:
    await vcctl.ok("apply", "-f", vcctl.write("a.yaml", project(), network("web")))
    await hands.observe_all()
    text = await vcctl.ok("get", "network", "web", "-o", "yaml")
    assert "network/web unchanged" in await vcctl.ok("apply", "-f", "-", stdin=text)


async def test_a_status_written_by_hand_is_refused_by_name(vcctl: Vcctl) -> None:
    wire = {**network("web"), "status": {"mtuBytes": 1}}
    ended = await vcctl("apply", "-f", vcctl.write("a.yaml", project(), wire))
    assert ended.code == ExitCode.REFUSED
    assert "status" in ended.err


async def test_one_bad_object_does_not_stop_the_others(vcctl: Vcctl) -> None:
    file = vcctl.write("a.yaml", project(), subnet("s", "nowhere"), network("web"))
    ended = await vcctl("apply", "-f", file)
    assert ended.code == ExitCode.REFUSED
    assert "network/web created" in ended.out
    assert "spec.network" in ended.err
    assert "a.yaml" in ended.err


async def test_a_dry_run_says_what_would_happen_and_writes_nothing(vcctl: Vcctl) -> None:
    file = vcctl.write("a.yaml", project(), network("web"), subnet("s", "web"))
    out = await vcctl.ok("apply", "-f", file, "--dry-run")
    assert out.count("created (dry run)") == 3
    assert (await vcctl("get", "project", "demo")).code == ExitCode.NOT_FOUND


async def test_fields_of_another_manager_are_a_conflict_until_forced(vcctl: Vcctl) -> None:
    file = vcctl.write("a.yaml", project(), network("web", mtuBytes=1400))
    await vcctl.ok("apply", "-f", file)
    bob = Actor("admin", "bob")
    store = vcctl.api.store
    await store.merge_patch(get_kind("Network"), "demo", "web", {"spec": {"mtuBytes": 1300}}, actor=bob)
    ended = await vcctl("apply", "-f", file)
    assert ended.code == ExitCode.REFUSED
    assert "bob" in ended.err
    assert "--force-conflicts" in ended.err
    assert "configured" in await vcctl.ok("apply", "-f", file, "--force-conflicts")


async def test_prune_deletes_what_left_the_folder_and_nothing_else(vcctl: Vcctl, busy_hands: Hands) -> None:
    vcctl.write("set/a.yaml", project(), network("web"), network("db"))
    folder = str(vcctl.folder / "set")
    await vcctl.ok("apply", "-f", folder)
    await vcctl.ok("apply", "-f", "-", stdin="kind: Network\nmetadata: {name: other}\nspec: {}\n")
    vcctl.write("set/a.yaml", project(), network("web"))
    assert "network/db pruned" in await vcctl.ok("apply", "-f", folder, "--prune", "--wait")
    names = (await vcctl.ok("get", "networks", "-o", "name")).split()
    assert names == ["network/other", "network/web"]


async def test_a_dry_run_of_prune_deletes_nothing(vcctl: Vcctl) -> None:
    vcctl.write("set/a.yaml", project(), network("web"))
    folder = str(vcctl.folder / "set")
    await vcctl.ok("apply", "-f", folder, "--set", "shop")
    vcctl.write("set/a.yaml", project())
    out = await vcctl.ok("apply", "-f", folder, "--set", "shop", "--prune", "--dry-run")
    assert "network/web pruned (dry run)" in out
    await vcctl.ok("get", "network", "web")


async def test_nothing_is_pruned_when_something_could_not_be_applied(vcctl: Vcctl) -> None:
    vcctl.write("set/a.yaml", project(), network("web"))
    folder = str(vcctl.folder / "set")
    await vcctl.ok("apply", "-f", folder)
    vcctl.write("set/a.yaml", project(), subnet("s", "nowhere"))
    ended = await vcctl("apply", "-f", folder, "--prune")
    assert "Nothing was pruned" in ended.err
    await vcctl.ok("get", "network", "web")


async def test_objects_stay_in_their_set_when_applied_alone(vcctl: Vcctl, busy_hands: Hands) -> None:
    file = vcctl.write("set/a.yaml", project(), network("web"))
    await vcctl.ok("apply", "-f", str(vcctl.folder / "set"))
    assert "network/web unchanged" in await vcctl.ok("apply", "-f", file)


async def test_wait_returns_when_everything_is_ready(vcctl: Vcctl, busy_hands: Hands) -> None:
    out = await vcctl.ok("apply", "-f", vcctl.write("a.yaml", project(), network("web")), "--wait")
    assert "2 objects are Ready." in out


async def test_wait_says_what_is_missing_when_the_time_is_over(vcctl: Vcctl) -> None:
    file = vcctl.write("a.yaml", project())
    ended = await vcctl("apply", "-f", file, "--wait", "--timeout", "0.3s")
    assert ended.code == ExitCode.TIMEOUT
    assert "project/demo" in ended.err
    assert "vcctl why" in ended.err


async def test_what_is_being_deleted_is_not_waited_for(vcctl: Vcctl) -> None:
    file = vcctl.write("a.yaml", project(), network("web"))
    await vcctl.ok("apply", "-f", file)
    await vcctl.ok("delete", "network", "web", "--no-wait")
    ended = await vcctl("apply", "-f", file, "--wait", "--timeout", "60s")
    assert ended.code == ExitCode.FAILED
    assert "network/web: it is being deleted" in ended.err
    assert "vcctl why network web" in ended.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: Netwrok\nmetadata: {name: x}\n", "did you mean networks"),
        ("kind: network\nmetadata: {name: x}\n", "spelt Network"),
        ("metadata: {name: x}\n", "kind is missing"),
        ("kind: Network\nmetadata: {}\n", "metadata.name"),
        ("kind: Network\nmetadata: {name: web/status}\n", "metadata.name 'web/status' is no name"),
        ("kind: Network\napiVersion: v1\nmetadata: {name: x}\n", "vcstack.io/v1"),
        ("kind: Network\nkind: Network\n", "occurs twice"),
        ("a: [", "stdin:"),
        ("", "no object"),
        ("- 1\n", "must be an object"),
        ("kind: Flavor\nmetadata: {name: x}\n---\nkind: Flavor\nmetadata: {name: x}\n", "occurs twice"),
    ],
)
async def test_manifests_that_cannot_be_read_are_refused_before_anything_is_written(
    vcctl: Vcctl, text: str, says: str
) -> None:
    before = "kind: Project\nmetadata: {name: first}\nspec: {}\n---\n" if text.startswith("kind") else ""
    ended = await vcctl("apply", "-f", "-", stdin=before + text)
    assert ended.code == ExitCode.LOCAL
    assert says.lower() in ended.err.lower()
    assert (await vcctl("get", "project", "first")).code == ExitCode.NOT_FOUND


async def test_files_that_are_not_there_are_named(vcctl: Vcctl, tmp_path: Path) -> None:
    assert "does not exist" in (await vcctl("apply", "-f", "/nowhere.yaml")).err
    (tmp_path / "empty").mkdir()
    assert "there is no .yaml" in (await vcctl("apply", "-f", str(tmp_path / "empty"))).err
    (tmp_path / "empty" / "below").mkdir()
    (tmp_path / "empty" / "below" / "a.yaml").touch()
    assert "add -R" in (await vcctl("apply", "-f", str(tmp_path / "empty"))).err


async def test_diff_shows_each_field_with_what_its_change_takes(vcctl: Vcctl) -> None:
    file = vcctl.write("a.yaml", project(), network("web", mtuBytes=1400), flavor("tiny"))
    await vcctl.ok("apply", "-f", file)
    assert await vcctl.ok("diff", "-f", file) == ""
    vcctl.write("a.yaml", project(), network("web", mtuBytes=1300), flavor("tiny", 256))
    ended = await vcctl("diff", "-f", file)
    assert ended.code == ExitCode.REFUSED, "a pipeline is not to take it for a difference alone"
    assert "spec.mtuBytes  reboot" in ended.out
    assert "- 1400" in ended.out
    assert "+ 1300" in ended.out
    assert "spec.memoryMiB  immutable" in ended.out
    assert "would be refused" in ended.err


async def test_diff_says_what_would_be_refused_for_what_is_missing(vcctl: Vcctl) -> None:
    await vcctl.ok("apply", "-f", vcctl.write("a.yaml", project(), network("web")))
    alone = vcctl.write("b.yaml", subnet("s", "nowhere"))
    ended = await vcctl("diff", "-f", alone)
    assert ended.code == ExitCode.REFUSED
    assert "would be refused" in ended.err
    assert "there is no Network nowhere" in ended.err
    # Of a set another one may make it.
    assert (await vcctl("diff", "-f", vcctl.write("c.yaml", network("nowhere"), subnet("s", "nowhere")))).err == ""


async def test_diff_of_rules_matches_them_by_name(vcctl: Vcctl) -> None:
    ssh = {"name": "ssh", "direction": "Ingress", "protocol": "TCP", "portMin": 22}
    web = {"name": "web", "direction": "Ingress", "protocol": "TCP", "portMin": 80}
    file = vcctl.write("a.yaml", project(), group("g", ssh, web))
    await vcctl.ok("apply", "-f", file)
    vcctl.write("a.yaml", project(), group("g", {**web, "portMin": 81}))
    out = (await vcctl("diff", "-f", file)).out
    assert "spec.rules[ssh]  live" in out
    assert "spec.rules[web].portMin  live" in out


async def test_diff_of_a_new_folder_shows_what_would_be_created(vcctl: Vcctl) -> None:
    vcctl.write("set/a.yaml", project(), network("web"), subnet("s", "web"))
    ended = await vcctl("diff", "-f", str(vcctl.folder / "set"))
    assert ended.code == ExitCode.DIFFERENCE
    assert ended.out.count("would be created") == 3
    # What a change takes is no matter of what is not there yet.
    assert "immutable" not in ended.out
    assert ended.err == ""


async def test_diff_of_what_was_applied_as_a_set_is_empty(vcctl: Vcctl) -> None:
    vcctl.write("set/a.yaml", project(), network("web"))
    folder = str(vcctl.folder / "set")
    await vcctl.ok("apply", "-f", folder)
    assert (await vcctl("diff", "-f", folder)).code == 0
