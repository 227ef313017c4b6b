"""edit: change an object in an editor; what is refused comes back with the reason."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from rich.markup import escape

from vcstack.applying.sets import project_in
from vcstack.specs.errors import ApiError
from vcstack.specs.manifest import ManifestError, load_documents
from vcstack.specs.patch import create_merge_patch
from vcstack.specs.registry import KindDefinition
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import CHANGE, OneTarget
from vcstack.vcctl.errors import CommandError, ExitCode, describe_error
from vcstack.vcctl.printing import to_yaml
from vcstack.vcctl.reading import Wire, get_object, label_of
from vcstack.vcctl.selection import parse_one
from vcstack.vcctl.session import Session

HEADER = "# Change labels, annotations and spec, save and leave. An unchanged or empty file changes nothing."
EDITABLE = ("project", "name", "labels", "annotations", "finalizers", "ownerReferences")


@command(
    "edit",
    panel=CHANGE,
    examples="""
    vcctl edit instance web-1
    EDITOR='code --wait' vcctl edit securitygroup ssh
    """,
)
async def edit(session: Session, targets: OneTarget) -> None:
    """Change an object in $EDITOR. What the API refuses is opened again with the reason on top."""
    selection = parse_one(targets)
    definition = selection.definition
    wire = await get_object(session, definition, selection.name or "")
    original, faults = _editable(wire), list[str]()
    text = to_yaml(original)
    while True:
        edited = open_editor(session, text, faults)
        if edited == text or not edited.strip():
            return _report_nothing(session, definition, wire, text, faults)
        text = edited
        try:
            documents = load_documents(edited, source="your text")
            if len(documents) != 1:
                raise CommandError("leave exactly one object")
            patch = create_merge_patch(original, documents[0])
            if not patch:
                return _report_nothing(session, definition, wire, "", [])
            version = {"resourceVersion": wire["metadata"]["resourceVersion"]}
            patch["metadata"] = {**patch.get("metadata", {}), **version}
            await session.client.merge_patch_wire(definition, wire["metadata"]["name"], patch, project=project_in(wire))
        except (ManifestError, CommandError, ApiError) as error:
            faults = describe_error(error)
        else:
            session.out.print(f"{escape(label_of(definition, wire))} edited", soft_wrap=True)
            return None


def _editable(wire: Wire) -> Wire:
    metadata = {k: wire["metadata"][k] for k in EDITABLE if k in wire["metadata"]}
    return {"apiVersion": wire["apiVersion"], "kind": wire["kind"], "metadata": metadata, "spec": wire["spec"]}


def _report_nothing(session: Session, definition: KindDefinition, wire: Wire, text: str, faults: list[str]) -> None:
    if not faults:
        session.out.print(f"{escape(label_of(definition, wire))} unchanged", soft_wrap=True)
        return
    handle, name = tempfile.mkstemp(prefix="vcctl-edit-", suffix=".yaml")
    with os.fdopen(handle, "w") as out:
        out.write(text)
    raise CommandError(f"nothing was changed: {faults[0]}", hint=f"Your text is kept in {name}.", code=ExitCode.REFUSED)


def open_editor(session: Session, text: str, faults: list[str]) -> str:
    """Return the text as it is after editing, without the comments on top.

    Raises:
        CommandError: if the editor cannot be run or fails.
    """
    comments = [HEADER, *(f"# {line}" for fault in faults for line in fault.splitlines()), "#"]
    argv = shlex.split(_editor(session))
    with tempfile.TemporaryDirectory(prefix="vcctl-") as folder:
        file = Path(folder) / "edit.yaml"
        file.write_text("\n".join(comments) + "\n" + text)
        try:
            done = subprocess.run([*argv, str(file)], check=False)
        except OSError as error:
            raise CommandError(
                f"cannot run the editor {argv[0]}: {error.strerror}", hint="Set $EDITOR.", code=ExitCode.LOCAL
            ) from error
        if done.returncode:
            raise CommandError(f"the editor ended with {done.returncode}", code=ExitCode.LOCAL)
        lines = file.read_text().splitlines(keepends=True)
    body = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[body:])


def _editor(session: Session) -> str:
    for name in ("VCCTL_EDITOR", "VISUAL", "EDITOR"):
        if value := session.environ.get(name):
            return value
    return "vi"
