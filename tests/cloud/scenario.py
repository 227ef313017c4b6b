"""The life of an instance and its network, step by step; each step begins where the one before came to rest."""

from collections.abc import Awaitable, Callable
from typing import Any

from tests.cloud.tenant import PROJECT, Tenant
from vcstack.specs.resource import Ref

HOSTS = ("h1", "h2")
SSH = {"name": "ssh", "direction": "Ingress", "protocol": "TCP", "portMin": 22, "portMax": 22}
WEB = {"name": "web", "direction": "Ingress", "protocol": "TCP", "portMin": 80, "remoteSecurityGroup": "default"}
ETH0 = {"name": "eth0", "network": "web", "securityGroups": ["ssh"]}
FIXED = {**ETH0, "address": "10.10.0.51"}
ETH1 = {"name": "eth1", "port": "kept"}
SPARE = {"name": "eth1", "port": "spare"}
ETH2 = {"name": "eth2", "network": "web", "subnet": "web-v4"}

Step = Callable[[Tenant], Awaitable[None]]


async def create(user: Tenant) -> None:
    """Create an instance with its network at once, one card on a port of its own and one on a named port."""
    await user.apply("Network", "web", {})
    await user.apply("Subnet", "web-v4", {"network": "web", "cidr": "10.10.0.0/24"})
    await user.apply("Subnet", "web-v6", {"network": "web", "cidr": "fd00:10::/64"})
    await user.apply("SecurityGroup", "ssh", {"rules": [SSH]})
    for name in ("kept", "spare"):
        await user.apply("Port", name, {"network": "web"})
    spec = {"flavor": "tiny", "image": "tiny", "networkInterfaces": [ETH0, ETH1]}
    await user.apply("Instance", "web-1", spec)


def change(**spec: Any) -> Step:
    """Return a step that patches the instance's spec."""
    return lambda user: user.patch("Instance", "web-1", spec=spec)


async def label(user: Tenant) -> None:
    """Label the instance."""
    await user.patch("Instance", "web-1", labels={"tier": "front"})


async def edit_rules(user: Tenant) -> None:
    """Change the rules of a group that is in use."""
    await user.patch("SecurityGroup", "ssh", spec={"rules": [WEB]})


async def reboot(user: Tenant) -> None:
    """Reboot the instance by a task."""
    await user.apply("Task", "reboot", {"type": "Reboot", "target": {"kind": "Instance", "name": "web-1"}})


async def recreate(user: Tenant) -> None:
    """Have the root disk made anew by a task."""
    await user.apply("Task", "recreate", {"type": "Recreate", "target": {"kind": "Instance", "name": "web-1"}})


async def lose(user: Tenant) -> None:
    """State that the machine is lost that the instance is on, have the instance on another, and the machine back."""
    lost, spec = user.find_instance("web-1").status.host, user.wanted[Ref("Instance", PROJECT, "web-1")]["spec"]
    assert lost is not None
    await user.state(lost, out_of_service=True)
    await user.delete("Instance", "web-1")
    await user.wait_gone("Instance", "web-1")
    await user.apply("Instance", "web-1", spec)
    found = await user.wait_for("web-1", lambda made: made.status.power_state is not None)
    assert found.status.host != lost
    await user.state(lost, out_of_service=False)


def manifest(kind: str, name: str, spec: str = "{}") -> str:
    """A manifest as it lies in a repository."""
    return f"---\napiVersion: vcstack.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


SUBNET = manifest("Subnet", "shop", "{network: shop, cidr: 10.11.0.0/24}")
GROUPS = [manifest("SecurityGroup", name, "{rules: []}") for name in ("shop-a", "shop-b")]
WEB_RULE = "{name: web, direction: Ingress, protocol: TCP, portMin: 80, portMax: 80}"


async def follow(user: Tenant) -> None:
    """Follow a repository that has a network and two security groups."""
    user.cloud.git.commit({"net.yaml": manifest("Network", "shop") + SUBNET, "groups.yaml": "".join(GROUPS)})
    await user.apply("ServiceAccount", "deployer", {})
    spec = {"url": "https://git.example.com/shop", "serviceAccount": "deployer", "deletionPolicy": "Delete"}
    await user.apply("GitSource", "shop", {**spec, "intervalSeconds": 30})


async def push(user: Tenant) -> None:
    """Push a commit that changes one object, has one more, and leaves two out."""
    changed = manifest("SecurityGroup", "shop-a", f"{{rules: [{WEB_RULE}]}}")
    files = {"net.yaml": manifest("Network", "shop"), "groups.yaml": changed, "c.yaml": manifest("Network", "shop-c")}
    user.cloud.git.commit(files)


async def unfollow(user: Tenant) -> None:
    """Delete the source, which takes along what it made."""
    await user.delete("GitSource", "shop")
    await user.wait_gone("GitSource", "shop")
    await user.delete("ServiceAccount", "deployer")


async def delete(user: Tenant) -> None:
    """Delete everything at once."""
    for kind, name in (
        ("Instance", "web-1"),
        ("Task", "reboot"),
        ("Task", "recreate"),
        ("Port", "kept"),
        ("Port", "spare"),
        ("SecurityGroup", "ssh"),
        ("Subnet", "web-v4"),
        ("Subnet", "web-v6"),
        ("Network", "web"),
    ):
        await user.delete(kind, name)


async def delete_project(user: Tenant) -> None:
    """Delete the project with all that is in it."""
    await user.delete("Project", "demo", project=None)


STEPS: dict[str, Step] = {
    "create": create,
    "plug": change(networkInterfaces=[ETH0, ETH1, ETH2]),
    "unplug": change(networkInterfaces=[ETH1]),
    "replug": change(networkInterfaces=[ETH0, ETH1]),
    "swap": change(networkInterfaces=[{**ETH0, "address": "10.10.0.50"}, SPARE]),
    "swap_back": change(networkInterfaces=[FIXED, ETH1]),
    "regroup": change(networkInterfaces=[{**FIXED, "securityGroups": ["default"]}, ETH1]),
    "edit_rules": edit_rules,
    "label": label,
    "pause": change(powerState="Paused"),
    "stop": change(powerState="Stopped"),
    "start": change(powerState="Running"),
    "reboot": reboot,
    "recreate": recreate,
    "lose": lose,
    "follow": follow,
    "push": push,
    "unfollow": unfollow,
    "delete": delete,
    "delete_project": delete_project,
}
