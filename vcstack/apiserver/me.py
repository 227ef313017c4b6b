"""``/api/v1/me``: who the caller is, and what was given to it where."""

from starlette.responses import Response

from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.places import Place
from vcstack.apiserver.identity import Identity, Role
from vcstack.apiserver.replies import model_reply
from vcstack.specs.kinds.user import User
from vcstack.specs.meta import Time
from vcstack.specs.model import Model
from vcstack.specs.permissions import ADMIN, Rule, built_in_roles
from vcstack.specs.registry import definition_of, get_kind
from vcstack.specs.settings import LOGIN_NOTICE, SettingReader


class Given(Model):
    """A role that the caller has somewhere. Neither project nor domain: in the whole cloud."""

    role: str
    """Its name."""
    project: str | None = None
    """Where, when it is one project."""
    domain: str | None = None
    """Where, when it is a domain with all below it."""
    expires_at: Time | None = None
    """Until when."""
    rules: list[Rule]
    """What it allows."""


class Me(Model):
    """Who asks."""

    subject: str
    """As it stands in history: admin, user:alice, serviceaccount:demo/ci, system:host:h1."""
    role: str
    """What kind of caller it is: Admin, User, ServiceAccount, Host."""
    name: str
    """Its name alone."""
    project: str | None = None
    """Where a service account lives."""
    session: str | None = None
    """The session that the token is of."""
    key: str | None = None
    """The uid of the API key that the token is of."""
    methods: list[str] | None = None
    """How the session's user logged in: pwd, otp, mfa as RFC 8176 calls it, oidc and ldap."""
    restriction: list[Rule] | None = None
    """What the API key allows at most. Absent: all that its owner may."""
    groups: list[str]
    """The groups that the user is in, by their members or by what its identity provider says."""
    roles: list[Given]
    """What was given to the caller, by itself or by its groups."""
    projects: list[str]
    """The projects that it may see; not listed when it may see all."""
    all_projects: bool
    """Whether it may see all projects."""
    notice: str | None = None
    """What users are to be told who log in (the setting login.notice)."""


def describe(index: AccessIndex, settings: SettingReader, identity: Identity) -> Response:
    """Return the answer about the caller."""
    me = _describe(index, identity)
    if identity.account is not None and identity.account.kind == User.KIND:
        place = index.find_place(definition_of(User), None, identity.account.name, verb="get")
        me.notice = settings.text(LOGIN_NOTICE, domain=place.domain if place else None) or None
    return model_reply(me)


def _describe(index: AccessIndex, identity: Identity) -> Me:
    account = identity.account
    if account is None:
        rules = list(built_in_roles()[ADMIN].rules)
        admin = identity.role is Role.ADMIN
        return Me(
            subject=identity.subject,
            role=identity.role.value,
            name=identity.host or identity.subject,
            groups=[],
            roles=[Given(role=ADMIN, rules=rules)] if admin else [],
            projects=[],
            all_projects=admin,
        )
    grants = index.grants(account, identity.groups)
    if identity.key is not None and identity.key.rules:
        grants = grants.restricted((identity.key.uid, identity.key.generation), identity.key.rules)
    projects = grants.projects_for("get", get_kind("Project"))
    access = identity.access
    return Me(
        subject=identity.subject,
        role=identity.role.value,
        name=account.name,
        project=account.project,
        session=(access.session or None) if access else None,
        methods=list(access.methods) if access and access.session else None,
        key=identity.key.uid if identity.key else None,
        restriction=list(identity.key.rules) if identity.key and identity.key.rules else None,
        groups=sorted(index.groups_of(account, identity.groups)),
        roles=[
            Given(
                role=binding.role,
                project=binding.place.project,
                domain=binding.place.domain,
                expires_at=binding.expires_at,
                rules=list(index.role_rules(binding.role) or ()),
            )
            for binding in sorted(index.bindings_for(account, identity.groups), key=lambda b: (_order(b.place), b.role))
        ],
        projects=sorted(projects or ()),
        all_projects=projects is None,
    )


def _order(place: Place) -> tuple[str, str]:
    return place.domain or "", place.project or ""
