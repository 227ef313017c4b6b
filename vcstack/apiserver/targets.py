"""From a path to what it means: kind, project, name, subresource."""

import difflib
from dataclasses import dataclass
from functools import cache

from vcstack.specs.errors import Cause, Invalid, NotFound
from vcstack.specs.model import is_label
from vcstack.specs.registry import KindDefinition, Scope, load_kinds
from vcstack.specs.resource import Ref

STREAM = "/api/v1/stream"
"""The websocket of all watches of a page."""
PLAN = "/api/v1/plan"
"""What an apply of some objects would do."""
QUOTA_CHECK = "/api/v1/quotacheck"
"""Whether quotas leave room for some objects."""
COMMON_SUBRESOURCES = frozenset({"status", "finalize", "history", "related", "why"})
KIND_SUBRESOURCES = {
    "Image": frozenset({"content"}),
    "Instance": frozenset({"log", "console", "vnc", "shell", "recordings", "screenshot", "metrics", "tickets"}),
    "Secret": frozenset({"value"}),
    "Project": frozenset({"audit", "recordings", "sshauthority", "timeline", "usage"}),
    "Quota": frozenset({"usage"}),
    "Key": frozenset({"encrypt", "decrypt", "reencrypt", "datakey", "sign", "verify"}),
    "User": frozenset({"initialsecret", "mfa"}),
    "APIKey": frozenset({"secret"}),
    "Host": frozenset({"heartbeat", "jointoken", "certificate", "tunnel"}),
}
WITH_ITEMS = frozenset({"recordings"})
"""Subresources behind which one of several is named."""
RIGHTS_ONLY = {"Key": frozenset({"policy", "state"})}
"""What a right can name like a subresource, and no path does: to change spec.policy, spec.state."""
PROJECTS_OWN = COMMON_SUBRESOURCES | KIND_SUBRESOURCES["Project"]
"""What behind a project's name is no kind in it."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a resource path names."""

    definition: KindDefinition
    project: str | None
    """None: global objects, or for lists all projects."""
    name: str = ""
    """Empty: the collection."""
    subresource: str = ""
    item: str = ""
    """Which one, of a subresource that is several; empty: all of them."""

    @property
    def ref(self) -> Ref:
        """Return the object's identity."""
        return Ref(self.definition.kind, self.project, self.name)


@cache
def _by_plural() -> dict[str, KindDefinition]:
    return {d.plural: d for d in load_kinds().values()}


def subresources_of(definition: KindDefinition) -> frozenset[str]:
    """Return the names of the kind's subresources."""
    return COMMON_SUBRESOURCES | KIND_SUBRESOURCES.get(definition.kind, frozenset())


def rights_of(definition: KindDefinition) -> frozenset[str]:
    """Return what rights can name behind the kind: its subresources, and parts of it that are rights of their own."""
    return subresources_of(definition) | RIGHTS_ONLY.get(definition.kind, frozenset())


def parse_target(path: str) -> Target:
    """Return what the path below /api/v1/ names.

    Raises:
        NotFound: if there is no such route.
        Invalid: if a project or object in it has a name that cannot exist.
    """
    steps = path.split("/")
    project: str | None = None
    if steps[0] == "projects" and len(steps) >= 3 and steps[2] not in PROJECTS_OWN:
        project, steps = steps[1], steps[2:]
        _check_label("metadata.project", project)
    definition = _by_plural().get(steps[0])
    if definition is None:
        raise NotFound(unknown_kind(steps[0]))
    item = steps[3] if len(steps) == 4 and steps[2] in WITH_ITEMS else ""
    if len(steps) > (4 if item else 3) or "" in steps:
        raise NotFound(f"there is no route {path!r}; see /api/docs")
    name = steps[1] if len(steps) > 1 else ""
    subresource = steps[2] if len(steps) > 2 else ""
    _check_scope(definition, project, name)
    if name:
        _check_label("metadata.name", name)
    if subresource and subresource not in subresources_of(definition):
        known = ", ".join(sorted(subresources_of(definition)))
        raise NotFound(f"{definition.plural} have no subresource {subresource!r}; they have {known}")
    if item:
        _check_label("the name at the end", item)
    return Target(definition, project, name, subresource, item)


def _check_scope(definition: KindDefinition, project: str | None, name: str) -> None:
    if project is not None and definition.scope is Scope.GLOBAL:
        raise NotFound(f"{definition.plural} are global: use /api/v1/{definition.plural}")
    if project is None and definition.scope is Scope.PROJECT and name:
        raise NotFound(f"{definition.plural} live in projects: use /api/v1/projects/PROJECT/{definition.plural}/{name}")


def _check_label(field: str, value: str) -> None:
    if not is_label(value):
        message = f"{value[:80]!r} is no DNS label: lower-case letters, digits and '-', at most 63 characters"
        cause = Cause(field=field, reason="FieldValueInvalid", message=message)
        raise Invalid(f"{field}: {message}", causes=[cause])


def unknown_kind(plural: str) -> str:
    """Return what to say of a plural that is none."""
    near = difflib.get_close_matches(plural, _by_plural(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(_by_plural()))}"
    return f"there is no kind {plural[:80]!r}{hint}"
