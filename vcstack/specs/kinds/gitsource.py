"""GitSource: a repository whose manifests are applied, with the rights of a service account of the project."""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from vcstack.specs.errors import Cause
from vcstack.specs.kinds.secret import SecretKey
from vcstack.specs.meta import APPLY_SET_LABEL, Time
from vcstack.specs.model import Model, Name, RefersTo
from vcstack.specs.registry import Column, KindDefinition, Reference, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Ref, Resource, Spec, Status

FETCHED: Final = "Fetched"
"""True when the repository was read, at the commit that status names."""
VERIFIED: Final = "Verified"
"""Only where signatures are asked for: True when the commit has one of the keys'."""
APPLIED: Final = "Applied"
"""True when the objects are as the commit says."""
HEALTHY: Final = "Healthy"
"""True when the objects are well: all are there and Ready. Ready does not wait for it: a repository is followed when it
is applied, and a guest that fails later does not change that. Who needs both waits for this one too."""
RECONCILING: Final = "Reconciling"
"""True while there is something to do that will be tried again by itself."""
STALLED: Final = "Stalled"
"""True when somebody has to do something: nothing gets better by trying again."""
REQUESTED: Final = "vcstack.io/reconcile-requested"
"""An annotation: whenever it changes, the repository is asked at once. vcctl reconcile and webhooks write it."""
APPROVED: Final = "vcstack.io/prune-approved"
"""An annotation: the commit whose pruning is approved although it takes more than spec.pruneThresholdPercent."""
FINALIZER: Final = "vcstack.io/applied-objects"
"""Held until it is settled what becomes of the objects."""
MANAGER: Final = "gitsource"
"""What its field managers' names begin with."""
SHOWN: Final = 50
"""Objects that status names."""

RelativePath = Annotated[
    str,
    StringConstraints(pattern=r"^$|^[A-Za-z0-9_][A-Za-z0-9_. -]*(/[A-Za-z0-9_][A-Za-z0-9_. -]*)*$", max_length=255),
]
"""A folder in the repository; no step of it begins with a dot."""
RefName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_/.-]{0,198}[A-Za-z0-9_-])?$", max_length=200)
]
Pem = Annotated[str, StringConstraints(max_length=65536)]


class Pruning(StrEnum):
    """What becomes of objects that no manifest names any more."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class OnConflict(StrEnum):
    """What becomes of fields that somebody else has changed."""

    TAKE_OVER = "TakeOver"
    REPORT = "Report"


class DeletionPolicy(StrEnum):
    """What becomes of the objects when the source is deleted."""

    ORPHAN = "Orphan"
    DELETE = "Delete"


class GitReference(Model):
    """Which commit is wanted; one of the three."""

    branch: RefName | None = None
    """The newest commit of a branch. Default main."""
    tag: RefName | None = None
    """The commit of a tag."""
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")] | None = None
    """Exactly that commit; the server has to give it by its name."""

    @property
    def full_name(self) -> str:
        """Return what is asked of the server."""
        if self.commit:
            return self.commit
        return f"refs/tags/{self.tag}" if self.tag else f"refs/heads/{self.branch or 'main'}"


class Verification(Model):
    """Whose signature a commit must have. One good signature of any of the keys will do."""

    open_pgp_keys: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^\s*-----BEGIN PGP PUBLIC KEY BLOCK-----", max_length=65536)]],
        Field(max_length=16),
    ] = Field(default_factory=list)
    """Public keys of OpenPGP, armored."""
    ssh_keys: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+( \S*)?$")]],
        Field(max_length=64),
    ] = Field(default_factory=list)
    """Public keys of SSH, one line each, as in id_ed25519.pub."""


class GitSourceSpec(Spec):
    """Where the manifests are, and how they are applied."""

    url: Annotated[str, StringConstraints(pattern=r"^(https?|ssh)://[^\s@]*(@[^\s@]*)?$", max_length=2048)]
    """https://HOST/PATH or ssh://USER@HOST/PATH. Public addresses only, but for what the operator allows."""
    ref: GitReference = Field(default_factory=GitReference)
    """Which commit. Default the newest of branch main."""
    path: RelativePath = ""
    """The folder with the manifests (.yaml, .yml, .json), with all below it. Default the whole repository."""
    overlays: Annotated[list[RelativePath], Field(max_length=8)] = Field(default_factory=list)
    """Folders laid over it, in this order: an object that is there already is changed field by field, another one is
    added."""
    interval_seconds: Annotated[int, Field(ge=30, le=7 * 86400)] = 300
    """How often the server is asked for a new commit, and the objects are looked at. Default 300."""
    service_account: Annotated[Name, RefersTo("ServiceAccount")]
    """As whom it is applied: nothing is written that this account of the project may not write. Who names it must have
    all of its rights."""
    credentials: Annotated[Name | None, RefersTo("Secret")] = None
    """The Secret with which the server is asked: of type BasicAuth for https, SSHPrivateKey for ssh."""
    known_hosts: Pem = ""
    """For ssh, and needed there: the server's public keys, as ssh-keyscan prints them."""
    ca_certificates: Pem = ""
    """For https: whom to trust, PEM. Default the machine's."""
    ca_secret: SecretKey | None = None
    """For https: a Secret's value with certificates of whom to trust, PEM, instead."""
    verify: Verification | None = None
    """Whose signature the commit must have. Default nobody's."""
    decryption: SecretKey | None = None
    """The age identities with which files encrypted by SOPS are read."""
    prune: Pruning = Pruning.ENABLED
    """Enabled: what no manifest names any more is deleted. An object with the label vcstack.io/prune=Disabled never is.
    Default Enabled."""
    prune_threshold_percent: Annotated[int, Field(ge=0, le=100)] = 50
    """If more of the objects than that were to be deleted at once, or all of them, nothing is until that is approved.
    Default 50."""
    on_conflict: OnConflict = OnConflict.TAKE_OVER
    """Fields that somebody else changed: TakeOver sets them back, Report leaves them and says whose they are. What
    another GitSource applies is never taken over. Default TakeOver."""
    deletion_policy: DeletionPolicy = DeletionPolicy.ORPHAN
    """What becomes of the objects when the source is deleted: Orphan leaves them, Delete deletes them, too, as the
    service account, all but those that are labelled not to be pruned and those that the source names. A source that is
    suspended, or goes with its project, leaves them. Default Orphan."""
    suspend: bool = False
    """true: nothing is fetched or applied."""
    webhook: SecretKey | None = None
    """The secret of a webhook that asks for a new look at once: POST /api/v1/webhooks/git/PROJECT/NAME, signed as
    GitHub and Gitea do."""


