"""The instance realizer against a host in memory."""

import dataclasses

import pytest

from tests.nodeagent.world import PROJECT, World
from vcstack.nodeagent.backends.hypervisor import Power
from vcstack.nodeagent.fields import digest_fields, list_changed
from vcstack.nodeagent.realizers.instance import InstanceRealizer
from vcstack.runtime.errors import BackendRefused, TerminalError, WaitingFor
from vcstack.runtime.events import EventRecorder
from vcstack.specs.kinds.event import Event, EventType
from vcstack.specs.kinds.flavor import Flavor, FlavorSpec
from vcstack.specs.kinds.image import Image, ImageFormat, ImageSpec
from vcstack.specs.kinds.instance import (
    DISKS_READY,
    DOMAIN_FINALIZER,
    FINALIZER,
    IMAGE_READY,
    RUNNING,
    UP_TO_DATE,
    Instance,
    InstanceSpec,
    NetworkInterface,
    PowerState,
    port_name_of,
)
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.port import FINALIZER as PORT_FINALIZER
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.secret import Secret, SecretKey, SecretSpec
from vcstack.specs.model import Change
from vcstack.specs.resource import Ref


async def events_of(world: World) -> list[Event]:
    return list((await world.client.list(Event)).items)


async def test_create_makes_disks_taps_ports_and_a_running_domain(world: World) -> None:
    instance = await world.add_instance(nics=2)
    instance = await world.settle()
    assert all(instance.is_true(c) for c in (IMAGE_READY, DISKS_READY, RUNNING, UP_TO_DATE))
    assert instance.status.power_state is PowerState.RUNNING
    assert instance.status.started_at == world.clock.now()
    assert world.hypervisor.machines[instance.uid].power is Power.RUNNING
    assert len(world.taps.taps) == len(world.switch.ports) == 2
    assert all(t.held for t in world.taps.taps.values())
    files = world.layout.of_instance(instance.uid)
    assert files.root_disk.exists()
    assert files.seed.exists()


async def test_a_second_run_changes_nothing_and_writes_nothing(world: World) -> None:
    await world.add_instance()
    before, outside = await world.settle(), world.snapshot()
    world.clock.skip(100)
    after = await world.settle()
    assert world.snapshot() == outside
    assert after.metadata.resource_version == before.metadata.resource_version


async def test_an_instance_of_another_host_is_left_alone(world: World) -> None:
    instance = await world.add_instance()
    await world.client.patch_status(instance, {"host": "h2"})
    await world.reconcile()
    world.assert_clean()


@pytest.mark.parametrize("why", ["destroyed", "failed", "crashed"])
async def test_a_machine_that_was_killed_runs_again(world: World, why: str) -> None:
    instance = await world.add_instance()
    await world.settle()
    world.clock.skip(100)
    world.hypervisor.stop_by_itself(instance.uid, why)
    after = await world.settle()
    assert after.is_true(RUNNING)
    assert after.status.started_at == world.clock.now()


