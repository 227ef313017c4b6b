"""Questions of who may what, as they are on the wire: requests to ``/api/v1/access/...`` and their answers."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from vcstack.specs.meta import Time
from vcstack.specs.model import Model, Name
from vcstack.specs.permissions import Rule, RuleSelector, RuleVerb

_NAME = "[a-z0-9-]{1,63}"
SubjectName = Annotated[
    str, StringConstraints(pattern=rf"^(user:{_NAME}|group:{_NAME}|serviceaccount:{_NAME}/{_NAME})$")
]
KindName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]{0,62}$")]
SubresourceName = Annotated[str, StringConstraints(pattern=r"^[a-z]{0,63}$")]


class ReviewRequest(Model):
    """May somebody do something?"""

    subject: SubjectName | None = None
    """user:alice, group:operators or serviceaccount:demo/ci; default the caller."""
    verb: RuleVerb
    """get, list, watch, create, update or delete."""
    kind: KindName
    """The kind, e.g. Instance."""
    subresource: SubresourceName = ""
    """E.g. console; default the object itself."""
    project: Name | None = None
    """Where; default outside of projects, which for a kind of projects is all of them."""
    domain: Name | None = None
    """Where, of what lies outside of projects; default the top of the tree."""
    name: Name | None = None
    """The object; its labels and its domain count then."""


class SeenGroups(Model):
    """Groups that an identity provider gives a user, as far as is known without a login."""

    provider: str
    """The IdentityProvider."""
    groups: list[str]
    """The groups here, by its groupMapping of now."""
    seen_at: Time
    """When the provider said so last. They count in sessions that began there, each as of its own last refresh."""


class ReviewReply(Model):
    """Whether somebody may do something."""

    subject: str
    """Who."""
    allowed: bool
    """Whether it is allowed, to some objects at least."""
    label_selectors: list[str] = Field(default_factory=list)
    """Only on objects that one of these selects; empty: on all."""
    message: str
    """The answer as a sentence."""
    seen_groups: SeenGroups | None = None
    """Groups of an identity provider that the answer rests on; absent when the caller asks about itself, whose
    session has them."""


class RightsRequest(Model):
    """What may somebody do?"""

    subject: SubjectName | None = None
    """user:alice, group:operators or serviceaccount:demo/ci; default the caller."""
    project: Name | None = None
    """Only what holds there; default everywhere."""


class Right(Model):
    """A rule, and where it holds. Neither project nor domain: in the whole cloud."""

    project: str | None = None
    """The project."""
    domain: str | None = None
    """The domain, with all below it."""
    rule: Rule
    """What it allows."""


class RightsReply(Model):
    """What somebody may do."""

    subject: str
    """Who."""
    rights: list[Right]
    """What it may, of what the caller may know."""
    restriction: list[Rule] | None = None
    """What the caller's API key allows at most. Absent: all of it."""
    seen_groups: SeenGroups | None = None
    """Groups of an identity provider that it rests on, as in ReviewReply."""


class PlanRequest(Model):
    """What would these objects grant and take away, if they were written?"""

    objects: Annotated[list[dict[str, Any]], Field(max_length=1000)]
    """Objects as they would be, with kind and metadata. Kinds that give nothing are left aside."""


class PlanChange(Model):
    """Something that somebody may do then and not now, or the other way round."""

    subject: str
    """Who: user:alice, group:operators, serviceaccount:demo/ci."""
    granted: bool
    """false: it is taken away."""
    verbs: list[str]
    """The verbs."""
    kind: str
    """The kind."""
    subresource: str = ""
    """The subresource; empty: the objects themselves."""
    label_selector: RuleSelector = ""
    """Only objects that it selects; empty: all."""
    project: str | None = None
    """Where, when it is a project."""
    domain: str | None = None
    """Where, when it is a domain with all below it. Neither: in the whole cloud."""
    seen_at: Time | None = None
    """Of a user with groups of an identity provider: when it said them last."""


class PlanReply(Model):
    """What would change."""

    changes: list[PlanChange]
    """In the places whose grants the caller may see."""
