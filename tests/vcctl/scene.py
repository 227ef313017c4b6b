"""A project with a network and an instance in it, for tests that look at things."""

from tests.vcctl.harness import Hands, Vcctl

MANIFEST = """
kind: Project
metadata: {name: demo}
spec: {}
---
kind: Flavor
metadata: {name: tiny}
spec: {vcpus: 1, memoryMiB: 128, rootDiskGiB: 1}
---
kind: Image
metadata: {name: tiny}
spec: {format: QCOW2}
---
kind: Network
metadata: {name: web}
spec: {}
---
kind: Subnet
metadata: {name: web-v4}
spec: {network: web, cidr: 10.10.0.0/24}
---
kind: Instance
metadata: {name: web-1, labels: {app: web}}
spec: {flavor: tiny, image: tiny, networkInterfaces: [{name: eth0, network: web, subnet: web-v4}]}
---
kind: Instance
metadata: {name: db-1, labels: {app: db}}
spec: {flavor: tiny, image: tiny}
"""


async def set_scene(vcctl: Vcctl, hands: Hands | None = None) -> None:
    """Apply the manifest; with hands everything becomes Ready."""
    await vcctl.ok("apply", "-f", "-", stdin=MANIFEST)
    if hands is not None:
        await hands.observe_all()
