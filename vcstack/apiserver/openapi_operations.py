"""The operations of the OpenAPI document: what each verb takes and answers, the same for all kinds."""

from typing import Any

from vcstack.apiclient.keymessages import REPLIES, REQUESTS
from vcstack.apiserver import bodies
from vcstack.apiserver.openapi_records import HISTORY, RECORDS
from vcstack.specs.kinds.event import Event
from vcstack.specs.registry import KindDefinition

Json = dict[str, Any]

KEY_OPERATIONS = {
    "encrypt": "Encrypt with the newest version.",
    "decrypt": "Decrypt what any version has encrypted.",
    "reencrypt": "Encrypt anew with the newest version of this key or another one.",
    "datakey": "Make a data key.",
    "sign": "Sign with the newest version.",
    "verify": "Say whether a signature is the key's.",
}
DRY_RUN = ("dryRun", "All: do everything but the write and return the result.", {"type": "string", "enum": ["All"]})
MISSING = (
    "missingReferences",
    "Allow: what a field refers to may come later.",
    {"type": "string", "enum": ["Allow", "Refuse"]},
)
MANAGER = (
    "fieldManager",
    "Which program writes: it owns the fields written. Default: the name in User-Agent.",
    {"type": "string", "pattern": "^[!-~]{1,128}$"},
)
LABELS = ("labelSelector", "As in Kubernetes: app=web,tier!=db.", {"type": "string"})
FIELDS = ("fieldSelector", "As in Kubernetes: status.host=h1.", {"type": "string"})
SHARED = (
    "shared",
    "Instead of a project's own, what others share with it, as borrowers see it; also to watch; without selectors.",
    {"type": "boolean"},
)
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**53}
_TEXT: Json = {"type": "string"}
_TIME: Json = {"type": "string", "format": "date-time"}
PAST: tuple[tuple[str, str, Json], ...] = (
    ("since", "From the mirror, the newest first: what happened last then or later.", _TIME),
    ("until", "With since: before then.", _TIME),
)
AUDIT_FILTERS: tuple[tuple[str, str, Json], ...] = (
    ("subject", "Who: admin, user:alice, system:host:h1.", _TEXT),
    ("kind", "The kind of the object.", _TEXT),
    ("name", "Its name.", _TEXT),
    ("verb", "create, update, delete, login, join, ...", _TEXT),
    ("outcome", "Allowed, Denied or Failed.", {"type": "string", "enum": ["Allowed", "Denied", "Failed"]}),
    ("requestId", "The id in the answer's header x-request-id.", _TEXT),
    ("chain", "The chain's name.", _TEXT),
    ("since", "From then on.", _TIME),
    ("until", "Before then.", _TIME),
)
AUDIT_PAGE: tuple[tuple[str, str, Json], ...] = (
    ("limit", "Records of a page.", {"type": "integer", "minimum": 1, "maximum": 1000}),
    ("continue", "The token of the page before.", _TEXT),
)


def reference(model: str) -> Json:
    """Return a reference to a schema."""
    return {"$ref": f"#/components/schemas/{model}"}


def parameter(name: str, where: str, description: str, schema: Json | None = None) -> Json:
    """Return a parameter; those of the path are DNS labels."""
    label = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": schema or label,
    }


def operation(
    tag: str,
    summary: str,
    *,
    content: Json | None = None,
    body: Json | None = None,
    parameters: tuple[tuple[str, str, Json], ...] = (),
    success: str = "200",
    also: Json | None = None,
    public: bool = False,
) -> Json:
    """Return one operation. content, body: media type → schema."""
    answer: Json = {"description": "Done."}
    if content is not None:
        answer["content"] = content
    found: Json = {
        "tags": [tag],
        "summary": summary,
        "responses": {success: answer, **(also or {})},
    }
    if parameters:
        found["parameters"] = [parameter(n, "query", d, s) for n, d, s in parameters]
    if body is not None:
        found["requestBody"] = {"required": True, "content": body}
    if public:
        found["security"] = []
    return found


