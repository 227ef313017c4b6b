"""What one subject may do where: its bindings, compiled so that a decision is a few look-ups.

A decision costs the depth of the domain tree at most, however many bindings, projects and users there are, and
is remembered until the tree changes.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from vcstack.apiserver.auth.places import TOP, Organization, Place
from vcstack.specs.permissions import EVERYTHING, READ, Permission, Rule, covers, find_selectors
from vcstack.specs.registry import KindDefinition
from vcstack.specs.selectors import LabelSelector

Selectors = tuple[LabelSelector, ...]
NOTHING: Final[Selectors] = ()
REMEMBERED: Final = 4096
"""Most decisions kept for one subject."""
KEYS_REMEMBERED: Final = 64
"""Most API keys of one subject whose restricted grants are kept: people make, change and delete them."""
ALWAYS: Final[Selectors] = (EVERYTHING,)


class RuleSet:
    """Rules that hold together at one place, with what was found in them remembered."""

    __slots__ = ("_found", "rules")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._found: dict[tuple[str, str, str], Selectors] = {}

    def find(self, verb: str, kind: str, subresource: str) -> Selectors:
        """Return the selectors of the rules that allow it."""
        key = (verb, kind, subresource)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = find_selectors(self.rules, verb, kind, subresource)
        return found


class Grants:
    """What a subject may do. It never changes: a subject whose rights changed has other grants."""

    def __init__(
        self,
        organization: Organization,
        cloud: RuleSet | None = None,
        domains: Mapping[str, RuleSet] | None = None,
        projects: Mapping[str, RuleSet] | None = None,
        *,
        until: datetime | None = None,
        limit: RuleSet | None = None,
    ) -> None:
        self.until = until
        """When the first of them expires."""
        self._organization = organization
        self._cloud = cloud
        self._domains = domains or {}
        self._projects = projects or {}
        self._limit = limit
        self._restricted: OrderedDict[Hashable, Grants] = OrderedDict()
        """The least used first."""
        self._decided: dict[tuple[str, str, str, str | None, str | None], Selectors] = {}
        self._decided_at = 0
        self._listable: dict[tuple[str, str, str], tuple[int, frozenset[str] | None]] = {}

    def restricted(self, key: Hashable, rules: Sequence[Rule]) -> "Grants":
        """Return these grants as far as the rules allow them too, made once for each key that is in use.

        Args:
            key: what the rules belong to, at its version: an API key's uid and generation.
            rules: what is allowed at most.
        """
        found = self._restricted.get(key)
        if found is None:
            found = self._restricted[key] = Grants(
                self._organization, self._cloud, self._domains, self._projects, until=self.until, limit=RuleSet(rules)
            )
            if len(self._restricted) > KEYS_REMEMBERED:
                self._restricted.popitem(last=False)
        self._restricted.move_to_end(key)
        return found

    def may(
        self,
        verb: str,
        definition: KindDefinition,
        place: Place,
        subresource: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> bool:
        """Return whether the subject may do it to an object with these labels; None: whatever its labels are."""
        selectors = self.selectors(verb, definition, place, subresource)
        if selectors == ALWAYS:
            return True
        return labels is not None and any(s.matches(labels) for s in selectors)

    def may_everywhere(self, verb: str, definition: KindDefinition, subresource: str = "") -> bool:
        """Return whether the subject may do it to all objects of the kind, wherever they lie."""
        for rules in (self._cloud, self._limit):
            if rules is not None and rules.find(verb, definition.kind, subresource) != ALWAYS:
                return False
        return self._cloud is not None

    def may_somewhere(self, verb: str, definition: KindDefinition, subresource: str = "") -> bool:
        """Return whether there is a place where the subject may do it to some objects at least."""
        if self._limit is not None and not self._limit.find(verb, definition.kind, subresource):
            return False
        return any(rules.find(verb, definition.kind, subresource) for _, rules in self.scopes())

    def selectors(self, verb: str, definition: KindDefinition, place: Place, subresource: str = "") -> Selectors:
        """Return what the labels must be like: one of the selectors has to match. Nothing: it may not at all."""
        if self._decided_at != self._organization.version or len(self._decided) > REMEMBERED:
            self._decided.clear()
            self._decided_at = self._organization.version
        key = (verb, definition.kind, subresource, place.project, place.domain)
        found = self._decided.get(key)
        if found is None:
            found = self._granted(verb, definition, place, subresource)
            if self._limit is not None:
                found = _both(found, self._limit.find(verb, definition.kind, subresource))
            self._decided[key] = found
        return found

    def _granted(self, verb: str, definition: KindDefinition, place: Place, subresource: str) -> Selectors:
        if place == TOP and definition.shared and verb in READ:
            return self._granted_anywhere(verb, definition.kind, subresource)
        found: Selectors = NOTHING
        for rules in self._sets_at(place):
            more = rules.find(verb, definition.kind, subresource)
            if more == ALWAYS:
                return ALWAYS
            found += more
        return found

    def _granted_anywhere(self, verb: str, kind: str, subresource: str) -> Selectors:
        """What is shared lies in every place."""
        selectors = [s for _, rules in self.scopes() for s in rules.find(verb, kind, subresource)]
        return ALWAYS if EVERYTHING in selectors else tuple(dict.fromkeys(selectors))

    def sees(self, place: Place) -> bool:
        """Return whether the subject may do anything at all there: only then it may learn what is there."""
        return any(rules.rules for rules in self._sets_at(place))

    def projects_for(self, verb: str, definition: KindDefinition, subresource: str = "") -> frozenset[str] | None:
        """Return the projects in which the subject may do it to some objects at least; None: in all."""
        if self._limit is not None and not self._limit.find(verb, definition.kind, subresource):
            return frozenset()
        key, version = (verb, definition.kind, subresource), self._organization.version
        known = self._listable.get(key)
        if known is None or known[0] != version:
            known = self._listable[key] = (version, self._find_projects(*key))
        return known[1]

    def _find_projects(self, verb: str, kind: str, subresource: str) -> frozenset[str] | None:
        if self._cloud is not None and self._cloud.find(verb, kind, subresource):
            return None
        found = {name for name, rules in self._projects.items() if rules.find(verb, kind, subresource)}
        for domain, rules in self._domains.items():
            if rules.find(verb, kind, subresource):
                found |= self._organization.projects_below(domain)
        return frozenset(found)

    def missing(self, rules: Sequence[Rule], place: Place) -> list[Permission]:
        """Return what of the rules the subject could not give to somebody there, for it does not have it."""
        have = [rule for found in self._sets_at(place) for rule in found.rules]
        lacks = covers(have, rules)
        if self._limit is not None:
            lacks += [p for p in covers(self._limit.rules, rules) if p not in lacks]
        return lacks

    def missing_of(self, other: "Grants") -> list[tuple[Place, Permission]]:
        """Return what the other one may do that the subject could not have given to it, and where."""
        return [(place, p) for place, rules in other.scopes() for p in self.missing(rules.rules, place)]

    def scopes(self) -> Iterator[tuple[Place, RuleSet]]:
        """Yield the places that the grants were made for, with the rules that they give there."""
        if self._cloud is not None:
            yield TOP, self._cloud
        for domain, rules in self._domains.items():
            yield Place(domain=domain), rules
        for project, rules in self._projects.items():
            yield Place(project=project), rules

    def _sets_at(self, place: Place) -> Iterator[RuleSet]:
        if self._cloud is not None:
            yield self._cloud
        if self._domains:
            for domain in self._organization.domains_of(place):
                if domain in self._domains:
                    yield self._domains[domain]
        if place.project is not None and place.project in self._projects:
            yield self._projects[place.project]


def _both(one: Selectors, other: Selectors) -> Selectors:
    """Return selectors one of which matches just when one of each does."""
    if one == ALWAYS:
        return other
    if other == ALWAYS:
        return one
    return tuple(LabelSelector((*a.requirements, *b.requirements)) for a in one for b in other)
