"""vc-management's settings: one YAML file, each value also as an environment variable VCSTACK_MANAGEMENT_A__B.

Any value, in either, may be `ENC(...)`, made by `vcctl secrets encrypt`.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel, to_snake
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from vcstack.apiserver.audit.settings import AccessLog, Level, OnFailure
from vcstack.apiserver.consolefiles import DEFAULT_FOLDER
from vcstack.crypto.enc import UnreadableValue, decrypt_values, open_key_file
from vcstack.pki.installation import SERVICE_HOURS
from vcstack.specs.errors import BadRequest
from vcstack.specs.manifest import load_documents
from vcstack.specs.registry import load_kinds

_ORIGIN = re.compile(
    r"https://([a-z0-9-]+\.)*[a-z0-9-]+(:[0-9]{1,5})?|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?"
)
"""As browsers send it (RFC 6454, section 6.2). Without TLS only on one's own machine, for who builds pages."""
KEYRING_NAME = "keyring.json"
"""The master keys' file in the state folder, unless another is named."""


class SettingsError(Exception):
    """The settings cannot be used; the text names the file, the field and the fix."""


class Section(BaseModel):
    """A part of the settings: camelCase in the file, unknown names refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", use_attribute_docstrings=True
    )


class EtcdSection(Section):
    """Where the store is."""

    endpoints: tuple[str, ...] = ("127.0.0.1:2379",)
    """HOST:PORT of each member, without a scheme. Default: a member on this machine."""
    ca_file: Path | None = None
    """The CA of etcd's certificate, PEM. Default none: no TLS, for experiments on the loopback only."""
    cert_file: Path | None = None
    """Our client certificate, PEM; etcd asks for one."""
    key_file: Path | None = None
    """Its key, PEM."""


class PostgresSection(Section):
    """Where the mirror writes."""

    dsn: str
    """libpq connection string or URI; its database is made when it is missing."""
    event_days: int = Field(default=90, ge=1, le=3650)
    """How long events are kept there; the store keeps them for a day. Default 90."""
    history_days: int = Field(default=90, ge=1, le=3650)
    """For how many days it can be told what an object was at any moment. Default 90."""
    history_versions: int = Field(default=1000, ge=1, le=100_000)
    """How many versions of one object are kept at most, the newest, within those days too. Default 1000."""


class OvnSection(Section):
    """Where OVN's databases are."""

    northbound: str
    """ssl:HOST:PORT or unix:PATH of the northbound database; several separated by commas (raft)."""
    southbound: str = ""
    """The same of the southbound database; not used by the manager yet."""
    ca_file: Path | None = None
    """The CA of the databases' certificate, PEM."""
    cert_file: Path | None = None
    """Our certificate, PEM."""
    key_file: Path | None = None
    """Its key, PEM."""


