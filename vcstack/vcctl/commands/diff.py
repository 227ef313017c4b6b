"""diff: what apply would change, and what each change takes."""

from collections.abc import Sequence
from functools import partial

from rich.markup import escape

from vcstack.applying.concurrency import gather
from vcstack.applying.manifests import Manifest
from vcstack.applying.sets import changes_to, with_set
from vcstack.specs.errors import ApiError
from vcstack.specs.plan import FieldChange
from vcstack.specs.sensitive import has_sensitive, redact
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import CHANGE, Files, Recursive
from vcstack.vcctl.errors import ExitCode, exit_code_of, show_error
from vcstack.vcctl.manifests import read_manifests
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.session import MANAGER, Session
from vcstack.vcctl.showing import print_changes


@command(
    "diff",
    panel=CHANGE,
    examples="""
    vcctl diff -f web.yaml
    vcctl diff -f manifests/ && echo nothing to do
    """,
)
async def diff(session: Session, file: Files = [], recursive: Recursive = False) -> int:  # noqa: B006 - typer copies it
    """Show what apply would change, and whether each change is live, needs a reboot or a rebuild, or is refused.

    Ends with 0 when there is no difference, 1 when there is one, more than 1 when something failed.
    """
    manifests = read_manifests(session, file, recursive=recursive)
    projects, in_set = _known_projects(manifests), len(manifests) > 1
    found = await gather([partial(_examine, session, m, projects, in_set=in_set) for m in manifests])
    differs, worst = False, ExitCode.OK
    for manifest, result in zip(manifests, found, strict=True):
        if isinstance(result, Exception):
            show_error(session.err, result, prefix=f"{manifest} ({manifest.source}): ")
            worst = max(worst, exit_code_of(result))
            continue
        live, changes, refusal = result
        if live is None or changes:
            differs = True
            _print(session, manifest, live, changes)
        if refusal is not None:
            show_error(session.err, refusal, prefix=f"{manifest} would be refused: ")
            worst = worst if changes else max(worst, exit_code_of(refusal))
    if worst > ExitCode.DIFFERENCE:
        return worst
    return ExitCode.DIFFERENCE if differs else ExitCode.OK


def _known_projects(manifests: Sequence[Manifest]) -> frozenset[str]:
    return frozenset(m.name for m in manifests if m.definition.kind == "Project")


async def _examine(
    session: Session, manifest: Manifest, projects: frozenset[str], *, in_set: bool
) -> tuple[Wire | None, list[FieldChange], ApiError | None]:
    """Return the object as it is, what would change, and why the API would refuse it, if so.

    What it refers to may be missing when others of its set might make it.
    """
    live = await session.applier.find_live(manifest)
    wanted = with_set(manifest, live, None)
    model = manifest.definition.model
    result = session.applier.lay_over(wanted, live)
    # What is secret in the manifest is not shown; the API's answer says whether it differs.
    changes = changes_to(manifest, live, redact(model, result))
    if live is None and manifest.project in projects:
        return live, changes, None
    try:
        answer = await session.client.apply_wire(
            manifest.definition,
            wanted.wire,
            manager=MANAGER,
            dry_run=True,
            missing_references="Allow" if in_set else None,
        )
        if has_sensitive(model):
            changes = changes_to(manifest, live, answer)
    except ApiError as error:
        if error.CODE >= 500:
            raise
        return live, changes, error
    return live, changes, None


def _print(session: Session, manifest: Manifest, live: Wire | None, changes: Sequence[FieldChange]) -> None:
    project = f" [dim](project {manifest.project})[/]" if manifest.project else ""
    new = " [green]would be created[/]" if live is None else ""
    session.out.print(f"[bold]{escape(str(manifest))}[/]{project}{new}", soft_wrap=True)
    print_changes(session.out, changes, new=live is None)
