"""After a lost answer: was the write applied?"""

from vcstack.specs.errors import Unavailable
from vcstack.store.compose import Transaction
from vcstack.store.etcd.errors import Compacted, EtcdError
from vcstack.store.etcd_api import Etcd

MAX_STEPS = 16
"""How far back among later versions of the object is looked."""


async def find_applied(etcd: Etcd, transaction: Transaction) -> int:
    """Return the revision at which the transaction was applied, 0 when it was not.

    Called when repeating it failed: either it was applied before (its bytes, with uid and time, are unique)
    or somebody else was faster. Versions written on top of ours are gone through backwards.

    Raises:
        Unavailable: etcd does not answer.
    """
    revision = 0
    try:
        for _ in range(MAX_STEPS):
            found = await etcd.get(transaction.key, revision=revision)
            kv = found.kv
            if transaction.removes:
                gone = kv is None or kv.create_revision > transaction.draft.revision
                return found.revision if gone else 0
            if kv is None or kv.mod_revision <= transaction.draft.revision:
                return 0
            if kv.value == transaction.value:
                return kv.mod_revision
            revision = kv.mod_revision - 1
    except Compacted:
        return 0
    except EtcdError as error:
        message = "the store does not answer; whether the write was done is not known, read before trying again"
        raise Unavailable(message) from error
    return 0
