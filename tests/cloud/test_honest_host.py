"""What an honest host writes in the life of its guests, against what a host may: a thousand guests do not meet it."""

import tempfile
from collections import Counter
from pathlib import Path

import orjson
import pytest

from tests.cloud.cloud import Cloud, run_cloud
from tests.cloud.tenant import Tenant
from tests.cloud.virtual_time import run_virtually
from vcstack.apiserver.limits.defaults import HOST_BYTES, HOST_NEW_EVENTS

pytestmark = pytest.mark.usefixtures("quiet_programs")

GUESTS = 4
MANY = 1000
KIB = 1024


async def count_written(cloud: Cloud) -> Counter[str]:
    """Return the bytes of statuses and of new events that the host has written since the cloud began."""
    written: Counter[str] = Counter()
    last = cloud.etcd.revision
    async for batch in cloud.etcd.watch(b"/vcstack/", 1):
        for event in batch.events:
            if b'"subject":"system:host:h1"' not in event.kv.value:
                continue
            wire = orjson.loads(event.kv.value)
            if wire["kind"] != "Event":
                written["statuses"] += len(orjson.dumps(wire["status"]))
            elif event.kv.create_revision == event.kv.mod_revision:
                written["events"] += len(orjson.dumps([wire["metadata"], wire["spec"]]))
        if batch.revision >= last:
            break
    return written


def test_a_thousand_guests_that_are_made_stopped_started_and_deleted_at_once_fit_in() -> None:
    async def main(folder: Path) -> Counter[str]:
        async with run_cloud(folder / "world", "h1") as cloud:
            user = Tenant(cloud)
            await user.make_basics()
            await user.apply("Network", "web", {})
            await user.apply("Subnet", "web-v4", {"network": "web", "cidr": "10.10.0.0/16"})
            cards = [{"name": f"eth{i}", "network": "web"} for i in range(4)]
            names = [f"web-{i}" for i in range(GUESTS)]
            for name in names:
                await user.apply("Instance", name, {"flavor": "tiny", "image": "tiny", "networkInterfaces": cards})
            await user.rest()
            for state in ("Stopped", "Running"):
                for name in names:
                    await user.patch("Instance", name, spec={"powerState": state})
                await user.rest()
            for name in names:
                await user.delete("Instance", name)
            await user.rest()
            return await count_written(cloud)

    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        written = run_virtually(main(Path(folder)))
    assert written["statuses"]
    assert written["events"]
    for_many = {what: size // GUESTS * MANY for what, size in written.items()}
    assert for_many["statuses"] * 4 <= HOST_BYTES.kib_at_once * KIB
    assert for_many["events"] * 4 <= HOST_NEW_EVENTS.kib_at_once * KIB
