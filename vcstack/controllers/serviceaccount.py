"""Service accounts: accepted as they are; what names one goes before it does."""

from vcstack.controllers.subjects import build_subjects
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.specs.kinds.serviceaccount import FINALIZER, ServiceAccount


def build(context: ControllerContext) -> Controller:
    """Return the controller of service accounts."""
    return build_subjects(context, ServiceAccount, FINALIZER)
