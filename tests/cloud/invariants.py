"""What must hold once a cloud has come to rest, whatever happened before.

Nothing is sampled: each outside thing is accounted for by exactly one object, and each object by exactly
its things. So whatever a kill left over is found, and whatever it lost too.
"""

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import orjson
import yaml

from tests.cloud.cloud import Cloud
from tests.cloud.fake_host import FakeHost
from tests.fakes.recount import recount
from vcstack.nodeagent.backends.files import TEMPORARY
from vcstack.nodeagent.backends.hypervisor import Power
from vcstack.nodeagent.names import tap_name
from vcstack.specs.conditions import READY
from vcstack.specs.kinds.gitsource import HEALTHY, GitSource
from vcstack.specs.kinds.instance import Instance, PowerState, port_name_of
from vcstack.specs.kinds.port import Port, security_groups_of
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.subnet import DHCP, Subnet
from vcstack.specs.kinds.task import Phase, Task
from vcstack.specs.meta import APPLY_SET_LABEL
from vcstack.specs.registry import load_kinds
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.authorities import SHELLS
from vcstack.store.credentials import CREDENTIALS
from vcstack.store.keys import CLAIMS, NUDGE, PREFIX, TOMBSTONE, object_key, row_of

_POWER = {PowerState.RUNNING: Power.RUNNING, PowerState.PAUSED: Power.PAUSED, PowerState.STOPPED: None}

Objects = dict[Ref, AnyResource]


KINDS = load_kinds()
_MODELS = {d.plural: d.model for d in KINDS.values()}


def read_objects(cloud: Cloud) -> Objects:
    """Return all objects as etcd has them."""
    found = (_parse(_plural(key), value) for key, value in cloud.etcd.snapshot().items() if _plural(key) in _MODELS)
    return {resource.ref: resource for resource in found}


def _plural(key: bytes) -> str:
    return key[len(PREFIX) :].decode().partition("/")[0]


@lru_cache(maxsize=4096)
def _parse(plural: str, value: bytes) -> AnyResource:
    wire = orjson.loads(value)
    wire.pop("actor", None)
    wire.pop("takes", None)
    return _MODELS[plural].from_wire(wire)


def find_violations(cloud: Cloud) -> list[str]:
    """Return what is wrong, as sentences; nothing when all is as it must be at rest."""
    objects = read_objects(cloud)
    return [
        *cloud.faults,
        *_not_at_rest(objects),
        *_claims(cloud, objects),
        *_duplicates(objects),
        *_network(cloud, objects),
        *_repository(cloud, objects),
        *(fault for host in cloud.hosts.values() for fault in _host(cloud, host, objects)),
    ]


def find_doubles(cloud: Cloud) -> list[str]:
    """Return what must never hold, not even for a moment."""
    homes = Counter(name for host in cloud.hosts.values() for name in host.definitions)
    twice = [f"domain {name} is defined on {count} hosts" for name, count in homes.items() if count > 1]
    return [*cloud.faults, *twice, *_duplicates(read_objects(cloud))]


def _not_at_rest(objects: Objects) -> Iterator[str]:
    for ref, resource in objects.items():
        if isinstance(resource, Task) and resource.status.phase is not Phase.SUCCEEDED:
            yield f"{ref} is {resource.status.phase}"
        if not KINDS[ref.kind].ready_when:
            continue
        if resource.deleting:
            reasons = "; ".join(c.message for c in resource.status.conditions if c.status != "True")
            yield f"{ref} is still being deleted ({resource.metadata.finalizers}): {reasons}"
        elif not resource.is_true(READY):
            ready = resource.find_condition(READY)
            yield f"{ref} is not ready: {ready.reason + ' ' + ready.message if ready else 'no condition'}"
        elif isinstance(resource, GitSource) and not resource.is_true(HEALTHY):
            yield f"{ref} does not know that its objects are ready: {resource.find_condition(HEALTHY)}"


def _claims(cloud: Cloud, objects: Objects) -> Iterator[str]:
    wanted = {}
    for resource in objects.values():
        for claim in KINDS[resource.kind].claims(resource):
            wanted[CLAIMS + f"{claim.pool}/{claim.key}".encode()] = resource.uid
    stored = cloud.etcd.snapshot()
    held = {key: orjson.loads(value)["uid"] for key, value in stored.items() if key.startswith(CLAIMS)}
    for key in held.keys() | wanted.keys():
        if held.get(key) != wanted.get(key):
            yield f"claim {key.decode()} is held by {held.get(key)}, should be by {wanted.get(key)}"
    for ref, counted in recount(objects).items():
        found = orjson.loads(stored[object_key(KINDS[ref.kind], row_of(ref.project, ref.name))]).get("takes", {})
        if found != counted.amounts:
            yield f"{ref} counts as {found}, counted anew as {counted.amounts}"
    projects = [resource.uid for resource in objects.values() if isinstance(resource, Project)]
    shells = {CREDENTIALS + f"{SHELLS}/{uid}".encode() for uid in projects}
    for key in stored:
        if (
            _plural(key) not in _MODELS
            and _plural(key) not in (".claims", ".leases", ".quotas")
            and key not in {TOMBSTONE, NUDGE, *shells}
        ):
            yield f"the key {key.decode()} belongs to nothing"


