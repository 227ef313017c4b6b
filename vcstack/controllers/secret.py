"""Secrets: accepted as they are, and kept while something names them."""

from vcstack.controllers.accepting import AcceptingReconciler
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.users import watch_users
from vcstack.specs.kinds.secret import FINALIZER, Secret


def build(context: ControllerContext) -> Controller:
    """Return the controller of secrets."""
    return context.controller(AcceptingReconciler(context, FINALIZER), Secret, watches=watch_users(context, Secret))
