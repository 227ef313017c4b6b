"""What quotas have to count, counted anew from the objects alone."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vcstack.specs.columns import find_value
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.specs.resource import AnyResource, Ref

Objects = Mapping[Ref, AnyResource]


@dataclass(frozen=True, slots=True)
class Counted:
    """What one object has to count as."""

    level: str
    plural: str
    amounts: Mapping[str, int]
    """What it takes besides being one of its kind."""


def recount(objects: Objects) -> dict[Ref, Counted]:
    """Return what each object has to count as."""
    found = {}
    for ref, resource in objects.items():
        definition = get_kind(resource.kind)
        if definition.is_counted:
            amounts = definition.amounts(resource, objects) or {}
            found[ref] = Counted(_place(definition, resource, objects), definition.plural, amounts)
    return found


def add_up(counted: Iterable[Counted]) -> dict[str, dict[str, int]]:
    """Return level → name → how much is in use there and below."""
    sums: dict[str, Counter[str]] = {}
    for each in counted:
        steps = each.level.split("/")
        for n in range(len(steps)):
            level = sums.setdefault("/".join(steps[: n + 1]), Counter())
            level.update({each.plural: 1, **each.amounts})
    return {level: {name: amount for name, amount in total.items() if amount} for level, total in sums.items()}


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
