"""From a custom resource to its object in VC Stack, and back to its status: one set of steps for all kinds.

It may be killed at any line. Each attempt begins by reading the custom resource, consistently; the object in VC Stack
carries its uid, so it is known again; it is made only if none is there, and changed only as that very object.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from vcstack.clock import Clock
from vcstack.operator.cloud import Cloud, find_race
from vcstack.operator.kubernetes import Key, Kubernetes
from vcstack.operator.manifests import (
    ADOPT,
    CONFLICTS,
    DELETION,
    FINALIZER,
    OBJECT,
    UID,
    build_manifest,
    digest_of,
    fingerprint_of,
    instruction,
    is_owned,
    owner_of,
    recorded_place,
)
from vcstack.operator.places import NoPlace, Place, Places
from vcstack.operator.secretvalues import MissingSecret, SecretValues
from vcstack.operator.statuses import STALLED, Outcome, State, build_status, find_condition
from vcstack.specs.conditions import READY
from vcstack.specs.errors import ApiError, Conflict, InternalError, NotFound, TooManyRequests, Unauthorized, Unavailable
from vcstack.specs.patch import create_merge_patch
from vcstack.specs.resource import Ref

log = structlog.get_logger()
Wire = dict[str, Any]
REFUSED_SECONDS = 2.0
"""What was refused is not asked for again sooner, however often the object's status changes; the queue's backoff says
when it is, though nothing is known to have changed: a quota may have been raised, or a right given."""
Post = Callable[[Mapping[str, Any], str, str, str], None]
"""Record an event of Kubernetes: the custom resource, Normal or Warning, reason, message."""
AWAY = (Unavailable, InternalError, TooManyRequests, Unauthorized)
"""Errors that say nothing of what was asked for."""


class LookAgain(Exception):
    """The world moved on meanwhile."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was last done for a custom resource."""

    wanted: bytes
    live: bytes
    outcome: Outcome
    retry_at: float


