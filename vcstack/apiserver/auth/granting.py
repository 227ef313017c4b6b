"""Nobody grants what he does not have: what a write would give to somebody, against what the writer may do.

Not only bindings give. A role gives to all who have it, a group to its new members, a key to whoever gets its
secret, a provider's mapping to those whom the provider says are in a group, a notification target events to whoever
listens at its address.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.grants import Grants
from vcstack.apiserver.auth.places import TOP, Place
from vcstack.specs.kinds.apikey import APIKey
from vcstack.specs.kinds.gitsource import GitSource
from vcstack.specs.kinds.group import Group
from vcstack.specs.kinds.identityprovider import IdentityProvider
from vcstack.specs.kinds.image import Image, secret_of
from vcstack.specs.kinds.notificationtarget import NotificationTarget, secrets_of
from vcstack.specs.kinds.role import Role
from vcstack.specs.kinds.rolebinding import RoleBinding
from vcstack.specs.kinds.user import User
from vcstack.specs.meta import format_time
from vcstack.specs.permissions import ANY, Permission, Rule, covers
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import AnyResource, Ref

Excess = Sequence[tuple[Place, Permission]]
"""What the writer would give without having it, and where."""

EVERYTHING = (Rule(verbs=[ANY], kinds=[ANY]), Rule(verbs=[ANY], kinds=[ANY], subresources=[ANY]))

EVENTS = (Rule(verbs=["list", "watch"], kinds=["Event"]),)
"""What a notification target tells whoever receives it."""

SECRET_VALUE = (Rule(verbs=["get"], kinds=["Secret"], subresources=["value"]),)


def find_excess(
    index: AccessIndex, writer: Grants, who: Ref | None, new: AnyResource, old: AnyResource | None
) -> Excess:
    """Return what writing the object would give that the writer does not have.

    Args:
        index: the index.
        writer: what the writer may do.
        who: the writer's own account, which may make keys for itself.
        new: the object as it would be.
        old: as it is, None when it is new.
    """
    if isinstance(new, RoleBinding):
        place = Place(project=new.metadata.project) if new.metadata.project else Place(domain=new.spec.domain)
        # A role that is missing may be made by somebody else, with any rules.
        rules = index.role_rules(new.spec.role)
        return [(place, p) for p in writer.missing(EVERYTHING if rules is None else rules, place)]
    if isinstance(new, Role):
        return [(TOP, p) for p in writer.missing(new.spec.rules, TOP)]
    if isinstance(new, Group):
        before = set(old.spec.members) if old is not None else set()
        return find_excess_of(index, writer, new.ref) if set(new.spec.members) - before else ()
    if isinstance(new, IdentityProvider):
        groups = {m.group for m in new.spec.group_mapping}
        before = {m.group for m in old.spec.group_mapping} if isinstance(old, IdentityProvider) else set()
        given = [e for name in sorted(groups) for e in _find_excess_of_group(index, writer, name)]
        given += [e for name in sorted(groups - before) for e in _find_right_to_fill(index, writer, name)]
        secret = new.spec.ldap.bind_password if new.spec.ldap else None
        if secret is not None:  # it is sent to where the writer says
            place = Place(project=secret.project)
            given += [(place, p) for p in writer.missing(SECRET_VALUE, place)]
        return given
    if isinstance(new, NotificationTarget):
        place = Place(project=new.metadata.project) if new.metadata.project else TOP
        given = [(place, p) for p in writer.missing(EVENTS, place)]
        for _, secret_ref in secrets_of(new):
            where = Place(project=secret_ref.project)
            given += [(where, p) for p in writer.missing(SECRET_VALUE, where)]
        return given
    if isinstance(new, GitSource):
        return _find_excess_of_source(index, writer, new, old)
    if isinstance(new, Image):
        # In a project its instances tell the values to whoever may make them; elsewhere nobody has that right.
        named = secret_of(new) if new.metadata.project is None else None
        where = Place(project=named.project) if named else TOP
        return [(where, p) for p in writer.missing(SECRET_VALUE, where)] if named else ()
    if isinstance(new, APIKey):
        owner = owner_of_key(new)
        if owner == who:
            return ()
        if owner.kind == User.KIND:
            # A key outlives what its user may do today, so only the user makes one, or who may everything.
            return [(TOP, p) for p in writer.missing(EVERYTHING, TOP)]
        return find_excess_of(index, writer, owner)
    return ()


def _find_excess_of_source(index: AccessIndex, writer: Grants, new: GitSource, old: AnyResource | None) -> Excess:
    """Return what whoever says what a Git source applies gets by it, and by the secrets that are used there.

    Anybody who may write it may suspend it and change how often it looks.
    """
    harmless = {"suspend": new.spec.suspend, "interval_seconds": new.spec.interval_seconds}
    resumes = isinstance(old, GitSource) and old.spec.suspend and not new.spec.suspend
    if isinstance(old, GitSource) and not resumes and old.spec.model_copy(update=harmless) == new.spec:
        return ()
    project = new.metadata.project
    given = list(find_excess_of(index, writer, Ref("ServiceAccount", project, new.spec.service_account)))
    if new.spec.credentials or new.spec.ca_secret or new.spec.decryption or new.spec.webhook:
        # They are sent to where the writer says, and used on what the writer gives.
        place = Place(project=project)
        given += [(place, p) for p in writer.missing(SECRET_VALUE, place)]
    return given


def find_excess_of(index: AccessIndex, writer: Grants, subject: Ref) -> Excess:
    """Return what the subject may do, once it is enabled, beyond the writer: who can act as it gets that."""
    return writer.missing_of(index.find_potential(subject))


def _find_excess_of_group(index: AccessIndex, writer: Grants, name: str) -> Excess:
    """Return what being in the group gives; one that is missing may be made by somebody else, with any rights."""
    if index.find_place(get_kind(Group.KIND), None, name, verb="get") is None:
        return [(TOP, p) for p in writer.missing(EVERYTHING, TOP)]
    return find_excess_of(index, writer, Ref(Group.KIND, None, name))


def _find_right_to_fill(index: AccessIndex, writer: Grants, name: str) -> Excess:
    """Return the right to say who is in the group if the writer lacks it: a mapping puts people into it, who get what
    it is given later, too."""
    definition = get_kind(Group.KIND)
    place = index.find_place(definition, None, name, verb="update")
    if place is None or writer.may("update", definition, place):
        return ()
    return ((place, Permission("update", Group.KIND)),)


def find_outlasting(
    index: AccessIndex,
    have_until: Callable[[datetime | None], Grants],
    ends: Iterable[datetime],
    new: AnyResource,
    old: AnyResource | None,
) -> str:
    """Return what is wrong with a write that gives for longer what the writer has for a time; else empty.

    So nobody makes his own grants last, nor hands them to somebody before they end.

    Args:
        index: the index.
        have_until: what the writer may do at least until then; None: for good.
        ends: when grants of the writer end.
        new: the object as it would be, which gives nothing that the writer does not have now.
        old: as it is, None when it is new.
    """
    if isinstance(new, APIKey) or (old is not None and _gives_no_more(new, old)):
        return ""
    until = new.spec.expires_at if isinstance(new, RoleBinding) else None
    excess = find_excess(index, have_until(until), None, new, old)
    if not excess:
        return ""
    why = describe(excess, what="for longer than he has it")
    if not isinstance(new, RoleBinding):
        return f"{why}; {'members of a group stay' if isinstance(new, Group) else f'this {new.kind} stays'}"
    latest = max((end for end in ends if not find_excess(index, have_until(end), None, new, old)), default=None)
    return f"{why}; set spec.expiresAt to {format_time(latest)} at the latest" if latest is not None else why


def _gives_no_more(new: AnyResource, old: AnyResource) -> bool:
    """Return whether nobody has anything by the change that he does not have without, so whoever has it for a time may
    make it, above all to stop something."""
    if isinstance(new, RoleBinding) and isinstance(old, RoleBinding):
        return not _is_later(new.spec.expires_at, old.spec.expires_at)
    if isinstance(new, Role) and isinstance(old, Role):
        return not covers(old.spec.rules, new.spec.rules)
    if isinstance(new, IdentityProvider) and isinstance(old, IdentityProvider):
        shown = {"display_name": new.spec.display_name, "offered": new.spec.offered}
        return not new.spec.enabled or old.spec.model_copy(update=shown) == new.spec
    if isinstance(new, NotificationTarget) and new.spec.suspended:
        return True
    return bool(new.spec == old.spec)


def _is_later(one: datetime | None, other: datetime | None) -> bool:
    """Return whether an expiry is after the other; None: never."""
    return other is not None and (one is None or one > other)


def owner_of_key(key: APIKey) -> Ref:
    """Return as whom the key acts."""
    project = key.metadata.project
    if project is not None:
        return Ref("ServiceAccount", project, key.spec.service_account or "")
    return Ref("User", None, key.spec.user or "")


def describe_missing_role(index: AccessIndex, new: AnyResource) -> str:
    """Return a sentence for who binds a role that is not there, which counts as one that may everything; else empty."""
    if not isinstance(new, RoleBinding) or index.role_rules(new.spec.role) is not None:
        return ""
    return f"there is no Role {new.spec.role}; only who may everything binds one before it is there"


def describe(excess: Excess, *, what: str = "what he does not have", most: int = 5) -> str:
    """Return a sentence for the writer."""
    named = [f"{permission} {_where(place)}" for place, permission in excess[:most]]
    more = f" and {len(excess) - most} more" if len(excess) > most else ""
    return f"nobody grants {what}: {', '.join(named)}{more}"


def _where(place: Place) -> str:
    if place.project is not None:
        return f"in project {place.project}"
    return f"in domain {place.domain}" if place.domain is not None else "in the whole cloud"
