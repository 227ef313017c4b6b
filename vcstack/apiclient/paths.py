"""URLs of the API: one place that knows where a kind's objects live."""

from urllib.parse import quote

from vcstack.specs.errors import BadRequest
from vcstack.specs.registry import KindDefinition, Scope

API_ROOT = "/api/v1"


def collection_path(definition: KindDefinition, project: str | None) -> str:
    """Return the path of a kind's objects: in the project, or global ones and across projects."""
    if project is None or definition.scope is Scope.GLOBAL:
        return f"{API_ROOT}/{definition.plural}"
    return f"{API_ROOT}/projects/{quote(project, safe='')}/{definition.plural}"


def object_path(definition: KindDefinition, project: str | None, name: str, subresource: str = "") -> str:
    """Return the path of an object or of one of its subresources.

    Raises:
        BadRequest: if the name is empty, or the kind lives in projects and none is given.
    """
    if not name:
        raise BadRequest(f"name the {definition.kind}")
    if project is None and definition.scope is Scope.PROJECT:
        raise BadRequest(f"a {definition.kind} lives in a project: name it")
    path = f"{collection_path(definition, project)}/{quote(name, safe='')}"
    return f"{path}/{subresource}" if subresource else path
