"""From a custom resource to what is applied to VC Stack, and whose an object of VC Stack is. Pure."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from vcstack.operator.kubernetes import Key
from vcstack.operator.places import PREFIX, Place
from vcstack.operator.schemas import SECRET_KEY_REF
from vcstack.specs.errors import Invalid
from vcstack.specs.meta import API_VERSION
from vcstack.specs.model import Sensitive
from vcstack.specs.sensitive import change_sensitive, iter_sensitive

Wire = dict[str, Any]
FINALIZER = "vcstack.io/operator"
"""On custom resources: their object in VC Stack goes before they do."""
ADOPT = f"{PREFIX}adopt"
"""true: an object that is there already is taken over, also from another custom resource."""
CONFLICTS = f"{PREFIX}conflicts"
"""Take: fields that another manager owns are taken from it; default Refuse."""
DELETION = f"{PREFIX}deletion"
"""Orphan: the object in VC Stack stays when the custom resource is deleted; default Delete."""
UID = f"{PREFIX}uid"
"""On objects of VC Stack: the uid of the custom resource that they belong to."""
OBJECT = f"{PREFIX}object"
"""On objects of VC Stack, for people: namespace and name of that custom resource."""
LABEL = "vcstack.io/operator"
"""On objects of VC Stack: the operator's name, by which it watches its own."""
FOREIGN = ("kubernetes.io", "k8s.io", "argoproj.io", "fluxcd.io", "helm.sh", "zalando.org")
"""Domains of annotations that mean something in Kubernetes only."""

SecretKey = tuple[str, str]
"""Name and key of a value in a Secret of Kubernetes."""


def find_secret_keys(key: Key, resource: Mapping[str, Any]) -> Iterator[SecretKey]:
    """Yield which values of Secrets a custom resource refers to."""
    for _, value in iter_sensitive(key.definition.model, resource):
        if (found := _secret_key(value)) is not None:
            yield found


def build_manifest(
    key: Key, resource: Mapping[str, Any], place: Place, values: Mapping[SecretKey, str], name: str
) -> Wire:
    """Return what is applied to VC Stack.

    Args:
        key: the custom resource's.
        resource: the custom resource.
        place: where it goes.
        values: the values of Secrets that it refers to.
        name: the operator's.

    Raises:
        Invalid: a sensitive field holds something else than a reference.
    """

    def resolve(path: str, value: Any, marker: Sensitive, other: Any) -> str:
        found = _secret_key(value)
        if found is None:
            raise Invalid(f"{path} must refer to a Secret of Kubernetes: {SECRET_KEY_REF}: {{name: ..., key: ...}}")
        return values[found]

    given = resource["metadata"]
    metadata: Wire = {"name": key.name}
    if place.project is not None:
        metadata["project"] = place.project
    metadata["labels"] = {**(given.get("labels") or {}), LABEL: name}
    metadata["annotations"] = {
        **{k: v for k, v in (given.get("annotations") or {}).items() if not _is_foreign(k)},
        UID: given["uid"],
        OBJECT: f"{key.namespace or ''}/{key.name}",
    }
    wire = {"apiVersion": API_VERSION, "kind": key.kind, "metadata": metadata, "spec": resource.get("spec") or {}}
    return change_sensitive(key.definition.model, wire, resolve)


def owner_of(live: Mapping[str, Any]) -> str:
    """Return the uid of the custom resource that an object of VC Stack belongs to; empty: of none."""
    return str((live["metadata"].get("annotations") or {}).get(UID) or "")


def is_owned(live: Mapping[str, Any], resource: Mapping[str, Any]) -> bool:
    """Return whether the object belongs to the custom resource: as it says, or, if it says nothing any more, as the
    custom resource's status remembers."""
    owner = owner_of(live)
    if owner:
        return bool(owner == resource["metadata"]["uid"])
    return bool(recorded_place(resource).get("uid") == live["metadata"]["uid"])


def recorded_place(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return where the custom resource's object was put, as its status says; empty: nowhere yet."""
    found = (resource.get("status") or {}).get("vcstack")
    return found if isinstance(found, Mapping) else {}


def instruction(resource: Mapping[str, Any], name: str) -> str:
    """Return what an annotation of the custom resource tells the operator; empty: nothing."""
    return str((resource["metadata"].get("annotations") or {}).get(name) or "")


def digest_of(wire: Mapping[str, Any]) -> bytes:
    """Return what differs for different manifests, without telling anything of them."""
    return hashlib.sha256(orjson.dumps(wire, option=orjson.OPT_SORT_KEYS)).digest()


def fingerprint_of(live: Mapping[str, Any] | None) -> bytes:
    """Return what differs when somebody else has changed an object: all but its status."""
    if live is None:
        return b""
    meta = live["metadata"]
    kept = {k: meta.get(k) for k in ("uid", "labels", "annotations", "deletionTimestamp")}
    return digest_of({"metadata": kept, "spec": live.get("spec")})


def _secret_key(value: Any) -> SecretKey | None:
    found = value.get(SECRET_KEY_REF) if isinstance(value, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(found.get(k), str) for k in ("name", "key")):
        return None
    return found["name"], found["key"]


def _is_foreign(annotation: str) -> bool:
    domain, slash, _ = annotation.rpartition("/")
    return bool(slash) and (f"{domain}/" == PREFIX or any(domain == f or domain.endswith(f".{f}") for f in FOREIGN))