class GitObject(Model):
    """An object, and what is with it."""

    kind: str
    """Its kind."""
    project: str | None = None
    """Its project."""
    object: str
    """Its name."""
    result: str
    """Created, Configured, Pruned, Failed, Claimed, Kept or Held."""
    message: str = ""
    """What differed, or why it could not be applied."""


class AcceptedCommit(Model):
    """A commit that was good to be applied as a whole, and what it was so for."""

    commit: str
    """Its name."""
    url: str
    """The address that it is of."""
    ref: str
    """The reference."""
    path: str = ""
    """The folder that is applied."""
    overlays: list[str] = Field(default_factory=list)
    """What is laid over it."""


class GitSourceStatus(Status):
    """What was observed."""

    commit: str | None = None
    """The commit that was fetched last."""
    commit_subject: str | None = None
    """The first line of its message."""
    commit_time: Time | None = None
    """When it was made, as it says."""
    accepted: AcceptedCommit | None = None
    """The commit that was applied last, as far as it could be: what is held in place while a newer one is refused."""
    applied_commit: str | None = None
    """The commit that was applied last, all of it."""
    revision: str | None = None
    """The same for people: the branch or tag and how the commit begins."""
    applied_at: Time | None = None
    """When."""
    last_attempt_at: Time | None = None
    """When fetching or applying was last begun that came to something new."""
    handled_request: str | None = None
    """The annotation vcstack.io/reconcile-requested as it was last acted on."""
    objects: int | None = None
    """How many objects the manifests have."""
    changed: int | None = None
    """How many of them the last attempt had to create or change."""
    failed: int | None = None
    """How many of them could not be applied."""
    pruned: int | None = None
    """How many objects the last attempt deleted."""
    differing: list[GitObject] = Field(default_factory=list)
    """What was not as it should be at the last attempt: what it changed, and what it could not; the first of them."""
    apply_set: str | None = None
    """The value of the label vcstack.io/apply-set on the objects."""


class GitSource(Resource[GitSourceSpec, GitSourceStatus]):
    """A repository whose manifests are applied, with the rights of a service account of the project."""

    KIND = "GitSource"
    status: GitSourceStatus = Field(default_factory=GitSourceStatus)

    @property
    def set_name(self) -> str:
        """Return the name of its apply set: its own, and what tells it from another source of that name."""
        return f"git-{_tell_apart(self.metadata.name, self.uid)}"

    @property
    def manager(self) -> str:
        """Return the name of its field manager."""
        return manager_of(self.metadata.name, self.uid)

    def has_applied(self, metadata: Mapping[str, Any]) -> bool:
        """Return whether the object that this is the metadata of, as JSON, is in the set.

        The label alone does not say so, for anybody may write it, but who wrote it: the API lets nobody else use the
        name of the source's field manager.
        """
        if (metadata.get("labels") or {}).get(APPLY_SET_LABEL) != self.set_name:
            return False
        entries = metadata.get("managedFields") or ()
        return any(e["manager"] == self.manager and _owns_label(e["fields"]) for e in entries)


