"""What the operator asks of Kubernetes besides the watch of custom resources, which kopf does.

A credential is whatever kopf finds (the pod's service account, or KUBECONFIG), asked for anew when it is refused.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import kopf
import orjson

from vcstack.operator.crds import GROUP, VERSION, is_namespaced
from vcstack.specs.registry import KindDefinition, get_kind

Wire = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"
TIMEOUT_SECONDS = 30.0
SILENCE_SECONDS = 330.0
"""A watch is ended by the server after 5 minutes at most, so it is dead when nothing came for longer."""
WATCH_SECONDS = 300
METADATA_ONLY = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"


class KubernetesError(Exception):
    """Kubernetes refused, or cannot be asked (code 0)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_missing(self) -> bool:
        """Return whether there is no such object."""
        return self.code == 404

    @property
    def is_conflict(self) -> bool:
        """Return whether the object is another than was believed."""
        return self.code == 409

    @property
    def is_expired(self) -> bool:
        """Return whether a watch cannot go on from there."""
        return self.code == 410


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A custom resource."""

    kind: str
    namespace: str | None
    name: str

    @property
    def definition(self) -> KindDefinition:
        """Return its kind."""
        return get_kind(self.kind)

    @property
    def path(self) -> str:
        """Return where it is in Kubernetes' API."""
        definition = self.definition
        place = f"/namespaces/{self.namespace}" if is_namespaced(definition) else ""
        return f"/apis/{GROUP}/{VERSION}{place}/{definition.plural}/{self.name}"

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


Login = Callable[[], kopf.ConnectionInfo]


def log_in() -> kopf.ConnectionInfo:
    """Return the pod's service account, else what KUBECONFIG says. Raises KubernetesError."""
    settings = kopf.OperatorSettings()
    found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if found is None:
        raise KubernetesError(0, "neither a service account of a pod nor KUBECONFIG says how to reach Kubernetes")
    return found


class Kubernetes:
    """Requests to Kubernetes' API."""

    def __init__(self, login: Login = log_in) -> None:
        self._login = login
        self._client: httpx2.AsyncClient | None = None
        self._retired: list[httpx2.AsyncClient] = []

    async def aclose(self) -> None:
        """Close the connections."""
        clients = [*self._retired, *([self._client] if self._client else [])]
        self._retired, self._client = [], None
        for client in clients:
            await client.aclose()

    async def find(self, path: str) -> Wire | None:
        """Return an object, consistently read; None when there is none. Raises KubernetesError."""
        try:
            return await self.request("GET", path)
        except KubernetesError as error:
            if not error.is_missing:
                raise
            return None

    async def patch(self, path: str, patch: Wire) -> Wire:
        """Return the object after a merge patch. Raises KubernetesError."""
        return await self.request("PATCH", path, patch, content_type=MERGE_PATCH)

    async def request(
        self, method: str, path: str, body: Wire | None = None, *, content_type: str = "application/json"
    ) -> Wire:
        """Return the answer. Raises KubernetesError."""
        for again in (True, False):
            client = self._current()
            try:
                answer = await client.request(
                    method,
                    path,
                    content=None if body is None else orjson.dumps(body),
                    headers={"content-type": content_type} if body is not None else {},
                )
            except httpx2.HTTPError as error:
                raise KubernetesError(0, f"cannot ask Kubernetes: {error or type(error).__name__}") from error
            if answer.status_code == 401 and again:
                self._forget(client)
                continue
            break
        found = _decode(answer.content)
        if answer.is_error:
            raise KubernetesError(answer.status_code, f"{method} {path}: {found.get('message', answer.status_code)}")
        return found

    async def list_metadata(self, path: str) -> tuple[list[Wire], str]:
        """Return the metadata of all objects of a collection, and where to watch from. Raises KubernetesError."""
        client = self._current()
        try:
            answer = await client.get(path, headers={"accept": METADATA_ONLY.format("List")})
        except httpx2.HTTPError as error:
            raise KubernetesError(0, f"cannot ask Kubernetes: {error}") from error
        found = _decode(answer.content)
        if answer.is_error:
            if answer.status_code == 401:
                self._forget(client)
            raise KubernetesError(answer.status_code, str(found.get("message", answer.status_code)))
        return [item["metadata"] for item in found.get("items") or ()], found["metadata"]["resourceVersion"]

    async def watch_metadata(self, path: str, since: str) -> AsyncGenerator[tuple[Wire, str]]:
        """Yield the metadata of what changes, and where to go on from; ends now and then. Raises KubernetesError."""
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        client, headers = self._current(), {"accept": METADATA_ONLY.format("")}
        timeout = httpx2.Timeout(TIMEOUT_SECONDS, read=SILENCE_SECONDS)
        try:
            async with client.stream("GET", path, params=params, headers=headers, timeout=timeout) as answer:
                if answer.is_error:
                    if answer.status_code == 401:
                        self._forget(client)
                    raise KubernetesError(answer.status_code, f"watch of {path}")
                async for line in answer.aiter_lines():
                    event = _decode(line.encode())
                    if event.get("type") == "ERROR":
                        raise KubernetesError(event["object"].get("code", 500), str(event["object"].get("message")))
                    if event:
                        meta = event["object"]["metadata"]
                        yield ({} if event["type"] == "BOOKMARK" else meta), meta["resourceVersion"]
        except httpx2.HTTPError as error:
            raise KubernetesError(0, f"the watch of {path} broke: {error}") from error

    def _current(self) -> httpx2.AsyncClient:
        if self._client is None:
            info = self._login()
            self._client = httpx2.AsyncClient(
                base_url=info.server,
                verify=info.as_ssl_context(),
                headers={**info.as_http_headers(), "user-agent": "vc-operator"},
                timeout=TIMEOUT_SECONDS,
                trust_env=False,
            )
        return self._client

    def _forget(self, client: httpx2.AsyncClient) -> None:
        """Log in anew next time: a pod's token is replaced every hour."""
        if self._client is client:
            self._retired.append(client)
            self._client = None


def _decode(content: bytes) -> Wire:
    with contextlib.suppress(orjson.JSONDecodeError):
        found = orjson.loads(content)
        return found if isinstance(found, dict) else {}
    return {}


def text_of(mapping: Mapping[str, Any] | None, name: str) -> str:
    """Return a text of a mapping that may be missing."""
    return str((mapping or {}).get(name) or "")
