"""Access rules as pure functions: what a rule allows, what a role consists of, who may grant what.

A rule says verbs, kinds and subresources, narrowed by a label selector. Rules only ever allow; what no rule
allows is refused. Where they hold (the whole cloud, a domain with all below it, one project) is not said
here but by the binding that gives them to somebody.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints

from vcstack.specs.errors import BadRequest
from vcstack.specs.model import Model
from vcstack.specs.registry import KindDefinition, Scope, load_kinds
from vcstack.specs.selectors import LabelSelector, parse_label_selector

ANY = "*"
"""Stands for all verbs, kinds or subresources, those of the future included."""


class Verb(StrEnum):
    """What is asked for, independent of HTTP's methods."""

    GET = "get"
    LIST = "list"
    WATCH = "watch"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


READ = (Verb.GET, Verb.LIST, Verb.WATCH)


def check_selector(text: str) -> str:
    """Return the label selector if it can be read, else raise ValueError."""
    try:
        parse_label_selector(text)
    except BadRequest as error:
        raise ValueError(error.message) from error
    return text


RuleVerb = Annotated[str, StringConstraints(pattern=rf"^(\*|{'|'.join(Verb)})$")]
RuleKind = Annotated[str, StringConstraints(pattern=r"^(\*|[A-Z][A-Za-z0-9]{0,62})$")]
RuleSubresource = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z]{1,63})$")]
RuleSelector = Annotated[str, AfterValidator(check_selector), Field(max_length=1024)]


class Rule(Model):
    """What is allowed: each of the verbs on each of the kinds."""

    verbs: Annotated[list[RuleVerb], Field(min_length=1, max_length=16)]
    """get, list, watch, create, update, delete, or * for all."""
    kinds: Annotated[list[RuleKind], Field(min_length=1, max_length=128)]
    """Kinds by name, e.g. Instance, or * for all."""
    subresources: Annotated[list[RuleSubresource], Field(min_length=1, max_length=64)] | None = None
    """Subresources by name, e.g. console, or * for all; then the objects themselves are not meant. Default: only
    the objects themselves."""
    label_selector: RuleSelector = ""
    """Only objects whose labels match, e.g. env=dev. Default: all."""


class Permission(NamedTuple):
    """One verb on one kind or subresource of it."""

    verb: str
    kind: str
    subresource: str = ""
    """Empty: the object itself."""
    selector: str = ""
    """Empty: all objects."""

    def __str__(self) -> str:
        sub = f"/{self.subresource}" if self.subresource else ""
        where = f" where {self.selector}" if self.selector else ""
        return f"{self.verb} {self.kind}{sub}{where}"


EVERYTHING = LabelSelector()
"""Selects all objects."""


def find_selectors(rules: Iterable[Rule], verb: str, kind: str, subresource: str = "") -> tuple[LabelSelector, ...]:
    """Return the selectors of the rules that allow it; one that matches the object's labels is enough.

    Nothing: it is not allowed. Only EVERYTHING: it is, whatever the labels.
    """
    found: list[LabelSelector] = []
    for rule in rules:
        if _includes(rule, verb, kind, subresource):
            selector = parse_label_selector(rule.label_selector)
            if not selector:
                return (EVERYTHING,)
            found.append(selector)
    return tuple(dict.fromkeys(found))


def allows(
    rules: Iterable[Rule],
    verb: str,
    definition: KindDefinition,
    subresource: str = "",
    labels: Mapping[str, str] | None = None,
) -> bool:
    """Return whether the rules allow it on an object with these labels; None: whatever its labels are."""
    selectors = find_selectors(rules, verb, definition.kind, subresource)
    return any(not s if labels is None else s.matches(labels) for s in selectors)


def covers(have: Sequence[Rule], want: Iterable[Rule]) -> list[Permission]:
    """Return what the rules wanted allow beyond those one has: nobody grants what he does not have.

    Nothing missing is proof; something missing may be a caution: kinds one by one never make up for * (new
    kinds come), and selectors are compared term by term.
    """
    missing = [p for rule in want for p in _parts(rule) if not any(_covers(h, p) for h in have)]
    return list(dict.fromkeys(missing))