def collection_operations(definition: KindDefinition, *, writable: bool) -> Json:
    """Return list, watch and create."""
    listed = {"application/json": {"schema": reference(f"{definition.kind}List")}}
    found = {
        "get": operation(
            definition.plural,
            f"List {definition.plural}, or watch them with watch=true (JSON lines of type and object).",
            content=listed,
            parameters=(
                LABELS,
                FIELDS,
                ("limit", "Most objects of a page, at most 5000, which is the default.", COUNT),
                ("continue", "The token of the page before.", {"type": "string"}),
                ("watch", "Stream changes instead.", {"type": "boolean", "const": False}),
                *(PAST if definition.kind == Event.KIND else ()),
                *((SHARED,) if definition.lent_view is not None else ()),
            ),
        )
    }
    if writable:
        found["post"] = operation(
            definition.plural,
            f"Create {_a(definition.kind)}.",
            content=_object(definition),
            body=_object(definition),
            parameters=(DRY_RUN, MISSING, MANAGER),
            success="201",
        )
    return found


def object_operations(definition: KindDefinition, *, in_project: bool) -> Json:
    """Return get, replace, patch and delete."""
    kind, plural = definition.kind, definition.plural
    at = ("atRevision", "As it was at that revision; 410 when that was removed from history.", COUNT)
    found = {"get": operation(plural, f"Read {_a(kind)}.", content=_object(definition), parameters=(at,))}
    if definition.system_only and not definition.revocable:
        return found
    gone = {"204": {"description": "It is gone."}}
    found["delete"] = operation(
        plural,
        f"Delete {_a(kind)}.",
        content=_object(definition),
        also=gone,
        parameters=(
            DRY_RUN,
            ("propagationPolicy", "What becomes of what it owns.", _enum("Background", "Foreground", "Orphan")),
            ("uid", "Only if it has this uid.", {"type": "string"}),
            ("resourceVersion", "Only if it is at this version.", {"type": "string"}),
            MANAGER,
        ),
    )
    if definition.system_only:
        return found
    found["put"] = operation(
        plural,
        f"Replace {_a(kind)}.",
        content=_object(definition),
        body=_object(definition),
        parameters=(DRY_RUN, MISSING, MANAGER),
    )
    anything = {"schema": {"type": "object"}}
    found["patch"] = operation(
        plural,
        f"Patch {_a(kind)}: an RFC 7386 merge, or server-side apply under a fieldManager.",
        content=_object(definition),
        body={bodies.MERGE_PATCH: anything, bodies.APPLY_JSON: anything, bodies.APPLY_YAML: anything},
        parameters=(DRY_RUN, MISSING, MANAGER, ("force", "Take fields over.", {"type": "boolean"})),
        also={"201": {"description": "Created."}},
    )
    return found


