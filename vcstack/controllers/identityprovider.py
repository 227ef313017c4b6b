"""Identity providers: accepted as they are, and kept while a user comes from there."""

from vcstack.controllers.accepting import AcceptingReconciler
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.users import watch_users
from vcstack.specs.kinds.identityprovider import FINALIZER, IdentityProvider


def build(context: ControllerContext) -> Controller:
    """Return the controller of identity providers."""
    reconciler = AcceptingReconciler(context, FINALIZER)
    return context.controller(reconciler, IdentityProvider, watches=watch_users(context, IdentityProvider))
