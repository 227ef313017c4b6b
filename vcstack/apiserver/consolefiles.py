"""The console at /console/: the files that ``make console`` built, and one page for all addresses below it.

Nothing here is secret, so nobody has to say who they are; the pages themselves log in by the API. Files are read once
and kept, until another build lies there.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vcstack.specs.errors import MethodNotAllowed, NotFound

ROOT: Final = "/console"
PREFIX: Final = "/console/"
ASSETS: Final = "assets/"
INDEX: Final = "index.html"
STAMP: Final = ".stamp"
"""Written last by the build."""
DEFAULT_FOLDER: Final = Path(__file__).resolve().parents[2] / "console" / "dist"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Scripts from this server alone, never in the page. Styles may: terminals and menus place themselves so. Trusted
Types: the browser refuses each text that would become markup or a script, and no script can declare one harmless."""
PAGE_HEADERS: Final = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "cache-control": "no-cache",
}
NOT_BUILT: Final = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>VC Stack</title>
<h1>The console is not built</h1>
<p>Run <code>make console</code> in the checkout, or name the folder of a build in the settings:
<code>api.consoleDir</code>. Nothing has to be started anew.</p>
</html>
"""
TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}


def is_console(path: str) -> bool:
    """Return whether the path is the console's."""
    return path.startswith(PREFIX) or path == ROOT


@dataclass(frozen=True, slots=True)
class File:
    """A file of the build."""

    content: bytes
    packed: bytes | None
    """The same, compressed."""


class ConsoleFiles:
    """Answers below /console/."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, File] = {}
        self._latest: dict[str, File] = {}
        self._build: tuple[int, int] | None = None

    async def answer(self, request: Request) -> Response:
        """Return a file, or the page. Raises NotFound, MethodNotAllowed."""
        path = request.scope["path"]
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{request.method} is not possible here; there is GET, HEAD")
        if path == ROOT:
            return RedirectResponse(PREFIX, 308)
        if self._find_build() != self._build:
            await asyncio.to_thread(self._read)
        return self._reply(path.removeprefix(PREFIX), "gzip" in request.headers.get("accept-encoding", ""))

    def _reply(self, name: str, packs: bool) -> Response:
        index = self._files.get(INDEX)
        if index is None:
            return Response(NOT_BUILT, 503, media_type="text/html")
        file = self._files.get(name)
        if file is None and name.startswith(ASSETS):
            raise NotFound("this file is of another build of the console; load the page anew")
        if file is None or name == INDEX:
            return Response(index.content, media_type="text/html", headers=PAGE_HEADERS)
        # Names below assets/ hold a digest of the content.
        kept = "public, max-age=31536000, immutable" if name.startswith(ASSETS) else "public, max-age=3600"
        headers = {"cache-control": kept, "vary": "accept-encoding"}
        media_type = TYPES.get(Path(name).suffix, "application/octet-stream")
        if packs and file.packed is not None:
            return Response(file.packed, media_type=media_type, headers={**headers, "content-encoding": "gzip"})
        return Response(file.content, media_type=media_type, headers=headers)

    def _find_build(self) -> tuple[int, int] | None:
        try:
            found = (self._folder / STAMP).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def _read(self) -> None:
        build = self._find_build()
        files: dict[str, File] = {}
        if build is not None:
            found = {path.relative_to(self._folder).as_posix(): path for path in self._folder.rglob("*")}
            for name, path in found.items():
                if path.is_file() and not name.startswith(".") and path.suffix != ".gz":
                    packed = found.get(f"{name}.gz")
                    files[name] = File(path.read_bytes(), packed.read_bytes() if packed else None)
        # Pages of the build before are open somewhere, and go on with its files.
        before = {name: file for name, file in self._latest.items() if name.startswith(ASSETS)}
        self._files, self._latest, self._build = {**before, **files}, files, build
