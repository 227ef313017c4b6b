"""``/api/v1/access/...``: may somebody do something, what may somebody do, what would some objects change.

About itself everybody may ask. About others only who may list the grants of the place that is asked about: so
nobody learns more than the bindings there would tell.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from vcstack.apiclient.accessmessages import (
    PlanChange,
    PlanReply,
    PlanRequest,
    ReviewReply,
    ReviewRequest,
    Right,
    RightsReply,
    RightsRequest,
    SeenGroups,
)
from vcstack.apiserver.audit.entry import note_on_behalf_of
from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.bearers import NO_GROUPS, groups_given, vouches
from vcstack.apiserver.auth.grants import ALWAYS, Grants, RuleSet
from vcstack.apiserver.auth.imagined import ImaginedIndex
from vcstack.apiserver.auth.naming import find_hidden
from vcstack.apiserver.auth.places import TOP, Place
from vcstack.apiserver.authz import SYSTEM_SUBRESOURCES, Action, Authorizer
from vcstack.apiserver.authz import Verb as AuthzVerb
from vcstack.apiserver.bodies import JSON, decode, invalid_body, media_type_of, read_bytes
from vcstack.apiserver.identity import Identity, Role
from vcstack.apiserver.queries import NONE, Query
from vcstack.apiserver.replies import model_reply
from vcstack.apiserver.targets import RIGHTS_ONLY, Target, rights_of
from vcstack.specs.errors import BadRequest, Cause, Forbidden, Invalid, MethodNotAllowed, NotFound
from vcstack.specs.kinds.identityprovider import IdentityProvider
from vcstack.specs.kinds.rolebinding import RoleBinding, RoleBindingSpec, Subject, SubjectKind
from vcstack.specs.kinds.user import User
from vcstack.specs.meta import ObjectMeta
from vcstack.specs.model import Model
from vcstack.specs.permissions import ANY, READ, READER, Permission, Rule, Verb, expand
from vcstack.specs.registry import KindDefinition, Scope, find_kind, get_kind, load_kinds
from vcstack.specs.resource import AnyResource, Ref
from vcstack.specs.selectors import LabelSelector, Operator
from vcstack.store.cache import WatchCache
from vcstack.store.keys import row_of

PREFIX: Final = "/api/v1/access/"
OPERATIONS: Final = ("review", "rights", "plan")
BODY_LIMIT: Final = 2 * 1024 * 1024
WORDS: Final = {"User": "user", "Group": "group", "ServiceAccount": "serviceaccount"}
PLACES_NAMED: Final = 5
VERB_ORDER: Final = [v.value for v in Verb]
M = TypeVar("M", bound=Model)
Change = tuple[Place, Permission]
Wire = Mapping[str, Any]
NO_PROVIDERS: Final[Mapping[str, Wire]] = {}


class AccessReviews:
    """Answers questions of who may what. Everything that it says is as of the cache."""

    def __init__(self, authorizer: Authorizer, index: AccessIndex, cache: WatchCache) -> None:
        self._authorizer = authorizer
        self._index = index
        self._cache = cache

    async def answer(self, request: Request, identity: Identity) -> Response:
        """Return the answer to a request below the prefix. Raises ApiError."""
        path: str = request.scope["path"]
        name = path.removeprefix(PREFIX)
        if name not in OPERATIONS:
            raise NotFound(f"there is no route {path[:200]!r}; see /api/docs")
        if request.method != "POST":
            raise MethodNotAllowed(f"{path} knows POST only")
        Query.parse(request.scope["query_string"]).only(NONE)
        await self._cache.fresh()
        self._index.role_rules(READER)  # brings the index up to date, which the places of objects rest on
        if name == "review":
            return model_reply(self.review(identity, await _read(request, ReviewRequest)))
        if name == "rights":
            return model_reply(self.rights(identity, await _read(request, RightsRequest)))
        return model_reply(await self.plan(identity, await _read(request, PlanRequest)))

    def review(self, identity: Identity, question: ReviewRequest) -> ReviewReply:
        """Return whether somebody may do something. Raises Invalid, Forbidden, NotFound."""
        definition = _definition_of(question)
        asker = self._authorizer.grants_of(identity)
        project = None if definition.scope is Scope.GLOBAL else question.project
        place = Place(project=project) if project else Place(domain=question.domain)
        who, grants = identity, asker
        seen: SeenGroups | None = None
        if question.subject is not None:
            if not _shows_grants(asker, place):
                raise Forbidden(f"you may not list RoleBindings {_describe(place)}: ask for yourself only")
            note_on_behalf_of(question.subject)
            subject = self._subject_of(question.subject, asker, [place])
            seen = self._seen_groups(subject)
            groups = frozenset(seen.groups) if seen else NO_GROUPS
            who = Identity(Role.USER, question.subject, account=subject, groups=groups)
            grants = self._index.grants(subject, groups)
        sub = f"/{question.subresource}" if question.subresource else ""
        object_ = f" {question.name}" if question.name else ""
        what = f"{question.verb} {definition.kind}{sub}{object_}"
        if not _is_for_people(question.verb, definition, question.subresource):
            message = f"{who.subject} may not {what}: that is written by the cloud itself, not by people"
            return ReviewReply(subject=who.subject, allowed=False, message=message)
        only: list[str] = []
        if question.name:
            # Just what the object's own route would say, which makes no difference between missing and hidden.
            target = Target(definition, project, question.name, question.subresource)
            allowed, where = self._decide(who, Action(AuthzVerb(question.verb), target)), _describe(place)
            where = f" {where}" if project else ""
        else:
            allowed, only, where = _decide_on_kind(grants, question, definition, place)
        message = f"{who.subject} may {'' if allowed else 'not '}{what}{where}"
        message += f", but only where {' or '.join(only)}" if only else ""
        message += f" ({_as_of(seen)})" if seen else ""
        return ReviewReply(
            subject=who.subject, allowed=allowed, label_selectors=only, message=message, seen_groups=seen
        )

    def _decide(self, who: Identity, action: Action) -> bool:
        return who.role is Role.ADMIN or self._authorizer.decide(who, action)

    def rights(self, identity: Identity, question: RightsRequest) -> RightsReply:
        """Return what somebody may do. Raises Forbidden, NotFound."""
        asker = self._authorizer.grants_of(identity)
        grants, everywhere = asker, True
        seen: SeenGroups | None = None
        if question.subject is not None:
            note_on_behalf_of(question.subject)
            around = self._places_to_ask(asker, question.project)
            of = self._subject_of(question.subject, asker, around)
            seen = self._seen_groups(of)
            grants, everywhere = self._index.grants(of, frozenset(seen.groups) if seen else NO_GROUPS), False
        rights = [
            Right(project=place.project, domain=place.domain, rule=rule)
            for place, rules in grants.scopes()
            if self._holds(place, question.project) and (everywhere or _shows_grants(asker, place))
            for rule in rules.rules
        ]
        restriction = list(identity.key.rules) if question.subject is None and identity.key else []
        subject = question.subject or identity.subject
        return RightsReply(subject=subject, rights=rights, restriction=restriction or None, seen_groups=seen)

    async def plan(self, identity: Identity, request: PlanRequest) -> PlanReply:
        """Return what writing the objects would grant and take away. Raises Invalid, Forbidden."""
        asker = self._authorizer.grants_of(identity)
        self._places_to_ask(asker, None)
        objects = list(_load_objects(request.objects))
        imagined = ImaginedIndex(self._index, objects)
        changes: list[PlanChange] = []
        expansions = _Expansions()
        providers = {o.metadata.name: o.to_wire() for o in objects if o.kind == IdentityProvider.KIND}
        touched = imagined.find_touched() | set(self._users_of(providers))
        for subject in sorted(touched, key=_name_of):
            seen, then = self._seen_groups(subject), self._seen_groups(subject, providers)
            before = self._index.grants(subject, frozenset(seen.groups) if seen else NO_GROUPS)
            after = imagined.grants(subject, frozenset(then.groups) if then else NO_GROUPS)
            told = partial(self._is_told, subject, asker)
            for granted, one, other in ((True, before, after), (False, after, before)):
                found = _gained(one, other, told, expansions)
                changes += _summarize(_name_of(subject), granted, found, (then or seen))
            await asyncio.sleep(0)  # others are served between two subjects
        return PlanReply(changes=changes)

    def _seen_groups(self, subject: Ref, providers: Mapping[str, Wire] = NO_PROVIDERS) -> SeenGroups | None:
        """Return what the user's identity provider said last of groups, as it maps them now.

        Args:
            subject: who.
            providers: those that are to be taken for others than they are.
        """
        entry = self._cache.find(get_kind(User.KIND), row_of(None, subject.name)) if subject.kind == User.KIND else None
        user: Wire = orjson.loads(entry.json) if entry is not None else {}
        name, status = user.get("spec", {}).get("identityProvider"), user.get("status", {})
        if not name or not status.get("externalGroups"):
            return None
        found = self._cache.find(get_kind(IdentityProvider.KIND), row_of(None, name))
        provider = providers.get(name) or (orjson.loads(found.json) if found is not None else None)
        if provider is None or not vouches(provider):
            return None
        groups = sorted(groups_given(provider, status["externalGroups"]))
        seen = {"provider": name, "groups": groups, "seenAt": status["externalGroupsSeenAt"]}
        return SeenGroups.from_wire(seen) if groups else None

    def _users_of(self, providers: Collection[str]) -> Iterator[Ref]:
        """Yield the users of identity providers."""
        if not providers:
            return
        for entry in self._cache.table(get_kind(User.KIND)).objects.values():
            user = orjson.loads(entry.json)
            if user["spec"].get("identityProvider") in providers:
                yield Ref(User.KIND, None, user["metadata"]["name"])

    def _places_to_ask(self, asker: Grants, project: str | None) -> list[Place]:
        """Return where the asker may know what others may do. Raises Forbidden for nowhere."""
        places = [Place(project=project)] if project else [place for place, _ in asker.scopes()]
        shown = [place for place in places if _shows_grants(asker, place)]
        if not shown:
            raise Forbidden("what others may do is told to who may list RoleBindings: ask for yourself only")
        return shown

    def _subject_of(self, name: str, asker: Grants, places: Sequence[Place]) -> Ref:
        """Return whom the name means. Raises NotFound just alike for who is missing or hidden."""
        subject = _parse_subject(name)
        known = self._cache.find(get_kind(subject.kind), row_of(subject.project, subject.name)) is not None
        if not known or not any(self._may_name(subject, asker, place) for place in places):
            raise NotFound(f"there is no {name}, or you may not see it")
        return subject

    def _may_name(self, subject: Ref, asker: Grants, place: Place) -> bool:
        """Return whether the asker could name the subject in a binding there."""
        named = Subject(kind=SubjectKind(subject.kind), name=subject.name, project=subject.project)
        spec = RoleBindingSpec(subject=named, role=READER, domain=place.domain)
        binding = RoleBinding(metadata=ObjectMeta(name="review", project=place.project), spec=spec)
        return not find_hidden(self._index, asker, binding, None, home=place)

    def _is_told(self, subject: Ref, asker: Grants, place: Place) -> bool:
        """Return whether the asker may know what the subject may do there."""
        return _shows_grants(asker, place) and self._may_name(subject, asker, place)

    def _holds(self, place: Place, project: str | None) -> bool:
        """Return whether what is given at the place holds in the project too."""
        if project is None or place == TOP or place.project == project:
            return True
        return place.domain is not None and place.domain in self._index.organization.domains_of(Place(project=project))


def _decide_on_kind(
    grants: Grants, question: ReviewRequest, definition: KindDefinition, place: Place
) -> tuple[bool, list[str], str]:
    """Return whether it is allowed to some objects at least, only to which, and where."""
    verb, sub = question.verb, question.subresource
    found = grants.selectors(verb, definition, place, sub)
    if found:
        return True, [] if found == ALWAYS else [_text(s) for s in found], f" {_describe(place)}"
    if place != TOP:
        return False, [], f" {_describe(place)}"
    projects: frozenset[str] | None = frozenset()
    if definition.scope is not Scope.GLOBAL or (definition.kind == "Project" and verb not in ("create", "delete")):
        projects = grants.projects_for(verb, definition, sub)
    domains = [p for p, _ in grants.scopes() if p.domain and grants.selectors(verb, definition, p, sub)]
    places = [_describe(p) for p in (*domains, *(Place(project=name) for name in sorted(projects or ())))]
    if places:
        more = f" and {len(places) - PLACES_NAMED} more places" if len(places) > PLACES_NAMED else ""
        return True, [], f" {', '.join(places[:PLACES_NAMED])}{more}"
    if definition.owner_path is not None and verb in (*READ, Verb.DELETE) and not sub:
        return True, [], ", but only what is its own"
    return False, [], ""


def _is_for_people(verb: str, definition: KindDefinition, subresource: str) -> bool:
    """Return whether anybody but the cloud itself may do it, whatever was granted."""
    if verb in READ:
        return subresource != "tunnel"
    if definition.system_only:
        return definition.revocable and verb == Verb.DELETE and not subresource
    return subresource not in SYSTEM_SUBRESOURCES


def _is_possible(verb: str, definition: KindDefinition, subresource: str) -> bool:
    """Return whether there is a route for it that people may use; subresources are read and written only."""
    if subresource in RIGHTS_ONLY.get(definition.kind, ()):
        return verb == Verb.UPDATE
    if subresource and (
        subresource not in rights_of(definition) or verb not in (Verb.GET, Verb.UPDATE) or subresource == "finalize"
    ):
        return False
    return _is_for_people(verb, definition, subresource) and (verb, subresource) != (Verb.UPDATE, "history")


def _shows_grants(asker: Grants, place: Place) -> bool:
    return asker.may(Verb.LIST, get_kind(RoleBinding.KIND), place)


class _Expansions:
    """What sets of rules allow, kind by kind, of what people can do: worked out once for all who have just these."""

    def __init__(self) -> None:
        self._known: dict[RuleSet, Sequence[Permission]] = {}

    def of(self, rules: RuleSet) -> Sequence[Permission]:
        """Return it."""
        if rules not in self._known:
            spelt = expand(rules.rules, lambda d: sorted(rights_of(d)))
            self._known[rules] = [p for p in spelt if _is_possible(p.verb, get_kind(p.kind), p.subresource)]
        return self._known[rules]


def _gained(
    before: Grants, after: Grants, is_told: Callable[[Place], bool], expansions: _Expansions
) -> Iterator[Change]:
    """Yield what may be done afterwards and could not before, kind by kind, at the places that are told of."""
    for place, rules in after.scopes():
        if is_told(place):
            yield from ((place, p) for p in expansions.of(rules) if not _has(before, place, p))


def _has(grants: Grants, place: Place, wanted: Permission) -> bool:
    found = grants.selectors(wanted.verb, get_kind(wanted.kind), place, wanted.subresource)
    if found == ALWAYS or not found or not wanted.selector:
        return found == ALWAYS
    subresources = [wanted.subresource] if wanted.subresource else None
    rule = Rule(verbs=[wanted.verb], kinds=[wanted.kind], subresources=subresources, label_selector=wanted.selector)
    return not grants.missing([rule], place)


def _summarize(subject: str, granted: bool, changes: Iterable[Change], seen: SeenGroups | None) -> Iterator[PlanChange]:
    """Yield the changes with the verbs of one kind and place together."""
    verbs: defaultdict[tuple[str, str, str, str, str], list[str]] = defaultdict(list)
    for place, (verb, kind, subresource, selector) in changes:
        verbs[place.domain or "", place.project or "", kind, subresource, selector].append(verb)
    for (domain, project, kind, subresource, selector), found in sorted(verbs.items()):
        yield PlanChange(
            subject=subject,
            granted=granted,
            verbs=sorted(found, key=VERB_ORDER.index),
            kind=kind,
            subresource=subresource,
            label_selector=selector,
            project=project or None,
            domain=domain or None,
            seen_at=seen.seen_at if seen else None,
        )


def _load_objects(wires: Sequence[Mapping[str, Any]]) -> Iterator[AnyResource]:
    for i, wire in enumerate(wires):
        definition = find_kind(str(wire.get("kind")))
        if definition is None or definition.kind != wire.get("kind"):
            raise _invalid(f"objects[{i}].kind", f"there is no kind {str(wire.get('kind'))[:80]!r}")
        try:
            yield definition.model.from_wire(wire)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(part) for part in first["loc"])
            raise _invalid(f"objects[{i}].{path}", first["msg"]) from error


def _definition_of(question: ReviewRequest) -> KindDefinition:
    definition = load_kinds().get(question.kind)
    if definition is None:
        raise _invalid("kind", f"there is no kind {question.kind}")
    if question.verb == ANY:
        raise _invalid("verb", "ask for one verb")
    if question.subresource and question.subresource not in rights_of(definition):
        known = ", ".join(sorted(rights_of(definition)))
        raise _invalid("subresource", f"{definition.kind} has no subresource {question.subresource}; it has {known}")
    return definition


def _parse_subject(name: str) -> Ref:
    word, _, rest = name.partition(":")
    kind = next(kind for kind, known in WORDS.items() if known == word)
    project, slash, own = rest.rpartition("/")
    return Ref(kind, project if slash else None, own)


def _name_of(subject: Ref) -> str:
    return f"{WORDS[subject.kind]}:{subject.project + '/' if subject.project else ''}{subject.name}"


def _describe(place: Place) -> str:
    if place.project is not None:
        return f"in project {place.project}"
    if place.domain is not None:
        return f"in domain {place.domain}"
    return "in the whole cloud"


def _as_of(seen: SeenGroups) -> str:
    said = seen.seen_at.strftime("%Y-%m-%d %H:%M UTC")
    return f"in a session by {seen.provider}, with {', '.join(seen.groups)} as of {said}"


def _text(selector: LabelSelector) -> str:
    """Return a selector as it is written."""
    texts = []
    for r in selector.requirements:
        values = f"({','.join(sorted(r.values))})"
        one = next(iter(r.values), "")
        few = len(r.values) == 1
        texts.append(
            {
                Operator.IN: f"{r.key}={one}" if few else f"{r.key} in {values}",
                Operator.NOT_IN: f"{r.key}!={one}" if few else f"{r.key} notin {values}",
                Operator.EXISTS: r.key,
                Operator.NOT_EXISTS: f"!{r.key}",
            }[r.operator]
        )
    return ",".join(texts)


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", causes=[Cause(field=field, reason="FieldValueInvalid", message=message)])


async def _read(request: Request, model: type[M]) -> M:
    media_type_of(request, (JSON,))
    wire = decode(await read_bytes(request, BODY_LIMIT), is_yaml=False)
    try:
        return model.from_wire(wire)
    except ValidationError as error:
        raise invalid_body(error) from error
    except TypeError as error:  # orjson on a lone surrogate
        raise BadRequest("the body has text that is not Unicode") from error