def _duplicates(objects: Objects) -> Iterator[str]:
    ports = [r for r in objects.values() if isinstance(r, Port)]
    held = Counter((p.metadata.project, p.spec.network, a.address) for p in ports for a in p.status.addresses or ())
    yield from (f"address {place} is held {n} times" for place, n in held.items() if n > 1)
    macs = Counter(p.status.mac for p in ports if p.status.mac)
    yield from (f"MAC {mac} is held {n} times" for mac, n in macs.items() if n > 1)


def _network(cloud: Cloud, objects: Objects) -> Iterator[str]:
    for kind, rows in cloud.ovn.state.rows.items():
        wanted = {r.uid: r for r in objects.values() if r.kind == kind}
        if kind == "Subnet":
            wanted = {u: r for u, r in wanted.items() if isinstance(r, Subnet) and r.spec.dhcp is DHCP.ENABLED}
        yield from (f"{kind} {uid} has no row in OVN" for uid in wanted.keys() - rows.keys())
        yield from (f"row of {kind} {uid} in OVN belongs to nobody" for uid in rows.keys() - wanted.keys())
    groups = {(r.metadata.project, r.metadata.name): r.uid for r in objects.values() if r.kind == "SecurityGroup"}
    for port in (r for r in objects.values() if isinstance(r, Port)):
        row = cloud.ovn.state.rows["Port"].get(port.uid)
        wanted_groups = {groups.get((port.metadata.project, n)) for n in security_groups_of(port.spec)}
        if row is not None and (row.groups != wanted_groups or row.mac != port.status.mac):
            yield f"{port.ref} in OVN has groups {set(row.groups)} and MAC {row.mac}"


def _repository(cloud: Cloud, objects: Objects) -> Iterator[str]:
    """Sets are exactly as the newest commit says; those of sources that are gone are gone."""
    sources = [r for r in objects.values() if isinstance(r, GitSource)]
    wanted: dict[Ref, tuple[str, object]] = {}
    for source in sources:
        commit, files = cloud.git.commits[-1]
        if source.status.applied_commit != commit.name:
            yield f"{source.ref} has applied {source.status.applied_commit}, there is {commit.name}"
        for document in (d for text in files.values() for d in yaml.safe_load_all(text) if d):
            ref = Ref(document["kind"], source.metadata.project, document["metadata"]["name"])
            model = KINDS[ref.kind].model
            wire = {**document, "metadata": {**document["metadata"], "project": ref.project}}
            wanted[ref] = (source.set_name, model.from_wire(wire).spec)
    found = {r.ref: (s, r.spec) for r in objects.values() if (s := r.metadata.labels.get(APPLY_SET_LABEL)) is not None}
    for ref in wanted.keys() | found.keys():
        if wanted.get(ref) != found.get(ref):
            yield f"{ref} of a repository is {found.get(ref)}, should be {wanted.get(ref)}"


def _host(cloud: Cloud, host: FakeHost, objects: Objects) -> Iterator[str]:
    instances = [r for r in objects.values() if isinstance(r, Instance) and r.status.host == host.name]
    ports = {
        i.uid: [
            p
            for nic in i.spec.network_interfaces
            if isinstance(p := objects.get(Ref("Port", i.metadata.project, port_name_of(i, nic))), Port)
        ]
        for i in instances
    }
    uids = {i.uid for i in instances}
    taps = {tap_name(p) for found in ports.values() for p in found}
    torn = (p for p in (cloud.folder / host.name).rglob(".*") if TEMPORARY.fullmatch(p.name))
    yield from (f"{host.name}: the temporary file {path} was left" for path in torn)
    folders = {p.name for p in (cloud.folder / host.name / "instances").iterdir()}
    for what, there, wanted in (
        ("domain", host.definitions, uids),
        ("disk folder", folders, uids),
        ("tap", set(host.taps.taps), taps),
        ("bridge port", set(host.switch.ports), taps),
    ):
        yield from (f"{host.name}: {what} {name} is missing" for name in wanted - there)
        yield from (f"{host.name}: {what} {name} belongs to nobody" for name in there - wanted)
    for instance in instances:
        yield from _machine(host, instance, ports[instance.uid])


def _machine(host: FakeHost, instance: Instance, ports: list[Port]) -> Iterator[str]:
    power, wanted = host.find_power(instance.uid), _POWER[instance.spec.power_state]
    if power is not wanted:
        yield f"{instance.ref} is {power}, should be {wanted}"
    if instance.status.power_state is not instance.spec.power_state:
        yield f"{instance.ref} is reported {instance.status.power_state}, should be {instance.spec.power_state}"
    cards = {(p.status.mac, tap_name(p)) for p in ports}
    found = {(c.mac, c.tap) for c in host.find_cards(instance.uid)}
    if power is not None and found != cards:
        yield f"{instance.ref} has the cards {found}, should have {cards}"
    addresses = sorted(a.address for p in ports for a in p.status.addresses or ())
    if sorted(a.address for a in instance.status.addresses or ()) != addresses:
        yield f"{instance.ref} reports other addresses than {addresses}"
