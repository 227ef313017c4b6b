"""The agent's settings file. Any text in it may be `ENC(...)`, made by `vcctl secrets encrypt`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from vcstack.crypto.enc import UnreadableValue, decrypt_values, open_key_file
from vcstack.specs.meta import LabelKey, LabelValue
from vcstack.specs.model import Model, Name


class SettingsError(Exception):
    """The settings file cannot be used; the text says why."""


class OvnSettings(Model):
    """Where ovn-controller of this host connects to; left out, Open vSwitch's own settings stay as they are."""

    remote: str
    """The southbound database, e.g. ssl:10.98.0.1:6642."""
    encap_ip: str = ""
    """The tunnel endpoint of this host; empty: as it is."""


class ImageCacheSettings(Model):
    """How long contents of images stay on the host that nothing on it needs."""

    max_gib: Annotated[int, Field(ge=0)] = 20
    """Nothing is removed while all contents together take less."""
    keep_hours: Annotated[int, Field(ge=1)] = 24
    """A content stays this long after it was last needed, even when there is too little room."""


class Settings(Model):
    """What vc-compute is told."""

    host_name: Name
    """The host's name in the cloud."""
    api_url: str
    """https://HOST:PORT of vc-management."""
    ca_file: Path
    """The cloud's CA, by which the API is trusted."""
    secrets_key_file: Path | None = None
    """The key file that decrypts ENC(...) values. Default $VCSTACK_SECRETS_KEY_FILE, else the systemd credential
    vcstack-secrets-key; none is needed without such values."""
    join_token_file: Path | None = None
    """The one-time token for joining; not needed any more afterwards."""
    state_dir: Path
    """Where keys, images and disks are kept."""
    libvirt_uri: str = "qemu:///system"
    """Where libvirtd is."""
    libvirt_run_dir: Path = Path("/run/libvirt/qemu")
    """Where QEMU's pid files are."""
    ovsdb: str = "unix:/run/openvswitch/db.sock"
    """Where the host's ovsdb-server is."""
    ovn: OvnSettings | None = None
    """How ovn-controller is set up."""
    zone: Name | None = None
    """The failure domain, when joining."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """Labels of the Host, when joining."""
    virt_type: Literal["auto", "kvm", "qemu"] = "auto"
    """auto: KVM where a guest really starts with it, else QEMU's emulation."""
    workers: Annotated[int, Field(ge=1, le=64)] = 8
    """Instances worked on at once."""
    resync_seconds: Annotated[int, Field(ge=5)] = 60
    """Every instance is looked at this often even when nothing seems to have happened."""
    shutdown_grace_seconds: Annotated[int, Field(ge=1)] = 60
    """How long a guest may take to shut down before the plug is pulled."""
    image_cache: ImageCacheSettings = Field(default_factory=ImageCacheSettings)
    """When contents of images are removed from the host."""
    metrics_listen: str | None = None
    """HOST:PORT for Prometheus; left out: none."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged."""


def load_settings(path: Path) -> Settings:
    """Return the settings in a YAML file. Raises SettingsError with a sentence."""
    try:
        found = yaml.safe_load(path.read_text())
        values: dict[str, Any] = found if isinstance(found, dict) else {}
        named = values.get("secretsKeyFile")
        key_file = Path(named) if isinstance(named, str) else None
        return Settings.from_wire(decrypt_values(values, lambda: open_key_file(key_file)))
    except UnreadableValue as error:
        raise SettingsError(f"{path}: {error}") from error
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is no YAML: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"{path}: {faults}") from error
