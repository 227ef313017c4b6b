"""What quotas have to count, counted anew from the objects alone."""

from collections.abc import Mapping
from typing import Any

from vcstack.specs.columns import find_value
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.specs.resource import AnyResource, Ref

Objects = Mapping[Ref, AnyResource]


def recount(objects: Objects) -> dict[bytes, dict[str, Any]]:
    """Return the claims that there have to be for quotas: key → value."""
    found = {}
    for resource in objects.values():
        definition = get_kind(resource.kind)
        if definition.is_counted:
            key = f"/vcstack/.claims/{_place(definition, resource, objects)}/{definition.plural}.{resource.uid}"
            amounts = {definition.plural: 1, **(definition.amounts(resource, objects) or {})}
            meta = resource.metadata
            holder = {"kind": resource.kind, "project": meta.project, "name": meta.name, "uid": meta.uid}
            found[key.encode()] = {**holder, "amounts": amounts}
    return found


def _place(definition: KindDefinition, resource: AnyResource, objects: Objects) -> str:
    wire, project = resource.to_wire(), resource.metadata.project
    owner = find_value(wire, definition.owner_path) if definition.owner_path and project is None else None
    if owner is not None:
        wire = objects[Ref("User", None, owner)].to_wire()
    if project is not None:
        wire, path = objects[Ref("Project", None, project)].to_wire(), "spec.domain"
    else:
        path = "spec.domain" if owner is not None else definition.domain_path or ""
    domain = find_value(wire, path) if path else None
    chain: list[str] = []
    while domain:
        chain.insert(0, domain)
        domain = find_value(objects[Ref("Domain", None, domain)].to_wire(), "spec.parent")
    return "/".join(["quota", *chain, *([f"@{project}"] if project else [])])
