"""As whom a command speaks: an API key, a session, or what the context says."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from vcstack.apiclient.connection import Connection, Credentials, OnWait, OnWarning
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.clock import Clock
from vcstack.vcctl.contexts import Context, Contexts

if TYPE_CHECKING:
    from vcstack.apiclient.auth import AuthClient
    from vcstack.apiclient.sessionfile import SessionFile

KEY_VARIABLE = "VCSTACK_API_KEY"
KEY_FILE_VARIABLE = "VCSTACK_API_KEY_FILE"


class Means(StrEnum):
    """How a command says who it is."""

    KEY_VARIABLE = "the API key in $VCSTACK_API_KEY"
    KEY_FILE_VARIABLE = "the API key in the file $VCSTACK_API_KEY_FILE"
    SESSION = "vcctl login"
    KEY_FILE = "the API key of the context"
    TOKEN_FILE = "the token of the context"  # noqa: S105 (words, no token)
    CERTIFICATE = "the certificate of the context"


class Identities:
    """Finds out as whom a command speaks to the API of a context.

    What the environment says goes first; then who has logged in, also when the session has ended: nobody becomes
    the context's administrator because time has passed. Then what the context says.
    """

    def __init__(self, contexts: Contexts, context: Context, environ: Mapping[str, str], clock: Clock) -> None:
        self._context = context
        self._folder = contexts.path.parent
        self._environ = environ
        self._clock = clock
        self.settings = context.connection(self._folder)
        self.session_path = locate_session(contexts, context.name, environ)

    @property
    def means(self) -> Means:
        """Return how the command says who it is."""
        if self._environ.get(KEY_VARIABLE):
            return Means.KEY_VARIABLE
        if self._environ.get(KEY_FILE_VARIABLE):
            return Means.KEY_FILE_VARIABLE
        if self.has_session():
            return Means.SESSION
        if self._context.api_key_file:
            return Means.KEY_FILE
        if self.settings.token_file is not None:
            return Means.TOKEN_FILE
        return Means.CERTIFICATE if self.settings.cert_file is not None else Means.SESSION

    def has_session(self) -> bool:
        """Return whether somebody logged in to this API and did not log out."""
        if not self.session_path.exists():
            return False
        held = self.open_session_file().read()
        return held is not None and bool(held.user) and not held.logged_out and held.api_url == self._context.api_url

    def open_session_file(self) -> "SessionFile":
        """Return where the context's session is kept."""
        from vcstack.apiclient.sessionfile import SessionFile

        return SessionFile(self.session_path)

    def connect(self, on_wait: OnWait | None = None, on_warning: OnWarning | None = None) -> Connection:
        """Return a connection that speaks as whom the command is; nothing is sent yet. Raises ApiError, OSError."""
        means = self.means
        if means in (Means.TOKEN_FILE, Means.CERTIFICATE):
            return Connection(self.settings, on_wait=on_wait, on_warning=on_warning)
        credentials = self._credentials(means)
        return Connection(self._anonymous(), credentials=credentials, on_wait=on_wait, on_warning=on_warning)

    def connect_anonymously(self) -> "AuthClient":
        """Return a client that logs in over a connection of nobody's."""
        from vcstack.apiclient.auth import AuthClient

        return AuthClient(Connection(self._anonymous()), self._clock)

    def connect_with(self, access_token: str) -> Connection:
        """Return a connection of whom the token is of."""
        return Connection(replace(self._anonymous(), token=access_token))

    def _credentials(self, means: Means) -> Credentials:
        from vcstack.apiclient.credentials import ApiKey, KeyCredentials, SessionCredentials

        if means is Means.SESSION:
            return SessionCredentials(
                self.open_session_file(),
                self.connect_anonymously(),
                api_url=self._context.api_url,
                clock=self._clock,
            )
        if means is Means.KEY_VARIABLE:
            key = ApiKey.parse(self._environ[KEY_VARIABLE], source=f"${KEY_VARIABLE}")
        elif means is Means.KEY_FILE_VARIABLE:
            key = ApiKey.read(Path(self._environ[KEY_FILE_VARIABLE]).expanduser())
        else:
            key = ApiKey.read(self._folder / Path(self._context.api_key_file or "").expanduser())
        return KeyCredentials(key, self.connect_anonymously(), clock=self._clock)

    def _anonymous(self) -> ConnectionSettings:
        return replace(self.settings, token=None, token_file=None, cert_file=None, key_file=None)


def locate_session(contexts: Contexts, name: str, environ: Mapping[str, str]) -> Path:
    """Return where the session of a context is kept: in the user's own folder, wherever the contexts are.

    Contexts of different files may have the same name: those that are not of the user's own file have its digest
    in theirs.
    """
    own = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "vcstack"
    file = contexts.path.absolute()
    digest = "" if file == (own / "config.yaml").absolute() else f"-{hashlib.sha256(bytes(file)).hexdigest()[:12]}"
    return own / "credentials" / f"{quote(name, safe='')}{digest}.json"
