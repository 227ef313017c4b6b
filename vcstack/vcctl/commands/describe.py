"""describe: all there is to know of an object, for people."""

from collections.abc import Sequence

from rich.markup import escape

from vcstack.specs.columns import find_value, format_age
from vcstack.specs.conditions import READY
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import READ, Targets
from vcstack.vcctl.printing import Table, style_of, to_yaml, write
from vcstack.vcctl.reading import Wire, get_object
from vcstack.vcctl.related import Link, Related, find_related
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
    selections = parse_selections(targets)
    objects = []
    for selection in selections:
        names = [selection.name] if selection.name else []
        if not names:
            page = await session.client.list_wire(
                selection.definition, project=session.project_of(selection.definition)
            )
            names = [w["metadata"]["name"] for w in page.items]
        objects += [(selection.definition, await get_object(session, selection.definition, n)) for n in names]
    for index, (definition, wire) in enumerate(objects):
        if index:
            write(session.out, "\n" + "─" * 40)
        _print_object(session, definition, wire, await find_related(session, definition, wire))


def _print_object(session: Session, definition: KindDefinition, wire: Wire, related: Related) -> None:
    _print_head(session, wire)
    _section(session, "Spec")
    _block(session, wire.get("spec") or {})
    status = {k: v for k, v in (wire.get("status") or {}).items() if k not in ("conditions", "observedGeneration")}
    if status:
        _section(session, "Status")
        _block(session, status)
    if definition.ready_when:
        _print_conditions(session, wire)
    _print_links(session, "Owned by", related.owners)
    _print_links(session, "Owns", related.owned)
    _print_links(session, "Refers to", related.references)
    _print_links(session, "Used by", related.users)
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
            session.out.print(f"[bold]{label + ':':12}[/] {escape(text)}", soft_wrap=True)


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
        stale = c.get("observedGeneration", 0) < wire["metadata"].get("generation", 0)
        message = c.get("message", "") + (" (of an older generation)" if stale else "")
        table.add([f"  {c['type']}", c["status"], age, c.get("reason", ""), message])
    table.print(session.out)


def _print_links(session: Session, title: str, links: Sequence[Link]) -> None:
    if not links:
        return
    _section(session, title)
    for link in sorted(links, key=lambda k: (k.kind, k.name)):
        if link.wire is None:
            state, style = "does not exist", "red"
        elif not get_kind(link.kind).ready_when:
            state, style = "", ""
        else:
            status = find_value(link.wire, f"status.conditions[{READY}].status") or "Unknown"
            state, style = f"Ready={status}", style_of(status)
        shown = f"[{style}]{state}[/]" if style else state
        session.out.print(f"  {escape(str(link))}  {shown}  [dim]{escape(link.path)}[/]", soft_wrap=True)


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
