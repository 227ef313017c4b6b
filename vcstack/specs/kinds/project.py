"""Project: the tenant namespace that most kinds live in."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from vcstack.specs.kinds.domain import in_domain
from vcstack.specs.kinds.quota import Quota, QuotaSpec
from vcstack.specs.model import Change, Name, RefersTo, Takes, Text
from vcstack.specs.registry import Column, KindDefinition, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status
from vcstack.specs.settings import PROJECTS_DEFAULT_QUOTA, SettingReader, read_limits

TERMINATING_FINALIZER = "vcstack.io/project"
DEFAULT_QUOTA = "default"
"""What the quota is called that a new project begins with."""


class ProjectSpec(Spec):
    """What a project is to be."""

    domain: Annotated[Name | None, RefersTo("Domain"), Takes(Change.IMMUTABLE)] = None
    """The domain that it lies in; default the top of the tree."""
    display_name: Text = ""
    """A name for people."""
    description: Text = ""
    """What it is for."""


class ProjectStatus(Status):
    """What was observed of the project."""


class Project(Resource[ProjectSpec, ProjectStatus]):
    """The tenant namespace: objects of different projects never see each other."""

    KIND = "Project"
    spec: ProjectSpec = Field(default_factory=ProjectSpec)
    status: ProjectStatus = Field(default_factory=ProjectStatus)


def _begins_with(project: Project, settings: SettingReader) -> Sequence[Quota]:
    """Its limits, if the settings have any for new projects; afterwards they are its administrators' to change."""
    limits = read_limits(settings.text(PROJECTS_DEFAULT_QUOTA, domain=project.spec.domain))
    return [Quota.new(DEFAULT_QUOTA, QuotaSpec(limits=limits), project=project.metadata.name)] if limits else []


register(
    KindDefinition(
        model=Project,
        plural="projects",
        uid_prefix="pr",
        scope=Scope.GLOBAL,
        columns=(Column("DOMAIN", "spec.domain"),),
        view=(ViewColumn("domain", "spec.domain"), ViewColumn("display_name", "spec.displayName")),
        ready_when=("DefaultsCreated",),
        finalizers=(TERMINATING_FINALIZER,),
        must_exist=lambda project: in_domain(project.spec.domain),
        begins_with=_begins_with,
        domain_path="spec.domain",
        apply_order=1,
        category="identity",
        example={"metadata": {"name": "demo"}, "spec": {}},
    )
)
