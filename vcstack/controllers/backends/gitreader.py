"""Reads the manifests of a commit, in a process of its own with limits: YAML is parsed and SOPS decrypted here.

Asked by one line of JSON: {"gitDir", "commit", "folders": [path...], "identities": [age identity...]}. Answered by one:
{"folders": [[[document, source]...]...]} or {"reason", "message"}. The first folder is the base, the others are laid
over it. Nothing in a repository can be followed out of it: what is read are blobs of the commit's tree.
"""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from vcstack.applying.manifests import SUFFIXES, BadManifest, expand_lists, load_text
from vcstack.applying.sops import SopsError, decrypt, is_encrypted
from vcstack.specs.manifest import Limits

MIB: Final = 1024 * 1024
MEMORY_BYTES: Final = 768 * MIB
CPU_SECONDS: Final = 30
MOST_FILES: Final = 1000
MOST_BYTES: Final = 8 * MIB
MOST_OBJECTS: Final = 1000
MOST_ENTRIES: Final = 100_000
LIMITS: Final = Limits(max_bytes=MIB, max_documents=MOST_OBJECTS, max_nodes=200_000, max_aliases=100)
"""Of one file."""
SYMLINK: Final = "120000"
_ENTRY: Final = re.compile(rb"(\d{6}) (\w+) ([0-9a-f]{40,64}) +(\d+|-)\t(.*)", re.DOTALL)


class Unreadable(Exception):
    """The manifests cannot be read: a reason for a condition, and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Reader:
    """One commit."""

    def __init__(self, git_dir: str, commit: str, identities: Sequence[str]) -> None:
        self._git = ("git", "--git-dir", git_dir)
        self._commit = commit
        self._identities = identities
        self._left = MOST_BYTES
        self._objects = self._files = 0

    def read(self, folder: str) -> list[tuple[Any, str]]:
        """Return the documents below a folder, each with where it stands. Raises Unreadable."""
        found: list[tuple[Any, str]] = []
        listed = list(self._manifests(folder))
        for (name, _), raw in zip(listed, self._blobs([blob for _, blob in listed]), strict=True):
            found += [(document, f"{name}, object {n + 1}") for n, document in enumerate(self._load(name, raw))]
        self._objects += len(found)
        if self._objects > MOST_OBJECTS:
            raise Unreadable("TooLarge", f"there are {self._objects} objects, at most {MOST_OBJECTS} are applied")
        if not found:
            where = f"the folder {folder}" if folder else "the repository"
            raise Unreadable("NoManifests", f"there is no object in {where}; nothing is pruned for that")
        return found

    def _manifests(self, folder: str) -> Iterator[tuple[str, str]]:
        if folder:
            kind = self._ask("cat-file", "-t", f"{self._commit}:{folder}", check=False).strip()
            if kind != b"tree":
                raise Unreadable(
                    "PathNotFound", f"there is no folder {folder} in the commit; nothing is pruned for that"
                )
        listed = self._ask("ls-tree", "-r", "-z", "-l", self._commit, *(("--", f"{folder}/") if folder else ()))
        for n, entry in enumerate(listed.split(b"\0")):
            parsed = _ENTRY.fullmatch(entry)
            if n > MOST_ENTRIES:
                raise Unreadable("TooLarge", f"there are more than {MOST_ENTRIES} files")
            if parsed is None:
                continue
            mode, type_, blob, size, path = (part.decode("utf-8", "replace") for part in parsed.groups())
            inside = path.removeprefix(f"{folder}/") if folder else path
            if not path.endswith(SUFFIXES) or any(step.startswith(".") for step in inside.split("/")):
                continue
            name = "".join(c if c.isprintable() else "?" for c in path)[:300]
            if mode == SYMLINK:
                raise Unreadable("BadManifest", f"{name} is a symbolic link; links are not followed")
            if type_ != "blob":
                continue
            self._files += 1
            self._left -= int(size)
            if self._files > MOST_FILES:
                raise Unreadable("TooLarge", f"there are more than {MOST_FILES} manifests")
            if self._left < 0:
                raise Unreadable("TooLarge", f"the manifests have more than {MOST_BYTES // MIB} MiB")
            yield name, blob

    def _load(self, name: str, raw: bytes) -> list[Any]:
        try:
            documents = load_text(raw, name, LIMITS)
            return list(expand_lists(decrypt(documents, self._identities))) if is_encrypted(documents) else documents
        except BadManifest as error:
            raise Unreadable("BadManifest", error.message) from error
        except SopsError as error:
            raise Unreadable("DecryptionFailed", f"{name}: {error}") from error

    def _blobs(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the contents, all asked for at once."""
        out = self._ask("cat-file", "--batch", given="".join(f"{name}\n" for name in names).encode())
        at = 0
        for _ in names:
            end = out.index(b"\n", at)
            size = int(out[at:end].split()[2])
            yield out[end + 1 : end + 1 + size]
            at = end + 1 + size + 1

    def _ask(self, *words: str, check: bool = True, given: bytes = b"") -> bytes:
        ended = subprocess.run([*self._git, *words], input=given, capture_output=True, check=False)
        if ended.returncode != 0 and check:
            raise Unreadable("BadRepository", "the repository's objects cannot be read")
        return ended.stdout


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what a request is answered."""
    reader = Reader(asked["gitDir"], asked["commit"], asked["identities"])
    try:
        return {"folders": [reader.read(folder) for folder in asked["folders"]]}
    except Unreadable as error:
        return {"reason": error.reason, "message": error.message}
    except (MemoryError, RecursionError):
        return {"reason": "TooLarge", "message": "the manifests take too much memory"}


def main() -> None:
    """Answer one request."""
    asked = json.loads(sys.stdin.buffer.readline())
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.stdout.write(json.dumps(answer(asked)))


if __name__ == "__main__":
    main()
