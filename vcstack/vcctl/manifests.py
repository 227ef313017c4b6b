"""Manifests from files, folders and stdin: read, checked for what they are, brought into order."""

import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from vcstack.applying.manifests import SUFFIXES, BadManifest, Manifest, collect, expand_lists, load_text
from vcstack.applying.overlays import lay_over
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.session import Session

STDIN = "-"


def read_manifests(
    session: Session, files: Sequence[str], *, recursive: bool = False, overlays: Sequence[str] = ()
) -> list[Manifest]:
    """Return the objects of all files in the order in which they are to be applied, overlays laid over them.

    Files that are encrypted by SOPS are decrypted with the age identities of SOPS_AGE_KEY, SOPS_AGE_KEY_FILE or
    ~/.config/sops/age/keys.txt.

    Raises:
        CommandError: if a file cannot be read, or what is in it is no object, names an unknown kind, or
            occurs twice.
    """
    try:
        manifests = collect(_documents(session, files, recursive=recursive), session.project_of)
        for folder in overlays:
            above = collect(_documents(session, [folder], recursive=recursive), session.project_of)
            manifests = lay_over(manifests, above)
    except BadManifest as error:
        raise _fault(error.message, error.hint) from error
    if not manifests:
        raise _fault(f"there is no object in {', '.join(files)}")
    return manifests


def derive_set(files: Sequence[str]) -> str:
    """Return the name of the apply set that these sources stand for: the last part of a path and a digest.

    Raises:
        CommandError: for stdin, which has no identity.
    """
    if STDIN in files:
        raise CommandError("stdin stands for no apply set", hint="Name the set with --set NAME.")
    paths = sorted(str(Path(f).resolve()) for f in files)
    word = "".join(c if c.isalnum() else "-" for c in Path(paths[0]).stem).strip("-")[:40] or "set"
    return f"{word}-{sha256(chr(0).join(paths).encode()).hexdigest()[:8]}"


def is_folder(files: Sequence[str]) -> bool:
    """Return whether the sources are folders, which stand for a set of objects."""
    return all(f != STDIN and Path(f).is_dir() for f in files)


def choose_set(files: Sequence[str], name: str | None, *, prune: bool) -> str | None:
    """Return the apply set that is meant; a folder stands for one."""
    return derive_set(files) if name is None and (prune or is_folder(files)) else name


def _documents(session: Session, files: Sequence[str], *, recursive: bool) -> Iterator[tuple[Any, str]]:
    for path in _expand(files, recursive=recursive):
        for index, document in enumerate(_load(session, path)):
            yield document, f"{path}, object {index + 1}"


def _expand(files: Sequence[str], *, recursive: bool) -> list[str]:
    if not files:
        raise CommandError("name a manifest", hint="E.g. -f web.yaml, -f manifests/ or -f - for stdin.")
    found: list[str] = []
    for file in files:
        path = Path(file)
        if file == STDIN or path.is_file() or path.is_fifo():
            found.append(file)
        elif path.is_dir():
            listed = sorted(path.rglob("*") if recursive else path.iterdir())
            inside = [str(p) for p in listed if p.suffix in SUFFIXES and p.is_file()]
            if not inside:
                below = not recursive and any(p.suffix in SUFFIXES for p in path.rglob("*"))
                hint = "There are in folders below it: add -R." if below else ""
                raise _fault(f"there is no {', '.join(SUFFIXES)} file in {file}", hint)
            found += inside
        else:
            raise _fault(f"{file} does not exist")
    return list(dict.fromkeys(found))


def _load(session: Session, path: str) -> list[dict[str, Any]]:
    try:
        raw = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise _fault(f"cannot read {path}: {error.strerror}") from error
    source = "stdin" if path == STDIN else path
    documents = load_text(raw, source)
    return _decrypt(session, documents, source) if b"sops" in raw else documents


def _decrypt(session: Session, documents: list[dict[str, Any]], source: str) -> list[dict[str, Any]]:
    from vcstack.applying import sops  # the start of every other command is not to wait for it

    if not sops.is_encrypted(documents):
        return documents
    try:
        return list(expand_lists(sops.decrypt(documents, sops.read_identities(_read_identities(session)))))
    except sops.SopsError as error:
        hint = "The age identities are those of SOPS_AGE_KEY, SOPS_AGE_KEY_FILE or ~/.config/sops/age/keys.txt."
        raise _fault(f"{source}: {error}", hint) from error


def _read_identities(session: Session) -> str:
    environ = session.environ
    config = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    file = Path(environ.get("SOPS_AGE_KEY_FILE") or config / "sops" / "age" / "keys.txt")
    try:
        kept = file.read_text() if "SOPS_AGE_KEY_FILE" in environ or file.is_file() else ""
    except OSError as error:
        raise _fault(f"cannot read {file}: {error.strerror}") from error
    return environ.get("SOPS_AGE_KEY", "") + "\n" + kept


def _fault(message: str, hint: str = "") -> CommandError:
    return CommandError(message, hint=hint, code=ExitCode.LOCAL)
