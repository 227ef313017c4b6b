"""``/api/v1/effectivesettings``: which settings count somewhere, and where each is from."""

from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from vcstack.apiserver.auth.places import TOP, Place
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.identity import Identity
from vcstack.apiserver.queries import Query, refuse
from vcstack.apiserver.replies import model_reply
from vcstack.apiserver.targets import Target
from vcstack.specs.errors import MethodNotAllowed
from vcstack.specs.kinds.domain import Domain
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.setting import Setting
from vcstack.specs.model import Model
from vcstack.specs.registry import definition_of
from vcstack.specs.settings import KNOWN_SETTINGS
from vcstack.store.draft import not_found
from vcstack.store.keys import row_of
from vcstack.store.references import no_project
from vcstack.store.store import Store

EFFECTIVE = "/api/v1/effectivesettings"
PARAMETERS = frozenset({"project", "domain"})
DEFAULT = "Default"


class EffectiveSetting(Model):
    """A setting as it counts somewhere."""

    setting: str
    """Its name."""
    value: bool | int | str
    """What counts."""
    source: str
    """Whose value it is: Project, Domain, Cloud, or Default when nothing is set."""
    place: str = ""
    """The project or domain that it is set for."""
    name: str = ""
    """The Setting object that says so."""
    type: str
    """bool, int, string, enum or duration."""
    default: bool | int | str
    """What counts when nothing is set."""
    limits: str
    """Which values are taken."""
    scopes: list[str]
    """Where it can be set: Cloud, Domain, Project."""
    delegation: str
    """What who administers no more than a domain or project may set there: None, Free, AtMost or AtLeast what counts
    above."""
    locked: bool
    """Whether the Setting that says so is changed by those above only."""
    overrules: str = ""
    """The nearer Setting that does not count because its value goes beyond this one, and what it says."""
    description: str
    """What it does."""


class EffectiveSettings(Model):
    """All settings as they count somewhere."""

    kind: str = "EffectiveSettings"
    """Always EffectiveSettings."""
    project: str | None = None
    """For which project; absent: see domain."""
    domain: str | None = None
    """For which domain; both absent: for the cloud."""
    items: Annotated[list[EffectiveSetting], Field()]
    """One for each setting that there is, by name."""


class SettingRoutes:
    """Answers what counts."""

    def __init__(self, store: Store, authorizer: Authorizer) -> None:
        self._cache = store.cache
        self._book = store.cache.setting_book
        self._authorizer = authorizer
        self._definition = definition_of(Setting)

    async def effective(self, request: Request, identity: Identity) -> Response:
        """Return what counts in a project, a domain or the cloud, for who may list settings there.

        Raises:
            NotFound: there is no such place, or the caller may see nothing there.
            Forbidden: the caller may not list its settings.
        """
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{request.method} is not possible here; there is GET")
        query = Query.parse(request.scope["query_string"]).only(PARAMETERS)
        project, domain = query.text("project") or None, query.text("domain") or None
        if project and domain:
            raise refuse("domain", "cannot be given with project, which lies in a domain already")
        await self._cache.fresh()
        if project is not None:
            await self._authorizer.authorize(identity, Action(Verb.LIST, Target(self._definition, project)))
            if self._cache.find(definition_of(Project), row_of(None, project)) is None:
                raise no_project(project)
        else:
            place = Place(domain=domain) if domain else TOP
            self._authorizer.demand(identity, Verb.LIST, self._definition, place)
            if domain is not None and self._cache.find(definition_of(Domain), row_of(None, domain)) is None:
                raise not_found(definition_of(Domain), None, domain)
        items = [self._describe(name, project, domain) for name in sorted(KNOWN_SETTINGS)]
        return model_reply(EffectiveSettings(project=project, domain=domain, items=items))

    def _describe(self, name: str, project: str | None, domain: str | None) -> EffectiveSetting:
        known, found = KNOWN_SETTINGS[name], self._book.find(name, project=project, domain=domain)
        return EffectiveSetting(
            setting=name,
            value=found.value,
            source=found.scope.value if found.scope is not None else DEFAULT,
            place=found.place,
            name=found.name,
            type=known.type.value,
            default=known.default,
            limits=known.describe_limits(),
            scopes=[scope.value for scope in known.scopes],
            delegation=known.delegation.value,
            locked=found.locked,
            overrules=f"{found.overrules.describe()}: {found.overrules.value}" if found.overrules else "",
            description=known.description,
        )
