"""Git sources: fetches a commit, reads its manifests, and applies them as a service account of the project.

Two kinds of power are kept apart. What is fetched and read needs only the network and is done with the controller's
own; every object is written through the API with a short-lived token of the service account, so that its rights,
quotas, policies and the audit trail are those of everybody else. Nothing is deleted unless everything could be read and
applied first.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Container, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from vcstack.apiclient.wire import WireClient
from vcstack.applying.manifests import BadManifest, Manifest, collect
from vcstack.applying.overlays import lay_over
from vcstack.applying.sets import Applier, Options, Outcome, Result, is_kept, project_in, set_of
from vcstack.applying.sops import read_identities
from vcstack.controllers.backends.git import DEPTH, TIMED_OUT, Commit, GitError, GitRepositories, Remote, Signers
from vcstack.controllers.gitsource_health import AppliedSets, member_kinds
from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller, asked_of
from vcstack.runtime.places import Holders, Places
from vcstack.runtime.reconciler import Result as Next
from vcstack.runtime.status import condition_of, write_status
from vcstack.runtime.users import candidates_of, name_some, refuse_deletion
from vcstack.specs.errors import (
    NAMES_NOTHING,
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    QuotaExceeded,
    Unauthorized,
    Unavailable,
)
from vcstack.specs.kinds.gitsource import (
    APPLIED,
    APPROVED,
    FETCHED,
    FINALIZER,
    HEALTHY,
    RECONCILING,
    REQUESTED,
    SHOWN,
    STALLED,
    VERIFIED,
    AcceptedCommit,
    DeletionPolicy,
    GitObject,
    GitSource,
    OnConflict,
    Pruning,
)
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.rolebinding import RoleBinding
from vcstack.specs.kinds.secret import Secret
from vcstack.specs.kinds.serviceaccount import ServiceAccount
from vcstack.specs.meta import Condition, ConditionStatus, format_time
from vcstack.specs.plan import FieldChange
from vcstack.specs.resource import AnyResource, Ref

WORKERS: Final = 8
"""Sources that are worked on at once; ``runtime.places`` says whose, so that nobody's slow servers hold all of them."""
BUSY_SECONDS: Final = 2.0
APPLY_SECONDS: Final = 300.0
"""For applying and pruning; the account's token lasts longer."""
SETTLE_SECONDS: Final = 5.0
"""Between two looks at what members of the set were changed to."""
AHEAD_SECONDS: Final = 10.0
"""A look may be asked for so long before it is due; what is further away is somebody's wrong clock."""
GONE_SECONDS: Final = 2.0
"""Between two looks at whether objects that were deleted with their source are gone."""
RETRY_SECONDS: Final = 20.0
RETRY_MOST_SECONDS: Final = 600.0
MESSAGE_LIMIT: Final = 1000


class SourceAccess(Protocol):
    """What the manager's program gives: secrets, and the API as somebody else."""

    async def read_secret(self, project: str, name: str) -> Mapping[str, str]:
        """Return a Secret's values. Raises NotFound."""

    def connect(self, source: GitSource, account: ServiceAccount) -> AbstractAsyncContextManager[WireClient]:
        """Give a client that speaks as the account, on behalf of the source."""


GIT: BackendKey[GitRepositories] = BackendKey("git")
SOURCE_ACCESS: BackendKey[SourceAccess] = BackendKey("git-source-access")


class Held(Exception):
    """The source cannot go on: which condition says so, its reason and a sentence."""

    def __init__(self, type_: str, reason: str, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.type = type_
        self.reason = reason
        self.message = message
        self.final = final
        """Whether somebody has to do something."""


class Refused(Held):
    """A commit is refused as a whole: nothing of it was written."""


class Claimed(Exception):
    """An object is another source's."""

    def __init__(self, other: GitSource) -> None:
        super().__init__(f"is applied by GitSource {other.metadata.project}/{other.metadata.name} already")


@dataclass(slots=True)
class _Known:
    """What is remembered of a source while this term lasts."""

    fetch_at: float = 0.0
    """When the server is to be asked again, monotonic."""
    asked_by: tuple[object, ...] = ()
    """The account and the Secrets as it was asked last."""
    refusal: Held | None = None
    """Why it gave nothing then."""
    refusals: int = 0
    """How often it did so, one after the other."""
    commit: Commit | None = None
    """What it gave last, which is here until it gives something newer, whole."""
    origin: tuple[str, str] = ("", "")
    """Of which address and reference that is."""
    failures: int = 0
    settled_at: float = 0.0


@dataclass(slots=True)
class _Attempt:
    """What one look has come to."""

    fields: dict[str, Any] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)
    differing: list[GitObject] = field(default_factory=list)


