"""The watch of custom resources and namespaces, by kopf: all kinds alike, also those that are defined later.

kopf lists, watches and reconnects, logs in, and posts events; nothing else of it is used, so that it writes nothing
into custom resources itself.
"""

import asyncio
import contextlib
import contextvars
import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kopf
import structlog

from vcstack.operator.crds import GROUP, VERSION, is_custom, is_namespaced
from vcstack.operator.kubernetes import Key, log_in
from vcstack.specs.registry import load_kinds

log = structlog.get_logger()
COMPONENT = "vc-operator"
KOPF = Path(kopf.__file__).parent
RESTART_SECONDS = 2.0
"""Before it begins anew, so that a server that answers wrongly is not flooded."""
END_SECONDS = 1.0
"""Between two times that what runs is told to end."""
LOGIN_SECONDS = 2.0
"""Between two logins, so that a server that refuses is not flooded."""
LOGIN_HOURS = 24
"""After which credentials are read anew, refused or not."""


class _Forever:
    """Backoffs without an end: the operator outlives every pause of the API server."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.2, 0.5, 1, 2)
        while True:
            yield 3.0


class Watcher:
    """Runs kopf, and tells of what it sees."""

    def __init__(
        self, changed: Callable[[Key], None], placed: Callable[[str, Mapping[str, str] | None], None], namespace: str
    ) -> None:
        self._changed = changed
        self._placed = placed
        self._namespace = namespace
        self._context: contextvars.Context | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until told to stop, by the event or a signal.

        kopf ends all of itself when one watch meets what it does not know, such as the 404 of an API server that has
        just started and does not serve custom resources yet. Then it begins anew, and lists everything.
        """
        for handler in logging.getLogger().handlers:
            handler.addFilter(_shorten)
        while not stop.is_set():
            await self._watch(stop)
            if not stop.is_set():
                log.warning("the watch of Kubernetes ended and begins anew")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), RESTART_SECONDS)

    async def _watch(self, stop: asyncio.Event) -> None:
        """Run kopf until it ends, for whatever reason."""
        self._context = None
        registry = kopf.OperatorRegistry()
        settings = kopf.OperatorSettings()
        settings.networking.error_backoffs = _Forever()
        settings.networking.request_timeout = 30.0
        settings.watching.server_timeout = 300
        settings.process.ultimate_exiting_timeout = None  # else it kills us when it does not like how it ends
        settings.posting.reporting_component = COMPONENT
        settings.posting.event_name_prefix = f"{COMPONENT}-"
        kopf.on.login(registry=registry)(_Login().give)
        kopf.on.event(GROUP, VERSION, kopf.EVERYTHING, registry=registry)(self._on_resource)
        kopf.on.event("", "v1", "namespaces", registry=registry)(self._on_namespace)
        tasks = await kopf.spawn_tasks(
            registry=registry, settings=settings, clusterwide=True, standalone=True, stop_flag=stop
        )
        # kopf takes signals for itself, but we have more to end than it knows of.
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        asyncio.get_running_loop().set_exception_handler(_report)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end_kopf()

    def post(self, resource: Mapping[str, Any], type_: str, reason: str, message: str) -> None:
        """Record an event of Kubernetes about a custom resource. It is sent when Kubernetes takes it."""
        if self._context is not None:
            about: Any = dict(resource)
            self._context.copy().run(kopf.event, about, type=type_, reason=reason, message=message[:1000])

    async def _on_resource(self, body: kopf.Body, **_: Any) -> None:
        if self._context is None:
            # kopf keeps where events go to in the context of its handlers.
            self._context = contextvars.copy_context()
        definition = load_kinds().get(str(body["kind"]))
        if definition is None or not is_custom(definition):
            return
        namespace = body.metadata.namespace if is_namespaced(definition) else None
        self._changed(Key(definition.kind, namespace, str(body.metadata.name)))

    async def _on_namespace(self, body: kopf.Body, type: str | None, **_: Any) -> None:
        gone = type == "DELETED"
        self._placed(str(body.metadata.name), None if gone else dict(body.metadata.annotations))


async def _end_kopf() -> None:
    """Cancel all that kopf runs until it has ended: a watch between two attempts of a request takes no notice of the
    first time, and would go on for ever."""
    while running := [task for task in asyncio.all_tasks() if _is_kopfs(task)]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=END_SECONDS)


def _is_kopfs(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and Path(code.co_filename).is_relative_to(KOPF)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what failed in a callback, but for kopf's own: told to end before a watch is answered, it looks for a task
    where there is none (what it was to cancel then is cancelled by ``_end_kopf``); and it has logged itself what failed
    in its tasks."""
    task = context.get("future")
    if "request_cancel_callback" in str(context.get("message", "")):
        return
    if not (isinstance(task, asyncio.Task) and _is_kopfs(task)):
        loop.default_exception_handler(context)


def _shorten(record: logging.LogRecord) -> bool:
    """Have what a server answered told without the places in kopf where that was found."""
    if record.exc_info and type(record.exc_info[1]).__module__.partition(".")[0] == kopf.__name__:
        record.exc_info = None
    return True


class _Login:
    """Credentials for kopf, which never takes any again that failed once, and ends when it has no others.

    A connection that ended badly is such a failure, and so is a server that is not itself yet: then the same ones are
    good a moment later. So no two answers are equal, and they are given once in some seconds.
    """

    def __init__(self, spacing_seconds: float = LOGIN_SECONDS) -> None:
        self._spacing_seconds = spacing_seconds
        self._count = 0

    async def give(self, **_: Any) -> kopf.ConnectionInfo:
        """Return them anew."""
        if self._count:
            await asyncio.sleep(self._spacing_seconds)
        self._count += 1
        good_until = datetime.now(UTC) + timedelta(hours=LOGIN_HOURS, microseconds=self._count)
        return replace(log_in(), expiration=good_until)
