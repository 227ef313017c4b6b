"""Keys: their material made, rotated by their schedule, and destroyed when the waiting period is over."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.runtime.users import DELETABLE
from vcstack.specs.errors import Conflict
from vcstack.specs.kinds.key import FINALIZER, MATERIAL_READY, ROTATION_OVERDUE, Key, KeyState, KeyVersion
from vcstack.specs.meta import Condition, format_time
from vcstack.specs.resource import Ref

LOOK_AGAIN_SECONDS = 86_400.0
"""What is due later is looked at again by then."""


class KeyMaterial(Protocol):
    """Where the material of keys is made and kept."""

    async def ensure(self, uid: str, algorithm: str, now: datetime) -> Sequence[KeyVersion]:
        """Return the versions, the first one made if there is none."""

    async def rotate(self, uid: str, algorithm: str, version: int, now: datetime) -> Sequence[KeyVersion]:
        """Return the versions, with a new one if that one is still the newest. Raises Conflict when it has too many."""

    async def destroy(self, uid: str) -> None:
        """Remove the material. Absent is success."""


KEY_MATERIAL: BackendKey[KeyMaterial] = BackendKey("keymaterial")


class KeyReconciler:
    """Makes, rotates and destroys material, and tells of it."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._material = context.backend(KEY_MATERIAL)

    async def reconcile(self, key: Key | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if key is None:
            return None
        now = self._context.clock.now()
        if key.deleting:
            return await self._finish(key, now)
        versions = await self._material.ensure(key.uid, key.spec.algorithm, now)
        due = _rotation_due(key, versions[-1])
        overdue = ""
        if due is not None and due <= now:
            try:
                versions = await self._material.rotate(key.uid, key.spec.algorithm, versions[-1].version, now)
            except Conflict as error:
                due = None
                overdue = f"{error.message}; make another key, and re-encrypt under it what this one encrypted"
            else:
                due = _rotation_due(key, versions[-1])
                message = f"version {versions[-1].version} encrypts and signs from now on"
                self._context.events.normal(key, "Rotated", message)
        asked_at = _asked_at(key, now) if key.spec.state is KeyState.PENDING_DELETION else None
        delete_at = _deletion_due(key, asked_at)
        newest = versions[-1]
        fields = {
            "versions": list(versions),
            "currentVersion": newest.version,
            "rotatedAt": format_time(newest.created_at),
            "deletionAskedAt": format_time(asked_at) if asked_at else None,
            "deleteAt": format_time(delete_at) if delete_at else None,
        }
        ready = condition_of(key, MATERIAL_READY, True, "MaterialPresent", clock=self._context.clock)
        conditions = [ready, *self._judge_rotation(key, overdue)]
        await write_status(self._context.client, key, fields=fields, conditions=conditions)
        if delete_at is not None and delete_at <= now:
            await self._context.client.delete(key.ref, uid=key.uid)
            return None
        return _again(now, due, delete_at)

    def _judge_rotation(self, key: Key, overdue: str) -> list[Condition]:
        """Return what is to be said of a rotation that cannot be done, or that it is none any more."""
        if not overdue and key.find_condition(ROTATION_OVERDUE) is None:
            return []
        reason = "TooManyVersions" if overdue else "InTime"
        return [condition_of(key, ROTATION_OVERDUE, bool(overdue), reason, overdue, clock=self._context.clock)]

    async def _finish(self, key: Key, now: datetime) -> Result | None:
        """Destroy the material of a deleted key, not before it has waited since the first look at the wish."""
        asked_at = _asked_at(key, now)
        until = asked_at + timedelta(days=key.spec.deletion_wait_days)
        if until > now:
            message = (
                f"Its material is destroyed at {format_time(until)}, when {key.spec.deletion_wait_days} days are over; "
                "who may delete the project may shorten that by spec.deletionWaitDays."
            )
            held = condition_of(key, DELETABLE, False, "WaitingPeriod", message, clock=self._context.clock)
            fields = {"deletionAskedAt": format_time(asked_at), "deleteAt": format_time(until)}
            await write_status(self._context.client, key, fields=fields, conditions=[held])
            return _again(now, until)
        await self._material.destroy(key.uid)
        await self._context.client.remove_finalizer(key, FINALIZER)
        return None


def _rotation_due(key: Key, newest: KeyVersion) -> datetime | None:
    if key.spec.state is not KeyState.ENABLED:
        return None
    due = []
    if key.spec.rotation_days is not None:
        due.append(newest.created_at + timedelta(days=key.spec.rotation_days))
    if key.spec.rotate_after is not None and newest.created_at < key.spec.rotate_after:
        due.append(key.spec.rotate_after)
    return min(due, default=None)


def _asked_at(key: Key, now: datetime) -> datetime:
    """Return since when the deletion waits: the first look at the wish."""
    return key.status.deletion_asked_at or now


def _deletion_due(key: Key, asked_at: datetime | None) -> datetime | None:
    """Return when it will be deleted; None when that is not asked for, or was called off."""
    return asked_at + timedelta(days=key.spec.deletion_wait_days) if asked_at is not None else None


def _again(now: datetime, *due: datetime | None) -> Result | None:
    left = [(each - now).total_seconds() for each in due if each is not None]
    return Result(requeue_after=max(1.0, min(*left, LOOK_AGAIN_SECONDS))) if left else None


def build(context: ControllerContext) -> Controller:
    """Return the controller of keys."""
    return context.controller(KeyReconciler(context), Key)