class Reconciler:
    """Works on one custom resource at a time; the caller sees to it that no two work on the same."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        cloud: Cloud,
        places: Places,
        secrets: SecretValues,
        *,
        name: str,
        clock: Clock,
        post: Post,
    ) -> None:
        self._kubernetes = kubernetes
        self._cloud = cloud
        self._places = places
        self._secrets = secrets
        self._name = name
        self._clock = clock
        self._post = post
        self._known: dict[Key, _Known] = {}
        self.states: dict[Key, State] = {}
        """How far each custom resource came, for metrics."""

    async def reconcile(self, key: Key) -> Outcome | None:
        """Return what became of it; None: there is nothing left to do.

        Raises:
            LookAgain: try again at once.
            KubernetesError: Kubernetes refused or cannot be asked.
        """
        resource = await self._kubernetes.find(key.path)
        if resource is None:
            self._forget(key)
            return None
        if resource["metadata"].get("deletionTimestamp"):
            return await self._finalize(key, resource)
        try:
            place = await self._find_place(key, resource)
        except NoPlace as error:
            outcome = Outcome(State.STALLED, "NoProject", str(error))
            return await self._report(key, resource, None, outcome)
        self._cloud.register(key, Ref(key.kind, place.project, key.name))
        live: Wire | None = None
        try:
            resource = await self._ensure_finalizer(key, resource)
            live = await self._cloud.find(Ref(key.kind, place.project, key.name), key.definition)
            values = await self._secrets.resolve(key, resource)
            wanted = build_manifest(key, resource, place, values, self._name)
            outcome, live = await self._settle(key, resource, wanted, live)
        except MissingSecret as error:
            outcome = Outcome(State.WAITING, "SecretMissing", str(error))
        except ApiError as error:
            outcome = _outcome_of(error)
        # Of an object that is not its own it tells nothing, and remembers nothing.
        own = live if live is not None and is_owned(live, resource) else None
        return await self._report(key, resource, own, outcome)

    async def _find_place(self, key: Key, resource: Wire) -> Place:
        """Return where the object goes. What was put somewhere stays there. Raises NoPlace."""
        place = await self._places.find(key.definition, key.namespace)
        recorded = recorded_place(resource)
        if recorded.get("uid") and recorded.get("project") != place.project:
            was, now = recorded.get("project") or "no project", place.project or "no project"
            raise NoPlace(
                f"its object lies in {was}, and the namespace stands for {now} now; objects do not move: "
                "delete the custom resource and make it anew, or let the namespace stand for what it did"
            )
        return place

    async def _ensure_finalizer(self, key: Key, resource: Wire) -> Wire:
        meta = resource["metadata"]
        finalizers = meta.get("finalizers") or []
        if FINALIZER in finalizers:
            return resource
        patch = {"metadata": {"finalizers": [*finalizers, FINALIZER], "resourceVersion": meta["resourceVersion"]}}
        return await self._kubernetes.patch(key.path, patch)

    async def _settle(self, key: Key, resource: Wire, wanted: Wire, live: Wire | None) -> tuple[Outcome, Wire | None]:
        """Apply, unless nothing has changed on either side since it was last done."""
        digest, known = digest_of({"wanted": wanted, "by": instructions(resource)}), self._known.get(key)
        alike = known is not None and known.wanted == digest and known.live == fingerprint_of(live)
        if known is not None and alike and self._clock.monotonic() < known.retry_at:
            return known.outcome, live
        if live is not None and live["metadata"].get("deletionTimestamp"):
            message = "The object in VC Stack is being deleted; when it is gone it is made anew."
            return Outcome(State.WAITING, "BeingDeleted", message), live
        try:
            outcome, live = await self._apply(key, resource, wanted, live)
        except NotFound as error:
            project, message = wanted["metadata"].get("project"), error.message
            if live is None and project is not None:
                # What is to be made cannot be what is missing.
                message = f"VC Stack has no project {project}, or the operator's account may do nothing in it."
            outcome = Outcome(State.WAITING, error.REASON, message)
        except ApiError as error:
            if isinstance(error, Conflict) and find_race(error):
                raise LookAgain from error
            outcome = _outcome_of(error)
        if outcome.state is State.AWAY:
            self._known.pop(key, None)
        else:
            applied = outcome.state is State.APPLIED
            retry_at = math.inf if applied else self._clock.monotonic() + REFUSED_SECONDS
            self._known[key] = _Known(digest, fingerprint_of(live), outcome, retry_at)
        return outcome, live

    async def _apply(self, key: Key, resource: Wire, wanted: Wire, live: Wire | None) -> tuple[Outcome, Wire | None]:
        ref = Ref(key.kind, wanted["metadata"].get("project"), key.name)
        adopting = live is not None and not is_owned(live, resource)
        if adopting and (refusal := _refuse_adoption(resource, live or {})) is not None:
            return refusal, live
        force = instruction(resource, CONFLICTS) == "Take" or (adopting and bool(owner_of(live or {})))
        applied = await self._cloud.apply(ref, key.definition, wanted, live, force=force)
        if live is None:
            self._post(resource, "Normal", "Created", f"{ref} was made in VC Stack.")
        elif adopting:
            self._post(resource, "Normal", "Adopted", f"{ref} of VC Stack was there already and was taken over.")
        elif applied["metadata"].get("generation") != live["metadata"].get("generation"):
            self._post(resource, "Normal", "Changed", f"{ref} was changed in VC Stack.")
        return Outcome(State.APPLIED), applied

    async def _finalize(self, key: Key, resource: Wire) -> Outcome | None:
        """Delete the object, and let the custom resource go when it is gone."""
        if FINALIZER not in (resource["metadata"].get("finalizers") or ()):
            self._forget(key)
            return None
        recorded = recorded_place(resource)
        try:
            project = recorded.get("project") if recorded.get("uid") else await self._project_of(key)
        except NoPlace:
            await self._let_go(key, resource)  # nothing was ever put anywhere
            return None
        ref = Ref(key.kind, project, key.name)
        self._cloud.register(key, ref)
        live: Wire | None = None
        try:
            live = await self._cloud.find(ref, key.definition, fresh=True)
            if live is None and recorded.get("uid") and instruction(resource, DELETION) != "Orphan":
                await self._cloud.demand_sight(key.definition)
            if live is None or not is_owned(live, resource):
                await self._let_go(key, resource)
                return None
            if instruction(resource, DELETION) == "Orphan":
                await self._cloud.release(ref, key.definition, live, (UID, OBJECT))
                await self._let_go(key, resource)
                return None
            if not live["metadata"].get("deletionTimestamp"):
                self._post(resource, "Normal", "Deleting", f"{ref} is being deleted in VC Stack.")
                live = await self._cloud.delete(ref, key.definition, live["metadata"]["uid"])
                if live is None:
                    await self._let_go(key, resource)
                    return None
            words = find_condition(live, READY).get("message") or ""
            outcome = Outcome(State.WAITING, "Deleting", words or "The object in VC Stack is being deleted.")
        except ApiError as error:
            if isinstance(error, Conflict) and find_race(error):
                raise LookAgain from error
            outcome = _outcome_of(error)
        return await self._report(key, resource, live, outcome)

    async def _project_of(self, key: Key) -> str | None:
        return (await self._places.find(key.definition, key.namespace)).project

    async def _let_go(self, key: Key, resource: Wire) -> None:
        meta = resource["metadata"]
        left = [f for f in meta["finalizers"] if f != FINALIZER]
        patch = {"metadata": {"finalizers": left or None, "resourceVersion": meta["resourceVersion"]}}
        await self._kubernetes.patch(key.path, patch)
        self._forget(key)

    async def _report(self, key: Key, resource: Wire, live: Wire | None, outcome: Outcome) -> Outcome:
        """Write the status if it differs from what stands there."""
        self.states[key] = outcome.state
        before = resource.get("status") or {}
        status = build_status(key, resource, live, outcome, name=self._name, now=self._clock.now())
        patch = create_merge_patch(before, status)
        if patch:
            await self._kubernetes.patch(f"{key.path}/status", {"status": patch})
        self._post_news(resource, {"status": status}, outcome)
        return outcome

    def _post_news(self, before: Wire, after: Wire, outcome: Outcome) -> None:
        """Record what people want to know of, once."""
        was, now = find_condition(before, STALLED), find_condition(after, STALLED)
        if now["status"] == "True" and [was.get(k) for k in ("status", "reason", "message")] != [
            now[k] for k in ("status", "reason", "message")
        ]:
            self._post(before, "Warning", now["reason"], now["message"])
        if find_condition(before, READY).get("status") != "True" and find_condition(after, READY)["status"] == "True":
            self._post(before, "Normal", "Ready", "It is Ready in VC Stack.")

    def _forget(self, key: Key) -> None:
        self._known.pop(key, None)
        self.states.pop(key, None)
        self._cloud.forget(key)
        self._secrets.forget(key)


def instructions(resource: Mapping[str, Any]) -> list[str]:
    """Return what the custom resource's annotations tell the operator."""
    return [instruction(resource, name) for name in (ADOPT, CONFLICTS, DELETION)]


def _refuse_adoption(resource: Wire, live: Wire) -> Outcome | None:
    meta, owner = live["metadata"], owner_of(live)
    other = (meta.get("annotations") or {}).get(OBJECT) or owner
    if owner and recorded_place(resource).get("uid") == meta["uid"]:
        # Or the two would take it from each other forever.
        message = f"Its object in VC Stack was taken over by the custom resource {other}. Delete one of the two."
        return Outcome(State.STALLED, "TakenOver", message)
    if instruction(resource, ADOPT) == "true":
        return None
    whose = f" and belongs to the custom resource {other}" if owner else ""
    message = f'An object of that name is in VC Stack already{whose}. Annotate with {ADOPT}: "true" to take it over.'
    return Outcome(State.STALLED, "AlreadyExists", message)


def _outcome_of(error: ApiError) -> Outcome:
    if isinstance(error, AWAY):
        return Outcome(State.AWAY, "NotLoggedIn" if isinstance(error, Unauthorized) else error.REASON, error.message)
    conflict = any(c.reason == "FieldManagerConflict" for c in error.causes)
    return Outcome(State.STALLED, "FieldManagerConflict" if conflict else error.REASON, error.message)
