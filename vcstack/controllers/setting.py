"""Settings: accepted as they are, with what counts instead where something above is stricter.

Whoever goes by a setting reads it from the watch cache each time.
"""

from collections.abc import Iterator

from vcstack.controllers.accepting import ACCEPTED
from vcstack.controllers.scheduler import SETTINGS
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.kinds.setting import Setting
from vcstack.specs.resource import Ref
from vcstack.specs.settings import KNOWN_SETTINGS

_BY_SETTING = "setting"


class SettingReconciler:
    """Accepts settings."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._settings = context.backend(SETTINGS)

    async def reconcile(self, setting: Setting | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if setting is None or setting.deleting:
            return None
        fields: dict[str, bool | int | str | None] = {"effective": setting.spec.value, "limitedBy": None}
        reason, message = "Valid", ""
        if setting.spec.setting in KNOWN_SETTINGS:
            project, domain = setting.metadata.project, setting.spec.domain
            counts = self._settings.find(setting.spec.setting, project=project, domain=domain)
            if counts.overrules is not None:
                fields = {"effective": counts.value, "limitedBy": counts.describe()}
                reason = "Limited"
                message = (
                    f"{counts.describe()} is stricter, so {counts.value} counts until that is changed or this locked."
                )
        condition = condition_of(setting, ACCEPTED, True, reason, message, clock=self._context.clock)
        await write_status(self._context.client, setting, fields=fields, conditions=[condition])
        return None


def build(context: ControllerContext) -> Controller:
    """Return the controller of settings."""
    settings = context.informer(Setting)
    settings.add_index(_BY_SETTING, lambda setting: (setting.spec.setting,))

    def those_of_the_same(setting: Setting) -> Iterator[Ref]:
        yield from (other.ref for other in settings.by_index(_BY_SETTING, setting.spec.setting))

    return context.controller(SettingReconciler(context), Setting, watches={Setting: those_of_the_same})
