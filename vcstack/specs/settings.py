"""The settings there are: what an operator may turn while the cloud runs, with type, default and limits. Pure.

A Setting object gives one of them a value for the whole cloud, a domain or a project. Of several the nearest to
who or what is concerned counts. What is read only when a program starts is no setting but stands in its file.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

Value = bool | int | str
"""As it is written."""
Effective = bool | int | str | timedelta
"""As it is used: durations are timedeltas."""

VALUE_LIMIT: Final = 4096
"""Characters of a value."""
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d)")
_UNITS: Final = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LIMIT: Final = re.compile(r"([A-Za-z][A-Za-z0-9]{0,62})=([0-9]{1,15})")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class SettingType(StrEnum):
    """What kind of value it takes."""

    BOOL = "bool"
    INT = "int"
    STRING = "string"
    ENUM = "enum"
    DURATION = "duration"
    LIMITS = "limits"


class SettingScope(StrEnum):
    """Where a value can be given."""

    CLOUD = "Cloud"
    DOMAIN = "Domain"
    PROJECT = "Project"


_PLACES: Final = {
    SettingScope.CLOUD: "the whole cloud",
    SettingScope.DOMAIN: "a domain",
    SettingScope.PROJECT: "a project",
}


class Delegation(StrEnum):
    """What who administers a domain or project may set there, of what who administers more has set above."""

    NONE = "None"
    """Nothing: it is about what all share."""
    FREE = "Free"
    """Any value."""
    AT_MOST = "AtMost"
    """No more than what counts above."""
    AT_LEAST = "AtLeast"
    """No less."""


BOUNDED: Final = frozenset({Delegation.AT_MOST, Delegation.AT_LEAST})
"""What is set above bounds what is set below."""
CLOUD_ONLY: Final = (SettingScope.CLOUD,)
BY_DOMAIN: Final = (SettingScope.CLOUD, SettingScope.DOMAIN)
EVERYWHERE: Final = (SettingScope.CLOUD, SettingScope.DOMAIN, SettingScope.PROJECT)


@dataclass(frozen=True, slots=True)
class Source:
    """A value that counts, and where it is from."""

    value: Value
    """As it is written."""
    used: Effective
    """As it is used."""
    scope: SettingScope | None = None
    """None: nothing is set, it is the default."""
    place: str = ""
    """The project or domain."""
    name: str = ""
    """The Setting object."""
    locked: bool = False
    """Whether it is changed by those above only."""
    overrules: "Source | None" = None
    """The nearest value that does not count because it goes beyond this one."""

    def describe(self) -> str:
        """Return where it is from, for people."""
        if self.scope is None:
            return "the default"
        where = "the whole cloud" if self.scope is SettingScope.CLOUD else f"{self.scope.value.lower()} {self.place}"
        return f"Setting {self.name} of {where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSetting:
    """One thing that can be set."""

    name: str
    """Its name: the part of the cloud, a dot, what is set."""
    type: SettingType
    default: Value
    """What counts when nothing is set."""
    description: str
    """What it does, and why the default is what it is."""
    scopes: tuple[SettingScope, ...] = CLOUD_ONLY
    minimum: int | str | None = None
    """Of a number or a duration; of a string the smallest number of characters."""
    maximum: int | str | None = None
    choices: tuple[str, ...] = ()
    """Of an enum; in order, where only some may be set below others."""
    delegation: Delegation = Delegation.NONE
    """What may be set by who administers no more than the place."""

    def read(self, value: object) -> Effective:
        """Return the value as it is used.

        Raises:
            ValueError: it is of another type or beyond a limit; the text says what is right.
        """
        match self.type:
            case SettingType.BOOL:
                if not isinstance(value, bool):
                    raise ValueError("must be true or false")
                return value
            case SettingType.INT:
                if not isinstance(value, int) or isinstance(value, bool):
                    raise ValueError("must be a whole number")
                self._check_limits(value, self.minimum, self.maximum)
                return value
            case SettingType.STRING:
                if not isinstance(value, str):
                    raise ValueError("must be a text")
                if _CONTROL.search(value):
                    raise ValueError("must have no control characters but tab and newline")
                self._check_limits(len(value), self.minimum, self.maximum, " characters")
                return value
            case SettingType.ENUM:
                if not isinstance(value, str) or value not in self.choices:
                    raise ValueError(f"must be one of {', '.join(self.choices)}")
                return value
            case SettingType.LIMITS:
                read_limits(value)
                assert isinstance(value, str)
                return value
            case SettingType.DURATION:
                duration = read_duration(value)
                low = None if self.minimum is None else read_duration(self.minimum)
                high = None if self.maximum is None else read_duration(self.maximum)
                if (low is not None and duration < low) or (high is not None and duration > high):
                    raise ValueError(f"must be from {self.minimum} to {self.maximum}")
                return duration

    def is_within(self, value: Effective, above: Effective) -> bool:
        """Return whether who administers no more than the place may set the value, where the other counts above."""
        match self.delegation:
            case Delegation.NONE:
                return False
            case Delegation.FREE:
                return True
            case _ if self.type is SettingType.ENUM:
                # The choices are in order, the least first.
                steps = self.choices.index(str(value)) - self.choices.index(str(above))
                return steps <= 0 if self.delegation is Delegation.AT_MOST else steps >= 0
            case Delegation.AT_MOST:
                return value <= above  # type: ignore[operator] # both are of this setting's type
            case Delegation.AT_LEAST:
                return value >= above  # type: ignore[operator]

    def describe_limits(self) -> str:
        """Return which values are taken, for people."""
        if self.type is SettingType.BOOL:
            return "true, false"
        if self.type is SettingType.ENUM:
            return ", ".join(self.choices)
        if self.type is SettingType.LIMITS:
            return "name=number,..."
        unit = " characters" if self.type is SettingType.STRING else ""
        return f"{self.minimum} to {self.maximum}{unit}"

    def describe(self) -> dict[str, Any]:
        """Return what it does, and as JSON schema which values it takes."""
        low, high = self.minimum, self.maximum
        schema: dict[str, Any]
        match self.type:
            case SettingType.BOOL:
                schema, told = {"type": "boolean"}, "true or false"
            case SettingType.INT:
                schema, told = {"type": "integer", "minimum": low, "maximum": high}, f"A whole number, {low} to {high}"
            case SettingType.STRING:
                schema = {"type": "string", "minLength": low, "maxLength": high}
                told = f"A text of {low} to {high} characters"
            case SettingType.ENUM:
                schema, told = {"type": "string", "enum": list(self.choices)}, f"One of {', '.join(self.choices)}"
            case SettingType.LIMITS:
                schema, told = {"type": "string", "maxLength": VALUE_LIMIT}, "Limits like instances=10,vcpus=20"
            case SettingType.DURATION:
                schema = {"type": "string", "pattern": f"^{_DURATION.pattern}$", "maxLength": 10}
                told = f"A duration like 90s, 30m, 8h or 7d, from {low} to {high}"
        default = str(self.default).lower() if self.type is SettingType.BOOL else self.default
        places = " or ".join(_PLACES[scope] for scope in self.scopes)
        value = {**schema, "default": self.default, "description": f"{told}. Default: {default or 'empty'}."}
        return {"description": f"{self.description} Can be set for {places}.", "value": value}

    def _check_limits(self, number: int, low: int | str | None, high: int | str | None, unit: str = "") -> None:
        if (isinstance(low, int) and number < low) or (isinstance(high, int) and number > high):
            raise ValueError(f"must be from {low} to {high}{unit}")


def read_limits(value: object) -> dict[str, int]:
    """Return the limits of a text like instances=10,vcpus=20; of an empty one none.

    Raises:
        ValueError: it is none.
    """
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) and value.strip() else []
    found = [_LIMIT.fullmatch(part) for part in parts]
    limits = {match[1]: int(match[2]) for match in found if match}
    if not isinstance(value, str) or len(limits) != len(parts):
        raise ValueError("must be limits like instances=10,vcpus=20, each name once")
    return limits


def read_duration(value: object) -> timedelta:
    """Return the duration of a text like 90s, 30m, 8h or 7d.

    Raises:
        ValueError: it is none.
    """
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a duration: a number and s, m, h or d, like 90s, 30m, 8h or 7d")
    return int(found[1]) * _UNITS[found[2]]


EVENTS_RETENTION: Final = "events.retention"
IMAGES_MAX_SIZE: Final = "images.maxSizeGiB"
IMAGES_MAX_VIRTUAL_SIZE: Final = "images.maxVirtualSizeGiB"
LOGIN_MFA_REQUIRED: Final = "login.mfaRequired"
LOGIN_NOTICE: Final = "login.notice"
SESSIONS_IDLE: Final = "sessions.idle"
SESSIONS_LIFETIME: Final = "sessions.lifetime"
SESSIONS_LIFETIME_UNASKED: Final = "sessions.lifetimeUnasked"
NETWORK_DEFAULT_GROUP: Final = "network.defaultGroup"
PROJECTS_DEFAULT_QUOTA: Final = "projects.defaultQuota"
HOSTS_JOIN_TOKEN_LIFETIME: Final = "hosts.joinTokenLifetime"  # noqa: S105 (a name)
HOSTS_VCPU_OVERCOMMIT: Final = "hosts.vcpuOvercommitPercent"
HOSTS_MEMORY_OVERCOMMIT: Final = "hosts.memoryOvercommitPercent"
SCHEDULER_STRATEGY: Final = "scheduler.strategy"
SHELL_RECORDING: Final = "shell.recording"
SHELL_RECORDING_DAYS: Final = "shell.recordingDays"
SHELL_RECORDING_MIB: Final = "shell.recordingMiB"
RECORDED: Final = "Always"

_ALL = (
    KnownSetting(
        name=EVENTS_RETENTION,
        type=SettingType.DURATION,
        default="24h",
        minimum="1m",
        maximum="30d",
        scopes=EVERYWHERE,
        delegation=Delegation.AT_MOST,
        description="How long events stay in the store after they last happened. The mirror keeps them longer. "
        "Holds for events that are written from then on.",
    ),
    KnownSetting(
        name=IMAGES_MAX_SIZE,
        type=SettingType.INT,
        default=50,
        minimum=1,
        maximum=64 * 1024,
        scopes=EVERYWHERE,
        delegation=Delegation.AT_MOST,
        description="Largest content of an image in GiB: uploads must not fill the image directory by accident.",
    ),
    KnownSetting(
        name=IMAGES_MAX_VIRTUAL_SIZE,
        type=SettingType.INT,
        default=100,
        minimum=1,
        maximum=64 * 1024,
        scopes=EVERYWHERE,
        delegation=Delegation.AT_MOST,
        description="Largest virtual size of an image in GiB: a small file may claim a disk that fills every host.",
    ),
    KnownSetting(
        name=LOGIN_MFA_REQUIRED,
        type=SettingType.BOOL,
        default=False,
        scopes=BY_DOMAIN,
        delegation=Delegation.AT_LEAST,
        description="Whether users need a second factor to log in. False: those whose spec says so do.",
    ),
    KnownSetting(
        name=LOGIN_NOTICE,
        type=SettingType.STRING,
        default="",
        minimum=0,
        maximum=1024,
        scopes=BY_DOMAIN,
        delegation=Delegation.FREE,
        description="What users are told after they logged in, e.g. rules of use or a maintenance to come.",
    ),
    KnownSetting(
        name=SESSIONS_IDLE,
        type=SettingType.DURATION,
        default="8h",
        minimum="5m",
        maximum="30d",
        scopes=BY_DOMAIN,
        delegation=Delegation.AT_MOST,
        description="After how long without use a session ends. A working day by default. Holds for a running session "
        "from its next refresh.",
    ),
    KnownSetting(
        name=SESSIONS_LIFETIME,
        type=SettingType.DURATION,
        default="24h",
        minimum="15m",
        maximum="30d",
        scopes=BY_DOMAIN,
        delegation=Delegation.AT_MOST,
        description="When a session ends however much it is used (NIST SP 800-63B-4, AAL2: 24 hours). Holds for new "
        "sessions.",
    ),
    KnownSetting(
        name=SESSIONS_LIFETIME_UNASKED,
        type=SettingType.DURATION,
        default="1h",
        minimum="5m",
        maximum="30d",
        scopes=BY_DOMAIN,
        delegation=Delegation.AT_MOST,
        description="When a session ends whose identity provider cannot be asked again (OpenID Connect without the "
        "scope offline_access): what it said at the login, groups above all, is believed no longer than that. Holds "
        "for new sessions.",
    ),
    KnownSetting(
        name=NETWORK_DEFAULT_GROUP,
        type=SettingType.ENUM,
        default="Members",
        choices=("Members", "Outgoing", "Open", "None"),
        scopes=BY_DOMAIN,
        delegation=Delegation.FREE,
        description="What the security group default of a new project lets through: everything out, and in from its "
        "own members (Members), nothing (Outgoing) or everything (Open). None: none is made, and ports without "
        "securityGroups wait until there is one.",
    ),
    KnownSetting(
        name=PROJECTS_DEFAULT_QUOTA,
        type=SettingType.LIMITS,
        default="",
        scopes=BY_DOMAIN,
        delegation=Delegation.FREE,
        description="Limits of a new project, e.g. instances=10,vcpus=20,memoryMiB=65536: made into its Quota default. "
        "Empty: none. Names are those of quotas.",
    ),
    KnownSetting(
        name=HOSTS_JOIN_TOKEN_LIFETIME,
        type=SettingType.DURATION,
        default="1h",
        minimum="1m",
        maximum="7d",
        description="How long a host's join token is good: long enough to carry it to the host by hand.",
    ),
    KnownSetting(
        name=HOSTS_VCPU_OVERCOMMIT,
        type=SettingType.INT,
        default=400,
        minimum=10,
        maximum=10_000,
        description="How many virtual CPUs instances may claim of a host, in percent of its physical ones: four for "
        "each by default, for most guests idle most of the time. A host's spec.overcommit goes before. Holds at once "
        "for what is placed from then on; what runs stays.",
    ),
    KnownSetting(
        name=HOSTS_MEMORY_OVERCOMMIT,
        type=SettingType.INT,
        default=100,
        minimum=10,
        maximum=1000,
        description="How much memory instances may claim of a host, in percent of what it has less its reserve. 100: "
        "no more than there is, for guests that use theirs would otherwise be killed. A host's spec.overcommit goes "
        "before. Holds at once for what is placed from then on; what runs stays.",
    ),
    KnownSetting(
        name=SCHEDULER_STRATEGY,
        type=SettingType.ENUM,
        default="BinPacking",
        choices=("BinPacking", "Spread"),
        scopes=EVERYWHERE,
        description="Which of the hosts that fit gets an instance: the fullest, which keeps others free for large "
        "instances, or the emptiest, so that a lost host takes few with it. Holds for instances that are placed from "
        "then on.",
    ),
    KnownSetting(
        name=SHELL_RECORDING,
        type=SettingType.ENUM,
        default="Never",
        choices=("Never", RECORDED),
        scopes=EVERYWHERE,
        delegation=Delegation.AT_LEAST,
        description="Whether shells in guests are recorded: what they show, not what is typed. With Always there is no "
        "shell when PostgreSQL takes no recording, and shells that are not recorded end.",
    ),
    KnownSetting(
        name=SHELL_RECORDING_DAYS,
        type=SettingType.INT,
        default=90,
        minimum=1,
        maximum=3650,
        scopes=EVERYWHERE,
        delegation=Delegation.AT_LEAST,
        description="How many days recordings of shells are kept. Holds for shells that are opened from then on.",
    ),
    KnownSetting(
        name=SHELL_RECORDING_MIB,
        type=SettingType.INT,
        default=10_240,
        minimum=1,
        maximum=10_000_000,
        description="How many MiB of shells each project may have recorded; 16 KiB count for each shell besides. With "
        "more there are no more shells where they are recorded, until older recordings have gone. A shell that is "
        "open goes on, to 256 MiB.",
    ),
)
KNOWN_SETTINGS: Final[Mapping[str, KnownSetting]] = {setting.name: setting for setting in _ALL}
"""All of them by name."""


def nearest_names(name: str) -> Sequence[str]:
    """Return the name that was probably meant, or all that there are."""
    lower = {known.lower(): known for known in KNOWN_SETTINGS}
    near = difflib.get_close_matches(name.lower()[:80], lower, n=1, cutoff=0.5)
    return [lower[near[0]]] if near else sorted(KNOWN_SETTINGS)


class SettingReader(Protocol):
    """Tells what is set, as it is at the moment of the call: ask each time, keep nothing."""

    def duration(self, name: str, *, project: str | None = None, domain: str | None = None) -> timedelta:
        """Return a duration; of the project, else of the domain, else of the whole cloud."""

    def number(self, name: str, *, project: str | None = None, domain: str | None = None) -> int:
        """Return a number."""

    def text(self, name: str, *, project: str | None = None, domain: str | None = None) -> str:
        """Return a text or one of the choices."""

    def flag(self, name: str, *, project: str | None = None, domain: str | None = None) -> bool:
        """Return yes or no."""

    def find(self, name: str, *, project: str | None = None, domain: str | None = None) -> Source:
        """Return what counts, as it is written, and where it is from."""
