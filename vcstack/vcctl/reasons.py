"""Why an object is not ready: follows conditions and connections down to what really holds it up."""

import asyncio
from dataclasses import dataclass, field

from vcstack.specs.columns import find_value
from vcstack.specs.conditions import READY
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.related import Link, find_all_linked, find_events, find_owned, iter_links
from vcstack.vcctl.session import Session
from vcstack.vcctl.waiting import format_condition

DEPTH = 6
"""A chain is never longer: instance, port, subnet, network, project."""

WARNINGS_SHOWN = 2
ADVICE = {
    "Unschedulable": "Make room (vcctl uncordon HOST, add a host, delete or shrink instances), take a smaller flavor, "
    "or make it anew with another spec.placement. vcctl get hosts -o wide shows the hosts.",
}
"""What to do about reasons whose messages tell only what is so."""


@dataclass(slots=True)
class Finding:
    """One object on the way down."""

    label: str
    sentence: str
    """What is wrong with it, or that nothing is."""
    healthy: bool
    advice: str = ""
    """What to do when this is the end of the chain."""
    path: str = ""
    """The field that led here."""
    warnings: list[str] = field(default_factory=list)
    """The last warning events."""
    because: list["Finding"] = field(default_factory=list)

    def causes(self) -> list["Finding"]:
        """Return the ends of the chain: what is wrong and has nothing wrong below it."""
        if self.healthy:
            return []
        below = [cause for finding in self.because for cause in finding.causes()]
        return below or [self]


class Investigation:
    """Looks at each object once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: set[str] = set()

    async def examine(self, definition: KindDefinition, wire: Wire, *, path: str = "", depth: int = 0) -> Finding:
        """Return what is wrong with the object, with what is wrong below it."""
        self._seen.add(wire["metadata"].get("uid", ""))
        finding = judge(definition, wire)
        finding.path = path
        if finding.healthy or depth >= DEPTH:
            return finding
        events, named, owned = await asyncio.gather(
            find_events(self._session, wire),
            find_all_linked(self._session, wire, iter_links(definition, wire)),
            find_owned(self._session, wire),
        )
        warnings = [e["spec"] for e in events if e["spec"]["type"] == "Warning"][-WARNINGS_SHOWN:]
        finding.warnings = [f"{w['reason']}: {w['message']}" for w in warnings if w["message"] not in finding.sentence]
        for link in (*named, *owned):
            below = await self._follow(link, depth)
            if below is not None and not below.healthy:
                finding.because.append(below)
        return finding

    async def _follow(self, link: Link, depth: int) -> Finding | None:
        if link.wire is None:
            definition = get_kind(link.kind)
            return Finding(
                str(link),
                "does not exist",
                healthy=False,
                path=link.path,
                advice=f"Create the {definition.kind} {link.name}, or name another one in {link.path}.",
            )
        if link.wire["metadata"].get("uid") in self._seen:
            return None
        return await self.examine(get_kind(link.kind), link.wire, path=link.path, depth=depth + 1)


def judge(definition: KindDefinition, wire: Wire) -> Finding:
    """Return what the object itself says: the first of its conditions that is not True."""
    label = f"{definition.singular}/{wire['metadata']['name']}"
    meta = wire["metadata"]
    if meta.get("deletionTimestamp"):
        return _judge_deletion(label, wire)
    generation = meta.get("generation", 0)
    for type_ in definition.ready_when:
        condition = find_value(wire, f"status.conditions[{type_}]")
        if condition is None:
            return Finding(label, f"{type_} has not been observed yet", False, advice=_advise_unobserved(wire))
        if condition["status"] != "True":
            return Finding(label, format_condition(condition), False, advice=_advise(definition, wire, condition))
    for type_ in definition.ready_when:
        condition = find_value(wire, f"status.conditions[{type_}]")
        if condition.get("observedGeneration", 0) < generation:
            sentence = f"{type_} has not been observed yet for the newest change (generation {generation})"
            return Finding(label, sentence, False, advice=_advise_unobserved(wire))
    pending = find_value(wire, "status.conditions[UpToDate]")
    if pending is not None and pending["status"] == "False":
        return Finding(label, f"is Ready, but {format_condition(pending)}", True)
    return Finding(label, "is Ready" if definition.ready_when else "exists; its kind has no conditions", True)


def _judge_deletion(label: str, wire: Wire) -> Finding:
    held = find_value(wire, "status.conditions[Deletable]")
    finalizers = ", ".join(wire["metadata"].get("finalizers") or [])
    if held is not None and held["status"] == "False":
        return Finding(label, f"is being deleted; {format_condition(held)}", False, advice=held.get("message", ""))
    advice = f"Whoever is responsible for {finalizers} has not finished cleaning up: " + _advise_unobserved(wire)
    return Finding(label, f"is being deleted and waits for {finalizers or 'the store'}", False, advice=advice)


def _advise(definition: KindDefinition, wire: Wire, condition: Wire) -> str:
    message = condition.get("message") or ""
    if definition.kind == "Host":
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


def is_ready(wire: Wire) -> bool:
    """Return whether Ready is True."""
    return bool(find_value(wire, f"status.conditions[{READY}].status") == "True")
