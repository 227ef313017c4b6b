"""Why an object is not ready: follows conditions and connections down to what really holds it up."""

from collections.abc import Mapping
from typing import Any

from vcstack.apiclient.explainmessages import WhyFinding
from vcstack.apiserver.related import Named, Readable, find_all_named, find_events, find_owned, iter_named, project_in
from vcstack.specs.columns import find_value
from vcstack.specs.conditions import format_condition
from vcstack.specs.kinds.gitsource import HEALTHY
from vcstack.specs.kinds.host import OUT_OF_SERVICE, Host
from vcstack.specs.kinds.instance import UP_TO_DATE
from vcstack.specs.registry import KindDefinition, get_kind

Wire = Mapping[str, Any]
DEPTH = 6
"""A chain is never longer: instance, port, subnet, network, project."""

WARNINGS_SHOWN = 2
BESIDES_READY = (UP_TO_DATE, HEALTHY)
"""Conditions that Ready does not go by, and that are told where they are False."""
ADVICE = {
    "Unschedulable": "Make room (vcctl uncordon HOST, add a host, delete or shrink instances), take a smaller flavor, "
    "or make it anew with another spec.placement. vcctl get hosts -o wide shows the hosts.",
}
"""What to do about reasons whose messages tell only what is so."""


class Investigation:
    """Looks at each object once."""

    def __init__(self, readable: Readable) -> None:
        self._readable = readable
        self._seen: set[str] = set()

    async def examine(self, definition: KindDefinition, wire: Wire, *, path: str = "", depth: int = 0) -> WhyFinding:
        """Return what is wrong with the object, with what is wrong below it."""
        self._seen.add(wire["metadata"].get("uid", ""))
        finding = judge(definition, wire)
        finding.path = path
        if finding.healthy or depth >= DEPTH:
            return finding
        events = await find_events(self._readable, wire)
        named = await find_all_named(self._readable, wire, iter_named(definition, wire))
        owned = await find_owned(self._readable, wire)
        warnings = [e["spec"] for e in events if e["spec"]["type"] == "Warning"][-WARNINGS_SHOWN:]
        finding.warnings = [f"{w['reason']}: {w['message']}" for w in warnings if w["message"] not in finding.sentence]
        for below_it in (*named, *owned):
            below = await self._follow(below_it, project_in(wire), depth)
            if below is not None and not below.healthy:
                finding.because.append(below)
        return finding

    async def _follow(self, named: Named, home: str | None, depth: int) -> WhyFinding | None:
        if named.wire is None:
            missing = named.link(home)
            return WhyFinding(
                kind=missing.kind,
                project=missing.project,
                name=missing.name,
                sentence="does not exist",
                healthy=False,
                path=named.path,
                advice=f"Create the {named.kind} {named.name}, or name another one in {named.path}.",
            )
        if named.wire["metadata"].get("uid") in self._seen:
            return None
        return await self.examine(get_kind(named.kind), named.wire, path=named.path, depth=depth + 1)


def judge(definition: KindDefinition, wire: Wire) -> WhyFinding:
    """Return what the object itself says: the first of its conditions that is not True."""
    meta = wire["metadata"]

    def found(sentence: str, *, healthy: bool = False, advice: str = "") -> WhyFinding:
        return WhyFinding(
            kind=definition.kind,
            project=meta.get("project"),
            name=meta["name"],
            sentence=sentence,
            healthy=healthy,
            advice=advice,
        )

    if meta.get("deletionTimestamp"):
        sentence, advice = _judge_deletion(wire)
        return found(sentence, advice=advice)
    generation = meta.get("generation", 0)
    for type_ in definition.ready_when:
        condition = find_value(wire, f"status.conditions[{type_}]")
        if condition is None:
            return found(f"{type_} has not been observed yet", advice=_advise_unobserved(wire))
        if condition["status"] != "True":
            return found(format_condition(condition), advice=_advise(definition, wire, condition))
    for type_ in definition.ready_when:
        condition = find_value(wire, f"status.conditions[{type_}]")
        if condition.get("observedGeneration", 0) < generation:
            sentence = f"{type_} has not been observed yet for the newest change (generation {generation})"
            return found(sentence, advice=_advise_unobserved(wire))
    for type_ in BESIDES_READY:
        condition = find_value(wire, f"status.conditions[{type_}]")
        if condition is not None and condition["status"] == "False":
            return found(f"is Ready, but {format_condition(condition)}", healthy=True)
    return found("is Ready" if definition.ready_when else "exists; its kind has no conditions", healthy=True)


def _judge_deletion(wire: Wire) -> tuple[str, str]:
    """Return what is so and what to do."""
    held = find_value(wire, "status.conditions[Deletable]")
    finalizers = ", ".join(wire["metadata"].get("finalizers") or [])
    if held is not None and held["status"] == "False":
        return f"is being deleted; {format_condition(held)}", str(held.get("message", ""))
    advice = f"Whoever is responsible for {finalizers} has not finished cleaning up: " + _advise_unobserved(wire)
    return f"is being deleted and waits for {finalizers or 'the store'}", advice


def _advise(definition: KindDefinition, wire: Wire, condition: Wire) -> str:
    message = condition.get("message") or ""
    if definition.kind == Host.KIND and condition.get("reason") == OUT_OF_SERVICE:
        host = wire["metadata"]["name"]
        return (
            f"Delete the instances bound to it, then it: vcctl get instances -A --field-selector status.host={host}; "
            f"vcctl delete host {host}. If the machine is to come back: "
            f"vcctl patch host {host} --patch 'spec: {{outOfService: false}}'"
        )
    if definition.kind == Host.KIND:
        host = wire["metadata"]["name"]
        return (message + " " if message else "") + (
            f"Look at the agent of {host}: is vc-compute running there, and can it reach the API? "
            f"(local cloud: make logs PART={host}/vc-compute)"
        )
    return (
        ADVICE.get(condition.get("reason", ""))
        or message
        or f"See the events: vcctl events {definition.singular}/{wire['metadata']['name']}"
    )


def _advise_unobserved(wire: Wire) -> str:
    host = find_value(wire, "status.host")
    if host:
        return f"The agent of host {host} or vc-management has not come to it yet; see vcctl why host {host}."
    return "vc-management has not come to it yet; if that lasts, look at its log (local cloud: make logs)."