def expand(
    rules: Iterable[Rule], subresources_of: Callable[[KindDefinition], Iterable[str]] | None = None
) -> frozenset[Permission]:
    """Return all that the rules allow, kind by kind of those that there are.

    Subresources stay * unless a function names them. What holds for all objects is not listed for some of
    them again.
    """
    found = {p for rule in rules for part in _parts(rule) for p in _spell_out(part, subresources_of)}
    return frozenset(p for p in found if not p.selector or p._replace(selector="") not in found)


def _parts(rule: Rule) -> Iterator[Permission]:
    verbs = [v.value for v in Verb] if ANY in rule.verbs else rule.verbs
    for verb in verbs:
        for kind in rule.kinds:
            for subresource in rule.subresources if rule.subresources is not None else ("",):
                yield Permission(verb, kind, subresource, rule.label_selector)


def _spell_out(
    part: Permission, subresources_of: Callable[[KindDefinition], Iterable[str]] | None
) -> Iterator[Permission]:
    for definition in load_kinds().values():
        if part.kind not in (ANY, definition.kind):
            continue
        names: Iterable[str] = (part.subresource,)
        if part.subresource == ANY and subresources_of is not None:
            names = subresources_of(definition)
        yield from (part._replace(kind=definition.kind, subresource=name) for name in names)


def _includes(rule: Rule, verb: str, kind: str, subresource: str) -> bool:
    """Return whether the rule is about it; * is matched by * only."""
    if verb not in rule.verbs and ANY not in rule.verbs:
        return False
    if kind not in rule.kinds and ANY not in rule.kinds:
        return False
    if rule.subresources is None:
        return not subresource
    return bool(subresource) and (subresource in rule.subresources or ANY in rule.subresources)


def _covers(rule: Rule, wanted: Permission) -> bool:
    if not _includes(rule, wanted.verb, wanted.kind, wanted.subresource):
        return False
    # All terms of a selector must hold: one with the same terms and more selects no more.
    own = set(parse_label_selector(rule.label_selector).requirements)
    return own <= set(parse_label_selector(wanted.selector).requirements)


@dataclass(frozen=True, slots=True)
class BuiltInRole:
    """A role that the cloud itself defines."""

    name: str
    description: str
    rules: tuple[Rule, ...]


ADMIN = "admin"
DOMAIN_ADMIN = "domain-admin"
PROJECT_ADMIN = "project-admin"
MEMBER = "member"
READER = "reader"
AUDITOR = "auditor"
BUILT_IN_NAMES = frozenset({ADMIN, DOMAIN_ADMIN, PROJECT_ADMIN, MEMBER, READER, AUDITOR})

TENANT_CATEGORIES = frozenset({"compute", "network", "storage"})
"""What members of a project work with. Kinds of other categories are named one by one below."""

OF_INSTANCES = [
    "console", "finalize", "history", "log", "metrics", "related", "screenshot", "shell", "status", "tickets", "vnc",
    "why",
]  # fmt: skip
"""What members may of an instance: all but recordings of shells."""


def tenant_kinds() -> list[str]:
    """Return the kinds that members of a project make and use."""
    kinds = (d for d in load_kinds().values() if d.scope is not Scope.GLOBAL and not d.system_only)
    return sorted(d.kind for d in kinds if d.category in TENANT_CATEGORIES or d.kind == "Task")


