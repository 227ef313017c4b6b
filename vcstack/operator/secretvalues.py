"""Values of Kubernetes' Secrets that custom resources refer to.

A value is read when it is applied and kept nowhere. Which Secrets change is followed by their metadata alone.
"""

import asyncio
import base64
import contextlib
from collections.abc import Callable, Iterable, Mapping

import structlog

from vcstack.clock import Clock
from vcstack.operator.kubernetes import Key, Kubernetes, KubernetesError
from vcstack.operator.manifests import SecretKey, find_secret_keys
from vcstack.runtime.backoff import Backoff

log = structlog.get_logger()
SECRETS = "/api/v1/secrets"


class MissingSecret(Exception):
    """A Secret or one of its values is not there, or is no text."""


class SecretValues:
    """Reads them, and tells of custom resources whose Secret has changed."""

    def __init__(self, kubernetes: Kubernetes, namespace: str, clock: Clock, changed: Callable[[Key], None]) -> None:
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._clock = clock
        self._changed = changed
        self._users: dict[tuple[str, str], set[Key]] = {}
        self._used: dict[Key, set[tuple[str, str]]] = {}
        self._following: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """End the watch."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def resolve(self, key: Key, resource: Mapping[str, object]) -> dict[SecretKey, str]:
        """Return the values that a custom resource refers to. Raises MissingSecret, KubernetesError."""
        wanted = set(find_secret_keys(key, resource))
        namespace = key.namespace or self._namespace
        self._use(key, {(namespace, name) for name, _ in wanted})
        found: dict[SecretKey, str] = {}
        for name in sorted({name for name, _ in wanted}):
            data = await self._read(namespace, name)
            for wanted_key in sorted(k for n, k in wanted if n == name):
                found[name, wanted_key] = _text_of(data, namespace, name, wanted_key)
        return found

    def forget(self, key: Key) -> None:
        """Follow nothing for the custom resource any more."""
        self._use(key, set())

    async def _read(self, namespace: str, name: str) -> Mapping[str, str]:
        found = await self._kubernetes.find(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        if found is None:
            raise MissingSecret(f"Secret {namespace}/{name} of Kubernetes is not there")
        return found.get("data") or {}

    def _use(self, key: Key, secrets: Iterable[tuple[str, str]]) -> None:
        wanted = set(secrets)
        for gone in self._used.pop(key, set()) - wanted:
            self._users[gone].discard(key)
            if not self._users[gone]:
                del self._users[gone]
        if wanted:
            self._used[key] = wanted
            for secret in wanted:
                self._users.setdefault(secret, set()).add(key)
            if self._following is None:
                self._following = asyncio.create_task(self._follow(), name="watch Secrets")

    async def _follow(self) -> None:
        backoff, failures, version = Backoff(first_seconds=0.2, limit_seconds=10.0), 0, ""
        while True:
            try:
                if not version:
                    items, version = await self._kubernetes.list_metadata(SECRETS)
                    for meta in items:
                        self._tell(meta)
                async with contextlib.aclosing(self._kubernetes.watch_metadata(SECRETS, version)) as stream:
                    async for meta, seen in stream:
                        version, failures = seen, 0
                        self._tell(meta)
            except KubernetesError as error:
                failures += 1
                version = "" if error.is_expired else version
                if not error.is_expired:
                    log.warning("Secrets of Kubernetes cannot be followed", error=str(error))
            await self._clock.sleep(backoff.delay(max(failures, 1)))

    def _tell(self, meta: Mapping[str, str]) -> None:
        for key in self._users.get((meta.get("namespace", ""), meta.get("name", "")), ()):
            self._changed(key)


def _text_of(data: Mapping[str, str], namespace: str, name: str, key: str) -> str:
    if key not in data:
        raise MissingSecret(f"Secret {namespace}/{name} of Kubernetes has no value {key}")
    try:
        return base64.b64decode(data[key], validate=True).decode()
    except ValueError:
        raise MissingSecret(f"the value {key} of Secret {namespace}/{name} of Kubernetes is no text") from None
