"""What stands in lists that are not of objects: an object's history, the audit trail."""

from typing import Any, Final

Json = dict[str, Any]
_TEXT: Final[Json] = {"type": "string"}
_TIME: Final[Json] = {"type": "string", "format": "date-time"}


def _told(description: str, **schema: Any) -> Json:
    return {**(schema or _TEXT), "description": description}


def _list_of(kind: str, item: Json, **more: Json) -> Json:
    return {
        "type": "object",
        "required": ["kind", "items"],
        "properties": {"kind": {"const": kind}, **more, "items": {"type": "array", "items": item}},
    }


REVISION: Final[Json] = {
    "type": "object",
    "required": ["revision", "uid", "operation", "actor", "manager", "time", "diff"],
    "properties": {
        "revision": _told("The object's version then."),
        "uid": _told("Another one of the same name has another."),
        "operation": {"enum": ["Created", "Updated", "StatusUpdated", "DeletionRequested", "Deleted"]},
        "actor": _told("Who wrote it."),
        "manager": _told("Through which program or field manager."),
        "time": _TIME,
        "diff": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "old", "new"],
                "properties": {"path": _TEXT, "old": {}, "new": {}},
            },
        },
    },
}
RECORD: Final[Json] = {
    "type": "object",
    "required": ["chain", "seq", "previous", "hash", "time", "subject", "verb"],
    "properties": {
        "chain": _told("Whose chain of hashes it is in."),
        "seq": {"type": "integer", "minimum": 1},
        "previous": _told("The hash of the record before it."),
        "hash": _told("Of the line as it was written, without this field."),
        "time": _TIME,
        "subject": _told("Who did it: user:alice, serviceaccount:demo/ci, host:h1, admin, system:..."),
        "onBehalfOf": _told("For whom."),
        "session": _TEXT,
        "key": _told("The API key's uid."),
        "user": _told("Who a failed login or a refused credential was of."),
        "login": _told("As whom somebody logged in to a guest."),
        "recording": _told("The recording of the shell."),
        "verb": _TEXT,
        "kind": _TEXT,
        "project": _TEXT,
        "domain": _told("Of what lies outside projects."),
        "name": _TEXT,
        "subresource": _TEXT,
        "method": _TEXT,
        "path": _TEXT,
        "peer": _told("The connection's own address."),
        "program": _TEXT,
        "status": {"type": "integer"},
        "outcome": {"enum": ["Allowed", "Denied", "Failed"]},
        "reason": _TEXT,
        "message": _TEXT,
        "requestId": _TEXT,
        "level": {"enum": ["Metadata", "Request"]},
        "before": _told("The object's version before."),
        "after": _told("The object's version after."),
    },
}
_REACH: Final[Json] = {
    "type": "object",
    "required": ["revision"],
    "properties": {
        "revision": _told("Nothing is missing from this revision on; what was before may have been removed."),
        "time": {**_TIME, "description": "Of a timeline: the same as a moment."},
        "cuts": _told("Of a timeline: another one when more versions of single objects were removed for their number."),
    },
}
HISTORY: Final = _list_of("History", REVISION, metadata={"type": "object", "properties": {"reach": _REACH}})
RECORDS: Final = _list_of(
    "AuditRecordList", RECORD, metadata={"type": "object", "properties": {"continue": _told("Leads to the next page.")}}
)
