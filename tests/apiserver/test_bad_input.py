# ruff: noqa: E501 (one case a line)
"""Bad input: each gets a 4xx with the field and a sentence, and nothing is changed."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from tests.fixtures.api import SYSTEM, Api, create_samples, error_of, snapshot
from tests.fixtures.samples import SAMPLES, Wire, sample
from vcstack.specs.registry import get_kind

JSON = "application/json"
YAML = "application/yaml"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+json"
DEMO = "/api/v1/projects/demo"


@dataclass(frozen=True)
class Case:
    """One bad request."""

    name: str
    method: str
    path: str
    body: bytes
    code: int
    blamed: str = ""
    """The field of one of the causes; empty: the sentence alone says it."""
    says: str = ""
    """Part of the message or of the cause's."""
    media_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def changed(kind: str, path: str, value: Any) -> Wire:
    """Return the kind's sample under another name with one value set."""
    wire = sample(kind, name="fresh")
    target: Any = wire
    steps = path.split(".")
    for step in steps[:-1]:
        target = target[int(step)] if isinstance(target, list) else target.setdefault(step, {})
    target[int(steps[-1]) if isinstance(target, list) else steps[-1]] = value
    return wire


def post(name: str, kind: str, wire: Wire, blamed: str, *, code: int = 422, says: str = "") -> Case:
    plurals = {"SSHKey": "sshkeys", "SecurityGroup": "securitygroups"}
    plural = plurals.get(kind, f"{kind.lower()}s")
    path = f"{DEMO}/{plural}" if "project" in wire.get("metadata", {}) else f"/api/v1/{plural}"
    return Case(name, "POST", path, json.dumps(wire).encode(), code, blamed, says)


