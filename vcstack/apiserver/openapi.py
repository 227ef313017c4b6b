"""The OpenAPI 3.1 document, generated from the kind registry."""

import re
from collections.abc import Iterator
from importlib.metadata import version

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from vcstack.apiclient.encryption import EncryptionStatus
from vcstack.apiclient.explainmessages import RelatedReply, WhyReply
from vcstack.apiclient.hosts import CertificateRequest, Heartbeat, IssuedCertificate, JoinRequest, JoinToken
from vcstack.apiclient.instancemessages import InstanceMetrics, Ticket, TicketRequest
from vcstack.apiclient.keymessages import REPLIES, REQUESTS
from vcstack.apiclient.planmessages import ApplyPlanReply, ApplyPlanRequest
from vcstack.apiclient.shellmessages import RecordingList, SshAuthority
from vcstack.apiserver import kindroutes
from vcstack.apiserver.audit.openapi import AUDIT_MODELS, audit_paths
from vcstack.apiserver.consolefiles import PREFIX as CONSOLE
from vcstack.apiserver.docs import PAGE
from vcstack.apiserver.openapi_auth import AUTH_MODELS, TAG, auth_paths
from vcstack.apiserver.openapi_errors import codes_of, error_responses, references
from vcstack.apiserver.openapi_examples import Examples
from vcstack.apiserver.openapi_operations import (
    Json,
    collection_operations,
    item_operations,
    object_operations,
    operation,
    parameter,
    reference,
    subresource_operations,
)
from vcstack.apiserver.openapi_security import EVERYBODY, GIVING_TOKENS, SCHEMES, SESSION_PARAMETER, security_of
from vcstack.apiserver.quotas import QuotaCheckReply, QuotaCheckRequest
from vcstack.apiserver.settings import EFFECTIVE, EffectiveSettings
from vcstack.apiserver.subresources import FinalizeRequest
from vcstack.apiserver.targets import PLAN, QUOTA_CHECK, WITH_ITEMS, subresources_of
from vcstack.specs.errors import ErrorStatus
from vcstack.specs.kinds.secret import SecretValues
from vcstack.specs.registry import KindDefinition, Scope, load_kinds
from vcstack.store.quotausage import QuotasInForce, QuotaUsage

TEMPLATE = "#/components/schemas/{model}"
DESCRIPTION = """Typed resources that users write and controllers make so.

Every kind has the same operations: list, watch (`?watch=true`, one JSON object a line), create, read, replace, patch
(RFC 7386 merge or server-side apply), delete, and the subresources that its entry names. Errors have one shape,
`ErrorStatus`, and every answer the header `x-request-id`; a request may bring its own, of 8 to 64 letters, digits, `.`,
`_` and `-`. Say who you are by `Authorization: Bearer TOKEN`; the schemes below are ways to get a token."""
EXTRA_MODELS: tuple[type[BaseModel], ...] = (
    ErrorStatus,
    CertificateRequest,
    Heartbeat,
    IssuedCertificate,
    JoinRequest,
    JoinToken,
    FinalizeRequest,
    SecretValues,
    EncryptionStatus,
    *dict.fromkeys((*REQUESTS.values(), *REPLIES.values())),
    InstanceMetrics,
    Ticket,
    TicketRequest,
    RecordingList,
    SshAuthority,
    ApplyPlanReply,
    ApplyPlanRequest,
    RelatedReply,
    WhyReply,
    EffectiveSettings,
    QuotaCheckReply,
    QuotaCheckRequest,
    QuotaUsage,
    QuotasInForce,
    *AUTH_MODELS,
)


def build_openapi() -> Json:
    """Return the document as a JSON-ready mapping."""
    document = _describe_all(sorted(load_kinds().values(), key=lambda d: d.plural))
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            _complete(path, method, item[method])
    Examples(document).add()
    return document


def _complete(path: str, method: str, found: Json) -> None:
    """Add what follows from what an operation is: its id, its errors, who may call it."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", path.removeprefix("/api/v1")) if word]
    found["operationId"] = (
        method + "".join(word[0].upper() + word[1:] for word in words) if words else f"{method}Discovery"
    )
    found["responses"] |= references(codes_of(path, method, found))
    if path in GIVING_TOKENS:
        found["parameters"] = [*found.get("parameters", ()), SESSION_PARAMETER]
    if (security := security_of(path, found)) is not None:
        found["security"] = security


def _describe_all(kinds: list[KindDefinition]) -> Json:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "VC Stack",
            "version": version("vcstack"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": EVERYBODY,
        "tags": [
            {"name": TAG, "description": "Logging in, and who one is."},
            *({"name": d.plural, "description": (d.model.__doc__ or "").strip()} for d in kinds),
            {"name": "server", "description": "The API server itself."},
        ],
        "paths": dict(_paths(kinds)),
        "components": {
            "schemas": _schemas(kinds),
            "responses": error_responses(),
            "securitySchemes": SCHEMES,
        },
    }


def _schemas(kinds: list[KindDefinition]) -> Json:
    """Return the schemas of all kinds, of their lists, and of the other bodies."""
    models: list[type[BaseModel]] = [*(d.model for d in kinds), *EXTRA_MODELS, *AUDIT_MODELS]
    _, schema = models_json_schema([(m, "validation") for m in models], by_alias=True, ref_template=TEMPLATE)
    found: Json = schema["$defs"]
    for definition in kinds:
        found[definition.kind] = _resource_schema(definition, found[definition.kind])
        found[f"{definition.kind}List"] = _list_schema(definition)
    return found | kindroutes.SCHEMAS


def _resource_schema(definition: KindDefinition, schema: Json) -> Json:
    """Return the kind's schema: kind and apiVersion follow from the path and may be left out."""
    properties = dict(schema["properties"])
    properties["kind"] = {"type": "string", "const": definition.kind, "description": "The kind."}
    properties["apiVersion"] = {**properties["apiVersion"], "const": "vcstack.io/v1"}
    return {**schema, "properties": properties, "description": (definition.model.__doc__ or "").strip()}


