"""The page at /api/docs: Swagger UI over our own document, from this server alone.

The files of Swagger UI come with the package ``fastapi_swagger``; its code, and FastAPI, are not used.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Final

from starlette.responses import RedirectResponse, Response

from vcstack.specs.errors import NotFound

PAGE: Final = "/api/docs"
OLD_PAGE: Final = "/docs"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing of it may come from elsewhere, go elsewhere, or stand in the page itself."""
HTML: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>VC Stack API</title>
<link rel="icon" type="image/png" href="/api/docs/favicon-32x32.png">
<link rel="stylesheet" href="/api/docs/swagger-ui.css">
<script src="/api/docs/swagger-ui-bundle.js" defer></script>
<script src="/api/docs/start.js" defer></script>
<main id="docs"><noscript>This page needs JavaScript. The document is at <a href="/openapi.json">/openapi.json</a>.
</noscript></main>
</html>
"""
START: Final = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: 0,
  filter: true,
  validatorUrl: null,
});
"""
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".png": "image/png"}
FILES: Final = ("favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css")
KEPT: Final = {"cache-control": "public, max-age=3600"}
PATHS: Final = frozenset({PAGE, OLD_PAGE, f"{PAGE}/start.js", *(f"{PAGE}/{name}" for name in FILES)})
"""All that is answered here."""


def answer(path: str) -> Response:
    """Return the page, or a file of it. Raises NotFound."""
    if path == OLD_PAGE:
        return RedirectResponse(PAGE, 308)
    if path == PAGE:
        return Response(
            HTML,
            media_type="text/html",
            headers={"content-security-policy": POLICY, "cross-origin-opener-policy": "same-origin"},
        )
    if path not in PATHS:
        raise NotFound(f"there is no route {path[:200]!r}; see {PAGE}")
    name = path.removeprefix(f"{PAGE}/")
    content = START.encode() if name == "start.js" else _read(name)
    return Response(content, media_type=TYPES[Path(name).suffix], headers=KEPT)


@cache
def _read(name: str) -> bytes:
    """Return one of the package's files, without importing it: it would import FastAPI."""
    found = importlib.util.find_spec("fastapi_swagger")
    assert found is not None
    assert found.submodule_search_locations is not None
    return (Path(found.submodule_search_locations[0]) / "resources" / name).read_bytes()
