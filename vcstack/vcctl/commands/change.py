"""patch, label, annotate: small changes of single fields."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from vcstack.applying.sets import project_in
from vcstack.specs.manifest import ManifestError, load_documents
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import CHANGE, DryRun, Everywhere, Labels, OneTarget, Targets
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.reading import Wire, get_object, label_of, list_objects, places_of
from vcstack.vcctl.selection import Selection, parse_one, parse_selections
from vcstack.vcctl.session import Session

EXAMPLE = 'E.g. {"spec": {"powerState": "Stopped"}}'
MapName = Literal["labels", "annotations"]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace values that are there.")]
All = Annotated[bool, typer.Option("--all", help="All objects of the kind.")]


@command(
    "patch",
    panel=CHANGE,
    examples="""
    vcctl patch instance web-1 --patch '{"spec": {"powerState": "Stopped"}}'
    vcctl patch host h1 --patch 'spec: {zone: east}'
    vcctl patch instance web-1 --patch-file change.yaml --dry-run
    """,
)
async def patch(
    session: Session,
    targets: OneTarget,
    text: Annotated[str | None, typer.Option("--patch", metavar="TEXT", help="JSON or YAML; null removes.")] = None,
    patch_file: Annotated[
        Path | None, typer.Option("--patch-file", metavar="FILE", help="The same from a file.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Change single fields of an object by a merge patch (RFC 7386): null removes, lists are replaced whole."""
    selection = parse_one(targets)
    body = _read_patch(text, patch_file)
    wire = await get_object(session, selection.definition, selection.name or "")
    await _send(session, selection, wire, body, dry_run=dry_run)


def _read_patch(text: str | None, file: Path | None) -> Wire:
    if (text is None) == (file is None):
        raise CommandError("give the patch", hint="Either --patch TEXT or --patch-file FILE.")
    try:
        raw = file.read_text() if file is not None else text or ""
        documents = load_documents(raw, source=str(file or "--patch"))
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}", code=ExitCode.LOCAL) from error
    except ManifestError as error:
        raise CommandError(error.message, hint=EXAMPLE, code=ExitCode.LOCAL) from error
    if len(documents) != 1:
        raise CommandError("the patch must be one object", hint=EXAMPLE)
    return documents[0]


async def _send(
    session: Session, selection: Selection, wire: Wire, body: Wire, *, done: str = "patched", dry_run: bool
) -> None:
    """Patch the object and say whether that changed it."""
    definition = selection.definition
    patched = await session.client.merge_patch_wire(
        definition, wire["metadata"]["name"], body, project=project_in(wire), dry_run=dry_run
    )
    before, after = (_content(w) for w in (wire, patched))
    word = "unchanged" if before == after else done
    session.out.print(f"{escape(label_of(definition, wire))} {word}{' (dry run)' if dry_run else ''}", soft_wrap=True)


def _content(wire: Wire) -> dict[str, Any]:
    meta = {k: v for k, v in wire["metadata"].items() if k not in ("resourceVersion", "managedFields", "generation")}
    return {"metadata": meta, "spec": wire.get("spec")}


def _register(name: str, which: MapName, done: str, examples: str) -> None:
    """Register the command that changes one of the two maps of metadata."""

    async def change(
        session: Session,
        targets: Targets,
        selector: Labels = "",
        all_projects: Everywhere = False,
        everything: All = False,
        overwrite: Overwrite = False,
        dry_run: DryRun = False,
    ) -> None:
        words, changes = split_changes(targets)
        chosen = await _choose(session, words, selector, all_projects, everything)
        for selection, wire in chosen:
            _check_taken(selection, wire, which, changes, overwrite=overwrite)
        for selection, wire in chosen:
            await _send(session, selection, wire, {"metadata": {which: changes}}, done=done, dry_run=dry_run)

    change.__doc__ = f"Set {which} with KEY=VALUE and remove them with KEY-."
    command(name, panel=CHANGE, examples=examples)(change)


_register(
    "label",
    "labels",
    "labelled",
    """
    vcctl label instance web-1 app=web tier=front
    vcctl label host h1 disk=ssd --overwrite
    vcctl label instances -l app=web tier-
    """,
)
_register(
    "annotate",
    "annotations",
    "annotated",
    """
    vcctl annotate instance web-1 contact='ops@example.org'
    vcctl annotate instance web-1 contact-
    """,
)


def _check_taken(
    selection: Selection, wire: Wire, which: MapName, changes: dict[str, str | None], *, overwrite: bool
) -> None:
    """Refuse to replace a value unasked, before any object is changed."""
    present = wire["metadata"].get(which) or {}
    taken = [k for k, v in changes.items() if v is not None and present.get(k, v) != v]
    if taken and not overwrite:
        raise CommandError(
            f"{label_of(selection.definition, wire)} has {which[:-1]} {taken[0]}={present[taken[0]]} already",
            hint="Add --overwrite to replace it.",
            code=ExitCode.REFUSED,
        )


def split_changes(words: Sequence[str]) -> tuple[list[str], dict[str, str | None]]:
    """Return the words that name objects, and the changes: KEY=VALUE sets, KEY- removes.

    Raises:
        CommandError: if there is no change.
    """
    changes: dict[str, str | None] = {}
    targets: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals:
            changes[key] = value
        elif word.endswith("-"):
            changes[word[:-1]] = None
        else:
            targets.append(word)
    if not changes:
        raise CommandError("nothing to change is given", hint="Write KEY=VALUE to set and KEY- to remove.")
    return targets, changes


async def _choose(
    session: Session, words: Sequence[str], labels: str, everywhere: bool, everything: bool
) -> list[tuple[Selection, Wire]]:
    chosen: list[tuple[Selection, Wire]] = []
    for selection in parse_selections(words):
        if selection.name:
            chosen.append((selection, await get_object(session, selection.definition, selection.name)))
        elif labels or everything:
            places = places_of(session, selection.definition, everywhere=everywhere, labels=labels)
            chosen += [(selection, w) for w in await list_objects(session, places)]
        else:
            raise CommandError(f"which {selection.definition.plural}?", hint="Give names, -l SELECTOR or --all.")
    return chosen
