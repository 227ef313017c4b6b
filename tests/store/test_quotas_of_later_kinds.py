"""A kind that is made later has its quotas by its registration alone, by number and by amounts."""

import subprocess
import sys
from pathlib import Path

LATER = '''
import asyncio
from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import ADMIN, create, wire
from vcstack.specs.errors import Invalid, QuotaExceeded
from vcstack.specs.registry import KindDefinition, Scope, get_kind, register
from vcstack.specs.resource import Resource, Spec, Status
from vcstack.store.store import Store


class VolumeSpec(Spec):
    """A disk."""

    size_gib: int
    """How large."""


class Volume(Resource[VolumeSpec, Status]):
    """A disk."""

    KIND = "Volume"


async def main():
    async with Store(MemoryEtcd()) as store:
        await create(store, get_kind("Project"), wire("demo", project=None))
        await create(store, get_kind("Quota"), wire("q", {"limits": {"volumes": 2, "volumeGiB": 100}}))
        for name, size in (("a", 60), ("b", 50), ("c", 40), ("d", 0)):
            try:
                await create(store, get_kind("Volume"), wire(name, {"sizeGib": size}))
                print("made", name)
            except QuotaExceeded as error:
                print(error.message)
        try:
            await create(store, get_kind("Quota"), wire("r", {"limits": {"floatingips": 2}}))
        except Invalid as error:
            print(error.message)


register(
    KindDefinition(
        model=Volume,
        plural="volumes",
        uid_prefix="vol",
        scope=Scope.PROJECT,
        amounts=lambda volume, referenced: {"volumeGiB": volume.spec.size_gib},
        amount_names=("volumeGiB",),
        amounts_path="spec.sizeGib",
        example={"metadata": {"project": "demo", "name": "data"}, "spec": {"sizeGib": 1}},
    )
)
asyncio.run(main())
'''


def test_a_later_kind_is_limited_by_number_and_amount_and_named_among_what_can_be() -> None:
    """In a process of its own, where the kind disturbs no test that walks all kinds."""
    command = [sys.executable, "-c", LATER]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second, third, fourth, missing = done.stdout.splitlines()
    assert (first, third) == ("made a", "made c")
    assert second == "Volume b exceeds a quota: volumeGiB: 50 asked, 60 of 100 in use (quota q of project demo)"
    assert fourth == "Volume d exceeds a quota: volumes: 1 asked, 2 of 2 in use (quota q of project demo)"
    assert "floatingips cannot be limited; what can be: " in missing
    assert "volumeGiB, volumes" in missing.replace("vcpus, ", "")
