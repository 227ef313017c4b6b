"""What of a Key only some may change of those who may write it: its policy, its state, how soon it is gone."""

from vcstack.apiserver.auth.grants import Grants
from vcstack.apiserver.auth.places import Place
from vcstack.specs.kinds.key import Key, KeySpec
from vcstack.specs.kinds.project import Project
from vcstack.specs.registry import definition_of
from vcstack.specs.resource import AnyResource

POLICY = "policy"
"""The right to change a policy is that to update this subresource of the Key."""
STATE = "state"
"""Likewise the right to disable and enable it and to have it deleted: what is encrypted with it is of use to others."""
LEAST_WAIT_DAYS = 7


def find_lacking(grants: Grants, new: AnyResource, old: AnyResource | None) -> str:
    """Return what the caller may not do of what the write does; empty when it may.

    A new key's policy is its maker's to give.
    """
    if not isinstance(new, Key):
        return ""
    before = old.spec if isinstance(old, Key) else KeySpec()
    inside = Place(project=new.metadata.project)
    if (
        old is not None
        and new.spec.policy != before.policy
        and not grants.may("update", definition_of(Key), inside, POLICY, old.metadata.labels or {})
    ):
        return "change the policy of a Key: that is for the project's administrators"
    if (
        old is not None
        and new.spec.state != before.state
        and not grants.may("update", definition_of(Key), inside, STATE, old.metadata.labels or {})
    ):
        return "change the state of a Key: that is for the project's administrators"
    wait = new.spec.deletion_wait_days
    shortens = wait < LEAST_WAIT_DAYS and wait != before.deletion_wait_days
    if shortens and not grants.may("delete", definition_of(Project), inside):
        return f"let a deletion wait for less than {LEAST_WAIT_DAYS} days: that is for who may delete the project"
    return ""
