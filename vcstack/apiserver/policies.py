"""Holds what people write to the policies in force, in the very write that it is validated by.

Which policies concern a kind is kept from the cached objects, so a write that none concerns costs a look into a
table. Policies themselves are held to none: whoever may write one can always repair or remove it. Instead their
expressions are looked at.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final

import orjson
import structlog
from pydantic import ValidationError
from starlette.responses import Response

from vcstack.apiserver.identity import Identity, Role
from vcstack.policy.evaluation import NO_LABELS, Breach, CompiledPolicy, Site, show_object
from vcstack.policy.sandbox import Evaluating
from vcstack.specs.errors import ApiError, Cause, ErrorDetails, PolicyDenied
from vcstack.specs.kinds.policy import Action, Policy, governable
from vcstack.specs.kinds.project import Project
from vcstack.specs.registry import definition_of, no_warnings
from vcstack.specs.resource import AnyResource
from vcstack.store.cache import WatchCache
from vcstack.store.keys import row_of
from vcstack.store.table import Entry
from vcstack.store.validation import build_cause, refuse

Wire = Mapping[str, Any]
WARNINGS_LIMIT: Final = 16
"""Warnings of one answer."""
WARNING_CHARACTERS: Final = 512
_PEOPLE: Final = frozenset({Role.ADMIN, Role.USER, Role.SERVICE_ACCOUNT})

log = structlog.get_logger(__name__)


class Policies:
    """The policies in force; each is made ready once a version."""

    def __init__(self, cache: WatchCache, evaluating: Evaluating) -> None:
        self.evaluating = evaluating
        self._cache = cache
        self._table = cache.table(definition_of(Policy))
        self._seen: tuple[object, int] = (None, -1)
        self._compiled: dict[str, tuple[Entry, CompiledPolicy | None]] = {}
        self._concerning: dict[tuple[str, str], Sequence[CompiledPolicy]] = {}

    def admission_of(self, identity: Identity) -> "Admission | None":
        """Return what holds the caller's writes to policies; None for hosts, which are parts of the cloud."""
        return Admission(self, identity) if identity.role in _PEOPLE else None

    def concerning(self, kind: str, verb: str) -> Sequence[CompiledPolicy]:
        """Return the policies that may concern such a write."""
        if self._seen[1] != self._table.revision or self._seen[0] is not self._table.objects:
            self._read()
        if not self._compiled:
            return ()
        found = self._concerning.get((kind, verb))
        if found is None:
            found = [p for _, p in self._compiled.values() if p is not None and p.concerns(kind, verb)]
            self._concerning[kind, verb] = found
        return found

    def site_of(self, resource: AnyResource) -> Site:
        """Return where an object lies."""
        wire = {"metadata": {"project": resource.metadata.project}, "spec": resource.spec.to_wire()}
        level = self._cache.limits.level_of(definition_of(resource), wire)
        domains = [step for step in level.split("/")[1:] if not step.startswith("@")]
        project = resource.metadata.project
        entry = self._cache.find(definition_of(Project), row_of(None, project)) if project else None
        labels = orjson.loads(entry.json)["metadata"].get("labels") or NO_LABELS if entry else NO_LABELS
        return Site(project, domains, labels)

    def _read(self) -> None:
        self._seen = (self._table.objects, self._table.revision)
        before, self._compiled, self._concerning = self._compiled, {}, {}
        for row, entry in self._table.objects.items():
            known = before.get(row)
            self._compiled[row] = known if known is not None and known[0] is entry else (entry, _compile(row, entry))