NIC = "spec.networkInterfaces.0"
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (c + 1, c + 1, b",".join([b"*%c" % c] * 9)) for c in range(ord("a"), ord("i"))
)
SHELL = "x'; rm -rf / #"
XML = "</name><devices><hostdev/>"
FIELDS = [
    post("unknown field in spec", "Flavor", changed("Flavor", "spec.gpu", 1), "spec.gpu"),
    post("unknown field in metadata", "Flavor", changed("Flavor", "metadata.colour", "red"), "metadata.colour"),
    post("unknown field at the top", "Flavor", changed("Flavor", "extra", {}), "extra"),
    post("misspelled field", "Instance", changed("Instance", "spec.flavour", "tiny"), "spec.flavour"),
    post("text for a number", "Flavor", changed("Flavor", "spec.vcpus", "1"), "spec.vcpus"),
    post("float for a number", "Flavor", changed("Flavor", "spec.vcpus", 1.5), "spec.vcpus"),
    post("bool for a number", "Flavor", changed("Flavor", "spec.vcpus", True), "spec.vcpus"),
    post("null for a number", "Flavor", changed("Flavor", "spec.vcpus", None), "spec.vcpus"),
    post("negative number", "Flavor", changed("Flavor", "spec.vcpus", -1), "spec.vcpus"),
    post("list for an object", "Flavor", changed("Flavor", "spec", []), "spec"),
    post("text for an object", "Flavor", changed("Flavor", "spec", "big"), "spec"),
    post("missing field", "Flavor", {"metadata": {"name": "fresh"}, "spec": {"vcpus": 1}}, "spec.memoryMiB"),
    post("no spec", "Flavor", {"metadata": {"name": "fresh"}}, "spec"),
    post("no name", "Flavor", changed("Flavor", "metadata.name", ""), "metadata.name"),
    post("upper-case name", "Flavor", changed("Flavor", "metadata.name", "Big"), "metadata.name"),
    post("name with a slash", "Flavor", changed("Flavor", "metadata.name", "a/b"), "metadata.name"),
    post("name with dots", "Flavor", changed("Flavor", "metadata.name", "../etc"), "metadata.name"),
    post("name with a newline", "Flavor", changed("Flavor", "metadata.name", "a\n"), "metadata.name"),
    post("name of 64 characters", "Flavor", changed("Flavor", "metadata.name", "a" * 64), "metadata.name"),
    post("name that is a number", "Flavor", changed("Flavor", "metadata.name", 7), "metadata.name"),
    post("name with a shell in it", "Instance", changed("Instance", "metadata.name", SHELL), "metadata.name"),
    post("name with XML in it", "Instance", changed("Instance", "metadata.name", XML), "metadata.name"),
    post("label that is no label", "Flavor", changed("Flavor", "metadata.labels", {"a b": "c"}), "metadata.labels"),
    post("label value with a shell", "Flavor", changed("Flavor", "metadata.labels", {"a": "$(id)"}), "metadata.labels"),
    post("other kind", "Flavor", changed("Flavor", "kind", "Host"), "kind"),
    post("other apiVersion", "Flavor", changed("Flavor", "apiVersion", "v1"), "apiVersion"),
    post("status by a user", "Flavor", changed("Flavor", "status", {"observedGeneration": 7}), "status"),
    post("status of an instance", "Instance", changed("Instance", "status", {"host": "h1"}), "status"),
    post("resourceVersion on create", "Flavor", changed("Flavor", "metadata.resourceVersion", "3"), "metadata.resourceVersion"),
    post("system finalizer", "Flavor", changed("Flavor", "metadata.finalizers", ["vcstack.io/evil"]), "metadata.finalizers"),
    post("no CIDR", "Subnet", changed("Subnet", "spec.cidr", "10.0.0"), "spec.cidr"),
    post("CIDR with host bits", "Subnet", changed("Subnet", "spec.cidr", "10.9.0.1/24"), "spec.cidr"),
    post("CIDR of everything", "Subnet", changed("Subnet", "spec.cidr", "0.0.0.0/0"), "spec.cidr"),
    post("multicast CIDR", "Subnet", changed("Subnet", "spec.cidr", "224.0.0.0/24"), "spec.cidr"),
    post("loopback CIDR", "Subnet", changed("Subnet", "spec.cidr", "127.0.0.0/24"), "spec.cidr"),
    post("CIDR in prose", "Subnet", changed("Subnet", "spec.cidr", "10.0.0.0/24; id"), "spec.cidr"),
    post("gateway outside", "Subnet", {**changed("Subnet", "spec.cidr", "10.99.0.0/24")} | {
        "spec": {"network": "web", "cidr": "10.99.0.0/24", "gateway": "10.98.0.1"}}, "spec.gateway"),
    post("ranges that overlap", "Subnet", {"metadata": {"project": "demo", "name": "fresh"}, "spec": {
        "network": "web", "cidr": "10.99.0.0/24", "allocationRanges": [
            {"start": "10.99.0.10", "end": "10.99.0.20"}, {"start": "10.99.0.20", "end": "10.99.0.30"}]}},
        "spec.allocationRanges[1]"),
    post("overlapping subnet", "Subnet", changed("Subnet", "spec.cidr", "10.10.0.128/25"), "spec.cidr", code=409),
    post("address outside", "Port", changed("Port", "spec", {"network": "web", "subnet": "web-v4", "address": "10.11.0.9"}),
         "spec.address"),
    post("address of the gateway", "Port",
         changed("Port", "spec", {"network": "web", "subnet": "web-v4", "address": "10.10.0.1"}), "spec.address"),
    post("address in no subnet", "Port", changed("Port", "spec", {"network": "web", "address": "10.11.0.9"}), "spec.address"),
    post("address of the broadcast", "Port", changed("Port", "spec", {"network": "web", "address": "10.10.0.255"}),
         "spec.address"),
    post("interface's address in no subnet", "Instance",
         changed("Instance", "spec.networkInterfaces", [{"name": "eth0", "network": "web", "address": "10.11.0.9"}]),
         "spec.networkInterfaces[0].address"),
    post("interface's address taken", "Instance",
         changed("Instance", "spec.networkInterfaces", [{"name": "eth0", "network": "web", "address": "10.10.0.9"}]),
         "spec.networkInterfaces[0].address"),
    post("interface's address of the gateway", "Instance",
         changed("Instance", "spec.networkInterfaces", [{"name": "eth0", "network": "web", "address": "10.10.0.1"}]),
         "spec.networkInterfaces[0].address"),
    post("address that is none", "Port", changed("Port", "spec.address", "10.10.0"), "spec.address"),
    post("address with a zone", "Port", changed("Port", "spec.address", "fe80::1%eth0"), "spec.address"),
    post("multicast MAC", "Port", changed("Port", "spec.mac", "01:00:5e:00:00:01"), "spec.mac"),
    post("MAC with a shell", "Port", changed("Port", "spec.mac", "52:54:00:12:34:56;id"), "spec.mac"),
    post("unknown flavor", "Instance", changed("Instance", "spec.flavor", "none"), "spec.flavor"),
    post("unknown image", "Instance", changed("Instance", "spec.image", "none"), "spec.image"),
    post("unknown key", "Instance", changed("Instance", "spec.sshKeys.0", "none"), "spec.sshKeys[0]"),
    post("unknown network", "Instance", changed("Instance", f"{NIC}.network", "none"), "spec.networkInterfaces[0].network"),
    post("network of another project", "Instance", changed("Instance", f"{NIC}.network", "theirs"),
         "spec.networkInterfaces[0].network"),
    post("group of another project", "Port", changed("Port", "spec.securityGroups.0", "theirs"), "spec.securityGroups[0]"),
    post("interface with a shell", "Instance", changed("Instance", f"{NIC}.name", "eth0;id"), "spec.networkInterfaces[0].name"),
    post("interface without network", "Instance", changed("Instance", "spec.networkInterfaces.0", {"name": "eth1"}),
         "spec.networkInterfaces[0].network"),
    post("two interfaces of a name", "Instance", changed("Instance", "spec.networkInterfaces", [
        {"name": "eth0", "network": "web"}, {"name": "eth0", "network": "web"}]), "spec.networkInterfaces[1].name"),
    post("user data with NUL", "Instance", changed("Instance", "spec.userData", "#!/bin/sh\0"), "spec.userData"),
    post("user data too long", "Instance", changed("Instance", "spec.userData", "x" * 65537), "spec.userData"),
    post("unknown power state", "Instance", changed("Instance", "spec.powerState", "Off"), "spec.powerState"),
    post("power state as bool", "Instance", changed("Instance", "spec.powerState", True), "spec.powerState"),
    post("control characters", "Project", changed("Project", "spec.description", "a\x1b[31mred"), "spec.description"),
    post("escape in a display name", "Project", changed("Project", "spec.displayName", "\x07"), "spec.displayName"),
    post("key with options", "SSHKey", changed("SSHKey", "spec.publicKey", 'command="id" ssh-rsa AAAA'), "spec.publicKey"),
    post("key of two lines", "SSHKey", changed("SSHKey", "spec.publicKey", "ssh-ed25519 AAAA\nssh-rsa AAAA"), "spec.publicKey"),
    post("ports upside down", "SecurityGroup", changed("SecurityGroup", "spec.rules.0.portMax", 21), "spec.rules[0].portMax"),
    post("port beyond 65535", "SecurityGroup", changed("SecurityGroup", "spec.rules.0.portMax", 65536), "spec.rules[0].portMax"),
    post("remote that is no CIDR", "SecurityGroup", changed("SecurityGroup", "spec.rules.0.remoteCidr", "all"),
         "spec.rules[0].remoteCidr"),
    post("remote with OVN syntax", "SecurityGroup", changed("SecurityGroup", "spec.rules.0.remoteCidr", "0/0 || 1"),
         "spec.rules[0].remoteCidr"),
    post("task on a network", "Task", changed("Task", "spec.target", {"kind": "Network", "name": "web"}), "spec.target.kind"),
    post("digest of another kind", "Image", changed("Image", "spec.digest", "md5:00"), "spec.digest"),
    post("image format", "Image", changed("Image", "spec.format", "VMDK"), "spec.format"),
    post("project that is not there", "Network", {"metadata": {"project": "none", "name": "n"}, "spec": {}}, "metadata.project"),
]  # fmt: skip
REQUESTS = [
    Case("not JSON", "POST", "/api/v1/flavors", b"{", 400),
    Case("empty body", "POST", "/api/v1/flavors", b"", 400),
    Case("a list", "POST", "/api/v1/flavors", b"[]", 400),
    Case("a number", "POST", "/api/v1/flavors", b"7", 400),
    Case("null", "POST", "/api/v1/flavors", b"null", 400),
    Case("not UTF-8", "POST", "/api/v1/flavors", b'{"metadata":{"name":"\xff"}}', 400),
    Case("NaN", "POST", "/api/v1/flavors", b'{"spec":{"vcpus":NaN}}', 400),
    Case("a lone surrogate", "POST", "/api/v1/projects", b'{"metadata":{"name":"x"},"spec":{"displayName":"\\ud800"}}', 400,
         "spec.displayName", "half of a pair"),
    Case("a lone surrogate in a key", "POST", "/api/v1/projects", b'{"metadata":{"labels":{"\\ud800":"\\ud800"}}}', 400,
         "metadata.labels", "half of a pair"),
    Case("a lone surrogate in YAML", "POST", "/api/v1/flavors", b'{"metadata": {"name": "\\ud800"}}', 400,
         says="body:1:26: found invalid Unicode", media_type=YAML),
    Case("NUL in YAML", "POST", "/api/v1/flavors", b'metadata: {name: fresh, annotations: {note: "a\\0b"}}', 422,
         "metadata.annotations.note", "NUL", media_type=YAML),
    Case("NUL in a key", "POST", "/api/v1/flavors", b'{"metadata":{"annotations":{"a\\u0000b":"x"}}}', 422,
         "metadata.annotations", "NUL"),
    Case("NUL in a merge patch", "PATCH", "/api/v1/flavors/tiny", b'{"metadata":{"annotations":{"a.b/c":"\\u0000"}}}', 422,
         "metadata.annotations[a.b/c]", "NUL", media_type=MERGE),
    Case("NUL in a plan", "POST", "/api/v1/plan", b'{"fieldManager":"me","items":[{"spec":{"x":"\\u0000"}}]}', 422,
         "items[0].spec.x", "NUL"),
    Case("a key twice", "POST", "/api/v1/flavors", b'{"spec":{"vcpus":1,"vcpus":2}}', 400, says="vcpus"),
    Case("a number beyond 64 bits", "POST", "/api/v1/flavors", b'{"spec":{"vcpus":%s}}' % (b"9" * 40), 400),
    Case("deep JSON", "POST", "/api/v1/flavors", b'{"spec":' * 40 + b"1" + b"}" * 40, 400, says="nested"),
    Case("very deep JSON", "POST", "/api/v1/flavors", b"[" * 100_000, 400),
    Case("a body over the limit", "POST", "/api/v1/flavors", b'{"a":"' + b"x" * 1_100_000 + b'"}', 413, says="limit"),
    Case("a YAML bomb", "POST", "/api/v1/flavors", BOMB, 400, media_type=YAML),
    Case("a YAML tag", "POST", "/api/v1/flavors", b"!!python/object/apply:os.system [id]", 400, media_type=YAML),
    Case("two YAML documents", "POST", "/api/v1/flavors", b"a: 1\n---\nb: 2\n", 400, media_type=YAML),
    Case("YAML that recurs", "POST", "/api/v1/flavors", b"a: &a [*a]\n", 400, media_type=YAML),
    Case("no content type", "POST", "/api/v1/flavors", b"{}", 415, media_type=""),
    Case("another content type", "POST", "/api/v1/flavors", b"{}", 415, media_type="text/plain"),
    Case("JSON patch", "PATCH", "/api/v1/flavors/tiny", b"[]", 415, media_type="application/json-patch+json"),
    Case("unknown parameter", "GET", "/api/v1/flavors?labelselector=a", b"", 400, "query.labelselector", "labelSelector"),
    Case("parameter of another verb", "GET", "/api/v1/flavors/tiny?limit=1", b"", 400, "query.limit"),
    Case("parameter twice", "GET", "/api/v1/flavors?limit=1&limit=2", b"", 400, "query.limit"),
    Case("limit that is none", "GET", "/api/v1/flavors?limit=many", b"", 400, "query.limit"),
    Case("negative limit", "GET", "/api/v1/flavors?limit=-1", b"", 400, "query.limit"),
    Case("flag that is none", "GET", "/api/v1/flavors?watch=perhaps", b"", 400, "query.watch"),
    Case("continue that is none", "GET", "/api/v1/flavors?continue=%3Cscript%3E", b"", 400, says="continue"),
    Case("label selector", "GET", "/api/v1/flavors?labelSelector=a%3D%3D%3Db", b"", 400, says="selector"),
    Case("field selector", "GET", "/api/v1/flavors?fieldSelector=spec.cpus%3D1", b"", 400, says="spec.vcpus"),
    Case("dryRun of some", "POST", "/api/v1/flavors?dryRun=Some", b"{}", 400, "query.dryRun"),
    Case("apply without manager", "PATCH", "/api/v1/flavors/tiny", b"{}", 400, "query.fieldManager", media_type=APPLY),
    Case("manager with spaces", "PATCH", "/api/v1/flavors/tiny?fieldManager=a%20b", b"{}", 400, "query.fieldManager",
         media_type=APPLY),
    Case("propagation", "DELETE", "/api/v1/flavors/tiny?propagationPolicy=Now", b"", 400, "query.propagationPolicy"),
    Case("unknown kind", "GET", "/api/v1/flavour", b"", 404, says="flavors"),
    Case("unknown subresource", "GET", "/api/v1/flavors/tiny/console", b"", 404, says="history"),
    Case("global kind in a project", "GET", f"{DEMO}/flavors", b"", 404, says="global"),
    Case("project kind without project", "GET", "/api/v1/instances/web-1", b"", 404, says="projects"),
    Case("path with dots", "GET", "/api/v1/flavors/..%2f..%2fetc", b"", 404),
    Case("name in the path", "GET", "/api/v1/flavors/Big", b"", 422, "metadata.name"),
    Case("project in the path", "GET", "/api/v1/projects/De%20mo/instances", b"", 422, "metadata.project"),
    Case("newline after the name in the path", "GET", "/api/v1/flavors/tiny%0A", b"", 422, "metadata.name"),
    Case("newline after the project in the path", "GET", "/api/v1/projects/demo%0A/instances", b"", 422, "metadata.project"),
    Case("method", "POST", "/api/v1/flavors/tiny", b"{}", 405),
    Case("stale version", "PUT", "/api/v1/flavors/tiny", json.dumps(sample("Flavor", resourceVersion="1")).encode(), 409),
    Case("version that is none", "PUT", "/api/v1/flavors/tiny", json.dumps(sample("Flavor", resourceVersion="x")).encode(), 409),
    Case("another uid", "PUT", "/api/v1/flavors/tiny", json.dumps(sample("Flavor", uid="fl-0")).encode(), 409, "metadata.uid"),
    Case("another name in the body", "PUT", "/api/v1/flavors/tiny", json.dumps(sample("Flavor", name="x")).encode(), 422,
         "metadata.name"),
    Case("another project in the body", "PUT", f"{DEMO}/networks/web",
         json.dumps(sample("Network", project="other")).encode(), 422, "metadata.project"),
    Case("immutable field", "PATCH", "/api/v1/flavors/tiny", b'{"spec":{"vcpus":2}}', 422, "spec.vcpus", media_type=MERGE),
    Case("status by merge patch", "PATCH", "/api/v1/flavors/tiny", b'{"status":{"observedGeneration":9}}', 422, "status",
         media_type=MERGE),
    Case("status by apply", "PATCH", "/api/v1/flavors/tiny?fieldManager=me",
         json.dumps({**sample("Flavor"), "status": {"observedGeneration": 9}}).encode(), 422, "status", media_type=APPLY),
    Case("status through its own path", "PATCH", f"{DEMO}/instances/web-1/status", b'{"status":{"host":"h9"}}', 403,
         media_type=MERGE),
    Case("system finalizer taken off", "PATCH", "/api/v1/flavors/tiny", b'{"metadata":{"finalizers":[]}}', 422,
         "metadata.finalizers", media_type=MERGE),
    Case("delete of another version", "DELETE", "/api/v1/flavors/tiny?resourceVersion=1", b"", 409),
    Case("delete of another uid", "DELETE", "/api/v1/flavors/tiny?uid=fl-0", b"", 409),
    Case("delete with a strange body", "DELETE", "/api/v1/flavors/tiny", b'{"force":true}', 422, "force"),
    Case("create again", "POST", "/api/v1/flavors", json.dumps(sample("Flavor")).encode(), 409),
    Case("address taken", "POST", f"{DEMO}/ports", json.dumps(changed("Port", "spec.address", "10.10.0.9")).encode(), 409,
         "spec.address"),
]  # fmt: skip


