"""The file of contexts: which API, whom to trust, which token, which project."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from vcstack.apiclient.settings import ConnectionSettings
from vcstack.specs.manifest import ManifestError, load_documents
from vcstack.specs.model import Model
from vcstack.vcctl.errors import CommandError, ExitCode


class Context(Model):
    """One API and who we are to it."""

    name: str
    """The context's name."""
    api_url: str
    """https://HOST:PORT"""
    ca_file: str | None = None
    """The CA that signed the API's certificate; default the system's."""
    token_file: str | None = None
    """The file that holds the bearer token."""
    api_key_file: str | None = None
    """The file that holds an API key, KEYID:SECRET, instead of a token."""
    cert_file: str | None = None
    """A client certificate instead of a token."""
    key_file: str | None = None
    """The client certificate's key."""
    project: str | None = None
    """The project meant when none is given."""

    def connection(self, folder: Path) -> ConnectionSettings:
        """Return how to connect; relative paths are seen from the folder of the context file."""

        def path(text: str | None) -> Path | None:
            return folder / Path(text).expanduser() if text else None

        return ConnectionSettings(
            api_url=self.api_url,
            ca_file=path(self.ca_file),
            token_file=path(self.token_file),
            cert_file=path(self.cert_file),
            key_file=path(self.key_file),
            user_agent="vcctl",
        )


class ContextFile(Model):
    """All contexts, one of which is current."""

    current_context: str | None = None
    """The context that is used when none is given."""
    contexts: list[Context] = Field(default_factory=list)
    """The contexts."""

    def find(self, name: str) -> Context | None:
        """Return the context of that name, or None."""
        return next((c for c in self.contexts if c.name == name), None)


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts together with the file they were read from."""

    path: Path
    file: ContextFile

    def choose(self, name: str | None) -> Context:
        """Return the named context, else the current one.

        Raises:
            CommandError: if there is none of that name, or none at all.
        """
        wanted = name or self.file.current_context
        if wanted is None and len(self.file.contexts) == 1:
            return self.file.contexts[0]
        found = self.file.find(wanted) if wanted else None
        if found is not None:
            return found
        known = ", ".join(c.name for c in self.file.contexts)
        if not known:
            raise CommandError(
                f"there is no context in {self.path}",
                hint="`make up` writes one for the local cloud; else: vcctl config set-context NAME --api-url URL "
                "--ca-file FILE, then vcctl login. $VCCTL_CONFIG names another file.",
                code=ExitCode.LOCAL,
            )
        message = f"there is no context {wanted!r} in {self.path}" if wanted else f"no context is chosen in {self.path}"
        raise CommandError(
            message, hint=f"There are: {known}. Choose one with vcctl config use-context NAME.", code=ExitCode.LOCAL
        )


def locate(environ: Mapping[str, str], *, prefix: Path, home: Path) -> Path:
    """Return where the contexts are: $VCCTL_CONFIG, the user's file if it exists, else the checkout's state.

    ``prefix`` is the Python environment (its parent is the checkout), ``home`` the user's folder.
    """
    if given := environ.get("VCCTL_CONFIG"):
        return Path(given)
    own = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "vcstack" / "config.yaml"
    if own.exists():
        return own
    state = Path(environ["VCSTACK_STATE"]) if environ.get("VCSTACK_STATE") else prefix.parent / "var"
    local = state / "vcctl.yaml"
    return local if local.exists() or environ.get("VCSTACK_STATE") else own


def load_contexts(path: Path) -> Contexts:
    """Return the contexts of the file; none when it does not exist.

    Raises:
        CommandError: if it cannot be read.
    """
    try:
        documents = load_documents(path.read_bytes(), source=str(path))
        return Contexts(path, ContextFile.from_wire(documents[0]) if documents else ContextFile())
    except FileNotFoundError:
        return Contexts(path, ContextFile())
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}", code=ExitCode.LOCAL) from error
    except ManifestError as error:
        raise CommandError(error.message, hint="Correct the context file.", code=ExitCode.LOCAL) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CommandError(
            f"{path}: {place}: {first['msg']}", hint="Correct the context file.", code=ExitCode.LOCAL
        ) from error


def save_contexts(contexts: Contexts) -> None:
    """Write the file atomically, readable by its owner only."""
    wire: dict[str, Any] = contexts.file.to_wire()
    try:
        contexts.path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=contexts.path.parent, prefix=".vcctl-")
        with os.fdopen(handle, "w") as out:
            yaml.safe_dump(wire, out, sort_keys=False)
        os.replace(temporary, contexts.path)
    except OSError as error:
        raise CommandError(f"cannot write {contexts.path}: {error.strerror}", code=ExitCode.LOCAL) from error
