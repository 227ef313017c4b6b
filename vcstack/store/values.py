"""Secret values of objects: never in the object, but in an envelope beside it, written in the same transaction.

The object carries stand-ins (``specs/sensitive.py``), each random, and one record among the credentials has their
values: ``values/{uid}`` → {stand-in: value}. So watch cache, watches, field managers, mirror and history have nothing
to leak, and a new master key means a new envelope of the record, not a write of the object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

import orjson

from vcstack.crypto.errors import CryptoError
from vcstack.specs.errors import Cause, Unavailable
from vcstack.specs.model import Sensitive
from vcstack.specs.registry import KindDefinition
from vcstack.specs.sensitive import HIDDEN, change_sensitive, is_stand_in, iter_sensitive
from vcstack.store.cache import WatchCache
from vcstack.store.credentials import CREDENTIALS, Credentials
from vcstack.store.draft import Draft, Wire, not_found
from vcstack.store.etcd.ops import Delete, Op
from vcstack.store.keys import row_of
from vcstack.store.validation import build_cause, check_size, refuse

AREA: Final = "values"
MAX_STEPS: Final = 16
"""How often is begun anew because the object changed meanwhile."""


class ValuesChanged(Exception):
    """The object has changed since its values were read."""


@dataclass(frozen=True, slots=True)
class Masked:
    """What somebody wrote, with stand-ins in it, and the values that they stand for."""

    wire: Wire
    credentials: Credentials
    live: frozenset[str]
    """The stand-ins that the object has had."""
    values: Mapping[str, str]
    """Those just given and those kept."""

    def settle(self, draft: Draft) -> Sequence[Op]:
        """Return what is to be written along with the draft.

        Raises:
            Invalid: something stands for a value that is not kept.
            ValuesChanged: the object is another one by now.
        """
        present = dict(iter_sensitive(draft.definition.model, {"spec": draft.spec}))
        stand_ins = set(present.values())
        before = {v for _, v in iter_sensitive(draft.definition.model, draft.live or {})}
        unknown = stand_ins - self.values.keys()
        if unknown & before or before - self.live:
            raise ValuesChanged
        if unknown:
            causes = [_unknown(path) for path, value in present.items() if value in unknown]
            raise refuse(draft.definition, draft.project, draft.name, causes)
        if stand_ins == before:
            return ()
        uid = draft.metadata["uid"]
        if not stand_ins:
            return (delete_values(uid),)
        text = orjson.dumps({stand_in: self.values[stand_in] for stand_in in sorted(stand_ins)})
        check_size(text)
        return (self.credentials.put_op(f"{AREA}/{uid}", text),)


class Values:
    """Reads and hides the values of objects."""

    def __init__(self, cache: WatchCache, credentials: Credentials | None) -> None:
        self._cache = cache
        self._credentials = credentials

    async def mask(self, definition: KindDefinition, project: str | None, name: str, wire: Mapping[str, Any]) -> Masked:
        """Return what was written with stand-ins; a value that is there already keeps its own.

        Raises:
            Invalid: a value is no text or too long.
            Unavailable: etcd or the master key.
        """
        await self._cache.fresh()
        live, held = await self._read(definition, project, name)
        return self._hide(definition, project, name, wire, live, held)

    def mask_new(self, definition: KindDefinition, wire: Mapping[str, Any]) -> Masked:
        """Return the same for an object that is not there yet."""
        return self._hide(definition, None, "", wire, {}, {})

    def _hide(
        self,
        definition: KindDefinition,
        project: str | None,
        name: str,
        wire: Mapping[str, Any],
        live: Wire,
        held: Mapping[str, str],
    ) -> Masked:
        values, causes = dict(held), list[Cause]()

        def hide(path: str, value: Any, marker: Sensitive, other: Any) -> Any:
            if is_stand_in(value):
                return value
            fault = _fault_of(value, marker)
            if fault is not None:
                causes.append(build_cause(path, "FieldValueInvalid", fault))
                return HIDDEN
            if isinstance(other, str) and held.get(other) == value:
                return other
            stand_in = f"{HIDDEN}:{token_hex(6)}"
            values[stand_in] = value
            return stand_in

        masked = change_sensitive(definition.model, wire, hide, live)
        if causes:
            raise refuse(definition, project, name, causes)
        before = frozenset(v for _, v in iter_sensitive(definition.model, live))
        return Masked(masked, self._demand(), before, values)

    async def reveal(self, definition: KindDefinition, project: str | None, name: str) -> Wire:
        """Return the object with its values. Raises NotFound, Unavailable."""
        for _ in range(MAX_STEPS):
            await self._cache.fresh()
            live, held = await self._read(definition, project, name)
            if not live:
                raise not_found(definition, project, name)
            if all(v in held for _, v in iter_sensitive(definition.model, live)):
                return _fill_in(definition, live, held)
        raise lost(definition, project, name)

    async def _read(self, definition: KindDefinition, project: str | None, name: str) -> tuple[Wire, dict[str, str]]:
        """Return the object as cached (empty: none) and the values as they are at that time or later."""
        entry = self._cache.find(definition, row_of(project, name))
        live: Wire = orjson.loads(entry.json) if entry else {}
        if not any(True for _ in iter_sensitive(definition.model, live)):
            return live, {}
        try:
            record = await self._demand().get(f"{AREA}/{live['metadata']['uid']}")
        except CryptoError as error:
            raise Unavailable(f"the values of {definition.kind} {name} cannot be read: {error}") from error
        return live, orjson.loads(record.value) if record else {}

    def _demand(self) -> Credentials:
        if self._credentials is None:
            raise Unavailable("no master key is configured, so nothing secret can be kept")
        return self._credentials


def delete_values(uid: str) -> Delete:
    """Return the removal of an object's values, part of that of the object."""
    return Delete(f"{CREDENTIALS.decode()}{AREA}/{uid}".encode())


def lost(definition: KindDefinition, project: str | None, name: str) -> Unavailable:
    """Return the error for an object whose values are not there or never stand still."""
    where = f"{project}/{name}" if project else name
    return Unavailable(f"the values of {definition.kind} {where} are lost, or change all the time; write them anew")


def _fill_in(definition: KindDefinition, live: Wire, held: Mapping[str, str]) -> Wire:
    return change_sensitive(definition.model, live, lambda path, value, marker, other: held[value])


def _fault_of(value: Any, marker: Sensitive) -> str | None:
    if not isinstance(value, str):
        return "must be text; put it in quotes"  # nothing of it is shown
    if len(value.encode(errors="replace")) > marker.max_bytes:
        return f"has more than {marker.max_bytes} bytes"
    return None


def _unknown(path: str) -> Cause:
    message = "stands for a value that is not kept here (any more); give the value itself"
    return build_cause(path, "FieldValueInvalid", message)