async def prepare(api: Api, raw: httpx2.AsyncClient) -> None:
    """Store the samples, a second project with things of its own, and a port that holds 10.10.0.9."""
    await create_samples(api)
    theirs: Wire = {"metadata": {"project": "other", "name": "theirs"}, "spec": {}}
    for path, wire in (
        ("/api/v1/projects", {"metadata": {"name": "other"}, "spec": {}}),
        ("/api/v1/projects/other/networks", theirs),
        ("/api/v1/projects/other/securitygroups", {**theirs, "spec": {"rules": []}}),
        (f"{DEMO}/ports", sample("Port", name="taken") | {"spec": {"network": "web", "address": "10.10.0.9"}}),
    ):
        assert (await raw.post(path, json=wire)).status_code == 201


async def find_fault(api: Api, raw: httpx2.AsyncClient, case: Case) -> str:
    """Return what is wrong with the answer to a bad request, empty when it is as it should be."""
    before = await snapshot(api)
    headers = {**({"content-type": case.media_type} if case.media_type else {}), **case.headers}
    answer = await raw.request(case.method, case.path, content=case.body, headers=headers)
    if answer.status_code != case.code:
        return f"{case.name}: {answer.status_code} instead of {case.code}: {answer.text[:300]}"
    error = error_of(answer)
    fields = [c["field"] for c in error["details"]["causes"]]
    said = " ".join([error["message"], *(c["message"] for c in error["details"]["causes"])])
    if case.blamed and not any(f.startswith(case.blamed) for f in fields):
        return f"{case.name}: blames {fields} instead of {case.blamed}"
    if case.says not in said or "Traceback" in answer.text:
        return f"{case.name}: says {said!r}"
    return "" if await snapshot(api) == before else f"{case.name}: something was changed"