@cache
def built_in_roles() -> Mapping[str, BuiltInRole]:
    """Return the built-in roles by name; new kinds of a tenant's categories are in them by themselves."""
    tenant = tenant_kinds()
    # A reader gets no log, console, screen or content: boot logs and disks may hold secrets.
    looked_at = ["history", "metrics", "related", "sshauthority", "status", "timeline", "usage", "why"]
    catalogue = ["Event", "Flavor", "GitSource", "NotificationTarget", "Policy", "Quota", "Role", "Setting"]
    delegated = ["APIKey", "GitSource", "RoleBinding", "ServiceAccount"]
    # Members write secrets, and read none back; they use keys. Who reads a value is an administrator.
    secret = ["Certificate", "Key", "Secret"]
    keeping = [
        Rule(verbs=[ANY], kinds=["Certificate", "Secret"]),
        # Whoever may not have a key deleted may not disable it either: see ``keyguard``.
        Rule(verbs=[*READ, Verb.CREATE, Verb.UPDATE], kinds=["Key"]),
        Rule(
            verbs=[Verb.UPDATE],
            kinds=["Key"],
            subresources=["datakey", "decrypt", "encrypt", "reencrypt", "sign", "verify"],
        ),
        Rule(verbs=[Verb.GET], kinds=secret, subresources=looked_at),
    ]
    revealing = [Rule(verbs=[ANY], kinds=secret), Rule(verbs=[ANY], kinds=secret, subresources=[ANY])]
    organization = ["Domain", "Group", "Project", "User"]
    everything = [Rule(verbs=[ANY], kinds=[ANY]), Rule(verbs=[ANY], kinds=[ANY], subresources=[ANY])]
    work = [Rule(verbs=[ANY], kinds=tenant), Rule(verbs=[ANY], kinds=tenant, subresources=[ANY])]
    # What others did in their shells is not for every member: that is all of an instance but recordings.
    using = [
        Rule(verbs=[ANY], kinds=tenant),
        Rule(verbs=[ANY], kinds=[kind for kind in tenant if kind != "Instance"], subresources=[ANY]),
        Rule(verbs=[ANY], kinds=["Instance"], subresources=OF_INSTANCES),
        Rule(verbs=[Verb.GET], kinds=["Instance"], subresources=looked_at),
    ]
    roles = [
        BuiltInRole(ADMIN, "Everything.", tuple(everything)),
        BuiltInRole(
            DOMAIN_ADMIN,
            "Domains, projects, users, groups and grants below a domain, and all that is in its projects.",
            (
                *work,
                *revealing,
                Rule(
                    verbs=[ANY], kinds=[*organization, *delegated, "NotificationTarget", "Policy", "Quota", "Setting"]
                ),
                Rule(verbs=[ANY], kinds=delegated, subresources=[ANY]),
                Rule(verbs=[Verb.GET], kinds=[*organization, *catalogue, "Session"], subresources=looked_at),
                Rule(verbs=[Verb.GET], kinds=["Domain", "Project"], subresources=["audit"]),
                Rule(verbs=[Verb.GET], kinds=["Project"], subresources=["recordings"]),
                Rule(verbs=[*READ, Verb.DELETE], kinds=["Session"]),
                Rule(verbs=[*READ], kinds=[*catalogue, "IdentityProvider"]),
            ),
        ),
        BuiltInRole(
            PROJECT_ADMIN,
            "All that is in a project, its grants, service accounts and keys included.",
            (
                *work,
                *revealing,
                Rule(verbs=[ANY], kinds=[*delegated, "NotificationTarget", "Policy", "Setting"]),
                Rule(verbs=[ANY], kinds=delegated, subresources=[ANY]),
                Rule(verbs=[*READ, Verb.UPDATE], kinds=["Project"]),
                Rule(verbs=[*READ], kinds=catalogue),
                Rule(verbs=[Verb.GET], kinds=["Project", *catalogue], subresources=looked_at),
                Rule(verbs=[Verb.GET], kinds=["Project"], subresources=["audit", "recordings"]),
            ),
        ),
        BuiltInRole(
            MEMBER,
            "Makes and uses what is in a project.",
            (
                *using,
                *keeping,
                Rule(verbs=[*READ], kinds=["Project", *catalogue]),
                Rule(verbs=[Verb.GET], kinds=["Project", *catalogue], subresources=looked_at),
            ),
        ),
        BuiltInRole(
            READER,
            "Sees what is in a project, but no logs, consoles and contents.",
            (
                Rule(verbs=[*READ], kinds=["Project", *catalogue, *tenant, *secret]),
                Rule(verbs=[Verb.GET], kinds=["Project", *catalogue, *tenant, *secret], subresources=looked_at),
            ),
        ),
        BuiltInRole(
            AUDITOR,
            "Sees every object, its history, who did what, recordings of shells, but no logs, consoles and contents.",
            (
                Rule(verbs=[*READ], kinds=[ANY]),
                Rule(verbs=[Verb.GET], kinds=[ANY], subresources=["audit", "recordings", *looked_at]),
            ),
        ),
    ]
    return {role.name: role for role in roles}
