"""Groups: accepted as they are; what names one goes before it does."""

from vcstack.controllers.subjects import build_subjects
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.specs.kinds.group import FINALIZER, Group


def build(context: ControllerContext) -> Controller:
    """Return the controller of groups."""
    return build_subjects(context, Group, FINALIZER)
