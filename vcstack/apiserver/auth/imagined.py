"""What access would be like if some objects were written: an index that goes on from the real one's state."""

from collections import defaultdict
from collections.abc import Iterable

import orjson

from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.keys import row_of


class ImaginedIndex(AccessIndex):
    """The real index with some objects written. It stands still: later changes do not come in."""

    def __init__(self, real: AccessIndex, objects: Iterable[AnyResource]) -> None:
        super().__init__(real._cache, real._clock)
        real._refresh()
        self.organization = real.organization.copy()
        self._accounts = dict(real._accounts)
        self._groups_of = defaultdict(set, {name: set(groups) for name, groups in real._groups_of.items()})
        self._roles = dict(real._roles)
        self._bindings = dict(real._bindings)
        self._bindings_of = defaultdict(set, {ref: set(rows) for ref, rows in real._bindings_of.items()})
        self._touched: set[Ref] = set()
        take_in = {followed.table.definition.kind: followed.take_in for followed in self._followed}
        self._followed = []
        for resource in objects:
            if resource.kind in take_in:
                row = row_of(resource.metadata.project, resource.metadata.name)
                take_in[resource.kind](row, orjson.loads(resource.to_json()))

    def find_touched(self) -> set[Ref]:
        """Return the users, groups and service accounts whose rights may be others than before."""
        roles = {ref.name for ref in self._touched if ref.kind == "Role"}
        holders = {b.subject for b in self._bindings.values() if b.role in roles}
        return holders | {ref for ref in self._touched if ref.kind != "Role"}

    def _changed(self, ref: Ref) -> None:
        self._touched.add(ref)
