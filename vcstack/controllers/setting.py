"""Settings: accepted as they are. Whoever goes by one reads it from the watch cache each time."""

from vcstack.controllers.accepting import accept
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.specs.kinds.setting import Setting
from vcstack.specs.resource import Ref


class SettingReconciler:
    """Accepts settings."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context

    async def reconcile(self, setting: Setting | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if setting is not None and not setting.deleting:
            await accept(self._context, setting)
        return None


def build(context: ControllerContext) -> Controller:
    """Return the controller of settings."""
    return context.controller(SettingReconciler(context), Setting)
