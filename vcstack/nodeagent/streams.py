"""Serves what the API server opens through the tunnel: logs, consoles, screens, figures and shells of instances."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any

from vcstack.apiclient.frames import PAYLOAD_LIMIT, TunnelStream
from vcstack.nodeagent.backends.hypervisor import Hypervisor, Views
from vcstack.nodeagent.layout import Layout
from vcstack.nodeagent.serial import Terminal, read_log
from vcstack.nodeagent.shells import Shells
from vcstack.runtime.errors import BackendConflict, BackendNotFound, ReconcileError
from vcstack.runtime.informer import Informer
from vcstack.specs.errors import BadRequest, Conflict, NotFound, Unavailable
from vcstack.specs.kinds.instance import Instance


class Streams:
    """One stream is one call of ``serve``."""

    def __init__(
        self, instances: Informer[Instance], hypervisor: Hypervisor, views: Views, shells: Shells, layout: Layout
    ) -> None:
        self._instances, self._hypervisor, self._views, self._layout = instances, hypervisor, views, layout
        self._shells = shells
        self._consoles: set[str] = set()

    async def serve(self, stream: TunnelStream) -> None:
        """Serve the stream until either side ends it. Raises ApiError for the one who asked."""
        asked = stream.request
        instance = self._instances.find(asked.name, asked.project)
        if instance is None or instance.uid != asked.uid:
            raise NotFound(f"instance {asked.project}/{asked.name} is not on this host")
        services = {
            "log": self._serve_log,
            "console": self._serve_console,
            "vnc": self._serve_screen,
            "screenshot": self._serve_screenshot,
            "metrics": self._serve_metrics,
            "ssh": self._serve_ssh,
        }
        serve = services.get(asked.service)
        if serve is None:
            raise BadRequest(f"service {asked.service!r} is not known; use {', '.join(services)}")
        await serve(stream, instance)

    async def _serve_log(self, stream: TunnelStream, instance: Instance) -> None:
        path = self._layout.of_instance(instance.uid).serial_log
        asked = stream.request

        async def send() -> None:
            async for chunk in read_log(path, tail_lines=asked.tail_lines, follow=asked.follow):
                await stream.send(chunk)

        if asked.follow:
            await _first_of(send(), _until_closed(stream))
        else:
            await send()

    async def _serve_console(self, stream: TunnelStream, instance: Instance) -> None:
        device = await self._find_device(instance)
        if instance.uid in self._consoles:
            raise Conflict(f"the console of {instance.metadata.name} is open already; close that one first")
        self._consoles.add(instance.uid)
        try:
            terminal = Terminal(device)
        except OSError as error:
            self._consoles.discard(instance.uid)
            raise Unavailable(f"the console cannot be opened: {error.strerror}") from error
        try:
            await _first_of(_shown(terminal, stream), _typed(terminal, stream))
        finally:
            terminal.close()
            self._consoles.discard(instance.uid)

    async def _serve_screen(self, stream: TunnelStream, instance: Instance) -> None:
        with _told():
            connection = await self._views.open_screen(instance.uid)
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            await _first_of(_read(reader, stream), _write(writer, stream))
        finally:
            writer.close()

    async def _serve_screenshot(self, stream: TunnelStream, instance: Instance) -> None:
        with _told():
            picture = await self._views.take_screenshot(instance.uid)
        await stream.send(picture)

    async def _serve_metrics(self, stream: TunnelStream, instance: Instance) -> None:
        with _told():
            found = await self._views.measure(instance.uid)
        await stream.send(found.to_json())

    async def _serve_ssh(self, stream: TunnelStream, instance: Instance) -> None:
        """Copy bytes: whoever asked speaks SSH with the guest itself."""
        with _told():
            async with self._shells.connect(instance) as connection:
                reader, writer = await asyncio.open_connection(sock=connection)
                try:
                    await _first_of(_read(reader, stream), _write(writer, stream))
                except OSError as error:
                    name = instance.metadata.name
                    raise Unavailable(f"the connection to {name} broke: {error.strerror or error}") from error
                finally:
                    writer.close()

    async def _find_device(self, instance: Instance) -> str:
        try:
            domain = await self._hypervisor.find_domain(instance.uid)
        except ReconcileError as error:
            raise Unavailable(error.message) from error
        if domain is None or domain.serial_device is None:
            raise Conflict(f"{instance.metadata.name} does not run; start it first")
        return domain.serial_device


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raise what the hypervisor says as an error of the API."""
    try:
        yield
    except (BackendConflict, BackendNotFound) as error:
        raise Conflict(error.message) from error
    except ReconcileError as error:
        raise Unavailable(error.message) from error


async def _read(reader: asyncio.StreamReader, stream: TunnelStream) -> None:
    while chunk := await reader.read(PAYLOAD_LIMIT):
        await stream.send(chunk)


async def _write(writer: asyncio.StreamWriter, stream: TunnelStream) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await stream.receive():
            writer.write(data)
            await writer.drain()


async def _shown(terminal: Terminal, stream: TunnelStream) -> None:
    while chunk := await terminal.read():
        await stream.send(chunk)


async def _typed(terminal: Terminal, stream: TunnelStream) -> None:
    while typed := await stream.receive():
        await terminal.write(typed)


async def _until_closed(stream: TunnelStream) -> None:
    while await stream.receive():
        pass


async def _first_of(*ways: Coroutine[Any, Any, None]) -> None:
    """Return when one of them ended, the others cancelled; raise its failure."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
