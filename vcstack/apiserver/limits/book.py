"""Which limits hold for a request: those of the policies that fit most closely, else the built-in ones.

Policies are read from the watch cache when their table's version has changed; what follows for somebody is kept by
``gate.py``, so a request asks here only the first time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from pydantic import ValidationError

from vcstack.apiserver.limits import defaults
from vcstack.apiserver.limits.buckets import Rule, RuleId
from vcstack.specs.kinds.ratelimitpolicy import Per, RateLimit, RateLimitPolicy, RouteClass, Seats, Sender, SenderKind
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.store.cache import WatchCache

logger = structlog.get_logger(__name__)


class Asked(NamedTuple):
    """What a request is, as far as policies tell requests apart."""

    sender: Ref | None
    """The user, service account or host; None: nobody known."""
    project: str | None
    """The project that the path names."""
    domains: Sequence[str]
    """The domains that this, or else the sender, lies in, the innermost first."""
    route: RouteClass


class _Closeness(NamedTuple):
    """How closely a policy fits: compared from left to right."""

    subject: bool
    project: bool
    domain: int
    """The nearer the more; 0: it names none."""


@dataclass(slots=True)
class _Policy:
    """A policy as it is applied."""

    policy: RateLimitPolicy
    sender: Ref | None
    rules: list[tuple[RateLimit, Rule]]

    def closeness(self, asked: Asked) -> _Closeness | None:
        """Return how closely it fits, None when it does not."""
        spec = self.policy.spec
        if self.sender is not None and self.sender != asked.sender:
            return None
        if spec.project is not None and spec.project != asked.project:
            return None
        if spec.domain is None:
            near = 0
        elif spec.domain in asked.domains:
            near = len(asked.domains) - asked.domains.index(spec.domain)
        else:
            return None
        return _Closeness(self.sender is not None, spec.project is not None, near)


class PolicyBook:
    """The limits in force at this worker."""

    def __init__(self, cache: WatchCache) -> None:
        self._table = cache.table(get_kind(RateLimitPolicy.KIND))
        self._objects: object = None
        self._revision = -1
        self._policies: list[_Policy] = []
        self._rules: dict[RuleId, Rule] = {}
        self.parts = 1
        """Each limit is shared out among so many managers; this is one of them."""
        self.version = 0
        """Rises when the limits have changed."""
        self._tenants = self._build_in(defaults.TENANT_LIMITS)
        self._hosts = self._build_in(defaults.HOST_LIMITS)
        self._everybody = self._build_in(defaults.ADDRESS_LIMITS)
        self._built_in = [*self._tenants, *self._hosts, *self._everybody]
        self.host_bytes = self._build_meter(defaults.HOST_BYTES)
        """In KiB, like the next; no policy changes them."""
        self.host_new_events = self._build_meter(defaults.HOST_NEW_EVENTS)

    def refresh(self) -> None:
        """Read the policies if any has changed."""
        table = self._table
        if table.revision != self._revision or table.objects is not self._objects:
            self._read()

    def share(self, parts: int) -> None:
        """Take the share of one of so many managers."""
        parts = max(1, parts)
        if parts != self.parts:
            self.parts = parts
            built_in = (*(rule for _, rule in self._built_in), self.host_bytes, self.host_new_events)
            for rule in (*self._rules.values(), *built_in):
                rule.share(parts)

    def applied(self) -> dict[str, int]:
        """Return by uid which generation of each policy is applied."""
        self.refresh()
        return {p.policy.uid: p.policy.metadata.generation for p in self._policies}

    def rules_for(self, asked: Asked, *, known: bool) -> list[Rule]:
        """Return the limit of each Per that holds for such a request.

        Args:
            asked: the request.
            known: whether somebody known sends it, not only an address.
        """
        fitting = self._fitting(asked)
        found: list[Rule] = []
        for per in Per if known else (Per.ADDRESS,):
            rule = self._choose(per, asked.route, fitting) or self._default(per, asked)
            if rule is not None:
                found.append(rule)
        return found

    def seats_for(self, asked: Asked) -> Seats:
        """Return whose seats such a request takes."""
        for group in self._fitting(asked):
            for policy in group:
                if policy.policy.spec.seats is not None:
                    return policy.policy.spec.seats
        return Seats.TENANTS

    def _fitting(self, asked: Asked) -> list[list[_Policy]]:
        """Return the policies that fit, the closest first; those that fit equally closely together."""
        groups: dict[_Closeness, list[_Policy]] = {}
        for policy in self._policies:
            closeness = policy.closeness(asked)
            if closeness is not None:
                groups.setdefault(closeness, []).append(policy)
        return [groups[closeness] for closeness in sorted(groups, reverse=True)]

    def _choose(self, per: Per, route: RouteClass, fitting: Iterable[list[_Policy]]) -> Rule | None:
        for group in fitting:
            rule = _lowest((pair for policy in group for pair in policy.rules), per, route)
            if rule is not None:
                return rule
        return None

    def _default(self, per: Per, asked: Asked) -> Rule | None:
        if per is Per.ADDRESS:
            return _lowest(self._everybody, per, asked.route)
        if asked.sender is None:
            return None
        return _lowest(self._hosts if asked.sender.kind == "Host" else self._tenants, per, asked.route)

    def _build_in(self, limits: Iterable[RateLimit]) -> list[tuple[RateLimit, Rule]]:
        return [(x, Rule(("", x.name), "", x.per, x.requests_per_minute, x.burst, self.parts)) for x in limits]

    def _build_meter(self, limit: defaults.ByteLimit) -> Rule:
        return Rule(("", limit.name), "", Per.SUBJECT, limit.kib_per_minute, limit.kib_at_once, self.parts)

    def _read(self) -> None:
        table = self._table
        self._objects, self._revision = table.objects, table.revision
        before, self._rules, self._policies = self._rules, {}, []
        for row, entry in table.objects.items():
            try:
                policy = RateLimitPolicy.from_wire(entry.json)
            except ValidationError:
                logger.exception("a rate limit policy cannot be read, it limits nothing", row=row)
                continue
            rules = [(limit, self._rule(policy, limit, before)) for limit in policy.spec.limits]
            self._policies.append(_Policy(policy, _ref_of(policy.spec.subject), rules))
        self.version += 1

    def _rule(self, policy: RateLimitPolicy, limit: RateLimit, before: dict[RuleId, Rule]) -> Rule:
        """Return the limit's rule: the same as before when only its numbers changed, so that buckets stay."""
        key = (policy.uid, limit.name)
        rule = before.get(key)
        if rule is not None and rule.per is limit.per:
            rule.change(limit.requests_per_minute, limit.burst, self.parts)
        else:
            numbers = (limit.requests_per_minute, limit.burst)
            rule = Rule(key, policy.metadata.name, limit.per, *numbers, self.parts)
        self._rules[key] = rule
        return rule


def _lowest(pairs: Iterable[tuple[RateLimit, Rule]], per: Per, route: RouteClass) -> Rule | None:
    """Return the lowest of the limits for the class, of those that name it if any does."""
    fitting = [(x, rule) for x, rule in pairs if x.per is per and (not x.routes or route in x.routes)]
    named = [rule for x, rule in fitting if x.routes]
    return min(named or [rule for _, rule in fitting], key=lambda r: r.per_minute, default=None)


def _ref_of(sender: Sender | None) -> Ref | None:
    if sender is None:
        return None
    return Ref(sender.kind.value, sender.project if sender.kind is SenderKind.SERVICE_ACCOUNT else None, sender.name)