class ApiSection(Section):
    """How the API is served."""

    listen: tuple[str, ...] = ()
    """HOST:PORT to listen on, besides the sockets that systemd passes on. Default none."""
    url: str = "https://vcstack"
    """The cloud's address as its users know it, e.g. https://cloud.example:8443: the issuer of access tokens, so the
    same for all replicas; a change ends all sessions. Default a name that only we have to know."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Proxies that stand before the API, whose X-Forwarded-For is believed. Default none: the header is nothing."""
    cert_file: Path
    """The server's certificate, PEM; read again when it changes."""
    key_file: Path
    """Its key, PEM."""
    cors_origins: tuple[str, ...] = ()
    """Origins, e.g. https://console.example, whose pages may call the API in browsers, also with cookies. Default
    none."""
    access_log: AccessLog = AccessLog.UNRECORDED
    """Which requests get a line in the log besides those that are refused or fail. Unrecorded: what changes something
    and is not in the audit trail, Changes: what changes something, All. Default Unrecorded."""
    console_dir: Path = DEFAULT_FOLDER
    """Where the built console lies. Default console/dist of the checkout that this program runs from."""
    peer_host: str = ""
    """The address by which other replicas reach this one, for the tunnels of hosts that are connected here; it has
    to stand in the certificate. Default: the host of the first address listened on."""

    @field_validator("cors_origins")
    @classmethod
    def _exact(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin; write https://HOST or https://HOST:PORT, no path, no *")
        return origins


class AllowedTarget(Section):
    """What may be reached although it is not public."""

    network: IPv4Network | IPv6Network
    """An address or a network."""
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (443,)
    """Its ports."""
    plain_http: bool = False
    """Whether http:// will do, and LDAP without TLS. Default no: secrets are sent there."""


class OutboundSection(Section):
    """Where requests go that tenants' objects name, such as identity providers. All tenants are alike."""

    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (443, 8443)
    """Ports of public addresses. Default 443 and 8443: other servers may take a request for something else."""
    own_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Public networks of this cloud itself, refused like private ones. This machine's addresses always are."""
    allowed: tuple[AllowedTarget, ...] = ()
    """Private networks that may be reached. Default none."""
    ca_file: Path | None = None
    """CAs, PEM, that are trusted there besides the machine's."""


class LimitsSection(Section):
    """How much one process of the API takes on at once; how many requests somebody may send say RateLimitPolicies."""

    tenant_seats: int = Field(default=96, ge=4, le=10_000)
    """Requests of users and service accounts that are worked on at once, a third of them of one. Default 96."""
    queue_seconds: int = Field(default=15, ge=1, le=300)
    """How long a request waits for its turn before it is refused. Default 15."""
    streams_of_one: int = Field(default=200, ge=1, le=100_000)
    """Watches, logs, consoles and transfers that one user or service account may have open, at all managers together.
    Default 200."""
    tenant_streams: int = Field(default=4000, ge=1, le=1_000_000)
    """The same of all users and service accounts, at one process. Default 4000."""
    connections: int = Field(default=30_000, ge=16, le=1_000_000)
    """Connections open at one process. Default 30000; never more than the limit on open files leaves."""
    connections_of_address: int = Field(default=2000, ge=4, le=1_000_000)
    """The same from one address, of IPv6 from one /64; not of trustedProxies. Default 2000."""
    new_connections_of_address: int = Field(default=6000, ge=60, le=1_000_000)
    """Connections a minute from one address at one process; each costs a handshake. Default 6000."""


class PkiSection(Section):
    """The certificate authority."""

    ca_cert_file: Path
    """The CA's certificate, PEM, while it is rotated two: client certificates are checked against it. Written by the
    manager."""
    ca_key_file: Path
    """The CA's key, PEM: certificates are signed with it. Written by the manager."""
    service_certificate_hours: int = Field(default=SERVICE_HOURS, ge=1, le=24 * 365)
    """How long the certificates of services are good, in hours. Default 168, a week: they are renewed after two
    thirds of it, and a machine may be off for the rest."""


class AuditKindSection(Section):
    """What differs for a kind."""

    kind: str
    """The kind."""
    writes: Level | None = None
    """None, Metadata or Request. Default Request for kinds that give rights, else as for all kinds."""
    reads: Level | None = None
    """The same of reads. Default Metadata for Secret and Key, else as for all kinds."""


class AuditSection(Section):
    """The audit trail."""

    enabled: bool = True
    """Whether one is kept. Default true."""
    folder: Path | None = None
    """Where records lie until they are in PostgreSQL. Default audit in stateDir."""
    anchor_file: Path | None = None
    """Where the ends of chains are noted; it proves that nothing was cut off, so it is best on another machine's file
    system, mounted append-only. Default audit-anchors.jsonl in stateDir."""
    webhook_url: str = ""
    """An https URL of yours that gets the ends of chains as well. Default none."""
    writes: Level = Level.METADATA
    """What is kept of requests that change something: None, Metadata or Request (with the body, without secrets).
    Default Metadata."""
    reads: Level = Level.NONE
    """The same of requests that change nothing. Default None. Denials and failed logins are always kept."""
    kinds: tuple[AuditKindSection, ...] = ()
    """What differs for some kinds."""
    on_failure: OnFailure = OnFailure.REFUSE
    """Refuse: what could not be recorded is not done, while the disk is full or broken. Continue: it is done, and
    recorded later if memory suffices. Default Refuse."""
    reserve_mib: int = Field(default=64, ge=0, le=1024 * 1024)
    """With less space left at the folder the disk counts as full, in MiB. Default 64."""
    segment_mib: int = Field(default=16, ge=1, le=1024)
    """Largest file, in MiB. Default 16."""
    local_days: int = Field(default=7, ge=0, le=3650)
    """How long files stay that are in PostgreSQL, in days. Default 7: what a database that was restored from a backup
    lacks comes from them."""
    retention_days: int = Field(default=400, ge=1, le=36500)
    """How long records are kept, in days. Default 400: a year, and time to look."""
    anchor_seconds: int = Field(default=60, ge=1, le=86_400)
    """How often the ends of chains are noted. Default 60."""

    @field_validator("webhook_url")
    @classmethod
    def _secure(cls, url: str) -> str:
        if url and not url.startswith("https://"):
            raise ValueError("must begin with https://")
        return url

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[AuditKindSection, ...]) -> tuple[AuditKindSection, ...]:
        for each in kinds:
            if each.kind not in load_kinds():
                raise ValueError(f"{each.kind!r} is no kind; there are {', '.join(sorted(load_kinds()))}")
        return kinds