def manager_of(name: str, uid: str) -> str:
    """Return the name of a source's field manager."""
    return f"{MANAGER}:{_tell_apart(name, uid)}"


def _tell_apart(name: str, uid: str) -> str:
    return f"{name[:40].rstrip('-')}-{hashlib.sha256(uid.encode()).hexdigest()[:8]}"


def _owns_label(fields: Mapping[str, Any]) -> bool:
    labels = fields.get("f:metadata", {}).get("f:labels", {})
    return f"f:{APPLY_SET_LABEL}" in labels


def _check(new: GitSource, old: GitSource | None, referenced: Referenced) -> Sequence[Cause]:
    """One reference is given, and what the way of reaching the server needs."""
    spec, causes = new.spec, []

    def blame(field: str, reason: str, message: str) -> None:
        causes.append(Cause(field=f"spec.{field}", reason=reason, message=message))

    if sum(bool(v) for v in (spec.ref.branch, spec.ref.tag, spec.ref.commit)) > 1:
        blame("ref", "FieldValueInvalid", "give one of branch, tag and commit")
    for name, value in (("branch", spec.ref.branch), ("tag", spec.ref.tag)):
        if value and (".." in value or "//" in value or value.endswith(".lock") or "/." in value):
            blame(f"ref.{name}", "FieldValueInvalid", "is no name that Git takes")
    if spec.url.startswith("ssh://"):
        if not spec.known_hosts.strip():
            message = "is needed for ssh: the server's public keys, as ssh-keyscan HOST prints them; compare them first"
            blame("knownHosts", "FieldValueRequired", message)
        if not spec.credentials:
            blame("credentials", "FieldValueRequired", "is needed for ssh: a Secret of type SSHPrivateKey")
        if spec.ca_certificates.strip() or spec.ca_secret:
            blame("caSecret" if spec.ca_secret else "caCertificates", "FieldValueForbidden", "is for https")
    elif "@" in spec.url:
        blame("url", "FieldValueInvalid", "must not have a user or password in it; put them into spec.credentials")
    if spec.ca_secret is not None and spec.ca_certificates.strip():
        blame("caSecret", "FieldValueForbidden", "give it or caCertificates, not both")
    if spec.verify is not None and not (spec.verify.open_pgp_keys or spec.verify.ssh_keys):
        blame("verify", "FieldValueRequired", "give openPgpKeys or sshKeys, or leave verify out")
    return causes


def _must_exist(source: GitSource) -> Sequence[Reference]:
    ref = Ref("ServiceAccount", source.metadata.project, source.spec.service_account)
    return (Reference("spec.serviceAccount", ref),)


register(
    KindDefinition(
        model=GitSource,
        plural="gitsources",
        uid_prefix="git",
        scope=Scope.PROJECT,
        short_names=("gs",),
        finalizers=(FINALIZER,),
        columns=(
            Column("URL", "spec.url"),
            Column("REVISION", "status.revision"),
            Column("OBJECTS", "status.objects"),
            Column("FAILED", "status.failed"),
            Column("APPLIED", "status.appliedAt", format="age"),
            Column("STATUS", "status.conditions[Applied].reason"),
            Column("HEALTHY", "status.conditions[Healthy].status", wide=True),
            Column("FETCHED", "status.commit", wide=True),
            Column("ACCOUNT", "spec.serviceAccount", wide=True),
            Column("SUSPENDED", "spec.suspend", default="false", wide=True),
        ),
        view=(
            ViewColumn("url", "spec.url"),
            ViewColumn("service_account", "spec.serviceAccount"),
            ViewColumn("applied_commit", "status.appliedCommit"),
            ViewColumn("objects", "status.objects", "bigint"),
            ViewColumn("failed", "status.failed", "bigint"),
        ),
        ready_when=(FETCHED, APPLIED),
        check=_check,
        must_exist=_must_exist,
        apply_order=90,
        category="gitops",
        example={
            "metadata": {"project": "demo", "name": "shop"},
            "spec": {"url": "https://git.example.com/shop.git", "path": "cloud", "serviceAccount": "ci"},
            "status": {"commit": "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c", "objects": 12},
        },
    )
)
