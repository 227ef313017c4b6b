"""Sessions: deleted when their time is over, and the oldest of who has too many.

Nothing else bounds them: whoever knows one password could log in until etcd is full. So it is looked at whenever a
session begins, a moment after.
"""

from typing import Final

import structlog

from vcstack.controllers.subjects import end_session
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.specs.kinds.session import Session
from vcstack.specs.resource import Ref

MOST: Final = 100
"""Sessions of one subject at once."""
_OF = "of"

logger = structlog.get_logger(__name__)


class SessionReconciler:
    """Deletes sessions that have ended, and those that are too many."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._sessions = context.informer(Session)
        self._sessions.add_index(_OF, lambda session: (_subject_of(session),))

    async def reconcile(self, session: Session | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if session is None or session.deleting:
            return None
        left = (session.spec.expires_at - self._context.clock.now()).total_seconds()
        if left <= 0:
            await end_session(self._context, session)
            return None
        await self._end_oldest(session)
        return Result(requeue_after=left)

    async def _end_oldest(self, session: Session) -> None:
        """End the oldest of the subject's sessions as far as they are too many."""
        all_ = [s for s in self._sessions.by_index(_OF, _subject_of(session)) if not s.deleting]
        if len(all_) <= MOST:
            return
        surplus = sorted(all_, key=lambda s: (s.spec.created_at, s.metadata.name))[:-MOST]
        for old in surplus:
            await end_session(self._context, old)
        logger.warning("too many sessions, the oldest were ended", subject=_subject_of(session), ended=len(surplus))


def _subject_of(session: Session) -> str:
    subject = session.spec.subject
    return f"{subject.kind}:{subject.project or ''}/{subject.name}"


def build(context: ControllerContext) -> Controller:
    """Return the controller of sessions."""
    return context.controller(SessionReconciler(context), Session)
