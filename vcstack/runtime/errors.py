"""What a reconcile may raise, and what the runtime's loop does about it.

Exception
├── ReconcileError
│   ├── TerminalError       only a change of the object helps: no retry before its next event
│   ├── WaitingFor          a dependency is missing: looked at again by its event, or after a while
│   └── BackendError        an outside system; retried with backoff
│       ├── BackendUnavailable   it does not answer
│       ├── BackendNotFound      it has no such thing
│       ├── BackendConflict      what is there is not as expected
│       │   └── BackendAlreadyExists
│       └── BackendRefused       it understood and said no
└── anything else           a fault of ours: logged with its traceback, retried with backoff
"""


class ReconcileError(Exception):
    """The base of what reconcilers and backends raise on purpose.

    Attributes:
        reason: a machine's word for a condition, PascalCase.
        message: a sentence for people: what is wrong and what they can do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class TerminalError(ReconcileError):
    """Only a change of the object helps: wait for a new generation instead of trying again."""


class WaitingFor(ReconcileError):
    """A dependency is missing. Its appearance should wake the object; ``after_seconds`` is the safety net."""

    def __init__(self, reason: str, message: str, after_seconds: float = 30.0) -> None:
        super().__init__(reason, message)
        self.after_seconds = after_seconds


class BackendError(ReconcileError):
    """An outside system failed; each backend raises these from its library's errors."""

    REASON = "BackendError"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(reason or self.REASON, message)


class BackendUnavailable(BackendError):
    """It does not answer; nothing is known of the outcome."""

    REASON = "BackendUnavailable"


class BackendNotFound(BackendError):
    """It has no such thing."""

    REASON = "BackendNotFound"


class BackendConflict(BackendError):
    """What is there is not as expected, e.g. changed meanwhile or somebody else's."""

    REASON = "BackendConflict"


class BackendAlreadyExists(BackendConflict):
    """There is such a thing already."""

    REASON = "BackendAlreadyExists"


class BackendRefused(BackendError):
    """It understood the request and refused it."""

    REASON = "BackendRefused"
