"""delete: ask for deletion, and wait until it is done."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape

from vcstack.applying.sets import project_in
from vcstack.specs.access import Propagation
from vcstack.specs.errors import NotFound
from vcstack.specs.registry import KindDefinition
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import CHANGE, DryRun, Everywhere, Files, Labels, Recursive, Targets, Timeout, Wait, Yes
from vcstack.vcctl.asking import confirm
from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.manifests import read_manifests
from vcstack.vcctl.reading import Wire, get_object, label_of, list_objects, places_of
from vcstack.vcctl.selection import parse_selections
from vcstack.vcctl.session import Session
from vcstack.vcctl.waiting import Awaited, deleted, parse_duration, wait_for

Found = tuple[KindDefinition, Wire]


class Cascade(StrEnum):
    """What becomes of the objects that belong to a deleted one."""

    BACKGROUND = "background"
    FOREGROUND = "foreground"
    ORPHAN = "orphan"


@command(
    "delete",
    panel=CHANGE,
    examples="""
    vcctl delete instance web-1 web-2
    vcctl delete -f manifests/
    vcctl delete instances -l app=web
    vcctl delete project demo --yes
    """,
)
async def delete(
    session: Session,
    targets: Targets = [],  # noqa: B006 - typer copies it
    file: Files = [],  # noqa: B006
    recursive: Recursive = False,
    selector: Labels = "",
    all_projects: Everywhere = False,
    everything: Annotated[bool, typer.Option("--all", help="All objects of the kind.")] = False,
    cascade: Annotated[
        Cascade, typer.Option("--cascade", help="Owned objects go after it, before it, or stay.")
    ] = Cascade.BACKGROUND,
    wait: Wait = True,
    timeout: Timeout = "5m",
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found", help="Absent is success.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Delete objects by name, by manifest or by label, and wait until they are gone.

    While something holds a deletion up, what it is gets printed. Deleting a project deletes all that is
    in it, so you are asked first.
    """
    seconds = parse_duration(timeout)
    if file:
        found = await _from_files(session, file, recursive)
    else:
        found = await _from_words(session, targets, selector, all_projects, everything, ignore_not_found)
    projects = [w["metadata"]["name"] for d, w in found if d.kind == "Project"]
    if projects and not dry_run and not file:
        names = ", ".join(projects)
        confirm(session, f"Delete project {names} with everything in it, disks included?", yes=yes)
    leaving = [a for d, w in found if (a := await ask_deletion(session, d, w, Propagation(cascade.title()), dry_run))]
    if wait and leaving:
        await wait_for(session, leaving, deleted, timeout_seconds=seconds)
        for gone in leaving:
            session.out.print(f"{gone} deleted", soft_wrap=True)


async def _from_files(session: Session, files: Sequence[str], recursive: bool) -> list[Found]:
    """Return the objects of the manifests that exist, in the reverse of the order of apply."""
    found: list[Found] = []
    for manifest in reversed(read_manifests(session, files, recursive=recursive)):
        try:
            wire = await session.client.get_wire(manifest.definition, manifest.name, manifest.project)
        except NotFound:
            session.out.print(f"{manifest} is absent", soft_wrap=True)
        else:
            found.append((manifest.definition, wire))
    return found


async def _from_words(
    session: Session, words: Sequence[str], labels: str, everywhere: bool, everything: bool, lenient: bool
) -> list[Found]:
    found: list[Found] = []
    for selection in parse_selections(words):
        definition = selection.definition
        if selection.name:
            try:
                found.append((definition, await get_object(session, definition, selection.name)))
            except NotFound:
                if not lenient:
                    raise
        elif labels or everything:
            places = places_of(session, definition, everywhere=everywhere, labels=labels)
            found += [(definition, w) for w in await list_objects(session, places)]
        else:
            raise CommandError(
                f"which {definition.plural}?", hint="Give names, -l SELECTOR, or --all for all of the project."
            )
    return sorted(found, key=lambda f: -f[0].apply_order)


async def ask_deletion(
    session: Session, definition: KindDefinition, wire: Wire, propagation: Propagation, dry_run: bool
) -> Awaited | None:
    """Ask for the deletion of exactly this object; return it if it is not gone at once."""
    name, uid, project = wire["metadata"]["name"], wire["metadata"].get("uid"), project_in(wire)
    try:
        left = await session.client.delete_wire(
            definition, name, project=project, uid=uid, propagation=propagation, dry_run=dry_run
        )
    except NotFound:
        left = None
    word = "deleted (dry run)" if dry_run else "deleted" if left is None else "is being deleted"
    session.out.print(f"{escape(label_of(definition, wire))} {word}", soft_wrap=True)
    return None if left is None or dry_run else Awaited(definition.kind, project, name, uid)