class Admission:
    """Holds the writes of one request; implements the store's ``Review``."""

    def __init__(self, policies: Policies, identity: Identity) -> None:
        self._policies = policies
        self._subject = identity.subject
        # Reading what one tenant writes must not keep others waiting; whoever repairs the cloud need not wait himself.
        self._writer = "" if identity.role is Role.ADMIN else f"writer {identity.subject}"
        self._warnings: list[str] = []
        self._dangers: Sequence[str] = ()
        """What the kind itself warns of."""

    def __call__(self, verb: str, new: AnyResource, live: Wire | None) -> Awaitable[None] | None:
        """Return what the write has to pass before it is done; None: nothing."""
        kind, definition = new.KIND, definition_of(new)
        if definition.warns is not no_warnings and verb != "delete":
            self._dangers = definition.warns(new, definition.model.from_wire(live) if live is not None else None)
        if isinstance(new, Policy):
            return None if verb == "delete" else self._look_at(new)
        concerning = self._policies.concerning(kind, verb)
        if not concerning or not governable(definition):
            return None
        site = self._policies.site_of(new)
        selecting = [p for p in concerning if p.action is not Action.AUDIT and p.selects(new.metadata.labels, site)]
        return self._hold(selecting, verb, new, live, site.customer) if selecting else None

    @property
    def warnings(self) -> Sequence[str]:
        """Return what the caller is warned of."""
        return [*self._dangers, *self._warnings][:WARNINGS_LIMIT]

    def with_warnings(self, response: Response) -> Response:
        """Return the answer with what the caller is warned of."""
        for warning in self.warnings:
            text = warning.encode("ascii", "backslashreplace").decode()[:WARNING_CHARACTERS]
            quoted = "".join(c if c.isprintable() else " " for c in text).replace("\\", "\\\\").replace('"', '\\"')
            response.headers.append("warning", f'299 - "{quoted}"')
        return response

    async def _hold(
        self, policies: Sequence[CompiledPolicy], verb: str, new: AnyResource, live: Wire | None, customer: str
    ) -> None:
        """Evaluate the policies on the write.

        Raises:
            PolicyDenied: one that denies is broken; the causes name them all.
            Unavailable: nothing can be evaluated now.
        """
        self._warnings.clear()  # of a write that begins anew
        definition, project = definition_of(new), new.metadata.project
        shown = show_object(new)
        old = show_object(definition.model.from_wire(live)) if live is not None else None
        request = {"verb": verb, "subject": self._subject, "project": project or ""}
        whose = f"project {project}" if project else self._subject
        causes: list[Cause] = []
        for policy in policies:
            breaches = await policy.find_breaches(
                self._policies.evaluating, shown, old, request, whose=whose, customer=customer
            )
            if policy.action is Action.DENY:
                causes += [build_cause(b.field, "PolicyDenied", _describe(policy, b)) for b in breaches]
            else:
                self._warnings += [f"{definition.kind} {new.metadata.name}: {_describe(policy, b)}" for b in breaches]
        if causes:
            details = ErrorDetails(kind=definition.kind, project=project or "", name=new.metadata.name)
            more = f" (and {len(causes) - 1} more)" if len(causes) > 1 else ""
            message = f"{definition.kind} {new.metadata.name} is denied: {causes[0].message}{more}"
            raise PolicyDenied(message, causes=causes, details=details)

    async def _look_at(self, policy: Policy) -> None:
        """Look whether a policy's own expressions can be read.

        Raises:
            Invalid: not all can.
            Unavailable: it cannot be looked at now, or this writer's have taken too much time of late.
        """
        compiled = CompiledPolicy(policy)
        if not compiled.texts:
            return
        outcomes = await self._policies.evaluating.compile(compiled.texts, self._writer)
        for_labels = len(outcomes) - len(policy.spec.rules)
        causes = [
            build_cause(f"spec.rules[{n}].expression", "FieldValueInvalid", outcome.error)
            for n, outcome in enumerate(outcomes[for_labels:])
            if outcome.error
        ]
        patterns = [n for n, label in enumerate(policy.spec.require_labels) if label.value_pattern is not None]
        tried = await self._try_patterns(compiled, for_labels)
        causes += [
            build_cause(f"spec.requireLabels[{n}].valuePattern", "FieldValueInvalid", error)
            for n, error in zip(patterns, tried, strict=True)
            if error
        ]
        if causes:
            raise refuse(definition_of(policy), policy.metadata.project, policy.metadata.name, causes)

    async def _try_patterns(self, compiled: CompiledPolicy, count: int) -> Sequence[str]:
        """Return what is wrong with each regular expression, which only shows when it is used."""
        if not count:
            return ()
        keys = compiled.label_keys
        sample = {"metadata": {"labels": dict.fromkeys(keys, "")}}
        outcomes = await self._policies.evaluating.evaluate(
            compiled.texts[:count], sample, None, {}, self._writer, self._writer
        )
        return [outcome.error for outcome in outcomes]


def _describe(policy: CompiledPolicy, breach: Breach) -> str:
    return f"{policy}, {breach.rule}: {breach.message}"


def _compile(row: str, entry: Entry) -> CompiledPolicy | None:
    try:
        policy = Policy.from_wire(entry.json)
    except (ValidationError, ApiError):
        # Of another release, whose writer it was accepted from: its report says so.
        log.exception("policy.unreadable", row=row)
        return None
    return None if policy.deleting else CompiledPolicy(policy)
