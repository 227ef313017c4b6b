"""get, describe, explain, events: looking at things."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest
import yaml

from tests.vcctl.harness import Hands, Vcctl
from tests.vcctl.scene import set_scene
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.network import Network
from vcstack.specs.registry import load_kinds
from vcstack.store.references import no_project
from vcstack.vcctl.errors import ExitCode, describe_error, hint_of

PROGRAM = (sys.executable, "-c", "from vcstack.vcctl.main import main; main()")


async def test_a_table_has_name_ready_the_kinds_columns_and_age(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    head, *rows = (await vcctl.ok("get", "instances")).splitlines()
    assert head.split() == ["NAME", "READY", "POWER", "HOST", "ADDRESSES", "FLAVOR", "AGE"]
    assert [r.split()[:2] for r in rows] == [["db-1", "True"], ["web-1", "True"]]
    assert "IMAGE" in (await vcctl.ok("get", "vm", "-o", "wide")).splitlines()[0]


async def test_piped_output_has_no_colours(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    assert "\x1b" not in await vcctl.ok("get", "all", "-A")


async def test_kinds_are_found_by_any_of_their_names(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    found = {await vcctl.ok("get", word, "-o", "name") for word in ("instance", "instances", "vm", "VMS", "Instance")}
    assert found == {"instance/db-1\ninstance/web-1\n"}


@pytest.mark.parametrize("definition", load_kinds().values(), ids=lambda d: d.kind)
async def test_every_kind_can_be_listed_described_and_explained(vcctl: Vcctl, definition: object) -> None:
    plural = definition.plural  # type: ignore[attr-defined]
    await vcctl.ok("get", plural, "-A", "-o", "wide")
    await vcctl.ok("describe", plural)
    assert plural in await vcctl.ok("explain", plural)


async def test_objects_come_as_json_and_yaml_without_managed_fields(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    as_json = json.loads(await vcctl.ok("get", "instance", "web-1", "-o", "json"))
    as_yaml = yaml.safe_load(await vcctl.ok("get", "instance/web-1", "-o", "yaml"))
    assert as_json == as_yaml
    assert as_json["spec"]["networkInterfaces"] == [{"name": "eth0", "network": "web", "subnet": "web-v4"}]
    assert "managedFields" not in as_json["metadata"]
    shown = await vcctl.ok("get", "instance", "web-1", "-o", "json", "--show-managed-fields")
    assert json.loads(shown)["metadata"]["managedFields"][0]["manager"] == "vcctl"


async def test_several_objects_come_as_a_list(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    listed = json.loads(await vcctl.ok("get", "instance/web-1", "network/web", "-o", "json"))
    assert [(i["kind"], i["metadata"]["name"]) for i in listed["items"]] == [("Instance", "web-1"), ("Network", "web")]


async def test_values_are_picked_by_jsonpath_and_custom_columns(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    template = '{range .items[*]}{.metadata.name}={.spec.flavor}{"\\n"}{end}'
    assert await vcctl.ok("get", "instances", "-o", f"jsonpath={template}") == "db-1=tiny\nweb-1=tiny\n"
    out = await vcctl.ok("get", "instances", "-o", "custom-columns=N:.metadata.name,F:.spec.flavor")
    assert [line.split() for line in out.splitlines()] == [["N", "F"], ["db-1", "tiny"], ["web-1", "tiny"]]


async def test_selectors_choose(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    assert await vcctl.ok("get", "instances", "-l", "app=web", "-o", "name") == "instance/web-1\n"
    out = await vcctl.ok("get", "instances", "--field-selector", "metadata.name!=web-1", "-o", "name")
    assert out == "instance/db-1\n"
    ended = await vcctl("get", "instances", "--field-selector", "status.hots=h1")
    assert ended.code == ExitCode.REFUSED
    assert "did you mean status.host" in ended.err


async def test_rows_are_sorted_by_a_path(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    out = await vcctl.ok("get", "instances", "--sort-by", ".metadata.labels.app", "-o", "name")
    assert out.split() == ["instance/db-1", "instance/web-1"]


async def test_several_kinds_are_tables_with_prefixed_names(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    out = await vcctl.ok("get", "networks,subnets")
    assert "network/web " in out
    assert "subnet/web-v4 " in out


async def test_across_projects_the_project_is_shown(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    assert (await vcctl.ok("get", "networks", "-A")).split()[:2] == ["PROJECT", "NAME"]
    assert "Nothing found in project demo" in (await vcctl("get", "sshkeys")).err
    ended = await vcctl("get", "networks", "-p", "other")
    assert ended.code == ExitCode.NOT_FOUND
    assert "project other does not exist" in ended.err


async def test_the_project_may_be_given_before_and_after_the_command(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    before = await vcctl.ok("-p", "demo", "get", "vm", "-o", "name")
    assert before == await vcctl.ok("get", "vm", "-o", "name", "-p", "demo")


async def test_a_name_that_is_not_there_is_answered_with_similar_ones(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    ended = await vcctl("get", "instance", "web-2")
    assert ended.code == ExitCode.NOT_FOUND
    assert "did you mean web-1" in ended.err
    ended = await vcctl("get", "instance", "web-1", "-p", "other")
    assert "there is one in project demo: add -p demo" in ended.err


async def test_an_unknown_kind_is_a_usage_error_with_similar_ones(vcctl: Vcctl) -> None:
    ended = await vcctl("get", "instnaces")
    assert ended.code == ExitCode.USAGE
    assert "Did you mean instances" in ended.err


async def begin(vcctl: Vcctl, *arguments: str) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    """Start vcctl, to be interrupted; return it and what it prints."""
    # Shells start what runs in their background with SIGINT ignored, and children inherit that.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "from vcstack.vcctl.main import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments,
        env={**os.environ, **vcctl.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout


async def test_watch_prints_the_list_and_every_change_until_interrupted(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl)
    process, out = await begin(vcctl, "get", "networks", "-w")
    assert (await out.readline()).split()[0] == b"NAME"
    assert (await out.readline()).split()[0] == b"web"
    await hands.observe(await hands.get(Network, "web"))
    assert (await out.readline()).split()[:2] == [b"web", b"True"]
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED
    assert b"Traceback" not in err


async def test_describe_shows_conditions_events_and_what_is_connected(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    instance = await hands.get(Instance, "web-1")
    await hands.observe(instance, but={"Running": ("CrashLoop", "QEMU ends at once.")})
    await hands.report(instance, "QemuFailed", "QEMU ended with 1", warning=True)
    out = await vcctl.ok("describe", "instance", "web-1")
    for part in ("CrashLoop", "QEMU ends at once.", "QemuFailed", "flavor/tiny", "spec.networkInterfaces[0].network"):
        assert part in out
    flavor = await vcctl.ok("describe", "flavor", "tiny")
    assert "Used by" in flavor
    assert "instance/db-1" in flavor


async def test_describe_finds_users_by_lists_and_across_projects_and_shows_some_of_many(
    vcctl: Vcctl, hands: Hands
) -> None:
    await set_scene(vcctl, hands)
    await vcctl.ok("apply", "-f", "-", stdin="kind: Project\nmetadata: {name: other}\nspec: {}\n")
    instance = "kind: Instance\nmetadata: {{name: vm-{n}, project: {p}}}\nspec: {{flavor: tiny, image: tiny}}\n"
    many = [instance.format(n=n, p="other" if n == 0 else "demo") for n in range(25)]
    await vcctl.ok("apply", "-f", "-", stdin="---\n".join(many))
    network = await vcctl.ok("describe", "network", "web")
    assert "spec.networkInterfaces[0].network" in network
    assert "instance/db-1" not in network
    flavor = await vcctl.ok("describe", "flavor", "tiny")
    assert flavor.count("  instance/") == 20
    assert "(and more instances; the first 20 are shown)" in flavor
    await vcctl.ok("delete", "instances", "--all", "--no-wait")
    await hands.observe_all()
    assert "instance/vm-0" in (left := await vcctl.ok("describe", "flavor", "tiny"))
    assert "in other" in left


async def test_explain_says_type_rules_and_what_a_change_takes(vcctl: Vcctl) -> None:
    out = await vcctl.ok("explain", "instance.spec.flavor")
    assert "<string>" in out
    assert "Refers to Flavor" in out
    assert "reboot" in out
    assert "One of: Running, Stopped, Paused" in await vcctl.ok("explain", "vm.spec.powerState")
    assert "Default: create, update\n" in await vcctl.ok("explain", "policy.spec.matches.verbs")
    assert "Default: false\n" in await vcctl.ok("explain", "gitsource.spec.suspend")
    ended = await vcctl("explain", "instance.spec.flavour")
    assert "Did you mean spec.flavor?" in ended.err


async def test_events_are_listed_and_filtered(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    instance = await hands.get(Instance, "web-1")
    await hands.report(instance, "Started", "running")
    await hands.report(instance, "Crashed", "again\nand again", warning=True)
    assert len((await vcctl.ok("events")).splitlines()) == 3
    assert "Started" not in await vcctl.ok("events", "--warnings")
    assert "again and again" in await vcctl.ok("events", "instance/web-1")
    assert "No events" in (await vcctl("events", "instance", "db-1")).err


async def test_api_resources_lists_every_kind(vcctl: Vcctl) -> None:
    listed = (await vcctl.ok("api-resources", "-o", "name")).split()
    assert sorted(listed) == sorted(d.plural for d in load_kinds().values())


async def test_a_path_that_no_object_has_cannot_be_sorted_by(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    ended = await vcctl("get", "instances", "--sort-by", ".spec.flavour")
    assert ended.code == ExitCode.USAGE
    assert "no field 'spec.flavour'" in ended.err
    assert "spec.flavor" in ended.err
    await vcctl.ok("get", "instances", "--sort-by", "{.status.addresses[0].address}")
    await vcctl.ok("get", "instances", "--sort-by", ".status.conditions[Ready].lastTransitionTime")


async def test_one_missing_name_does_not_hide_the_others(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    ended = await vcctl("get", "instance", "web-1", "web-9")
    assert ended.code == ExitCode.NOT_FOUND
    assert [line.split()[0] for line in ended.lines] == ["NAME", "web-1"]
    assert "Instance web-9 does not exist" in ended.err


async def test_where_nothing_was_found_is_said_as_the_kind_has_it(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    assert (await vcctl("get", "groups")).err == "Nothing found.\n"
    assert (await vcctl("get", "sshkeys")).err == "Nothing found in project demo; -A looks in all projects.\n"


async def test_the_table_can_be_asked_for_by_name(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    asked_for, plain = [await vcctl.ok("get", "networks", *words) for words in (("-o", "table"), ())]
    # Their ages may differ.
    assert [line.split()[:-1] for line in asked_for.splitlines()] == [line.split()[:-1] for line in plain.splitlines()]
    assert asked_for.split()[0] == "NAME"


async def test_a_condition_of_no_generation_is_not_called_old(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl)
    instance = await hands.get(Instance, "web-1")
    await hands.observe(instance, but={"Scheduled": ("Unschedulable", "No host fits.")})
    assert "older generation" not in await vcctl.ok("describe", "instance", "web-1")


async def test_what_others_share_with_the_project_is_shown_with_whose_it_is(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    assert (await vcctl("get", "networks", "--shared")).err == "Nothing is shared with project demo.\n"
    lab = """
