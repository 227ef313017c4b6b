"""describe: all there is to know of an object, for people."""

from collections.abc import Sequence

from rich.markup import escape

from vcstack.apiclient.explainmessages import LINKS_SHOWN, Link, Links, RelatedReply
from vcstack.applying.sets import project_in
from vcstack.specs.columns import find_value, format_age
from vcstack.specs.conditions import READY
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import READ, Targets
from vcstack.vcctl.harmless import one_line
from vcstack.vcctl.printing import Table, to_yaml, write
from vcstack.vcctl.reading import Wire, get_object, list_objects, places_of
from vcstack.vcctl.selection import parse_selections
from vcstack.vcctl.session import Session

EVENTS_SHOWN = 20


@command(
    "describe",
    panel=READ,
    examples="""
    vcctl describe instance web-1
    vcctl describe host/h1 network/web
    """,
)
async def describe(session: Session, targets: Targets) -> None:
    """Show an object with its conditions, events, owners, what it refers to and who refers to it."""
    objects: list[tuple[KindDefinition, Wire]] = []
    for selection in parse_selections(targets):
        definition = selection.definition
        if selection.name:
            found = [await get_object(session, definition, selection.name)]
        else:
            found = await list_objects(session, places_of(session, definition, everywhere=False))
        objects += [(definition, wire) for wire in found]
    if not objects:
        session.err.print("Nothing found.")
    for index, (definition, wire) in enumerate(objects):
        if index:
            write(session.out, "\n" + "─" * 40)
        _print_object(session, definition, wire, await _find_related(session, definition, wire))


async def _find_related(session: Session, definition: KindDefinition, wire: Wire) -> RelatedReply:
    return await session.client.related(definition, wire["metadata"]["name"], project=project_in(wire))


def _print_object(session: Session, definition: KindDefinition, wire: Wire, related: RelatedReply) -> None:
    _print_head(session, wire)
    _section(session, "Spec")
    _block(session, wire.get("spec") or {})
    status = {k: v for k, v in (wire.get("status") or {}).items() if k not in ("conditions", "observedGeneration")}
    if status:
        _section(session, "Status")
        _block(session, status)
    if definition.ready_when:
        _print_conditions(session, wire)
    project = project_in(wire)
    _print_links(session, "Owned by", related.owners, project)
    _print_groups(session, "Owns", related.owned, project)
    _print_links(session, "Refers to", related.references, project)
    _print_groups(session, "Used by", related.users, project)
    _print_events(session, related.events)


def _print_head(session: Session, wire: Wire) -> None:
    meta = wire["metadata"]
    now = session.clock.now()
    created = meta.get("creationTimestamp", "")
    rows = [
        ("Kind", wire["kind"]),
        ("Project", meta.get("project", "")),
        ("Name", meta["name"]),
        ("UID", meta.get("uid", "")),
        ("Created", f"{created} ({format_age(created, now)} ago)" if created else ""),
        ("Generation", f"{meta.get('generation', 0)} (observed: {find_value(wire, 'status.observedGeneration') or 0})"),
        ("Labels", ", ".join(f"{k}={v}" for k, v in (meta.get("labels") or {}).items())),
        ("Annotations", ", ".join(f"{k}={v}" for k, v in (meta.get("annotations") or {}).items())),
        ("Finalizers", ", ".join(meta.get("finalizers") or [])),
        ("Deleting", f"since {format_age(meta.get('deletionTimestamp', ''), now)}" if deleting(wire) else ""),
    ]
    for label, text in rows:
        if text:
            session.out.print(f"[bold]{label + ':':12}[/] {escape(one_line(text))}", soft_wrap=True)


def deleting(wire: Wire) -> bool:
    """Return whether the object's deletion was asked for."""
    return bool(wire["metadata"].get("deletionTimestamp"))


def _section(session: Session, title: str) -> None:
    session.out.print(f"\n[bold]{title}:[/]")


def _block(session: Session, value: object) -> None:
    for line in to_yaml(value).rstrip("\n").splitlines() if value else ["(nothing)"]:
        write(session.out, f"  {line}")


def _print_conditions(session: Session, wire: Wire) -> None:
    _section(session, "Conditions")
    table = Table(["  TYPE", "STATUS", "AGE", "REASON", "MESSAGE"])
    for c in sorted(find_value(wire, "status.conditions") or [], key=lambda c: c["type"] != READY):
        age = format_age(c.get("lastTransitionTime", ""), session.clock.now())
        # Ready is derived: it is of the generation that all it sums up were observed for, at first of none.
        stale = 0 < c.get("observedGeneration", 0) < wire["metadata"].get("generation", 0)
        message = c.get("message", "") + (" (of an older generation)" if stale else "")
        table.add([f"  {c['type']}", c["status"], age, c.get("reason", ""), message])
    table.print(session.out)


def _print_groups(session: Session, title: str, groups: Sequence[Links], project: str | None) -> None:
    _print_links(session, title, [link for group in groups for link in group.links], project)
    more = sorted({get_kind(group.kind).plural for group in groups if group.more})
    if more:
        write(session.out, f"  (and more {', '.join(more)}; the first {LINKS_SHOWN} are shown)")


def _print_links(session: Session, title: str, links: Sequence[Link], project: str | None) -> None:
    if not links:
        return
    _section(session, title)
    table = Table(["  OBJECT", "READY", "PROJECT", "FIELD"], show_headings=False)
    for link in sorted(links, key=lambda k: (k.kind, k.project or "", k.name)):
        if not link.exists:
            state = "does not exist"
        elif not get_kind(link.kind).ready_when:
            state = ""
        else:
            state = f"Ready={link.ready or 'Unknown'}"
        elsewhere = f"in {link.project}" if link.project not in (None, project) else ""
        table.add([f"  {link}", state, elsewhere, link.path])
    table.print(session.out)


def _print_events(session: Session, events: Sequence[Wire]) -> None:
    _section(session, "Events")
    if not events:
        write(session.out, "  (none in the last day)")
        return
    table = Table(["  LAST", "TYPE", "REASON", "COUNT", "ACTOR", "MESSAGE"])
    for event in events[-EVENTS_SHOWN:]:
        spec = event["spec"]
        age = format_age(spec.get("lastTime", ""), session.clock.now())
        row = [f"  {age}", spec["type"], spec["reason"], spec.get("count", 1), spec["actor"], spec["message"]]
        table.add(row)
    table.print(session.out)