async def test_a_domain_that_was_undefined_is_defined_again(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    await world.hypervisor.destroy(instance.uid)
    await world.hypervisor.undefine(instance.uid)
    world.clock.skip(100)
    assert (await world.settle()).is_true(RUNNING)
    assert world.disks.made == [world.layout.of_instance(instance.uid).root_disk]


async def test_a_running_domain_whose_definition_was_removed_gets_it_back_and_goes_on(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    machine = world.hypervisor.machines[instance.uid].number
    await world.hypervisor.undefine(instance.uid)
    await world.settle()
    assert world.hypervisor.machines[instance.uid].config is not None
    assert world.hypervisor.machines[instance.uid].number == machine


async def test_an_edited_definition_is_put_right(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    world.hypervisor.edit(instance.uid, ">128<", ">4096<")
    await world.settle()
    assert ">128<" in (world.hypervisor.machines[instance.uid].config or "")


async def test_a_guest_that_stops_again_and_again_is_started_with_growing_pauses(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    world.hypervisor.stop_by_itself(instance.uid, "shutdown")
    result = await world.reconcile()
    assert result is not None
    assert result.requeue_after == pytest.approx(2)
    assert "powered itself off" in (await world.condition(RUNNING)).message
    world.clock.skip(3)
    assert (await world.settle()).is_true(RUNNING)
    world.hypervisor.stop_by_itself(instance.uid, "shutdown")
    result = await world.reconcile()
    assert result is not None
    assert result.requeue_after == pytest.approx(4)


async def test_a_deleted_tap_is_made_again_and_the_card_plugged_anew(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    tap = await world.tap_of(instance)
    world.hypervisor.delete_tap(tap)
    await world.settle()
    await world.settle()
    assert world.taps.taps[tap].held
    assert world.hypervisor.calls[-2:] == ["detach", "attach"]
    assert world.hypervisor.machines[instance.uid].number == 1


async def test_a_removed_bridge_port_is_plugged_again(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    tap = await world.tap_of(instance)
    port = world.switch.ports.pop(tap)
    await world.settle()
    assert world.switch.ports[tap] == port


async def test_a_lost_root_disk_is_reported_and_not_made_again(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    world.layout.of_instance(instance.uid).root_disk.unlink()
    world.hypervisor.stop_by_itself(instance.uid, "crashed")
    world.clock.skip(100)
    after = await world.settle()
    condition = await world.condition(DISKS_READY)
    assert condition.reason == "DiskLost"
    assert "vcctl rebuild web-1" in condition.message
    assert not after.is_true(RUNNING)
    assert not world.layout.of_instance(instance.uid).root_disk.exists()


async def test_a_lost_folder_is_reported_even_when_the_domain_is_gone_too(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    await world.hypervisor.destroy(instance.uid)
    await world.hypervisor.undefine(instance.uid)
    parts = await world.parts()
    await parts.storage.delete(instance.uid)
    await world.settle()
    assert (await world.condition(DISKS_READY)).reason == "DiskLost"
    assert not world.hypervisor.machines


async def test_a_lost_seed_is_made_again(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    files = world.layout.of_instance(instance.uid)
    before = files.seed.read_bytes()
    files.seed.unlink()
    await world.settle()
    assert files.seed.read_bytes() == before


async def test_a_missing_port_is_waited_for_while_the_disks_are_made(world: World) -> None:
    instance = await world.add_instance(nics=0)
    card = NetworkInterface(name="eth0", network="web")
    await world.update(network_interfaces=[card])
    with pytest.raises(WaitingFor):
        await world.reconcile()
    condition = await world.condition(RUNNING)
    assert condition.reason == "PortNotReady"
    assert port_name_of(instance, card) in condition.message
    assert (await world.condition(DISKS_READY)).reason == "PortNotReady"
    files = world.layout.of_instance(instance.uid)
    assert files.root_disk.exists()
    assert not files.seed.exists()  # it would tell the guest nothing of the card
    port = await world.add_port(instance, card)
    assert (await world.settle()).is_true(RUNNING)
    assert str(port.status.mac).encode() in files.seed.read_bytes()


async def test_an_image_without_content_is_waited_for(world: World) -> None:
    await world.client.create(Image.new("empty", ImageSpec(format=ImageFormat.QCOW2)))
    await world.add_instance(image="empty")
    with pytest.raises(WaitingFor):
        await world.reconcile()
    waiting = await world.condition(IMAGE_READY)
    assert waiting.reason == "ImageNotReady"
    assert waiting.message.endswith("vcctl image upload empty --file FILE")
    assert not world.hypervisor.machines


async def test_an_image_larger_than_the_root_disk_is_refused(world: World) -> None:
    image = await world.client.create(Image.new("huge", ImageSpec(format=ImageFormat.QCOW2)))
    status = {"digest": "sha256:" + "ef" * 32, "virtualSizeBytes": 2 * 1024**3}
    await world.client.patch_status(image, status)
    await world.add_instance(image="huge")
    with pytest.raises(TerminalError):
        await world.reconcile()
    assert (await world.condition(IMAGE_READY)).reason == "ImageTooLarge"


async def test_a_failing_start_is_reported_and_tried_again(world: World) -> None:
    await world.add_instance()
    world.hypervisor.starts_fail = BackendRefused("QEMU said no")
    with pytest.raises(BackendRefused):
        await world.reconcile()
    assert "QEMU said no" in (await world.condition(RUNNING)).message
    world.hypervisor.starts_fail = None
    world.clock.skip(10)
    assert (await world.settle()).is_true(RUNNING)


async def test_stopped_presses_the_button_and_pulls_the_plug_when_the_grace_is_over(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    world.hypervisor.ignores_button = True
    await world.update(power_state=PowerState.STOPPED)
    await world.reconcile()
    assert (await world.condition(RUNNING)).reason == "Stopping"
    world.clock.skip(61)
    after = await world.settle()
    assert after.status.power_state is PowerState.STOPPED
    assert after.is_true(RUNNING)
    assert world.hypervisor.machines[instance.uid].why == "destroyed"


async def test_paused_and_running_again_keep_the_machine(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    await world.update(power_state=PowerState.PAUSED)
    assert (await world.settle()).status.power_state is PowerState.PAUSED
    await world.update(power_state=PowerState.RUNNING)
    assert (await world.settle()).status.power_state is PowerState.RUNNING
    assert world.hypervisor.machines[instance.uid].number == 1


async def test_an_instance_that_begins_paused_or_stopped(world: World) -> None:
    await world.add_instance("p", power_state=PowerState.PAUSED)
    await world.add_instance("s", power_state=PowerState.STOPPED)
    paused, stopped = await world.settle("p"), await world.settle("s")
    assert paused.status.power_state is PowerState.PAUSED
    assert stopped.status.power_state is PowerState.STOPPED
    assert paused.is_true(RUNNING)
    assert stopped.is_true(RUNNING)


async def test_another_flavor_waits_for_a_reboot_and_comes_into_force_at_the_next_start(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    await world.update(flavor="small")
    after = await world.settle()
    condition = await world.condition(UP_TO_DATE)
    assert condition.reason == "RebootRequired"
    assert condition.message.endswith("Run: vcctl reboot web-1")
    assert "flavor" in condition.message
    assert after.is_true(RUNNING)
    world.clock.skip(100)
    world.hypervisor.stop_by_itself(instance.uid, "shutdown")
    after = await world.settle()
    assert after.is_true(UP_TO_DATE)
    assert ">256<" in (world.hypervisor.machines[instance.uid].config or "")
    assert world.layout.of_instance(instance.uid).root_disk.read_text().endswith(" 2")


async def test_a_flavor_that_the_host_has_no_room_for_is_not_started(world: World) -> None:
    instance = await world.add_instance()
    await world.client.patch_status(instance, {"allocated": {"vcpus": 1, "memoryMiB": 128, "diskGiB": 1}})
    await world.settle()
    await world.update(flavor="small")
    await world.settle()
    world.clock.skip(100)
    world.hypervisor.stop_by_itself(instance.uid, "shutdown")
    after = await world.settle()
    assert after.is_true(RUNNING)
    assert (await world.condition(UP_TO_DATE)).reason == "RebootRequired"
    assert ">128<" in (world.hypervisor.machines[instance.uid].config or "")
    assert world.layout.of_instance(instance.uid).root_disk.read_text().endswith(" 1")
    await world.client.patch_status(after, {"allocated": {"vcpus": 2, "memoryMiB": 256, "diskGiB": 2}})
    world.clock.skip(100)
    world.hypervisor.stop_by_itself(instance.uid, "shutdown")
    assert (await world.settle()).is_true(UP_TO_DATE)
    assert ">256<" in (world.hypervisor.machines[instance.uid].config or "")


async def test_a_restart_that_nobody_asked_for_is_told_with_its_reason(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    world.clock.skip(100)
    world.hypervisor.stop_by_itself(instance.uid, "failed")
    events = EventRecorder(world.client, "vc-compute", world.clock)
    parts = dataclasses.replace(await world.parts(), events=events)
    await InstanceRealizer(parts).reconcile(await world.get(), instance.ref)
    await events.flush()
    (event,) = await events_of(world)
    assert (event.spec.type, event.spec.reason) == (EventType.WARNING, "Restarted")
    assert "QEMU was killed or failed" in event.spec.message


async def test_other_user_data_waits_for_a_recreate(world: World) -> None:
    await world.add_instance()
    await world.settle()
    await world.update(user_data="#!/bin/sh\ntrue\n", image="other")
    await world.settle()
    condition = await world.condition(UP_TO_DATE)
    assert condition.reason == "RecreateRequired"
    assert "image" in condition.message
    assert "userData" in condition.message
    await world.update(user_data=None, image="tiny")
    assert (await world.settle()).is_true(UP_TO_DATE)


async def test_user_data_of_a_secret_is_on_the_drive_and_nowhere_else(world: World) -> None:
    made = Secret.new("boot", SecretSpec(data={"script": "#!/bin/sh\necho hunter2\n"}), project=PROJECT)
    await world.client.create(made)
    instance = await world.add_instance(user_data_secret=SecretKey(name="boot", key="script"))
    settled = await world.settle()
    files = world.layout.of_instance(instance.uid)
    assert b"echo hunter2" in files.seed.read_bytes()
    assert b"hunter2" not in files.record.read_bytes()
    assert b"hunter2" not in settled.to_json()


async def test_an_instance_waits_for_the_secret_with_its_user_data(world: World) -> None:
    await world.client.create(Secret.new("boot", SecretSpec(data={"other": "x"}), project=PROJECT))
    await world.add_instance(user_data_secret=SecretKey(name="boot", key="script"))
    with pytest.raises(WaitingFor):
        await world.settle()
    condition = await world.condition(DISKS_READY)
    assert condition.reason == "SecretNotFound"
    assert "script" in condition.message


def test_a_field_that_did_not_exist_when_a_machine_was_made_is_no_change_of_it() -> None:
    wanted = digest_fields(InstanceSpec(flavor="tiny", image="tiny"), Change.RECREATE)
    built = {name: digest for name, digest in wanted.items() if name != "userDataSecret"}
    assert list_changed(built, wanted) == []
    named = InstanceSpec(flavor="tiny", image="tiny", user_data_secret=SecretKey(name="boot", key="script"))
    assert list_changed(built, digest_fields(named, Change.RECREATE)) == ["userDataSecret"]


async def test_cards_are_plugged_and_unplugged_while_it_runs(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    cards = [NetworkInterface(name=f"eth{i}", network="web") for i in range(2)]
    await world.add_port(instance, cards[1])
    await world.update(network_interfaces=cards)
    await world.settle()
    assert len(world.switch.ports) == 2
    await world.update(network_interfaces=cards[1:])
    after = await world.settle()
    assert after.is_true(UP_TO_DATE)
    assert list(world.taps.taps) == [await world.tap_of(after)]
    assert list(world.switch.ports) == list(world.taps.taps)
    assert world.hypervisor.machines[instance.uid].number == 1


async def test_a_card_moved_to_another_network_is_unplugged_before_its_port_goes(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    tap = await world.tap_of(instance)
    await world.client.create(Network.new("db", NetworkSpec(), project=PROJECT))
    moved = NetworkInterface(name="eth0", network="db")
    changed = await world.update(network_interfaces=[moved])
    await world.settle()
    assert tap not in world.taps.taps
    assert not world.switch.ports
    assert (await world.get()).is_true(RUNNING)
    # Only that lets the manager delete the port and make it anew.
    old = await world.client.get(Port, port_name_of(changed, moved), PROJECT)
    await world.client.remove_finalizer(old, PORT_FINALIZER)
    await world.client.delete(old.ref)
    with pytest.raises(WaitingFor):
        await world.reconcile()
    await world.add_port(changed, moved)
    await world.settle()
    assert set(world.taps.taps) == {await world.tap_of(changed)} != {tap}
    assert world.hypervisor.machines[instance.uid].number == 1


async def test_no_drive_is_made_while_an_interface_waits_for_its_port_on_another_network(world: World) -> None:
    instance = await world.add_instance()
    await world.client.create(Network.new("db", NetworkSpec(), project=PROJECT))
    await world.update(network_interfaces=[NetworkInterface(name="eth0", network="db")])
    await world.reconcile()
    assert not world.layout.of_instance(instance.uid).seed.exists()
    assert not world.hypervisor.machines


async def test_a_card_that_the_guest_holds_keeps_running_unreported_for_the_new_generation(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    port = await world.client.get(Port, port_name_of(instance, instance.spec.network_interfaces[0]), PROJECT)
    world.hypervisor.machines[instance.uid].broken.add(port.status.mac or "")
    changed = await world.update(network_interfaces=[])
    result = await world.reconcile()
    assert result is not None
    assert result.requeue_after is not None
    running = await world.condition(RUNNING)
    assert running.observed_generation < changed.metadata.generation
    assert (await world.condition(UP_TO_DATE)).reason == "Unplugging"
    assert world.switch.ports
    world.hypervisor.machines[instance.uid].broken.clear()
    assert (await world.settle()).is_true(RUNNING)
    assert not world.switch.ports


async def test_deletion_leaves_nothing_and_deleting_twice_succeeds(world: World) -> None:
    instance = await world.add_instance(nics=2)
    await world.settle()
    world.hypervisor.add_foreign("theirs")
    await world.client.delete(instance.ref)
    await world.reconcile()
    after = await world.get()
    assert after.metadata.finalizers == [FINALIZER]
    await world.reconcile()
    del world.hypervisor.machines["theirs"]
    world.assert_clean()


async def test_deletion_before_anything_was_made(world: World) -> None:
    instance = await world.add_instance()
    await world.client.delete(instance.ref)
    await world.reconcile()
    assert DOMAIN_FINALIZER not in (await world.get()).metadata.finalizers


async def test_an_object_that_is_gone_is_nobody_s_business(world: World) -> None:
    from vcstack.nodeagent.realizers.instance import InstanceRealizer

    realizer = InstanceRealizer(await world.parts())
    assert await realizer.reconcile(None, Ref(Instance.KIND, PROJECT, "gone")) is None


async def test_an_image_of_the_project_comes_before_the_public_one(world: World) -> None:
    image = await world.client.create(Image.new("tiny", ImageSpec(format=ImageFormat.RAW), project=PROJECT))
    await world.client.patch_status(image, {"digest": "sha256:" + "12" * 32, "virtualSizeBytes": 1024})
    instance = await world.add_instance()
    await world.settle()
    assert "Raw" in world.layout.of_instance(instance.uid).root_disk.read_text()


async def test_a_flavor_with_too_little_memory_for_the_image_is_refused(world: World) -> None:
    image = await world.client.create(Image.new("big", ImageSpec(format=ImageFormat.RAW, min_memory_mib=512)))
    await world.client.patch_status(image, {"digest": "sha256:" + "34" * 32, "virtualSizeBytes": 1024})
    await world.client.create(Flavor.new("f", FlavorSpec(vcpus=1, memory_mib=64, root_disk_gib=1)))
    await world.add_instance(image="big", flavor="f")
    with pytest.raises(TerminalError):
        await world.reconcile()
    assert (await world.condition(IMAGE_READY)).reason == "ImageNeedsMemory"