def _list_schema(definition: KindDefinition) -> Json:
    return {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string", "const": f"{definition.kind}List"},
            "metadata": {
                "type": "object",
                "required": ["resourceVersion"],
                "properties": {
                    "resourceVersion": {"type": "string"},
                    "continue": {"type": "string"},
                    "remainingItemCount": {"type": "integer"},
                },
            },
            "items": {"type": "array", "items": reference(definition.kind)},
        },
    }


def _paths(kinds: list[KindDefinition]) -> Iterator[tuple[str, Json]]:
    yield from _server_paths()
    yield from auth_paths()
    yield from audit_paths()
    for definition in kinds:
        for prefix, in_project in _prefixes(definition):
            base = f"{prefix}/{definition.plural}"
            project = [parameter("project", "path", "The project.")] if in_project else []
            yield base, _with(project, collection_operations(definition, writable=not definition.system_only))
            if definition.scope is Scope.PROJECT and not in_project:
                continue
            named = [*project, parameter("name", "path", "The object's name.")]
            yield f"{base}/{{name}}", _with(named, object_operations(definition, in_project=in_project))
            for subresource in sorted(subresources_of(definition)):
                operations = subresource_operations(definition, subresource, in_project=in_project)
                if operations:
                    yield f"{base}/{{name}}/{subresource}", _with(named, operations)
                if subresource in WITH_ITEMS:
                    item = {**parameter("id", "path", "Which one."), "example": "rec-0ad0764b1589703c3fe2"}
                    yield (
                        f"{base}/{{name}}/{subresource}/{{id}}",
                        _with([*named, item], item_operations(definition, subresource)),
                    )


def _prefixes(definition: KindDefinition) -> list[tuple[str, bool]]:
    everywhere, inside = ("/api/v1", False), ("/api/v1/projects/{project}", True)
    return [everywhere] if definition.scope is Scope.GLOBAL else [everywhere, inside]


def _with(parameters: list[Json], operations: Json) -> Json:
    return {"parameters": parameters, **operations} if parameters else operations


def _server_paths() -> Iterator[tuple[str, Json]]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    anything = {"application/json": {"schema": {"type": "object"}}}
    page = {"text/html": {"schema": {"type": "string"}}}

    def read(summary: str, content: Json, *, public: bool = True) -> Json:
        return {"get": operation("server", summary, content=content, public=public)}

    yield "/healthz", read("Is the process alive?", text)
    yield "/readyz", read("Can it serve: does the store answer, is the cache fresh?", text)
    yield "/version", read("The server's version.", anything)
    yield "/ca", read("The certificates of the authorities to trust, PEM: two while they are rotated.", text)
    yield "/openapi.json", read("This document.", anything)
    yield PAGE, read("This document, to be browsed.", page)
    yield CONSOLE, read("The console, for people in browsers; all addresses below it are its own.", page)
    yield "/metrics", read("Figures for Prometheus.", text, public=False)
    yield "/api/v1", read("The kinds.", anything, public=False)
    kinds = {"application/json": {"schema": kindroutes.KIND_LIST}}
    yield kindroutes.KINDS, read("The kinds, with columns and what can be done with them.", kinds, public=False)
    kind = {"application/json": {"schema": reference("KindDescription")}}
    plural = {**parameter("plural", "path", "The kind's plural."), "example": "flavors"}
    summary = "One kind with the JSON Schema of its objects."
    yield kindroutes.KINDS + "/{plural}", {"parameters": [plural], **read(summary, kind, public=False)}
    planned = {"application/json": {"schema": reference("ApplyPlanRequest")}}
    plan = {"application/json": {"schema": reference("ApplyPlanReply")}}
    summary = "What would a server-side apply of these objects do? Nothing is written."
    yield PLAN, {"post": operation("server", summary, content=plan, body=planned)}
    checked = {"application/json": {"schema": reference("QuotaCheckRequest")}}
    room = {"application/json": {"schema": reference("QuotaCheckReply")}}
    yield QUOTA_CHECK, {"post": operation("quotas", "Is there room for all these objects?", content=room, body=checked)}
    effective = {"application/json": {"schema": reference("EffectiveSettings")}}
    summary = "Which settings count, and where is each from?"
    yield (
        EFFECTIVE,
        {
            "parameters": [
                parameter(n, "query", f"Those of a {n}; default the cloud's.") for n in ("project", "domain")
            ],
            "get": operation("settings", summary, content=effective),
        },
    )
    encryption = {"application/json": {"schema": reference("EncryptionStatus")}}
    yield "/api/v1/encryption", read("Which master key versions the store needs.", encryption, public=False)
    told = operation(
        "gitsources", "Have a GitSource look at once. Signed with its secret: x-hub-signature-256, x-gitea-signature.",
        success="202", body=anything, public=True,
    )  # fmt: skip
    named = [parameter("project", "path", "The project."), parameter("name", "path", "The GitSource's name.")]
    yield "/api/v1/webhooks/git/{project}/{name}", {"parameters": named, "post": told}
    body = {"application/json": {"schema": reference("JoinRequest")}}
    answer = {"application/json": {"schema": reference("IssuedCertificate")}}
    yield (
        "/api/v1/join",
        {"post": operation("server", "Join a host with a one-time token.", content=answer, body=body, public=True)},
    )
