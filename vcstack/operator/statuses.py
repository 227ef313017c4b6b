"""What a custom resource's status says, as kstatus, Argo CD and Flux read it. Pure.

Ready is VC Stack's own, mirrored with all other conditions and fields. Reconciling is True while something is on its
way, Stalled is True when somebody has to act; both are False when all is well. ``observedGeneration`` is the custom
resource's generation that all of this is about.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from vcstack.operator.kubernetes import Key
from vcstack.operator.manifests import recorded_place
from vcstack.specs.conditions import READY
from vcstack.specs.meta import format_time

RECONCILING, STALLED = "Reconciling", "Stalled"
OWN = (READY, RECONCILING, STALLED)
UNSEEN = ("Observing", "VC Stack has the object; nothing of it has been observed yet.")
Wire = dict[str, Any]


class State(StrEnum):
    """How far the operator came."""

    APPLIED = "Applied"
    """VC Stack has been told, and its status counts."""
    WAITING = "Waiting"
    """Something else has to happen first, by itself."""
    STALLED = "Stalled"
    """Somebody has to act."""
    AWAY = "Away"
    """VC Stack cannot be asked; what was observed before is kept."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt."""

    state: State
    reason: str = "Applied"
    message: str = ""


def build_status(
    key: Key, resource: Mapping[str, Any], live: Mapping[str, Any] | None, outcome: Outcome, *, name: str, now: datetime
) -> Wire:
    """Return the status of a custom resource whose object in VC Stack is ``live``."""
    before = resource.get("status") or {}
    generation = resource["metadata"].get("generation", 0)
    builder = _Conditions(before, generation, now)
    away = outcome.state is State.AWAY
    if away and live is None:
        status = {k: v for k, v in before.items() if k != "conditions"}
        mirrored = [c for c in before.get("conditions") or () if c["type"] not in OWN]
    else:
        observed = (live or {}).get("status") or {}
        status = {k: v for k, v in observed.items() if k not in ("conditions", "observedGeneration")}
        mirrored = [builder.mirror(c, live or {}) for c in observed.get("conditions") or () if c["type"] not in OWN]
        status["observedGeneration"] = before.get("observedGeneration", 0) if away else generation
        if live is not None:
            status["vcstack"] = _place(key, live, name)
        elif recorded_place(resource):
            status["vcstack"] = dict(recorded_place(resource))
    status["conditions"] = [*builder.own(live, outcome), *mirrored]
    return status


def find_condition(resource: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    """Return a condition of a wire object; empty when there is none."""
    conditions = (resource.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == type_), {})


def _place(key: Key, live: Mapping[str, Any], name: str) -> Wire:
    project = live["metadata"].get("project")
    place = {"project": project} if project else {}
    return {**place, "name": key.name, "uid": live["metadata"]["uid"], "fieldManager": name}


class _Conditions:
    """Builds conditions that keep the times of what did not change."""

    def __init__(self, before: Mapping[str, Any], generation: int, now: datetime) -> None:
        self._before = {c["type"]: c for c in before.get("conditions") or ()}
        self._generation = generation
        self._now = format_time(now.replace(microsecond=0))

    def own(self, live: Mapping[str, Any] | None, outcome: Outcome) -> list[Wire]:
        """Return Ready, Reconciling and Stalled."""
        theirs = find_condition(live or {}, READY)
        settled = outcome.state is State.APPLIED
        unready = settled and (not theirs or theirs["status"] != "True" or not _is_current(theirs, live or {}))
        # Some kinds, such as GitSource, say themselves that nothing goes on without somebody.
        held = find_condition(live or {}, STALLED) if unready else {}
        stuck = held.get("status") == "True" and _is_current(held, live or {})
        reason, message = outcome.reason, outcome.message
        if unready:
            reason, message = (theirs.get("reason") or "Observing", theirs.get("message") or "") if theirs else UNSEEN
        working = (unready and not stuck) or outcome.state in (State.WAITING, State.AWAY)
        stalled = stuck or outcome.state is State.STALLED
        return [
            self._ready(theirs, live or {}, outcome),
            self._build(RECONCILING, working, reason if working else "Settled", message if working else ""),
            self._build(STALLED, stalled, reason if stalled else "Progressing" if working else "Settled",
                        message if stalled else ""),
        ]  # fmt: skip

    def mirror(self, condition: Mapping[str, Any], live: Mapping[str, Any]) -> Wire:
        """Return a condition of VC Stack's with the custom resource's generation."""
        before = self._before.get(condition["type"], {})
        generation = self._generation if _is_current(condition, live) else before.get("observedGeneration", 0)
        return {
            "type": condition["type"],
            "status": condition["status"],
            "reason": condition.get("reason") or "Observed",
            "message": condition.get("message") or "",
            "lastTransitionTime": condition["lastTransitionTime"],
            "observedGeneration": generation,
        }

    def _ready(self, theirs: Mapping[str, Any], live: Mapping[str, Any], outcome: Outcome) -> Wire:
        if outcome.state is State.APPLIED:
            return self.mirror(theirs, live) if theirs else self._build(READY, False, *UNSEEN)
        if outcome.state is State.AWAY and READY in self._before:
            return dict(self._before[READY])
        return self._build(READY, False, outcome.reason, outcome.message)

    def _build(self, type_: str, true: bool, reason: str, message: str) -> Wire:
        before = self._before.get(type_, {})
        status = "True" if true else "False"
        return {
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": before["lastTransitionTime"] if before.get("status") == status else self._now,
            "observedGeneration": self._generation,
        }


def _is_current(condition: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    return bool(condition.get("observedGeneration", 0) >= live["metadata"].get("generation", 0))
