"""Project: the tenant namespace that most kinds live in."""

from vcstack.specs.model import Text
from vcstack.specs.registry import KindDefinition, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

TERMINATING_FINALIZER = "vcstack.io/project"


class ProjectSpec(Spec):
    """What a project is to be."""

    display_name: Text = ""
    """A name for people."""
    description: Text = ""
    """What it is for."""


class ProjectStatus(Status):
    """What was observed of the project."""


class Project(Resource[ProjectSpec, ProjectStatus]):
    """The tenant namespace: objects of different projects never see each other."""

    KIND = "Project"
    spec: ProjectSpec = ProjectSpec()
    status: ProjectStatus = ProjectStatus()


register(
    KindDefinition(
        model=Project,
        plural="projects",
        uid_prefix="pr",
        scope=Scope.GLOBAL,
        view=(ViewColumn("display_name", "spec.displayName"),),
        ready_when=("DefaultsCreated",),
        finalizers=(TERMINATING_FINALIZER,),
        apply_order=0,
        category="identity",
    )
)
