"""ServiceAccount: a program's identity, in a project."""

from pydantic import Field

from vcstack.specs.model import Text
from vcstack.specs.registry import Column, KindDefinition, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/grants"
"""The grants, keys and sessions that name it go before it does."""


class ServiceAccountSpec(Spec):
    """What the account is to be."""

    description: Text = ""
    """What uses it."""
    enabled: bool = True
    """false: none of its keys is good."""


class ServiceAccountStatus(Status):
    """What was observed of the account."""


class ServiceAccount(Resource[ServiceAccountSpec, ServiceAccountStatus]):
    """A program's identity, in a project."""

    KIND = "ServiceAccount"
    spec: ServiceAccountSpec = Field(default_factory=ServiceAccountSpec)
    status: ServiceAccountStatus = Field(default_factory=ServiceAccountStatus)


register(
    KindDefinition(
        model=ServiceAccount,
        plural="serviceaccounts",
        uid_prefix="sa",
        scope=Scope.PROJECT,
        short_names=("sa",),
        columns=(Column("ENABLED", "spec.enabled", default="true"), Column("DESCRIPTION", "spec.description")),
        view=(ViewColumn("enabled", "spec.enabled", "boolean"),),
        ready_when=("Accepted",),
        finalizers=(FINALIZER,),
        apply_order=5,
        category="identity",
        example={"metadata": {"project": "demo", "name": "ci"}, "spec": {}},
    )
)
