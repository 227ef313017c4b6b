"""What a pod asks of its cluster's API server: Secrets and ConfigMaps of its own namespace, and nothing else.

Blocking and by the standard library: three requests with the pod's own account do not need a client library.
"""

import base64
import binascii
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts a pod's token, CA and namespace (kubernetes.io/docs, "Accessing the API from a Pod")."""
TIMEOUT_SECONDS: Final = 15.0
MERGE_PATCH: Final = "application/merge-patch+json"


class ClusterError(Exception):
    """The cluster's API server refused or did not answer; the text says what."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
        """HTTP's; 0: no answer."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where the API server is and who asks."""

    url: str
    """https://HOST:PORT"""
    namespace: str
    """The namespace of all objects."""
    ca_file: Path
    """Whom to trust, PEM."""
    token_file: Path
    """A bearer token; the kubelet replaces it, so it is read for each request."""

    @classmethod
    def of_pod(cls, host: str, port: str, folder: Path = ACCOUNT) -> "Account":
        """The account of the pod that we run in. Raises ClusterError outside of one."""
        try:
            namespace = (folder / "namespace").read_text().strip()
        except OSError as error:
            raise ClusterError(f"{folder}: {error.strerror}; this runs in a pod with a service account") from error
        bracketed = f"[{host}]" if ":" in host else host
        return cls(f"https://{bracketed}:{port}", namespace, folder / "ca.crt", folder / "token")


class ClusterObjects:
    """Secrets (`secrets`) or ConfigMaps (`configmaps`) of a namespace, as names with bytes."""

    def __init__(self, account: Account, plural: str, labels: dict[str, str]) -> None:
        self._account = account
        self._plural = plural
        self._kind = {"secrets": "Secret", "configmaps": "ConfigMap"}[plural]
        self._labels = labels

    def find(self, name: str) -> dict[str, bytes] | None:
        """Return the object's data; None: there is no such object. Raises ClusterError."""
        try:
            found = self._ask("GET", f"/{name}")
        except ClusterError as error:
            if error.code == 404:
                return None
            raise
        return self._decode(name, found)

    def create(self, name: str, data: dict[str, bytes], *, of_type: str = "Opaque") -> bool:
        """Make the object; False: somebody else has made it already. Raises ClusterError."""
        wire = {
            "apiVersion": "v1",
            "kind": self._kind,
            "metadata": {"name": name, "labels": self._labels},
            "data": self._encode(data),
            **({"type": of_type} if self._kind == "Secret" else {}),
        }
        try:
            self._ask("POST", "", wire)
        except ClusterError as error:
            if error.code == 409:
                return False
            raise
        return True

    def update(self, name: str, data: dict[str, bytes]) -> None:
        """Set these of the object's values and keep the others. Raises ClusterError."""
        self._ask("PATCH", f"/{name}", {"data": self._encode(data)})

    def _encode(self, data: dict[str, bytes]) -> dict[str, str]:
        if self._kind == "ConfigMap":
            return {key: value.decode() for key, value in data.items()}
        return {key: base64.b64encode(value).decode() for key, value in data.items()}

    def _decode(self, name: str, found: dict[str, Any]) -> dict[str, bytes]:
        values: dict[str, str] = found.get("data") or {}
        if self._kind == "ConfigMap":
            return {key: value.encode() for key, value in values.items()}
        try:
            return {key: base64.b64decode(value, validate=True) for key, value in values.items()}
        except binascii.Error as error:
            raise ClusterError(f"the Secret {name} holds what is no base64") from error

    def _ask(self, method: str, below: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        account = self._account
        request = urllib.request.Request(  # noqa: S310 - the scheme is https, see Account
            f"{account.url}/api/v1/namespaces/{account.namespace}/{self._plural}{below}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "authorization": f"Bearer {account.token_file.read_text().strip()}",
                "accept": "application/json",
                "content-type": MERGE_PATCH if method == "PATCH" else "application/json",
            },
        )
        context = ssl.create_default_context(cafile=str(account.ca_file))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            with error:
                raise ClusterError(f"{method} {self._plural}{below}: {_reason(error)}", error.code) from error
        except (OSError, ValueError) as error:
            raise ClusterError(f"{account.url} does not answer: {error}") from error


def _reason(error: urllib.error.HTTPError) -> str:
    """What the API server says, without what was sent."""
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"
