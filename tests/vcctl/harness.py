"""vcctl as a user runs it, against the real API server; and hands that stand in for controllers and hosts."""

import asyncio
import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from tests.fixtures.api import SYSTEM, Api
from vcstack.specs.conditions import build_condition
from vcstack.specs.errors import NotFound
from vcstack.specs.kinds.event import Event, EventSpec, EventType, ObjectReference
from vcstack.specs.meta import ConditionStatus
from vcstack.specs.registry import definition_of, load_kinds
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.bound import BoundStore
from vcstack.vcctl.application import app
from vcstack.vcctl.main import load_commands


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Vcctl:
    """Runs commands with a context of their own."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.config = folder / "vcctl.yaml"
        token = folder / "token"
        token.write_text(api.token)
        self.context = {
            "name": "test",
            "apiUrl": api.url,
            "caFile": str(api.installation.ca_cert),
            "tokenFile": str(token),
            "project": "demo",
        }
        self.config.write_text(yaml.safe_dump({"currentContext": "test", "contexts": [self.context]}))
        self.environ = {"VCCTL_CONFIG": str(self.config), "XDG_CONFIG_HOME": str(folder / "own"), "COLUMNS": "200"}
        load_commands()

    async def __call__(self, *words: str, stdin: str | None = None, **environ: str) -> Ended:
        """Run a command to its end."""
        found = await asyncio.to_thread(
            CliRunner().invoke, app, list(words), input=stdin, env={**self.environ, **environ}, prog_name="vcctl"
        )
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return Ended(found.exit_code, found.stdout, found.stderr)

    async def ok(self, *words: str, stdin: str | None = None, **environ: str) -> str:
        """Run a command that must succeed and return what it printed."""
        ended = await self(*words, stdin=stdin, **environ)
        assert ended.code == 0, ended
        return ended.out

    def write(self, name: str, *documents: dict[str, Any]) -> str:
        """Write a manifest and return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump_all(documents))
        return str(path)


class Hands:
    """Does by hand what controllers and hosts do: observes, reports, cleans up."""

    def __init__(self, api: Api) -> None:
        self.client: BoundStore = api.store.bound(SYSTEM)

    async def get(self, kind: type[AnyResource], name: str, project: str | None = "demo") -> Any:
        return await self.client.get(kind, name, project)

    async def observe(
        self, resource: AnyResource, *, but: dict[str, tuple[str, str]] | None = None, **status: Any
    ) -> None:
        """Write all required conditions as True, those in ``but`` as False with (reason, message)."""
        now, generation = SystemNow.now(), resource.metadata.generation
        conditions = []
        for type_ in dict.fromkeys((*definition_of(resource).ready_when, *(but or {}))):
            reason, message = (but or {}).get(type_, ("Done", ""))
            value = ConditionStatus.FALSE if type_ in (but or {}) else ConditionStatus.TRUE
            conditions.append(build_condition(type_, value, reason, message, generation=generation, now=now).to_wire())
        await self.client.patch_status(resource, {**status, "conditions": conditions})

    async def observe_all(self) -> None:
        """Report everything Ready and clean up what is being deleted."""
        for definition in load_kinds().values():
            for resource in (await self.client.list(definition.model)).items:
                if resource.deleting:
                    await self.client.remove_finalizer(resource, *resource.metadata.finalizers)
                elif definition.ready_when and not resource.is_true("Ready"):
                    with contextlib.suppress(NotFound):  # somebody has deleted it meanwhile
                        await self.observe(resource)

    async def keep_observing(self) -> None:
        """Do so until cancelled."""
        while True:
            await self.observe_all()
            await asyncio.sleep(0.02)

    async def report(self, resource: AnyResource, reason: str, message: str, *, warning: bool = False) -> None:
        """Write an event."""
        now = SystemNow.now()
        regarding = ObjectReference(kind=resource.kind, name=resource.metadata.name, uid=resource.uid)
        type_ = EventType.WARNING if warning else EventType.NORMAL
        spec = EventSpec(
            regarding=regarding, type=type_, reason=reason, message=message, actor="test", first_time=now, last_time=now
        )
        name = f"{resource.metadata.name}-{reason.lower()}"
        await self.client.create(Event.new(name, spec, project=resource.metadata.project))

    async def remove(self, kind: str, name: str, project: str | None = "demo") -> None:
        await self.client.delete(Ref(kind, project, name))


class SystemNow:
    """The wall clock."""

    @staticmethod
    def now() -> Any:
        from vcstack.clock import SystemClock

        return SystemClock().now()
