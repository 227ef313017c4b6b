"""What is said about shells in guests, as it is on the wire."""

from pydantic import Field

from vcstack.specs.errors import ErrorStatus
from vcstack.specs.meta import Time
from vcstack.specs.model import Model


class SshAuthority(Model):
    """Whom the guests of a project trust when somebody logs in by SSH."""

    public_key: str
    """As it stands in authorized_keys behind ``cert-authority``: ssh-ed25519 AAAA..."""


SIZE_LIMIT = 1000
"""Most columns and rows of a terminal."""


class TerminalSize(Model):
    """How large a terminal is, in characters."""

    columns: int = Field(ge=1, le=SIZE_LIMIT)
    """Characters of a line."""
    rows: int = Field(ge=1, le=SIZE_LIMIT)
    """Lines."""


class TerminalChange(Model):
    """What a client says beside what is typed: one of these at a time."""

    resize: TerminalSize | None = None
    """The terminal's new size."""
    eof: bool = False
    """True: nothing more will be typed or piped in."""


class ShellEnd(Model):
    """How a shell or command ended."""

    status: int
    """Its exit status; 255 when a signal ended it."""
    signal: str = ""
    """The signal, e.g. TERM."""


class ShellNotice(Model):
    """What the server says beside what is shown: one of these at a time."""

    recording: bool | None = None
    """True: the shell is recorded. The first that is said, if it is."""
    exit: ShellEnd | None = None
    """How it ended; the last that is said."""
    stderr: str | None = None
    """What a command without a terminal writes to its standard error."""
    error: ErrorStatus | None = None
    """Why there is no shell, or no more; the last that is said."""


class Recording(Model):
    """A shell that was recorded."""

    id: str
    """Its id."""
    instance: str
    """The instance's name."""
    instance_uid: str
    """The instance's uid: another one of that name is not it."""
    user: str
    """Who it was: user:alice."""
    login: str
    """As whom in the guest."""
    started_at: Time
    """When it began."""
    seconds: float
    """How long it is."""
    bytes: int
    """How much was shown."""
    ended: bool
    """Whether it is over."""
    broken_off: bool
    """Whether it is over without its end: the server was killed, or could not write it."""
    expires_at: Time
    """When it is removed."""


class RecordingListMetadata(Model):
    """Where the list goes on."""

    continue_: str | None = Field(default=None, alias="continue")
    """Leads to the next page."""


class RecordingList(Model):
    """Recordings, the newest first."""

    kind: str = "RecordingList"
    """Always RecordingList."""
    metadata: RecordingListMetadata = Field(default_factory=RecordingListMetadata)
    """Where it goes on."""
    items: list[Recording] = Field(default_factory=list)
    """The recordings."""