def subresource_operations(definition: KindDefinition, subresource: str, *, in_project: bool) -> Json:
    """Return the operations of a subresource; none for websockets, which OpenAPI does not know."""
    plural, anything = definition.plural, {"application/json": {"schema": {"type": "object"}}}
    octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    gone = {"204": {"description": "Done; nothing to say."}}

    def one(method: str, summary: str, **options: Any) -> Json:
        return {method: operation(plural, summary, **options)}

    def posted(summary: str, model: str | None, answer: str, success: str = "200") -> Json:
        body = {"application/json": {"schema": reference(model)}} if model else None
        content = {"application/json": {"schema": reference(answer)}}
        return one("post", summary, body=body, content=content, success=success)

    status = _object(definition)
    match subresource:
        case "status":
            patch = {bodies.MERGE_PATCH: {"schema": {"type": "object"}}}
            return (
                one("get", "Read the object.", content=status)
                | one("put", "Replace status (hosts and the cloud itself).", content=status, body=anything)
                | one("patch", "Merge into status, conditions by type.", content=status, body=patch)
            )
        case "finalize":
            body = {"application/json": {"schema": reference("FinalizeRequest")}}
            return one("post", "Remove finalizers (hosts and the cloud itself).", content=status, body=body, also=gone)
        case "history":
            return one(
                "get",
                "The object's revisions, newest first, and how far back none is missing.",
                content={"application/json": {"schema": HISTORY}},
                parameters=(
                    ("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": 500}),
                    ("before", "Only older revisions.", COUNT),
                ),
            )
        case "timeline":
            return one(
                "get",
                "What has changed in the project but reports of status, newest first, and how far back it is whole.",
                content=anything,
                parameters=(
                    ("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": 500}),
                    ("before", "Only older revisions: that of the page before.", COUNT),
                ),
            )
        case "sshauthority":
            content = {"application/json": {"schema": reference("SshAuthority")}}
            return one("get", "Whom the project's guests trust when somebody logs in by SSH.", content=content)
        case "why":
            content = {"application/json": {"schema": reference("WhyReply")}}
            return one("get", "What really holds the object up, and what to do.", content=content)
        case "related":
            content = {"application/json": {"schema": reference("RelatedReply")}}
            return one("get", "What the object is connected with: owners, owned, named, users.", content=content)
        case "content":
            taken = {"202": {"description": "The chunk was taken; upload-offset says how much has come."}}
            return (
                one("get", "Download the accepted content; ranges are possible.", content=octets)
                | one(
                    "put",
                    "Upload a chunk (content-range: bytes START-END/TOTAL).",
                    content=status,
                    body=octets,
                    also=taken,
                )
                | one("head", "How much has come (upload-offset).", success="204")
            )
        case "log":
            text = {"text/plain": {"schema": {"type": "string"}}}
            follow = ("follow", "Go on with what comes.", {"type": "boolean", "const": False})
            tail = ("tail", "Only the last lines.", {"type": "integer", "minimum": 0, "maximum": 1_000_000})
            return one("get", "The serial log.", content=text, parameters=(tail, follow))
        case "screenshot":
            picture = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
            return one("get", "A picture of the screen.", content=picture)
        case "metrics":
            content = {"application/json": {"schema": reference("InstanceMetrics")}}
            return one("get", "What the running machine has used, as its hypervisor says.", content=content)
        case "recordings":
            page = (
                ("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": 500}),
                ("continue", "The token of the page before.", _TEXT),
            )
            content = {"application/json": {"schema": reference("RecordingList")}}
            return one("get", "Shells that were recorded, the newest first.", content=content, parameters=page)
        case "tickets":
            summary = "A ticket that opens .../console, .../vnc or .../shell once, within 60 s: ?ticket=."
            return posted(summary, "TicketRequest", "Ticket", "201")
        case "encrypt" | "decrypt" | "reencrypt" | "datakey" | "sign" | "verify":
            summary = f"{KEY_OPERATIONS[subresource]} The caller needs update on this subresource."
            return posted(summary, REQUESTS[subresource].__name__, REPLIES[subresource].__name__)
        case "value":
            key = ("key", "Only this one.", {"type": "string"})
            content = {"application/json": {"schema": reference("SecretValues")}}
            return one("get", "The secret's values, for those who may read them.", content=content, parameters=(key,))
        case "usage":
            if definition.kind == "Project":
                content = {"application/json": {"schema": reference("QuotasInForce")}}
                return one("get", "All limits that hold in the project, and what it takes of them.", content=content)
            content = {"application/json": {"schema": reference("QuotaUsage")}}
            return one("get", "How much of the limits is in use, and who takes most of it.", content=content)
        case "audit":
            return one(
                "get",
                "Who did what in the project, the newest first.",
                content={"application/json": {"schema": RECORDS}},
                parameters=(*AUDIT_FILTERS, *AUDIT_PAGE),
            )
        case "heartbeat":
            return posted("Say that the host is alive (the host only).", None, "Heartbeat")
        case "jointoken":
            return posted("A one-time token for the host to join.", None, "JoinToken", "201")
        case "initialsecret":
            return posted("A one-time secret; the password and all sessions end.", None, "InitialSecretReply", "201")
        case "mfa":
            return one("delete", "Forget a lost second factor; all sessions end.", success="204")
        case "secret":
            return posted("The key's secret, shown once.", None, "KeySecretReply", "201")
        case "certificate":
            return posted("Renew the host's certificate (the host only).", "CertificateRequest", "IssuedCertificate")
    return {}


def item_operations(definition: KindDefinition, subresource: str) -> Json:
    """Return the operations of one of several that a subresource is."""
    cast = {"application/x-asciicast": {"schema": _TEXT}}
    return {"get": operation(definition.plural, "What was shown in a shell, asciicast v2.", content=cast)}


def _object(definition: KindDefinition) -> Json:
    return {"application/json": {"schema": reference(definition.kind)}}


def _enum(*values: str) -> Json:
    return {"type": "string", "enum": list(values)}


def _a(kind: str) -> str:
    article = "an" if kind[0] in "AEIO" or kind.startswith("SSH") else "a"
    return f"{article} {kind}"
