"""Shell completion of contexts, projects, kinds and names. Whatever fails completes to nothing."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import typer

from vcstack.specs.registry import KindDefinition, find_kind, get_kind, load_kinds
from vcstack.vcctl.session import GlobalOptions, Session, open_session

TIMEOUT_SECONDS = 2.0
"""A shell that hangs on Tab is worse than one that knows nothing."""


def complete_contexts(incomplete: str) -> list[str]:
    """Return the contexts that begin so."""
    with contextlib.suppress(Exception):
        return [c.name for c in open_session(GlobalOptions()).contexts.file.contexts if c.name.startswith(incomplete)]
    return []


def complete_projects(incomplete: str) -> list[str]:
    """Return the projects that begin so."""
    return _names(GlobalOptions(), get_kind("Project"), incomplete)


def complete_kinds(incomplete: str) -> list[str]:
    """Return the kinds that begin so."""
    words = [w for d in load_kinds().values() for w in (d.singular, d.plural)]
    return sorted(w for w in dict.fromkeys(words) if w.startswith(incomplete.lower()))


def complete_targets(ctx: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """Return what comes next in KIND NAME..., KIND/NAME...: kinds first, then names of that kind."""
    given = ctx.params.get("targets") or ctx.params.get("kind") or []
    words = [given] if isinstance(given, str) else [str(w) for w in given]
    options = GlobalOptions(ctx.params.get("project"), ctx.params.get("context"))
    kind, slash, start = incomplete.partition("/")
    if slash:
        definition = find_kind(kind)
        return [f"{kind}/{n}" for n in _names(options, definition, start)] if definition else []
    if not words or "/" in words[0]:
        return complete_kinds(incomplete)
    definition = find_kind(words[0])
    return _names(options, definition, incomplete) if definition else []


def complete_names_of(kind: str) -> Callable[[typer.Context, list[str], str], list[str]]:
    """Return a completion of names of one kind."""

    def complete(ctx: typer.Context, args: list[str], incomplete: str) -> list[str]:
        options = GlobalOptions(ctx.params.get("project"), ctx.params.get("context"))
        return _names(options, get_kind(kind), incomplete)

    return complete


def _names(options: GlobalOptions, definition: KindDefinition, incomplete: str) -> list[str]:
    async def ask(session: Session) -> list[Any]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                page = await session.client.list_wire(definition, project=session.project_of(definition))
                return list(page.items)
        finally:
            await session.aclose()

    # Completion must never print: an unreachable API, a missing context or a timeout is simply no proposal.
    with contextlib.suppress(Exception):
        names = [item["metadata"]["name"] for item in asyncio.run(ask(open_session(options)))]
        return sorted(n for n in names if n.startswith(incomplete))
    return []