kind: Project
metadata: {name: lab}
---
kind: Network
metadata: {name: blue, project: lab}
spec: {sharedWith: [{project: demo}]}
---
kind: Subnet
metadata: {name: blue-v4, project: lab}
spec: {network: blue, cidr: 10.9.0.0/24}
---
kind: Port
metadata: {name: p, project: demo}
spec: {network: lab/blue, securityGroups: []}
"""
    await vcctl.ok("apply", "-f", "-", stdin=lab)
    rows = (await vcctl.ok("get", "networks,subnets", "--shared")).splitlines()
    assert [row.split()[:2] for row in rows if "lab" in row] == [["lab", "network/blue"], ["lab", "subnet/blue-v4"]]
    refused = await vcctl("get", "ports", "--shared")
    assert "ports are not shared" in refused.err
    described = await vcctl.ok("describe", "port", "p")
    assert next(line for line in described.splitlines() if "network/blue" in line).split()[-3:] == [
        "in",
        "lab",
        "spec.network",
    ]


async def test_what_others_share_is_followed_as_it_comes_and_goes(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    network = "kind: Network\nmetadata: {{name: {}, project: lab}}\nspec: {{sharedWith: [{}]}}\n"
    project = "kind: Project\nmetadata: {name: lab}\n---\n"
    await vcctl.ok("apply", "-f", "-", stdin=project + network.format("blue", "{project: demo}"))
    process, out = await begin(vcctl, "get", "networks", "--shared", "-w")
    assert (await out.readline()).split()[:2] == [b"PROJECT", b"NAME"]
    assert (await out.readline()).split()[:2] == [b"lab", b"blue"]
    await vcctl.ok("apply", "-f", "-", stdin=network.format("red", "{project: demo}"))
    assert (await out.readline()).split()[:2] == [b"lab", b"red"]
    await vcctl.ok("apply", "-f", "-", stdin=network.format("blue", ""))
    gone = await out.readline()
    assert gone.split()[:2] == [b"lab", b"blue"]
    assert b"(deleted)" in gone
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED
    assert b"Traceback" not in err


def test_a_project_that_is_not_there_or_not_ones_own_is_told_once_and_where_to_look() -> None:
    """As tenants get it of another's project; whoever sees all of them is told before he asks."""
    error = no_project("theirs")
    assert describe_error(error) == ["there is no Project theirs"]
    assert "vcctl get projects" in hint_of(error)