@pytest.mark.parametrize("cases", [FIELDS, REQUESTS], ids=["fields", "requests"])
async def test_bad_input_is_refused_with_the_field_and_a_sentence_and_changes_nothing(
    api: Api, cases: list[Case]
) -> None:
    async with api.raw() as raw:
        await prepare(api, raw)
        faults = [fault for case in cases if (fault := await find_fault(api, raw, case))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("field", "value", "blamed"),
    [
        ("annotations", {"note": "a\0b"}, "metadata.annotations.note"),
        ("finalizers", ["example.org/a\0b"], "metadata.finalizers[0]"),
        ("finalizers", ["example.org/a\x1b[2J"], "metadata.finalizers[0]"),
        ("ownerReferences", [{"kind": "Project", "name": "demo", "uid": "a\0"}], "metadata.ownerReferences[0].uid"),
        ("ownerReferences", [{"kind": "Project", "name": "demo", "uid": "a\x7f"}], "metadata.ownerReferences[0].uid"),
    ],
)
async def test_no_kind_takes_what_cannot_be_kept(api: Api, field: str, value: Any, blamed: str) -> None:
    async with api.raw() as raw:
        for definition in (get_kind(kind) for kind in SAMPLES):
            if definition.system_only:
                continue
            wire = changed(definition.kind, f"metadata.{field}", value)
            project = wire["metadata"].get("project")
            path = f"/api/v1/projects/{project}/{definition.plural}" if project else f"/api/v1/{definition.plural}"
            one, body = f"{path}/fresh", json.dumps(wire)
            for answer in (
                await raw.post(path, json=wire),
                await raw.put(one, json=wire),
                await raw.patch(one, content=body, headers={"content-type": MERGE}),
                await raw.patch(f"{one}?fieldManager=me", content=body, headers={"content-type": APPLY}),
            ):
                assert answer.status_code == 422, f"{definition.kind}: {answer.text}"
                assert [c["field"] for c in error_of(answer)["details"]["causes"]] == [blamed], definition.kind


