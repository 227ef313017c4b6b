"""SSH keys: told by their fingerprint, and kept while an instance has them."""

import base64
import hashlib

from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.runtime.users import ensure_unused, watch_users
from vcstack.specs.kinds.sshkey import FINALIZER, SSHKey
from vcstack.specs.resource import Ref

ACCEPTED = "Accepted"
"""True at once: the schema says all there is to check."""


def fingerprint_of(public_key: str) -> str:
    """Return SHA256:... as ssh-keygen -l prints it: base64 without padding of the blob's SHA-256."""
    blob = base64.b64decode(public_key.split(" ")[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


class SSHKeyReconciler:
    """Accepts keys, tells their fingerprints and holds back their deletion while they are used."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context

    async def reconcile(self, key: SSHKey | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if key is None:
            return None
        if key.deleting:
            await ensure_unused(self._context, key)
            await self._context.client.remove_finalizer(key, FINALIZER)
            return None
        fields = {"fingerprint": fingerprint_of(key.spec.public_key)}
        condition = condition_of(key, ACCEPTED, True, "Valid", clock=self._context.clock)
        await write_status(self._context.client, key, fields=fields, conditions=[condition])
        return None


def build(context: ControllerContext) -> Controller:
    """Return the controller of SSH keys."""
    return context.controller(SSHKeyReconciler(context), SSHKey, watches=watch_users(context, SSHKey))
