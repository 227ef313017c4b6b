"""Setting: the value of something that can be turned while the cloud runs."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from vcstack.specs.claims import Claim
from vcstack.specs.errors import Cause
from vcstack.specs.kinds.domain import in_domain
from vcstack.specs.model import Change, DependsOn, Name, RefersTo, Takes
from vcstack.specs.registry import (
    Column,
    KindDefinition,
    Reference,
    Referenced,
    Scope,
    ViewColumn,
    quota_names,
    register,
)
from vcstack.specs.resource import Resource, Spec, Status
from vcstack.specs.settings import (
    KNOWN_SETTINGS,
    PROJECTS_DEFAULT_QUOTA,
    VALUE_LIMIT,
    SettingScope,
    nearest_names,
    read_limits,
)

ACCEPTED = "Accepted"
"""True at once: the value counts from the write on."""


def _tell_types(value: object, read: ValidatorFunctionWrapHandler) -> object:
    """Say once what a value may be, and not of each type that it is none."""
    try:
        return read(value)
    except ValidationError:
        raise ValueError(
            f"must be true or false, a whole number, or a text of at most {VALUE_LIMIT} characters"
        ) from None


class SettingSpec(Spec):
    """What is set to what, and where."""

    setting: Annotated[str, StringConstraints(min_length=1, max_length=128), Takes(Change.IMMUTABLE)]
    """What is set, e.g. sessions.idle. `vcctl settings` lists all with what they do."""
    value: Annotated[
        bool | int | Annotated[str, Field(max_length=VALUE_LIMIT)],
        Field(union_mode="left_to_right"),
        WrapValidator(_tell_types),
        DependsOn("setting", {known.name: known.describe() for known in KNOWN_SETTINGS.values()}),
    ]
    """Its value: true or false, a number, a text, or a duration like 90s, 30m, 8h, 7d."""
    domain: Annotated[Name | None, RefersTo("Domain"), Takes(Change.IMMUTABLE)] = None
    """Of a setting outside projects: the domain that it holds for, with all below it; default the whole cloud. The
    nearest setting counts: a project's before its domain's before those above before the cloud's; of what may be at
    most or at least what is set above (`vcctl settings -o wide`) no further than that allows."""
    locked: bool = False
    """true: changed and removed only by who may set settings a level above, who alone may write this; it counts also
    where what is set above is or becomes stricter. Without it, who administers the domain or project may set what is
    delegated (`vcctl settings -o wide`), within what counts above."""


class SettingStatus(Status):
    """What was observed of the setting."""

    effective: Annotated[bool | int | str | None, Field(union_mode="left_to_right")] = None
    """What counts where it is set: its value, or what is set above where that is stricter and this is not locked."""
    limited_by: str | None = None
    """What is stricter, if anything: its value counts instead."""


class Setting(Resource[SettingSpec, SettingStatus]):
    """The value of something that can be turned while the cloud runs."""

    KIND = "Setting"
    status: SettingStatus = Field(default_factory=SettingStatus)


def scope_of(setting: Setting) -> SettingScope:
    """Return for what the value holds."""
    if setting.metadata.project:
        return SettingScope.PROJECT
    return SettingScope.DOMAIN if setting.spec.domain else SettingScope.CLOUD


def _check(new: Setting, old: Setting | None, referenced: Referenced) -> Sequence[Cause]:
    """The name is known, the value fits it, and so does the place."""
    causes = []

    def blame(field: str, reason: str, message: str) -> None:
        causes.append(Cause(field=field, reason=reason, message=message))

    if new.metadata.project and new.spec.domain:
        blame("spec.domain", "FieldValueForbidden", "must be left out: a setting in a project holds for the project")
    known = KNOWN_SETTINGS.get(new.spec.setting)
    if known is None:
        near = nearest_names(new.spec.setting)
        hint = f"did you mean {near[0]}?" if len(near) == 1 else f"there are {', '.join(near)}"
        blame("spec.setting", "FieldValueNotSupported", f"there is no setting {new.spec.setting!r}; {hint}")
        return causes
    if known.name == PROJECTS_DEFAULT_QUOTA and isinstance(new.spec.value, str):
        names = quota_names()
        unknown = [part for part in _limits_of(new.spec.value) if part not in names]
        if unknown:
            message = f"{', '.join(unknown)[:200]} cannot be limited; what can be: {', '.join(names)}"
            blame("spec.value", "FieldValueNotSupported", message)
    try:
        known.read(new.spec.value)
    except ValueError as error:
        blame("spec.value", "FieldValueInvalid", f"{error}; {known.name} is of type {known.type}")
    scope = scope_of(new)
    if scope not in known.scopes:
        places = ", ".join(str(s) for s in known.scopes)
        field = "metadata.project" if scope is SettingScope.PROJECT else "spec.domain"
        blame(field, "FieldValueForbidden", f"{known.name} cannot be set for a {scope.lower()}; where it can: {places}")
    return causes


def _limits_of(text: str) -> Mapping[str, int]:
    try:
        return read_limits(text)
    except ValueError:
        return {}  # which is told besides


def _claims(setting: Setting) -> Sequence[Claim]:
    """One object sets one thing in one place."""
    project, domain = setting.metadata.project, setting.spec.domain
    place = f"project/{project}" if project else f"domain/{domain}" if domain else "cloud"
    return (Claim(pool=f"settings/{place}", key=setting.spec.setting, field="spec.setting"),)


def _must_exist(setting: Setting) -> Sequence[Reference]:
    return in_domain(setting.spec.domain)


register(
    KindDefinition(
        model=Setting,
        plural="settings",
        uid_prefix="set",
        scope=Scope.GLOBAL_OR_PROJECT,
        columns=(
            Column("SETTING", "spec.setting"),
            Column("VALUE", "spec.value"),
            Column("COUNTS", "status.effective"),
            Column("DOMAIN", "spec.domain"),
            Column("LIMITED_BY", "status.limitedBy", wide=True),
        ),
        view=(
            ViewColumn("setting", "spec.setting"),
            ViewColumn("value", "spec.value", "jsonb"),
            ViewColumn("domain", "spec.domain"),
        ),
        ready_when=(ACCEPTED,),
        check=_check,
        claims=_claims,
        must_exist=_must_exist,
        counted=False,
        domain_path="spec.domain",
        apply_order=15,
        category="identity",
        example={
            "metadata": {"project": "demo", "name": "images"},
            "spec": {"setting": "images.maxSizeGiB", "value": 20},
        },
    )
)
