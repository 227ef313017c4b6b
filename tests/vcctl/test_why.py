"""why: the end of the chain."""

from tests.vcctl.harness import Hands, Vcctl
from tests.vcctl.scene import set_scene
from vcstack.specs.kinds.host import Host, HostSpec
from vcstack.specs.kinds.image import Image
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.network import Network
from vcstack.specs.kinds.port import Port, PortSpec
from vcstack.specs.kinds.subnet import Subnet
from vcstack.vcctl.errors import ExitCode


async def test_a_ready_object_has_nothing_that_holds_it_up(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    assert "instance/web-1 is Ready." in await vcctl.ok("why", "instance", "web-1")


async def test_the_chain_is_followed_to_the_reference_that_is_to_blame(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    await hands.observe(await hands.get(Image, "tiny", None), but={"Accepted": ("Refused", "It has a backing file.")})
    await hands.observe(
        await hands.get(Instance, "web-1"), but={"ImageReady": ("ImageNotReady", "waits for image tiny")}
    )
    out = await vcctl.ok("why", "instance", "web-1")
    assert "Cause:      image/tiny: Accepted=False (Refused): It has a backing file." in out
    assert "by spec.image" in out


async def test_the_chain_goes_through_owned_objects(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    instance = await hands.get(Instance, "web-1")
    port = await hands.client.create(Port.new("p-1", PortSpec(network="web"), project="demo", owners=(instance,)))
    await hands.observe(port, but={"Realized": ("OvnDown", "OVN does not answer.")})
    await hands.observe(instance, but={"NetworkReady": ("PortsPending", "port p-1 is not ready")})
    out = await vcctl.ok("why", "vm/web-1")
    assert "Cause:      port/p-1: Realized=False (OvnDown): OVN does not answer." in out


async def test_a_host_that_is_gone_is_the_cause(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    host = await hands.client.create(Host.new("h1", HostSpec()))
    await hands.observe(host, but={"Alive": ("LeaseLost", "No heartbeat since 12:00.")})
    instance = await hands.get(Instance, "web-1")
    await hands.observe(instance, but={"Running": ("Unknown", "host h1 is silent")}, host="h1")
    out = await vcctl.ok("why", "instance", "web-1")
    assert "Cause:      host/h1: Alive=False (LeaseLost)" in out
    assert "vc-compute" in out


async def test_of_a_host_out_of_service_is_told_what_to_do_with_what_is_bound(vcctl: Vcctl, hands: Hands) -> None:
    host = await hands.client.create(Host.new("h1", HostSpec(out_of_service=True)))
    await hands.observe(host, but={"Alive": ("OutOfService", "The machine is stated to be off or lost.")})
    out = await vcctl.ok("why", "host", "h1")
    assert "Delete the instances bound to it, then it: vcctl get instances -A --field-selector status.host=h1" in out
    assert "vc-compute" not in out, "its agent is not to be looked after"


async def test_the_object_itself_may_be_the_cause_with_its_last_warning(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    instance = await hands.get(Instance, "web-1")
    message = "No host fits: h1 has 64 MiB free, 128 are needed."
    await hands.observe(instance, but={"Scheduled": ("Unschedulable", message)})
    await hands.report(instance, "FailedScheduling", "still no host", warning=True)
    out = await vcctl.ok("why", "instance", "web-1")
    assert "event FailedScheduling: still no host" in out
    assert out.count(message) == 2  # in the tree and as the cause, not once more as advice
    assert "What to do: Make room (vcctl uncordon HOST" in out


async def test_what_nobody_has_looked_at_yet_is_said_so(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    out = await vcctl.ok("why", "subnet", "web-v4")
    assert "Realized has not been observed yet" in out
    assert "vc-management" in out


async def test_a_newer_spec_that_was_not_observed_is_said_so(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    await vcctl.ok("patch", "network", "web", "--patch", "spec: {mtuBytes: 1400}")
    assert "newest change (generation 2)" in await vcctl.ok("why", "network", "web")


async def test_several_causes_are_all_named(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    await hands.observe(await hands.get(Network, "web"), but={"Realized": ("A", "first")})
    await hands.observe(await hands.get(Subnet, "web-v4"), but={"Realized": ("B", "second")})
    await hands.observe(await hands.get(Instance, "web-1"), but={"NetworkReady": ("C", "third")})
    out = await vcctl.ok("why", "instance", "web-1")
    assert "first" in out
    assert out.count("Cause:") >= 1


async def test_an_absent_object_is_not_found(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    assert (await vcctl("why", "instance", "nope")).code == ExitCode.NOT_FOUND


async def test_what_to_do_is_said_once(vcctl: Vcctl, hands: Hands) -> None:
    await set_scene(vcctl, hands)
    await hands.remove("Network", "web")
    network = await hands.get(Network, "web")
    await hands.observe(network, but={"Deletable": ("InUse", "Used by Subnet demo/web-v4; delete it first.")})
    out = await vcctl.ok("why", "network", "web")
    assert out.count("delete it first") == 1
    assert out.splitlines() == [
        "Cause:      network/web: is being deleted; Deletable=False (InUse): "
        "Used by Subnet demo/web-v4; delete it first."
    ]
