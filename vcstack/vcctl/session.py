"""One invocation: its context, its connection, its terminal, and the project that is meant."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from vcstack.apiclient.client import ApiClient
from vcstack.applying.sets import Applier
from vcstack.clock import Clock, SystemClock
from vcstack.specs.registry import KindDefinition, Scope
from vcstack.vcctl import trusting
from vcstack.vcctl.contexts import Context, Contexts, load_contexts, locate
from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.harmless import HarmlessConsole
from vcstack.vcctl.identities import Identities

MANAGER = "vcctl"
"""The field manager of all writes."""


@dataclass(slots=True)
class GlobalOptions:
    """What every command takes."""

    project: str | None = None
    context: str | None = None


@dataclass
class Session:
    """What a command works with."""

    options: GlobalOptions
    out: Console
    err: Console
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Clock = field(default_factory=SystemClock)
    _client: ApiClient | None = None
    _quiet_until: float = 0.0
    _warned: set[str] = field(default_factory=set)
    """Until then it has been said that the server asks for patience."""

    @cached_property
    def contexts(self) -> Contexts:
        """Return all contexts."""
        return load_contexts(locate(self.environ, prefix=Path(sys.prefix), home=Path.home()))

    @cached_property
    def context(self) -> Context:
        """Return the context in force."""
        return self.contexts.choose(self.options.context)

    @cached_property
    def identities(self) -> Identities:
        """Return as whom the command speaks."""
        return Identities(self.contexts, self.context, self.environ, self.clock)

    @property
    def client(self) -> ApiClient:
        """Return the API client, connecting on the first call."""
        if self._client is None:
            self._client = ApiClient(self.identities.connect(self._tell_wait, self.warn))
        return self._client

    @property
    def applier(self) -> Applier:
        """Return what applies manifests."""
        return Applier(self.client, MANAGER, self.clock)

    def _tell_wait(self, seconds: int, reason: str) -> None:
        """Say why nothing seems to happen, once for all requests that wait."""
        now = self.clock.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + seconds
            self.err.print(f"[dim]Waiting {seconds} s: {escape(reason)}[/]", soft_wrap=True)

    def warn(self, text: str) -> None:
        """Pass on what the server warns of, once."""
        if text not in self._warned:
            self._warned.add(text)
            self.err.print(f"[yellow]Warning:[/] {escape(text)}", soft_wrap=True, highlight=False)

    @property
    def default_project(self) -> str | None:
        """Return the project of -p, else the context's."""
        return self.options.project or self.context.project

    def project_of(self, definition: KindDefinition) -> str | None:
        """Return the project in which objects of the kind are meant; None for global ones.

        Raises:
            CommandError: if the kind lives in projects and none is known.
        """
        if definition.scope is Scope.GLOBAL:
            return None
        if definition.scope is Scope.GLOBAL_OR_PROJECT:
            return self.options.project
        if self.default_project is None:
            raise CommandError(
                f"a {definition.kind} lives in a project, and none is given",
                hint="Add -p PROJECT, or set it once with: vcctl config use-project PROJECT",
            )
        return self.default_project

    async def aclose(self) -> None:
        """Close the connection; before, once a day, take over whom the cloud trusts."""
        if self._client is not None:
            ca_file = self.identities.settings.ca_file
            if ca_file is not None:
                stamp = self.contexts.path.with_name(f".{self.context.name}.trust")
                await trusting.keep(self._client.connection, ca_file, stamp)
            await self._client.aclose()


def open_session(options: GlobalOptions) -> Session:
    """Return the session of this process."""
    wide = {} if sys.stdout.isatty() else {"width": 10_000}
    return Session(
        options,
        # No emoji: 10:on:20 is what somebody wrote, and no picture.
        out=HarmlessConsole(file=sys.stdout, highlight=False, emoji=False, **wide),  # type: ignore[arg-type]
        err=HarmlessConsole(file=sys.stderr, highlight=False, emoji=False),
    )
