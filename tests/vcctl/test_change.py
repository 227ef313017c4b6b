"""patch, label, annotate, edit, delete, wait, power, hosts: changing things."""

import asyncio
import stat
from pathlib import Path

import pytest

from tests.vcctl.harness import Hands, Vcctl
from tests.vcctl.scene import set_scene
from vcstack.specs.kinds.host import Host, HostSpec
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.network import Network
from vcstack.specs.kinds.task import Task
from vcstack.vcctl.errors import ExitCode

SOON = "5s"
"""Until a wait is over that is in vain: on a busy machine, too, the objects have been seen by then."""


async def test_patch_merges_and_null_removes(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    assert "patched" in await vcctl.ok("patch", "network", "web", "--patch", '{"spec": {"mtuBytes": 1400}}')
    assert "unchanged" in await vcctl.ok("patch", "network", "web", "--patch", "spec: {mtuBytes: 1400}")
    await vcctl.ok("patch", "network/web", "--patch", "spec: {mtuBytes: null}")
    assert await vcctl.ok("get", "network", "web", "-o", "jsonpath={.spec}") == "{}\n"


async def test_a_patch_that_breaks_the_rules_names_the_field(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    ended = await vcctl("patch", "network", "web", "--patch", "spec: {mtuBytes: 5}")
    assert ended.code == ExitCode.REFUSED
    assert "spec.mtuBytes" in ended.err


async def test_labels_are_set_removed_and_not_overwritten_by_accident(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    assert await vcctl.ok("label", "instance", "web-1", "tier=front") == "instance/web-1 labelled\n"
    assert await vcctl.ok("label", "instance", "web-1", "tier=front") == "instance/web-1 unchanged\n"
    ended = await vcctl("label", "instance", "web-1", "tier=back")
    assert ended.code == ExitCode.REFUSED
    assert "--overwrite" in ended.err
    await vcctl.ok("label", "instances", "-l", "app=web", "tier=back", "--overwrite")
    assert await vcctl.ok("get", "vm", "-l", "tier=back", "-o", "name") == "instance/web-1\n"
    await vcctl.ok("label", "instance", "web-1", "tier-")
    assert (await vcctl("get", "vm", "-l", "tier", "-o", "name")).out == ""
    assert await vcctl.ok("annotate", "instance", "web-1", "note=a=b c") == "instance/web-1 annotated\n"
    assert await vcctl.ok("get", "vm", "web-1", "-o", "jsonpath={.metadata.annotations.note}") == "a=b c\n"


def editor(folder: Path, script: str) -> str:
    path = folder / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


async def test_edit_sends_what_changed(vcctl: Vcctl, tmp_path: Path) -> None:
    await set_scene(vcctl)
    command = editor(tmp_path, "sed -i 's/^spec: {}/spec: {mtuBytes: 1400}/' $1")
    assert "network/web edited" in await vcctl.ok("edit", "network", "web", EDITOR=command)
    assert await vcctl.ok("get", "network", "web", "-o", "jsonpath={.spec.mtuBytes}") == "1400\n"


async def test_edit_without_changes_changes_nothing(vcctl: Vcctl, tmp_path: Path) -> None:
    await set_scene(vcctl)
    assert "unchanged" in await vcctl.ok("edit", "network", "web", EDITOR=editor(tmp_path, "true"))


async def test_edit_opens_again_with_the_reason_on_top(vcctl: Vcctl, tmp_path: Path) -> None:
    await set_scene(vcctl)
    script = f"""
    cp $1 {tmp_path}/seen
    if grep -q 'spec.mtuBytes' $1; then sed -i 's/mtuBytes: 5/mtuBytes: 1400/' $1
    else sed -i 's/^spec: {{}}/spec: {{mtuBytes: 5}}/' $1; fi
    """
    assert "edited" in await vcctl.ok("edit", "network", "web", EDITOR=editor(tmp_path, script))
    assert "# " in (tmp_path / "seen").read_text()
    assert await vcctl.ok("get", "network", "web", "-o", "jsonpath={.spec.mtuBytes}") == "1400\n"


async def test_a_refused_edit_that_is_left_keeps_the_text(vcctl: Vcctl, tmp_path: Path) -> None:
    await set_scene(vcctl)
    command = editor(tmp_path, "sed -i 's/^spec: {}/spec: {mtuBytes: 5}/' $1")
    ended = await vcctl("edit", "network", "web", EDITOR=command)
    assert ended.code == ExitCode.REFUSED
    assert "Your text is kept in" in ended.err


async def test_delete_waits_until_the_objects_are_gone(vcctl: Vcctl, busy_hands: Hands) -> None:
    await set_scene(vcctl)
    assert (await vcctl.ok("delete", "instance", "web-1")).splitlines()[-1] == "instance/web-1 deleted"
    assert (await vcctl("get", "instance", "web-1")).code == ExitCode.NOT_FOUND


async def test_delete_says_what_holds_it_up(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    ended = await vcctl("delete", "network", "web", "--timeout", SOON)
    assert ended.code == ExitCode.TIMEOUT
    assert "vcstack.io/network" in ended.err


async def test_delete_by_label_and_by_manifest(vcctl: Vcctl, busy_hands: Hands) -> None:
    await set_scene(vcctl)
    await vcctl.ok("delete", "instances", "-l", "app=web")
    assert await vcctl.ok("get", "instances", "-o", "name") == "instance/db-1\n"
    file = vcctl.write("a.yaml", {"kind": "Instance", "metadata": {"name": "db-1"}, "spec": {}})
    await vcctl.ok("delete", "-f", file)
    assert "absent" in await vcctl.ok("delete", "-f", file)


async def test_delete_needs_to_know_which(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    assert (await vcctl("delete", "instances")).code == ExitCode.USAGE
    assert (await vcctl("delete", "instance", "nope")).code == ExitCode.NOT_FOUND
    await vcctl.ok("delete", "instance", "nope", "--ignore-not-found")


async def test_deleting_a_project_asks(vcctl: Vcctl, busy_hands: Hands) -> None:
    await set_scene(vcctl)
    ended = await vcctl("delete", "project", "demo")
    assert "--yes" in ended.err
    assert "project/demo is being deleted" in await vcctl.ok("delete", "project", "demo", "--yes")


async def test_wait_for_conditions_values_and_the_end(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl)
    early = await vcctl("wait", "instance", "web-1", "db-1", "--timeout", SOON)
    assert early.code == ExitCode.TIMEOUT
    assert "Ready has not been observed" in early.err
    waiting = asyncio.create_task(vcctl("wait", "instance", "web-1", "db-1"))
    await hands.observe_all()
    assert (await waiting).code == 0
    await hands.client.patch_status(await hands.get(Instance, "web-1"), {"powerState": "Stopped"})
    await vcctl.ok("wait", "vm/web-1", "--for", "jsonpath={.status.powerState}=Stopped")
    await vcctl.ok("wait", "vm/gone", "--for=delete")
    ended = await vcctl("wait", "network/web", "--for=delete", "--timeout", SOON)
    assert "network/web: nobody has asked for its deletion" in ended.err
    ended = await vcctl("wait", "vm", "web-1", "--for=condition=Nonsense", "--timeout=0.2s")
    assert ended.code == ExitCode.TIMEOUT
    assert (await vcctl("wait", "vm", "web-1", "--for=ready")).code == ExitCode.USAGE
    assert (await vcctl("wait", "vm", "nope")).code == ExitCode.NOT_FOUND


async def test_power_states_are_wanted_and_waited_for(vcctl: Vcctl, busy_hands: Hands) -> None:
    await set_scene(vcctl)
    assert "will be stopped" in await vcctl.ok("stop", "web-1", "--wait")
    assert "already" in await vcctl.ok("stop", "instance/web-1")
    assert await vcctl.ok("get", "vm", "web-1", "-o", "jsonpath={.spec.powerState}") == "Stopped\n"
    await vcctl.ok("start", "web-1", "db-1")
    await vcctl.ok("pause", "db-1")
    assert (await vcctl("start", "network/web")).code == ExitCode.USAGE


async def run_task(hands: Hands, *, fail: bool = False) -> None:
    """Do what the agent does with the next task."""
    while not (tasks := (await hands.client.list(Task)).items):
        await asyncio.sleep(0.02)
    [task] = tasks
    steps = [{"name": "shut down", "state": "Running"}, {"name": "start", "state": "Pending"}]
    await hands.client.patch_status(task, {"phase": "Running", "progressPercent": 0, "steps": steps})
    steps[0]["state"] = "Failed" if fail else "Succeeded"
    steps[0]["message"] = "no answer" if fail else ""
    steps[1]["state"] = "Pending" if fail else "Succeeded"
    phase = "Failed" if fail else "Succeeded"
    await hands.client.patch_status(task, {"phase": phase, "progressPercent": 100, "steps": steps})


async def test_reboot_is_a_task_whose_steps_are_followed(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl)
    doing = asyncio.create_task(run_task(hands))
    ended = await vcctl("reboot", "web-1", "--wait")
    await doing
    assert ended.code == 0
    assert "succeeded" in ended.out
    assert "[1/2] shut down" in ended.err
    [task] = (await hands.client.list(Task)).items
    assert (task.spec.type, task.spec.target.name, task.spec.mode) == ("Reboot", "web-1", "Soft")


async def test_a_failed_task_fails_the_command_with_its_reason(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl)
    doing = asyncio.create_task(run_task(hands, fail=True))
    ended = await vcctl("reboot", "web-1", "--hard", "--wait")
    await doing
    assert ended.code == ExitCode.FAILED
    assert "no answer" in ended.err


async def test_rebuild_names_what_is_lost_and_asks(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl)
    ended = await vcctl("rebuild", "web-1")
    assert ended.code != 0
    assert "root disk is lost" in ended.err
    assert not (await hands.client.list(Task)).items
    await vcctl.ok("rebuild", "web-1", "--yes")
    assert [t.spec.type for t in (await hands.client.list(Task)).items] == ["Recreate"]


async def test_hosts_are_cordoned_and_uncordoned(vcctl: Vcctl, hands: Hands) -> None:
    await hands.client.create(Host.new("h1", HostSpec()))
    assert await vcctl.ok("cordon", "h1") == "host/h1 cordoned\n"
    assert await vcctl.ok("cordon", "host/h1") == "host/h1 already cordoned\n"
    assert (await hands.get(Host, "h1", None)).spec.scheduling == "Disabled"
    assert await vcctl.ok("uncordon", "h1") == "host/h1 uncordoned\n"


async def test_who_states_that_a_machine_is_lost_is_warned_before_and_then(vcctl: Vcctl, hands: Hands) -> None:
    await hands.client.create(Host.new("h1", HostSpec()))
    manifest = "kind: Host\nmetadata: {name: h1}\nspec: {outOfService: true}\n"
    danger = "Warning: spec.outOfService: state it only when the machine of host h1 is off or lost for good. If it runs"
    planned = await vcctl("plan", "-f", "-", stdin=manifest)
    assert danger in planned.err
    assert not (await hands.get(Host, "h1", None)).spec.out_of_service
    patched = await vcctl("patch", "host", "h1", "--patch", "spec: {outOfService: true}")
    assert (patched.code, danger in patched.err) == (0, True)
    assert (await hands.get(Host, "h1", None)).spec.out_of_service
    assert "Warning" not in (await vcctl("patch", "host", "h1", "--patch", "spec: {zone: east}")).err


@pytest.mark.parametrize("name", ["x", "a/b/c", "-"])
async def test_objects_that_are_not_there_end_with_not_found_or_usage(vcctl: Vcctl, name: str) -> None:
    await set_scene(vcctl)
    assert (await vcctl("stop", name)).code in (ExitCode.NOT_FOUND, ExitCode.USAGE, ExitCode.REFUSED)


async def test_a_deleting_network_reports_why_it_stays(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    await hands.remove("Network", "web")
    network = await hands.get(Network, "web")
    await hands.observe(network, but={"Deletable": ("InUse", "Used by Subnet demo/web-v4; delete it first.")})
    out = await vcctl.ok("why", "network", "web")
    assert "is being deleted" in out
    assert "Used by Subnet demo/web-v4; delete it first." in out