class ManagementSettings(BaseSettings):
    """All of it."""

    model_config = SettingsConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        env_prefix="VCSTACK_MANAGEMENT_",
        env_nested_delimiter="__",
        use_attribute_docstrings=True,
    )

    state_dir: Path
    """Where the admin token and everything else of this installation is kept."""
    secrets_key_file: Path | None = None
    """The key file that decrypts ENC(...) values. Default $VCSTACK_SECRETS_KEY_FILE, else the systemd credential
    vcstack-secrets-key; none is needed without such values."""
    etcd: EtcdSection = Field(default_factory=EtcdSection)
    """Where the store is."""
    postgres: PostgresSection | None = None
    """Where the mirror writes. Default none: no history and no queries, everything else works."""
    ovn: OvnSection | None = None
    """Where OVN is. Needed by the role controllers."""
    api: ApiSection
    """How the API is served."""
    pki: PkiSection
    """The certificate authority."""
    limits: LimitsSection = Field(default_factory=LimitsSection)
    """How much is taken on at once."""
    audit: AuditSection = Field(default_factory=AuditSection)
    """The audit trail."""
    outbound: OutboundSection = Field(default_factory=OutboundSection)
    """Where requests go that tenants' objects name. Default public addresses only."""
    keyring_file: Path | None = None
    """The master keys that encrypt secrets in the store; the same on all machines of the cloud. Default keyring.json
    in stateDir, which `vc-management init` makes."""
    image_dir: Path
    """Where image content is kept; the replicas of the API share it."""
    api_workers: int = Field(default=1, ge=1, le=64)
    """Processes that serve the API. Default 1: one fills a core; more share the port and grow throughput."""
    host_certificate_hours: int = Field(default=24, ge=1, le=24 * 90)
    """How long a host's certificate is good, in hours. Default 24: a stolen one is soon useless, and a host may be
    cut off for the last third of it."""
    election_ttl_seconds: int = Field(default=10, ge=2, le=60)
    """After how many seconds another replica takes over the controllers of one that is gone. Default 10: longer
    than a pause of a busy machine, shorter than patience."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged. Default info: what changed; debug adds every read."""

    @property
    def keyring_path(self) -> Path:
        """Return where the keyring is."""
        return self.keyring_file or self.state_dir / KEYRING_NAME

    @model_validator(mode="before")
    @classmethod
    def _decrypt(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Put in the plain values before any of them is looked at."""
        named = _by_field_name(values).get("secrets_key_file")
        try:
            return decrypt_values(values, lambda: open_key_file(Path(named) if named else None))
        except UnreadableValue as error:
            raise SettingsError(f"{_as_written(error.field.split('.'))}: {error.why}") from error

    @field_validator("image_dir", "state_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError(f"{path} must be an absolute path")
        return path

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose values get the names that the environment's have."""
        assert isinstance(init_settings, InitSettingsSource)
        init_settings.init_kwargs = _by_field_name(init_settings.init_kwargs)
        return env_settings, init_settings


def load_values(path: Path) -> dict[str, Any]:
    """Return what stands in the file. Raises SettingsError."""
    try:
        documents = load_documents(path.read_bytes(), source=str(path))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; write it or name it with --config") from error
    except BadRequest as error:
        raise SettingsError(error.message) from error
    if len(documents) > 1:
        raise SettingsError(f"{path}: one document is expected, there are {len(documents)}")
    return documents[0] if documents else {}


def load_settings(path: Path) -> ManagementSettings:
    """Return the settings. Raises SettingsError with the file, the field and the fix."""
    values = load_values(path)
    try:
        return ManagementSettings(**values)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    except ValidationError as error:
        raise SettingsError("\n".join(f"{path}: {line}" for line in _explain(error))) from error


def _by_field_name(value: Any) -> Any:
    """The values under the names of the fields."""
    return {to_snake(str(k)): _by_field_name(v) for k, v in value.items()} if isinstance(value, dict) else value


def _explain(error: ValidationError) -> list[str]:
    return [f"{_as_written(fault['loc']) or 'file'}: {fault['msg']}" for fault in error.errors(include_url=False)]


def _as_written(location: Sequence[str | int]) -> str:
    """The field as it stands in the file."""
    return ".".join(to_camel(str(step)) if "_" in str(step) else str(step) for step in location)