async def test_a_host_reports_no_condition_that_cannot_be_kept(api: Api) -> None:
    settings = await api.register("h1")
    condition = {"type": "AgentReady", "status": "True", "message": "a\0", "lastTransitionTime": "2026-11-01T12:00:00Z"}
    async with api.raw(settings) as raw:
        path, headers = "/api/v1/hosts/h1/status", {"content-type": MERGE}
        answer = await raw.patch(path, content=json.dumps({"status": {"conditions": [condition]}}), headers=headers)
        assert answer.status_code == 422, answer.text
        assert [c["field"] for c in error_of(answer)["details"]["causes"]] == ["status.conditions[0].message"]
        condition["message"] = "one line\nand another"
        answer = await raw.patch(path, content=json.dumps({"status": {"conditions": [condition]}}), headers=headers)
        assert answer.status_code == 200, answer.text


async def test_texts_of_several_lines_are_kept_as_they_are(api: Api) -> None:
    text = "#!/bin/sh\r\n\tprintf '\x1b[1m'\n\x0c\x7f"
    async with api.raw() as raw:
        await prepare(api, raw)
        wire = changed("Instance", "metadata.annotations", {"note": text})
        wire["spec"]["userData"] = text
        made = await raw.post(f"{DEMO}/instances", json=wire)
        assert made.status_code == 201, made.text
        assert (made.json()["metadata"]["annotations"]["note"], made.json()["spec"]["userData"]) == (text, text)


