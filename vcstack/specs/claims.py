"""Claims: what an object holds exclusively, taken and released in the object's own transactions.

A claim is a key of its own in the store, so that it can neither be taken twice nor leak. A pool is a set
of claims that are checked together: for uniqueness by key, or by a rule over all members.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vcstack.specs.resource import Ref

Members = Mapping[str, Mapping[str, Any]]
"""The members of a pool: claim key → value."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim. Two objects can never hold the same (pool, key).

    ``rule``, if given, sees all other members of the pool and returns a sentence when the claim must be
    refused; the transaction fails and is tried again when the pool changes in between.
    """

    pool: str
    """Slash-separated, e.g. addresses/demo/web or capacity/h1."""
    key: str
    """Unique in the pool, e.g. 10.10.0.5 or the claimer's uid."""
    field: str
    """The field path to blame in the error."""
    value: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What rules of other claims see (the store adds the holder's kind, project, name and uid)."""
    rule: Callable[[Members], str | None] | None = dataclasses.field(default=None, compare=False)
    """None: only the key's uniqueness counts."""
    on: Ref | None = None
    """The object of which a part is claimed: when the claim is taken it has to exist and not be deleting."""


def within_limits(amounts: Mapping[str, int], limits: Mapping[str, int]) -> Callable[[Members], str | None]:
    """Return a rule: the amounts of all members and these together stay within the limits.

    Every member's value carries its amounts by the same names. A name without a limit is unlimited.
    """

    def rule(members: Members) -> str | None:
        for name, limit in limits.items():
            used = sum(int(m.get(name, 0)) for m in members.values())
            asked = amounts.get(name, 0)
            if asked and used + asked > limit:
                return f"{name}: {asked} asked, {used} of {limit} in use"
        return None

    return rule
