"""What a policy concerns, and what it says of an object. The same for a write and for what exists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from vcstack.policy.sandbox import TOO_OFTEN, Evaluating
from vcstack.specs.errors import Unavailable
from vcstack.specs.kinds.policy import Action, FailurePolicy, Policy, PolicySpec, RequiredLabel
from vcstack.specs.permissions import ANY
from vcstack.specs.resource import AnyResource
from vcstack.specs.selectors import LabelSelector, parse_label_selector
from vcstack.specs.sensitive import HIDDEN, change_sensitive, has_sensitive

Wire = Mapping[str, Any]
NO_LABELS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Site:
    """Where an object lies, as far as policies ask."""

    project: str | None
    domains: Sequence[str]
    """The domains that it lies in, the outermost first."""
    project_labels: Mapping[str, str]
    """Of its project."""

    @property
    def customer(self) -> str:
        """Return the outermost domain that it lies in; empty: none."""
        return self.domains[0] if self.domains else ""


@dataclass(frozen=True, slots=True)
class Breach:
    """One rule that an object breaks."""

    rule: str
    """Its name, or the label that is required."""
    message: str
    field: str = "spec"
    """What to blame."""


@dataclass(frozen=True, slots=True)
class _Check:
    """One expression that has to be true."""

    name: str
    text: str
    message: str
    field: str = "spec"


class CompiledPolicy:
    """A policy, made ready once for each version of it."""

    def __init__(self, policy: Policy) -> None:
        spec, meta = policy.spec, policy.metadata
        self.name = meta.name
        self.project = meta.project
        self.domain = spec.domain
        self.action: Action = spec.action
        self.kinds = frozenset(spec.matches.kinds)
        self.verbs = frozenset(verb.value for verb in spec.matches.verbs)
        self._domains = frozenset(spec.matches.domains)
        self._labels = _selector(spec.matches.label_selector)
        self._projects = _selector(spec.matches.project_selector)
        self._ignores_errors = spec.failure_policy is FailurePolicy.IGNORE
        self._keys = tuple(each.key for each in spec.require_labels)
        # Those of the cloud are its administrator's; the others' writers must not keep each other waiting.
        self._payer = f"project {meta.project}" if meta.project else f"domain {spec.domain}" if spec.domain else ""
        self._checks = (*_label_checks(spec), *(_Check(r.name, r.expression, r.message) for r in spec.rules))

    @property
    def texts(self) -> list[str]:
        """Return its expressions: first those of its labels' patterns, then its rules'."""
        return [check.text for check in self._checks]

    @property
    def label_keys(self) -> Sequence[str]:
        """Return the labels that it requires."""
        return self._keys

    def __str__(self) -> str:
        place = f"project {self.project}" if self.project else f"domain {self.domain}" if self.domain else "the cloud"
        return f"policy {self.name} of {place}"

    def concerns(self, kind: str, verb: str) -> bool:
        """Return whether it may concern such writes."""
        return verb in self.verbs and (kind in self.kinds or ANY in self.kinds)

    def selects(self, labels: Mapping[str, str], site: Site) -> bool:
        """Return whether it concerns an object that lies there and has these labels."""
        if self.project is not None and site.project != self.project:
            return False
        if self.domain is not None and self.domain not in site.domains:
            return False
        if self._domains and self._domains.isdisjoint(site.domains):
            return False
        if self._projects is not None and (site.project is None or not self._projects.matches(site.project_labels)):
            return False
        return self._labels is None or self._labels.matches(labels)

    async def find_breaches(
        self,
        evaluating: Evaluating,
        obj: Wire,
        old: Wire | None,
        request: Mapping[str, str],
        *,
        whose: str = "",
        customer: str = "",
        can_wait: bool = False,
    ) -> Sequence[Breach]:
        """Return the rules that the object breaks.

        ``whose`` and ``customer`` (of its site) as of ``Evaluating.evaluate``.
        ``can_wait``: what is not evaluated because its payer's took too much time of late is no error of the rule's,
        but found out later.

        Raises:
            Unavailable: nothing can be evaluated now.
        """
        labels = obj["metadata"].get("labels") or NO_LABELS
        breaches = [_missing(key) for key in self._keys if not labels.get(key)]
        checks = [c for c in self._checks if not any(c.name == b.rule for b in breaches)]
        if not checks:
            return breaches
        texts, payers = [c.text for c in checks], (self._payer, whose, f"customer {customer}" if customer else "")
        outcomes = await evaluating.evaluate(texts, obj, old, request, *payers)
        if can_wait and any(outcome.error == TOO_OFTEN for outcome in outcomes):
            raise Unavailable(TOO_OFTEN)
        for check, outcome in zip(checks, outcomes, strict=True):
            if outcome.error:
                if not self._ignores_errors:
                    breaches.append(Breach(check.name, f"cannot be evaluated: {outcome.error}", check.field))
            elif not outcome.value:
                breaches.append(Breach(check.name, check.message or f"is not so: {check.text}", check.field))
        return breaches


def show_object(resource: AnyResource) -> dict[str, Any]:
    """Return the object as expressions see it: with defaults, without secret values and the book-keeping of writers."""
    wire = resource.model_dump(mode="json", by_alias=True, exclude_none=True)
    wire["metadata"].pop("managedFields", None)
    if has_sensitive(type(resource)):
        wire = change_sensitive(type(resource), wire, lambda path, value, marker, other: HIDDEN)
    return wire


def _selector(text: str) -> LabelSelector | None:
    return parse_label_selector(text) or None


def _missing(key: str) -> Breach:
    return Breach(f"label {key}", f"the label {key} is required", f"metadata.labels.{key}")


def _label_checks(spec: PolicySpec) -> Sequence[_Check]:
    return [_label_check(each) for each in spec.require_labels if each.value_pattern is not None]


def _label_check(label: RequiredLabel) -> _Check:
    """Return the check of a label's value, which is there: RE2 takes time in proportion to the text only."""
    key, pattern = _literal(label.key), _literal(f"^(?:{label.value_pattern})$")
    text = f"object.metadata.labels[{key}].matches({pattern})"
    message = f"the label {label.key} must match {label.value_pattern}"
    return _Check(f"label {label.key}", text, message, f"metadata.labels.{label.key}")


def _literal(text: str) -> str:
    """Return the text as CEL has it, whose escapes are JSON's."""
    return orjson.dumps(text).decode()