async def test_an_object_of_before_that_has_a_nul_is_read_mended_and_deleted(api: Api) -> None:
    definition, path = get_kind("Project"), "/api/v1/projects/old"
    metadata = {"name": "old", "annotations": {"note": "a\0b", "plain": "x"}, "finalizers": ["example.org/a\0b"]}
    await api.store.create(definition, {"metadata": metadata, "spec": {}}, actor=SYSTEM)
    async with api.raw() as raw:
        read = (await raw.get(path)).json()["metadata"]
        assert (read["annotations"]["note"], read["finalizers"][-1]) == ("a\0b", "example.org/a\0b")

        async def patch(metadata: Wire) -> httpx2.Response:
            return await raw.patch(path, content=json.dumps({"metadata": metadata}), headers={"content-type": MERGE})

        other = await patch({"annotations": {"plain": "y"}})
        assert other.json()["metadata"]["annotations"] == {"note": "a\0b", "plain": "y"}
        kept = [name for name in read["finalizers"] if "\0" not in name]
        mended = await patch({"annotations": {"note": None}, "finalizers": kept})
        assert mended.json()["metadata"]["annotations"] == {"plain": "y"}
        assert mended.json()["metadata"].get("finalizers", []) == kept
        assert (await raw.put(path, json=mended.json())).status_code == 200
        assert (await raw.delete(path)).status_code in (200, 204)