class GitSourceReconciler:
    """Makes projects as repositories say."""

    def __init__(self, context: ControllerContext, sets: AppliedSets) -> None:
        self._context = context
        self._sets = sets
        self._clock = context.clock
        self._git = context.backend(GIT)
        self._access = context.backend(SOURCE_ACCESS)
        self._sources = context.informer(GitSource)
        self._accounts = context.informer(ServiceAccount)
        self._projects = context.informer(Project)
        self._secrets = context.informer(Secret)
        self._known: dict[str, _Known] = {}
        self._uids: dict[Ref, str] = {}
        self._holders = Holders(context)
        self._places = Places(WORKERS)

    async def reconcile(self, source: GitSource | None, ref: Ref) -> Next | None:
        """Make it so, once."""
        if source is None or (source.deleting and FINALIZER not in source.metadata.finalizers):
            self._forget(self._uids.pop(ref, source.uid if source is not None else ""))
            return None
        if self._uids.get(ref, source.uid) != source.uid:
            self._forget(self._uids[ref])
        self._uids[ref] = source.uid
        holder = self._holders.find(source.metadata.project)
        if not self._places.take(holder):
            return Next(requeue_after=BUSY_SECONDS)
        try:
            return await (self._finalize(source) if source.deleting else self._reconcile(source))
        finally:
            self._places.give_back(holder)

    def users_of(self, resource: Secret | ServiceAccount) -> Iterator[Ref]:
        """Yield the sources that name a Secret, or act as a ServiceAccount."""
        for source in self._sources.list():
            spec = source.spec
            if isinstance(resource, ServiceAccount):
                named: set[str | None] = {spec.service_account}
            else:
                keys = (spec.ca_secret, spec.decryption)
                named = {spec.credentials, *(key.name for key in keys if key is not None)}
            if source.metadata.project == resource.metadata.project and resource.metadata.name in named:
                yield source.ref

    def _forget(self, uid: str) -> None:
        self._known.pop(uid, None)
        if uid:
            self._git.remove(uid)

    async def _finalize(self, source: GitSource) -> Next | None:
        """Delete the objects where that is wanted, and let go of the source when they are gone."""
        self._forget(source.uid)
        project = self._projects.find(source.metadata.project or "")
        leaves = source.spec.suspend or project is None or project.deleting
        if source.spec.deletion_policy is DeletionPolicy.DELETE and not leaves:
            try:
                left = await self._delete_members(source)
            except Held as held:
                message = f"{held.message}. With spec.deletionPolicy: Orphan the objects stay"
                await refuse_deletion(self._context, source, held.reason, message, after_seconds=GONE_SECONDS)
            if left:
                names = name_some(sorted(_ref(wire) for wire in left))
                await refuse_deletion(
                    self._context, source, "NotEmpty", f"Waiting for {names} to be gone.", after_seconds=GONE_SECONDS
                )
        await self._context.client.remove_finalizer(source, FINALIZER)
        return None

    async def _delete_members(self, source: GitSource) -> list[dict[str, Any]]:
        """Delete what is in the set as the account, and return what is there still. Raises Held."""
        account = self._find_account(source)
        try:
            async with asyncio.timeout(APPLY_SECONDS), self._access.connect(source, account) as client:
                applier = Applier(client, source.manager, self._clock)
                found = await _find_members(source, applier)
                await self._demand_seen(source, {w["metadata"]["uid"] for w in found})
                members = [w for w in found if not _is_left(source, w)]
                stale = await applier.find_stale((), source.set_name, members=members)
                # The account's own rights may be among them.
                stale.sort(key=lambda wire: wire["kind"] == RoleBinding.KIND)
                failed = [error for _, error in await applier.prune(stale) if error is not None]
        except TimeoutError as error:
            raise Held(APPLIED, TIMED_OUT, f"deleting took longer than {APPLY_SECONDS:.0f} s") from error
        except ApiError as error:
            raise Held(APPLIED, error.REASON, error.message) from error
        if failed:
            first = failed[0]
            reason = first.REASON if isinstance(first, ApiError) else "PruneFailed"
            raise Held(APPLIED, reason, f"{len(failed)} objects could not be deleted: {first}")
        return members

    async def _demand_seen(self, source: GitSource, seen: Container[str]) -> None:
        """Return when the account sees all that is to be deleted; where it may nothing, nothing seems to be there."""
        for member in self._sets.members_of(source):
            if member.uid in seen or _is_left(source, member.to_wire()):
                continue
            try:
                found = await self._context.client.get(type(member), member.metadata.name, member.metadata.project)
            except NotFound:
                continue
            if found.uid == member.uid:
                message = f"the ServiceAccount {source.spec.service_account} may not see {member.ref}"
                raise Held(APPLIED, Forbidden.REASON, message)

    async def _reconcile(self, source: GitSource) -> Next | None:
        if source.spec.suspend:
            await self._write_suspended(source)
            return None
        known = self._known.setdefault(source.uid, _Known())
        now = self._clock.monotonic()
        asks = self._asks(source, known, now)
        if not asks and (turn := self._rest_until_request(source)):
            return Next(requeue_after=turn)
        if not asks and _kept(source, known) is None:
            return Next(requeue_after=known.fetch_at - now)
        rest = known.settled_at + SETTLE_SECONDS - now
        if not asks and rest > 0:
            return Next(requeue_after=rest)
        attempt = _Attempt()
        try:
            await self._look(source, attempt, known, asks=asks)
        except Held as held:
            known.failures += 1
            after = _retry_after(source, held, known.failures)
            await self._write_held(source, attempt, held, known.refusal)
        else:
            known.failures = 0
            after = float(source.spec.interval_seconds)
        known.settled_at = self._clock.monotonic()
        if asks and (known.refusal is None or known.fetch_at <= known.settled_at):
            known.fetch_at = known.settled_at + after
        return Next(requeue_after=max(min(after, known.fetch_at - known.settled_at), 1.0))

    def _asks(self, source: GitSource, known: _Known, now: float) -> bool:
        """Return whether the server is asked; one that refused only when it is time, or somebody did something."""
        if known.fetch_at <= now or self._is_new(source):
            return True
        if known.refusal is not None:
            return known.asked_by != self._asked_by(source)
        return _kept(source, known) is None or self._is_approved_now(source)

    def _asked_by(self, source: GitSource) -> tuple[object, ...]:
        """Return what an answer of the server may depend on besides the source: which account and Secrets there are."""
        spec, project = source.spec, source.metadata.project
        names = [spec.credentials, spec.ca_secret.name if spec.ca_secret is not None else None]
        found = [
            self._accounts.get(Ref(ServiceAccount.KIND, project, spec.service_account)),
            *(self._secrets.get(Ref(Secret.KIND, project, name)) for name in names if name is not None),
        ]
        return tuple((each.uid, each.metadata.generation) if each is not None else None for each in found)

    def _is_new(self, source: GitSource) -> bool:
        """Return whether somebody asked for a look: by a change, or by the annotation."""
        fetched = source.find_condition(FETCHED)
        if fetched is None or fetched.observed_generation != source.metadata.generation:
            return True
        requested = (source.metadata.annotations.get(REQUESTED) or None) != source.status.handled_request
        return requested and not self._rest_until_request(source)

    def _rest_until_request(self, source: GitSource) -> float:
        """Return in how many seconds a look is asked for: webhooks ask for one after what is pushed just now."""
        text = source.metadata.annotations.get(REQUESTED)
        if not text or text == source.status.handled_request:
            return 0.0
        try:
            rest = (datetime.fromisoformat(text) - self._clock.now()).total_seconds()
        except (ValueError, TypeError):  # any text will do
            return 0.0
        return rest if 0 < rest <= AHEAD_SECONDS else 0.0

    def _is_approved_now(self, source: GitSource) -> bool:
        applied = source.find_condition(APPLIED)
        held = applied is not None and applied.reason in ("PruneProtected", "HistoryRewritten")
        return held and source.metadata.annotations.get(APPROVED) == source.status.commit

    async def _look(self, source: GitSource, attempt: _Attempt, known: _Known, *, asks: bool) -> None:
        """Fetch, verify, read, apply, prune, and write what came of it. Raises Held.

        What somebody changed by hand is set back between two fetches and while the server is away, too: by what it
        gave last.
        """
        attempt.fields["handledRequest"] = source.metadata.annotations.get(REQUESTED) or None
        if source.spec.verify is None and source.find_condition(VERIFIED) is not None:
            # What was said of another commit is not to stand beside this one.
            self._note(source, attempt, VERIFIED, ConditionStatus.UNKNOWN, "NotAsked", "spec.verify names no keys")
        account = self._find_account(source)
        commit = await self._ask(source, attempt, known) if asks else _kept(source, known)
        if known.refusal is not None:
            if commit is None:
                raise known.refusal
            self._note_held(source, attempt, known.refusal)
        assert commit is not None
        try:
            manifests = await self._examine(source, commit, account, attempt)
        except Refused as refusal:
            raise await self._hold(source, commit, account, attempt, refusal) from refusal
        attempt.fields["objects"] = len(manifests)
        attempt.fields["applySet"] = source.set_name
        if commit.name != source.status.applied_commit or not source.is_true(APPLIED):
            attempt.fields["lastAttemptAt"] = format_time(self._clock.now())
        await self._accept(source, commit)
        async with self._acting(source, account) as applier:
            await self._apply(source, commit, manifests, applier, attempt)
        await self._write_done(source, commit, attempt, known.refusal)

    @contextlib.asynccontextmanager
    async def _acting(self, source: GitSource, account: ServiceAccount) -> AsyncIterator[Applier]:
        """Give what writes as the account. Raises Held for what the API answers, and for what takes too long."""
        try:
            async with asyncio.timeout(APPLY_SECONDS), self._access.connect(source, account) as client:
                yield Applier(client, source.manager, self._clock)
        except TimeoutError as error:
            raise Held(APPLIED, TIMED_OUT, f"applying took longer than {APPLY_SECONDS:.0f} s") from error
        except (Unavailable, Unauthorized) as error:
            raise Held(APPLIED, "ApiUnavailable", f"the API does not answer: {error.message}") from error
        except ApiError as error:
            raise Held(APPLIED, error.REASON, error.message) from error

    # Fetching and reading.

    def _find_account(self, source: GitSource) -> ServiceAccount:
        name = source.spec.service_account
        account = self._accounts.get(Ref(ServiceAccount.KIND, source.metadata.project, name))
        if account is None or account.deleting:
            raise Held(APPLIED, "AccountMissing", f"there is no ServiceAccount {name}", final=True)
        if not account.spec.enabled:
            raise Held(APPLIED, "AccountDisabled", f"the ServiceAccount {name} is disabled", final=True)
        return account

    async def _ask(self, source: GitSource, attempt: _Attempt, known: _Known) -> Commit | None:
        """Return what the server gives, or else what it gave before, with its refusal noted."""
        known.asked_by = self._asked_by(source)
        try:
            known.commit = await self._fetch(source, attempt)
        except Held as held:
            kept = _kept(source, known)
            known.refusal = Held(held.type, held.reason, _tell_kept(source, kept, held.message), final=held.final)
            known.refusals += 1
            known.fetch_at = self._clock.monotonic() + _retry_after(source, held, known.refusals)
            return kept
        known.origin, known.refusal, known.refusals = _origin(source), None, 0
        return known.commit

    async def _fetch(self, source: GitSource, attempt: _Attempt) -> Commit:
        remote = await self._build_remote(source)
        try:
            commit = await self._git.fetch(source.uid, remote)
        except GitError as error:
            raise Held(FETCHED, error.reason, error.message, final=error.final) from error
        attempt.fields |= {
            "commit": commit.name,
            "commitSubject": commit.subject,
            "commitTime": format_time(datetime.fromtimestamp(commit.time, UTC)),
        }
        self._note(source, attempt, FETCHED, True, "Fetched", f"{_shorten(source, commit.name)}: {commit.subject}")
        return commit

    async def _build_remote(self, source: GitSource) -> Remote:
        spec = source.spec
        remote = Remote(
            url=spec.url, ref=spec.ref.full_name, known_hosts=spec.known_hosts, ca_certificates=spec.ca_certificates
        )
        if spec.ca_secret is not None:
            trusted = (await self._secret(source, spec.ca_secret.name, FETCHED)).get(spec.ca_secret.key, "")
            if "-----BEGIN CERTIFICATE-----" not in trusted:
                message = f"the Secret {spec.ca_secret.name} has no certificate in {spec.ca_secret.key}"
                raise Held(FETCHED, "SecretIncomplete", message, final=True)
            remote = replace(remote, ca_certificates=trusted)
        if spec.credentials is None:
            return remote
        values = await self._secret(source, spec.credentials, FETCHED)
        if spec.url.startswith("ssh://"):
            if "privateKey" not in values:
                message = f"the Secret {spec.credentials} has no privateKey; make it of type SSHPrivateKey"
                raise Held(FETCHED, "SecretIncomplete", message, final=True)
            return replace(remote, private_key=values["privateKey"])
        if "password" not in values:
            message = f"the Secret {spec.credentials} has no password; make it of type BasicAuth"
            raise Held(FETCHED, "SecretIncomplete", message, final=True)
        if any(not c.isprintable() for c in values.get("username", "") + values["password"]):
            raise Held(FETCHED, "SecretIncomplete", "username and password must be of one line", final=True)
        return replace(remote, username=values.get("username", "git"), password=values["password"])

    async def _secret(self, source: GitSource, name: str, type_: str) -> Mapping[str, str]:
        try:
            return await self._access.read_secret(source.metadata.project or "", name)
        except NotFound as error:
            raise Held(type_, "SecretMissing", f"there is no Secret {name}", final=True) from error
        except ApiError as error:
            raise Held(type_, "SecretUnreadable", f"the Secret {name} cannot be read: {error.message}") from error

    # Judging a commit as a whole, before anything of it is written.

    async def _examine(
        self, source: GitSource, commit: Commit, account: ServiceAccount, attempt: _Attempt
    ) -> list[Manifest]:
        """Return what a commit has, all of which may be applied. Raises Refused; Held where nothing can be asked."""
        try:
            if source.spec.verify is not None:
                await self._verify(source, commit, attempt)
            manifests = await self._read(source, commit.name)
        except Held as held:
            raise Refused(held.type, held.reason, held.message, final=held.final) from held
        if commit.name != source.status.applied_commit:
            async with self._acting(source, account) as applier:
                try:
                    await applier.check_room(manifests)
                except QuotaExceeded as error:
                    raise Refused(APPLIED, "QuotaExceeded", error.message, final=True) from error
        return manifests

    async def _verify(self, source: GitSource, commit: Commit, attempt: _Attempt) -> None:
        try:
            signer = await self._find_signer(source, commit.name)
        except GitError as error:
            status = ConditionStatus.FALSE if error.final else ConditionStatus.UNKNOWN
            self._note(source, attempt, VERIFIED, status, error.reason, error.message)
            message = f"{error.message}; nothing of it is applied"
            reason = "NotVerified" if error.final else error.reason
            raise Held(APPLIED, reason, message, final=error.final) from error
        self._note(source, attempt, VERIFIED, True, "Signed", f"{commit.name[:10]} is signed by {signer}")

    async def _find_signer(self, source: GitSource, commit: str) -> str:
        """Return whose signature of those that are asked for the commit has. Raises GitError."""
        verify = source.spec.verify
        assert verify is not None
        signers = Signers(open_pgp_keys=verify.open_pgp_keys, ssh_keys=verify.ssh_keys)
        return await self._git.verify(source.uid, commit, signers)

    async def _read(self, source: GitSource, commit: str) -> list[Manifest]:
        spec, identities = source.spec, list[str]()
        if spec.decryption is not None:
            values = await self._secret(source, spec.decryption.name, APPLIED)
            identities = read_identities(values.get(spec.decryption.key, ""))
        answer = await self._git.read(source.uid, commit, [spec.path, *spec.overlays], identities)
        if "reason" in answer:
            reason, message = answer["reason"], f"{_shorten(source, commit)}: {answer['message']}"
            raise Held(APPLIED, reason, message, final=reason != TIMED_OUT)
        try:
            manifests: list[Manifest] = []
            for documents in answer["folders"]:
                pairs = [(document, where) for document, where in documents]
                manifests = lay_over(manifests, collect(pairs, lambda _: source.metadata.project))
        except BadManifest as error:
            message = f"{_shorten(source, commit)}: {error.message}"
            raise Held(APPLIED, "BadManifest", f"{message} {error.hint}".strip(), final=True) from error
        return manifests

    # While the newest commit is refused.

    async def _hold(
        self, source: GitSource, refused: Commit, account: ServiceAccount, attempt: _Attempt, refusal: Refused
    ) -> Held:
        """Set back what was changed by hand as the commit accepted before says; return what is to be told of both."""
        message = refusal.message
        if refused.name[:10] not in message:
            message = f"{_shorten(source, refused.name)}: {message}"
        told = await self._hold_accepted(source, refused, account, attempt)
        told = _cut(told, MESSAGE_LIMIT // 2)
        message = _cut(message, MESSAGE_LIMIT - len(told)) + told
        return Held(refusal.type, refusal.reason, message, final=refusal.final)

    async def _hold_accepted(
        self, source: GitSource, refused: Commit, account: ServiceAccount, attempt: _Attempt
    ) -> str:
        """Hold the accepted commit in place, without pruning; return the end of a sentence that says whether it is.

        It counts only for what it was accepted for, is held to the keys of today, and read with them.
        """
        accepted = source.status.accepted
        if accepted is None:
            return ""
        nothing = "; nothing is set back meanwhile:"
        before = f"{accepted.commit[:10]}, applied before,"
        if accepted != _acceptance(source, accepted.commit):
            return f"{nothing} {before} was of another url, ref, path or overlays"
        if accepted.commit == refused.name:
            return f"{nothing} the objects are of this very commit"
        before = f"{_shorten(source, accepted.commit)}, applied before,"
        if not await self._git.has(source.uid, accepted.commit):
            return f"{nothing} {before} is not in what could be fetched, the last {DEPTH} commits"
        try:
            if source.spec.verify is not None:
                await self._find_signer(source, accepted.commit)
            manifests = await self._read(source, accepted.commit)
        except (GitError, Held) as error:
            return f"{nothing} {before} cannot be held: {error.message}"
        attempt.fields["objects"] = len(manifests)
        try:
            async with self._acting(source, account) as applier:
                changed = await self._write_objects(source, accepted.commit, manifests, applier, attempt)
        except Held as held:
            return f"; meanwhile {before} is held in place, but not all of it: {held.message}"
        if not changed:
            _keep_told(source, attempt)
        return f"; meanwhile {before} is held in place"

    # Applying.

    async def _accept(self, source: GitSource, commit: Commit) -> None:
        """Note the commit before any of it is written: from then on not the one before is what would be held."""
        acceptance = _acceptance(source, commit.name)
        if source.status.accepted != acceptance:
            await write_status(self._context.client, source, fields={"accepted": acceptance})

    async def _apply(
        self, source: GitSource, commit: Commit, manifests: Sequence[Manifest], applier: Applier, attempt: _Attempt
    ) -> None:
        await self._write_objects(source, commit.name, manifests, applier, attempt)
        await self._prune(source, commit, manifests, applier, attempt)

    async def _write_objects(
        self, source: GitSource, commit: str, manifests: Sequence[Manifest], applier: Applier, attempt: _Attempt
    ) -> bool:
        """Make the objects as a commit says; return whether any was not. Raises Held where some could not be."""
        options = Options(
            force=source.spec.on_conflict is OnConflict.TAKE_OVER,
            set_name=source.set_name,
            careful=True,
            claim=lambda manifest, live: self._demand_unclaimed(source, live),
        )
        outcomes = await applier.apply_all(manifests, options)
        failed = [o for o in outcomes if o.error is not None]
        changed = [o for o in outcomes if o.result in (Result.CREATED, Result.CONFIGURED)]
        attempt.differing += [_describe(o) for o in (*failed, *changed)]
        attempt.fields |= {"failed": len(failed), "changed": len(changed), "pruned": 0}
        if changed:
            # Whoever waits for it must not take what was said of the commit before for this one's.
            message = f"{_shorten(source, commit)}: of {len(changed)} that are new or changed it is not known yet."
            self._note(source, attempt, HEALTHY, ConditionStatus.UNKNOWN, "Changed", message)
        self._tell(source, commit, changed)
        for outcome in failed:
            if isinstance(outcome.error, Unavailable | Unauthorized):
                raise outcome.error
        if failed:
            raise _held_by(failed)
        return bool(changed)

    def _demand_unclaimed(self, source: GitSource, live: Mapping[str, Any] | None) -> None:
        if live is None or set_of(dict(live)) is None:
            return
        for other in self._sources.list():
            if other.uid != source.uid and not other.deleting and other.has_applied(live["metadata"]):
                raise Claimed(other)

    async def _prune(
        self, source: GitSource, commit: Commit, manifests: Sequence[Manifest], applier: Applier, attempt: _Attempt
    ) -> None:
        """Delete what no manifest names any more. Raises Held where that is too much to be meant."""
        members = await _find_members(source, applier)
        stale = [w for w in await applier.find_stale(manifests, source.set_name, members=members) if not _is(source, w)]
        wanted = {m.key for m in manifests}
        kept = [w for w in members if is_kept(w) and _key(w) not in wanted]
        attempt.differing += [_note_of(w, "Kept", "no manifest names it; its label keeps it") for w in kept]
        if not stale:
            return
        if source.spec.prune is Pruning.DISABLED:
            attempt.differing += [_note_of(w, "Kept", "no manifest names it; spec.prune is Disabled") for w in stale]
            return
        await self._demand_approval(source, commit, stale, len(members), attempt)
        for wire, error in await applier.prune(stale):
            result, message = ("Pruned", "") if error is None else ("Failed", str(error))
            attempt.differing.append(_note_of(wire, result, message))
            attempt.fields["pruned" if error is None else "failed"] += 1
        if attempt.fields["failed"]:
            raise Held(APPLIED, "PruneFailed", f"{attempt.fields['failed']} objects could not be deleted")
        names = ", ".join(f"{w['kind']} {w['metadata']['name']}" for w in stale[:5])
        self._context.events.normal(source, "Pruned", f"{len(stale)} objects that {commit.name[:10]} has not: {names}")

    async def _demand_approval(
        self, source: GitSource, commit: Commit, stale: Sequence[Mapping[str, Any]], members: int, attempt: _Attempt
    ) -> None:
        if source.metadata.annotations.get(APPROVED) == commit.name:
            return
        reason, why = "", ""
        before = source.status.applied_commit
        if 100 * len(stale) > source.spec.prune_threshold_percent * members or len(stale) == members:
            reason = "PruneProtected"
            why = f"{len(stale)} of {members} objects would be deleted, more than spec.pruneThresholdPercent allows"
        elif before and before != commit.name and not await self._git.is_ancestor(source.uid, before, commit.name):
            reason = "HistoryRewritten"
            why = (
                f"{len(stale)} objects would be deleted, and history was rewritten: {before[:10]} was applied last and "
                f"is not among what led to {commit.name[:10]}"
            )
        if not reason:
            return
        attempt.differing += [_note_of(w, "Held", "would be deleted") for w in stale]
        name = source.metadata.name
        how = f"vcctl annotate gitsource {name} {APPROVED}={commit.name} --overwrite"
        raise Held(APPLIED, reason, f"{why}. Everything else is applied. If that is meant: {how}", final=True)

    # Telling.

    def _note(
        self,
        source: GitSource,
        attempt: _Attempt,
        type_: str,
        status: ConditionStatus | bool,
        reason: str,
        message: str = "",
    ) -> None:
        message = _cut(message, MESSAGE_LIMIT)
        attempt.conditions.append(condition_of(source, type_, status, reason, message, clock=self._clock))

    def _tell(self, source: GitSource, commit: str, changed: Sequence[Outcome]) -> None:
        """Write an event of what was changed by hand and is set back."""
        drifted = [o for o in changed if o.changes] if commit == source.status.applied_commit else []
        if drifted:
            names = ", ".join(f"{o.manifest} ({_fields(o.changes)})" for o in drifted[:5])
            self._context.events.warning(source, "Drifted", f"Set back as {commit[:10]} says: {names}")

    async def _write_done(self, source: GitSource, commit: Commit, attempt: _Attempt, refusal: Held | None) -> None:
        count, changed = attempt.fields["objects"], attempt.fields["changed"]
        self._note(source, attempt, APPLIED, True, "Applied", f"{_shorten(source, commit.name)}: {count} objects")
        self._note_progress(source, attempt, refusal)
        attempt.fields["revision"] = _shorten(source, commit.name)
        if commit.name != source.status.applied_commit:
            attempt.fields |= {"appliedCommit": commit.name, "appliedAt": format_time(self._clock.now())}
            message = f"{_shorten(source, commit.name)}: {count} objects, {changed} of them new or changed"
            self._context.events.normal(source, "Applied", message)
        elif not (changed or attempt.fields["pruned"]) and source.is_true(APPLIED) and source.status.differing:
            _keep_told(source, attempt)
        await self._write(source, attempt)

    def _note_held(self, source: GitSource, attempt: _Attempt, held: Held) -> None:
        unknown = held.reason in ("Unreachable", TIMED_OUT, "ApiUnavailable")
        status = ConditionStatus.UNKNOWN if unknown else ConditionStatus.FALSE
        self._note(source, attempt, held.type, status, held.reason, held.message)
        before = source.find_condition(held.type)
        if before is None or (before.reason, before.message) != (held.reason, held.message):
            attempt.fields["lastAttemptAt"] = format_time(self._clock.now())
            self._context.events.warning(source, held.reason, held.message)

    def _note_progress(self, source: GitSource, attempt: _Attempt, *holding: Held | None) -> None:
        """Note whether it goes on by itself: not where any of what holds it up is for somebody to do."""
        found = sorted((held for held in holding if held is not None), key=lambda held: not held.final)
        reason, final = (found[0].reason, found[0].final) if found else ("Done", False)
        self._note(source, attempt, RECONCILING, bool(found) and not final, "Stalled" if final else reason)
        self._note(source, attempt, STALLED, final, reason if final or not found else "Retrying")

    async def _write_held(self, source: GitSource, attempt: _Attempt, held: Held, refusal: Held | None) -> None:
        self._note_held(source, attempt, held)
        self._note_progress(source, attempt, held, refusal)
        if not attempt.differing and held.type == FETCHED:
            attempt.differing = list(source.status.differing)
        await self._write(source, attempt)

    async def _write_suspended(self, source: GitSource) -> None:
        """Say again for this generation what was so, and that nothing goes on."""
        attempt = _Attempt(differing=list(source.status.differing))
        for type_ in (FETCHED, APPLIED):
            found = source.find_condition(type_)
            if found is not None:
                self._note(source, attempt, type_, found.status, found.reason, found.message)
        self._note(source, attempt, RECONCILING, False, "Suspended")
        self._note(source, attempt, STALLED, False, "Suspended")
        await self._write(source, attempt)

    async def _write(self, source: GitSource, attempt: _Attempt) -> None:
        attempt.fields["differing"] = attempt.differing[:SHOWN]
        await write_status(self._context.client, source, fields=attempt.fields, conditions=attempt.conditions)


def _retry_after(source: GitSource, held: Held, failures: int) -> float:
    after = min(RETRY_SECONDS * (1 << min(failures - 1, 6)), RETRY_MOST_SECONDS)
    return max(after, source.spec.interval_seconds) if held.final else after


def _origin(source: GitSource) -> tuple[str, str]:
    return source.spec.url, source.spec.ref.full_name


def _acceptance(source: GitSource, commit: str) -> AcceptedCommit:
    """Return what says of a commit that it was accepted for what the source asks for now."""
    spec = source.spec
    return AcceptedCommit(commit=commit, url=spec.url, ref=spec.ref.full_name, path=spec.path, overlays=spec.overlays)


def _keep_told(source: GitSource, attempt: _Attempt) -> None:
    """What an attempt before changed stays to be read until there is something new to tell."""
    for name in ("changed", "pruned"):
        attempt.fields.pop(name)
    told = [d for d in source.status.differing if d.result in ("Created", "Configured", "Pruned")]
    attempt.differing = [*told, *attempt.differing]


def _kept(source: GitSource, known: _Known) -> Commit | None:
    """Return the commit that is here of what the source follows now."""
    return known.commit if known.origin == _origin(source) else None


def _tell_kept(source: GitSource, kept: Commit | None, message: str) -> str:
    """Return why nothing could be fetched, and what becomes of the objects meanwhile."""
    if kept is not None:
        return f"{message}; meanwhile what counts is {_shorten(source, kept.name)}, fetched last"
    if source.status.revision:
        how = "what is changed by hand is set back only when it could be fetched"
        return f"{message}; the objects are of {source.status.revision}, {how}"
    return message


def _shorten(source: GitSource, commit: str) -> str:
    ref = source.spec.ref
    name = "" if ref.commit else f"{ref.tag or ref.branch or 'main'}@"
    return f"{name}{commit[:10]}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _fields(changes: Sequence[FieldChange]) -> str:
    listed = [c.path for c in changes]
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return ", ".join(listed[:5]) + more


def _describe(outcome: Outcome) -> GitObject:
    """Return what is told of an object that was changed or could not be; never values, which may be secret."""
    manifest, error = outcome.manifest, outcome.error
    if error is None:
        result = "Created" if outcome.result is Result.CREATED else "Configured"
        message = _fields(outcome.changes)
    else:
        result = "Claimed" if isinstance(error, Claimed) else "Failed"
        message = error.message if isinstance(error, ApiError) else str(error) or type(error).__name__
        message = f"{message} ({manifest.source})"
    return GitObject(
        kind=manifest.definition.kind,
        project=manifest.project,
        object=manifest.name[:63],
        result=result,
        message=message[:500],
    )


def _held_by(failed: Sequence[Outcome]) -> Held:
    """Return what holds a source up whose objects could not all be applied."""
    first = failed[0]
    error = first.error
    text = error.message if isinstance(error, ApiError) else str(error)
    more = f" (and {len(failed) - 1} more, see status.differing)" if len(failed) > 1 else ""
    message = f"{first.manifest} {'' if isinstance(error, Claimed) else 'could not be applied: '}{text}{more}; "
    message += "everything else is applied, nothing was pruned"
    if isinstance(error, Claimed):
        return Held(APPLIED, "ClaimedByOther", message, final=True)
    if isinstance(error, Conflict):
        return Held(APPLIED, "Conflict", message, final=True)
    if isinstance(error, Forbidden):
        return Held(APPLIED, error.REASON, message, final=True)
    # A name that stands for nothing may come to stand for something; what is wrong in itself stays so.
    wrong = isinstance(error, Invalid) and all(cause.reason != NAMES_NOTHING for cause in error.causes)
    return Held(APPLIED, "ApplyFailed", message, final=wrong)


async def _find_members(source: GitSource, applier: Applier) -> list[dict[str, Any]]:
    """Return what the source has applied, of all that bears its label."""
    return [wire for wire in await applier.find_members(source.set_name) if source.has_applied(wire["metadata"])]


def _key(wire: Mapping[str, Any]) -> tuple[str, str | None, str]:
    return wire["kind"], project_in(dict(wire)), wire["metadata"]["name"]


def _ref(wire: Mapping[str, Any]) -> Ref:
    return Ref(*_key(wire))


def _is_left(source: GitSource, wire: Mapping[str, Any]) -> bool:
    """Return whether an object of the set stays when its source goes, or goes by itself.

    What the source names, as its account, would wait for the source, and the source for it.
    """
    owned = any(o.get("controller") for o in wire["metadata"].get("ownerReferences") or [])
    return _is(source, wire) or is_kept(dict(wire)) or owned or _ref(wire) in candidates_of(source)


def _is(source: GitSource, wire: Mapping[str, Any]) -> bool:
    """Return whether the object is the source itself, which never deletes itself."""
    return bool(wire["metadata"].get("uid") == source.uid)


def _note_of(wire: Mapping[str, Any], result: str, message: str) -> GitObject:
    kind, project, name = _key(wire)
    return GitObject(kind=kind, project=project, object=name, result=result, message=message[:500])


def build(context: ControllerContext) -> Controller:
    """Return the controller of Git sources."""
    kinds, sets = member_kinds(), AppliedSets(context)
    reconciler = GitSourceReconciler(context, sets)
    watches: dict[type[AnyResource], Any] = {k: sets.sources_of for k in kinds if k not in (GitSource,)}

    def concerned_by(resource: Secret | ServiceAccount) -> Iterator[Ref]:
        yield from sets.sources_of(resource)
        yield from reconciler.users_of(resource)

    watches |= {Secret: concerned_by, ServiceAccount: concerned_by}
    concerning: list[type[AnyResource]] = [*kinds, GitSource]
    matters: dict[type[AnyResource], Any] = dict.fromkeys(concerning, asked_of)
    return context.controller(reconciler, GitSource, watches=watches, matters=matters, workers=WORKERS)
