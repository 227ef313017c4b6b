"""The page at /docs: the OpenAPI document as plain HTML, without scripts and without anything from elsewhere."""

import html
from collections import defaultdict
from typing import Any

Json = dict[str, Any]

STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
nav a { margin-right: .8rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; padding: .3rem .7rem; }
summary { cursor: pointer; } code, summary b { font-family: ui-monospace, monospace; }
summary b { display: inline-block; width: 4.5rem; } .get { color: #2a7; } .post { color: #27c; }
.put, .patch { color: #b70; } .delete { color: #c33; } table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); padding: .2rem .6rem .2rem 0; }
"""
METHODS = ("get", "post", "put", "patch", "delete", "head")


def render_page(document: Json) -> str:
    """Return the page."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                groups[item[method]["tags"][0]].append(_operation(path, method, item[method], item))
    tags = {t["name"]: t["description"] for t in document["tags"]}
    links = " ".join(f'<a href="#{_text(t)}">{_text(t)}</a>' for t in tags)
    sections = "".join(
        f'<h2 id="{_text(tag)}">{_text(tag)}</h2><p>{_text(about)}</p>{"".join(groups[tag])}'
        for tag, about in tags.items()
    )
    schemas = "".join(_schema(n, s) for n, s in sorted(document["components"]["schemas"].items()))
    info = document["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(info["title"])} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>{_text(info['title'])} API {_text(info['version'])}</h1><p>{_text(info['description'])} "
        f'The machine-readable form is <a href="/openapi.json">openapi.json</a>.</p>'
        f'<nav>{links} <a href="#schemas">schemas</a></nav>{sections}<h2 id="schemas">schemas</h2>{schemas}</html>'
    )


def _operation(path: str, method: str, operation: Json, item: Json) -> str:
    parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
    rows = "".join(
        f"<tr><td><code>{_text(p['name'])}</code><td>{_text(p['in'])}<td>{_type(p['schema'])}<td>{_text(p['description'])}"
        for p in parameters
    )
    body = operation.get("requestBody", {}).get("content", {})
    bodies = "".join(f"<p>Body <code>{_text(m)}</code>: {_type(c['schema'])}</p>" for m, c in body.items())
    answers = "".join(
        f"<tr><td>{_text(code)}<td>{_text(a['description'])}<td>"
        + ", ".join(_type(c["schema"]) for c in a.get("content", {}).values())
        for code, a in operation["responses"].items()
        if code < "400"
    )
    return (
        f'<details><summary><b class="{method}">{method.upper()}</b> <code>{_text(path)}</code> '
        f"{_text(operation['summary'])}</summary><table>{rows}</table>{bodies}<table>{answers}</table></details>"
    )


def _schema(name: str, schema: Json) -> str:
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{_text(n)}</code>{' *' if n in required else ''}<td>{_type(s)}"
        f"<td>{_text(s.get('description', ''))}"
        for n, s in schema.get("properties", {}).items()
    )
    values = ", ".join(_text(v) for v in schema.get("enum", ()))
    return (
        f'<details id="schema-{_text(name)}"><summary><code>{_text(name)}</code> '
        f"{_text(schema.get('description', ''))}</summary><p>{values}</p><table>{rows}</table></details>"
    )


def _type(schema: Json) -> str:
    """Return a short name of the type, linked when it is a schema of its own."""
    if "$ref" in schema:
        name = _text(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#schema-{name}">{name}</a>'
    for key in ("anyOf", "allOf", "oneOf"):
        if key in schema:
            return " | ".join(_type(s) for s in schema[key])
    if schema.get("type") == "array":
        return f"[{_type(schema.get('items', {}))}]"
    if "enum" in schema:
        return " | ".join(_text(v) for v in schema["enum"])
    return _text(schema.get("type", "any"))


def _text(value: object) -> str:
    return html.escape(str(value))
