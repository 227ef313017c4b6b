"""Project: the tenant namespace that most kinds live in."""

from typing import Annotated

from pydantic import Field

from vcstack.specs.kinds.domain import in_domain
from vcstack.specs.model import Change, Name, RefersTo, Takes, Text
from vcstack.specs.registry import Column, KindDefinition, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

TERMINATING_FINALIZER = "vcstack.io/project"


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
        domain_path="spec.domain",
        apply_order=1,
        category="identity",
        example={"metadata": {"name": "demo"}, "spec": {}},
    )
)
