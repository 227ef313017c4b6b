"""How the operator is told what to do: by its environment, as pods are."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from vcstack.specs.model import is_label

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class SettingsError(Exception):
    """A setting is missing or wrong; the message says which."""


class NamespaceMode(StrEnum):
    """Which namespaces stand for projects."""

    SAME_NAME = "SameName"
    """Each for the project of its name, unless its annotation names another."""
    ANNOTATED = "Annotated"
    """Only those whose annotation names a project."""


@dataclass(frozen=True)
class OperatorSettings:
    """What the operator goes by."""

    api_url: str
    """VCSTACK_API_URL: https://HOST:PORT of VC Stack."""
    key_file: Path
    """VCSTACK_API_KEY_FILE: a file with the API key, KEYID:SECRET, from a Secret. Read again when it is refused."""
    ca_file: Path | None = None
    """VCSTACK_CA_FILE: whom to trust; default the system's authorities."""
    name: str = "vc-operator"
    """VC_OPERATOR_NAME: its field manager and label in VC Stack, and its lease. Clusters that share a cloud need
    different ones."""
    namespace: str = "default"
    """VC_OPERATOR_NAMESPACE: where it runs, its lease lies and Secrets of global kinds are; default the pod's."""
    namespaces: NamespaceMode = NamespaceMode.SAME_NAME
    """VC_OPERATOR_NAMESPACES: SameName or Annotated."""
    identity: str = ""
    """POD_NAME: who holds the lease; default host name and process."""
    workers: int = 8
    """VC_OPERATOR_WORKERS: how many objects are worked on at once."""
    health_address: str = "0.0.0.0:8080"
    """VC_OPERATOR_HEALTH_ADDRESS: where /healthz, /readyz and /metrics are served."""
    lease_seconds: int = 15
    """VC_OPERATOR_LEASE_SECONDS: how long after its death another replica takes over."""
    log_level: str = "INFO"
    """VC_OPERATOR_LOG_LEVEL."""


def read_settings(environment: Mapping[str, str]) -> OperatorSettings:
    """Return the settings of an environment. Raises SettingsError."""

    def needed(name: str) -> str:
        if not environment.get(name):
            raise SettingsError(f"{name} is not set")
        return environment[name]

    def number(name: str, default: int, least: int) -> int:
        text = environment.get(name) or str(default)
        if not text.isdigit() or int(text) < least:
            raise SettingsError(f"{name} must be a number from {least}, not {text!r}")
        return int(text)

    mode = environment.get("VC_OPERATOR_NAMESPACES") or NamespaceMode.SAME_NAME.value
    if mode not in list(NamespaceMode):
        raise SettingsError(f"VC_OPERATOR_NAMESPACES must be {' or '.join(NamespaceMode)}, not {mode!r}")
    name = environment.get("VC_OPERATOR_NAME") or OperatorSettings.name
    if not is_label(name):
        raise SettingsError(f"VC_OPERATOR_NAME must be a DNS label, not {name!r}")
    ca_file = environment.get("VCSTACK_CA_FILE")
    return OperatorSettings(
        api_url=needed("VCSTACK_API_URL"),
        key_file=Path(needed("VCSTACK_API_KEY_FILE")),
        ca_file=Path(ca_file) if ca_file else None,
        name=name,
        namespace=environment.get("VC_OPERATOR_NAMESPACE") or _namespace_of_pod(),
        namespaces=NamespaceMode(mode),
        identity=environment.get("POD_NAME") or "",
        workers=number("VC_OPERATOR_WORKERS", OperatorSettings.workers, 1),
        health_address=environment.get("VC_OPERATOR_HEALTH_ADDRESS") or OperatorSettings.health_address,
        lease_seconds=number("VC_OPERATOR_LEASE_SECONDS", OperatorSettings.lease_seconds, 2),
        log_level=environment.get("VC_OPERATOR_LOG_LEVEL") or OperatorSettings.log_level,
    )


def _namespace_of_pod() -> str:
    try:
        return NAMESPACE_FILE.read_text().strip()
    except OSError:
        return OperatorSettings.namespace