async def test_into_a_pipe_values_go_byte_for_byte_and_pages_for_people_have_no_lines_of_others(vcctl: Vcctl) -> None:
    project = {"kind": "Project", "metadata": {"name": "demo"}, "spec": {}}
    notes = {"a": "x\ty\r\x1b[31m:on:", "b": "1\n\nConditions:\n  Ready   True"}
    network = {"kind": "Network", "metadata": {"name": "web", "annotations": notes}, "spec": {}}
    await vcctl.ok("apply", "-f", vcctl.write("both.yaml", project, network))
    template = '{.metadata.name}{"\\t"}{.metadata.annotations.a}'
    raw = await asyncio.to_thread(
        subprocess.run,
        [*PROGRAM, "get", "network", "web", "-o", f"jsonpath={template}"],
        env={**os.environ, **vcctl.environ}, capture_output=True, check=True,
    )  # fmt: skip
    assert raw.stdout == b"web\tx\ty\r\x1b[31m:on:\n"
    page = (await vcctl.ok("describe", "network", "web")).splitlines()
    assert page.count("Conditions:") == 1
    assert ":on:" in next(line for line in page if line.startswith("Annotations:"))


@pytest.mark.parametrize("words", [("get", "networks"), ("get", "networks", "-o", "json"), ("describe", "networks")])
async def test_who_has_read_enough_ends_it_without_a_fault(vcctl: Vcctl, words: tuple[str, ...]) -> None:
    await set_scene(vcctl)
    reads, writes = os.pipe()
    os.close(reads)
    ended = await asyncio.to_thread(
        subprocess.run,
        [*PROGRAM, *words],
        env={**os.environ, **vcctl.environ}, stdout=writes, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writes)
    assert (ended.returncode, ended.stderr) == (ExitCode.OK, b"")
