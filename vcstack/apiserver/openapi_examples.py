"""Examples for every operation of the OpenAPI document: those of the kinds, and values for what else is said.

Bodies that are no objects of a kind get their examples from their schema, field by field: a field's name says what it
looks like.
"""

from collections.abc import Iterator
from typing import Any, Final

from vcstack.apiserver import kindroutes
from vcstack.specs.meta import API_VERSION
from vcstack.specs.registry import KindDefinition, Scope, load_kinds

Json = dict[str, Any]

TIME: Final = "2026-11-23T09:00:00Z"
PEM: Final = "-----BEGIN {0}-----\nMIIB...\n-----END {0}-----\n"
JWT: Final = "eyJhbGciOiJFZERTQSIsImtpZCI6IjEifQ.eyJzdWIiOiJ1c2VyOmFsaWNlIn0.c2lnbmF0dXJl"
CSR: Final = (
    "-----BEGIN CERTIFICATE REQUEST-----\n"
    "MIHTMHsCAQAwGTEXMBUGA1UEAwwOc3lzdGVtOmhvc3Q6aDkwWTATBgcqhkjOPQIB\n"
    "BggqhkjOPQMBBwNCAATaNL8mjnul7iOyV9Jvb1G3nBFGillsYsc920UaMQ7xMoMX\n"
    "ocxmt50ufrQVG69F/8EAJDXBUqT5kD5oqSgJyroPoAAwCgYIKoZIzj0EAwIDSAAw\n"
    "RQIhAN45OeHSs7n/lDCgm6BVitZM2N9gbetN9gkVP83Tvn4xAiBD1qRGG7ciMjbk\n"
    "rJUrsiEJn6uY5UIDLn4uK4zE8SgDtA==\n"
    "-----END CERTIFICATE REQUEST-----\n"
)
"""Of nobody's key."""
RULE: Final[Json] = {"verbs": ["get", "list"], "kinds": ["Instance"]}
VALUES: Final[Json] = {
    "accessToken": JWT,
    "authority": "2",
    "authorizationUrl": "https://id.example.com/authorize?client_id=cloud&state=7Yd1",
    "ca": PEM.format("CERTIFICATE"),
    "certificate": PEM.format("CERTIFICATE"),
    "chain": "m1-api",
    "challenge": "c-5f0c2f1e9a7b4d3c8e6f",
    "ciphertext": "vck1:demo/disks:1:q83vEjRWeJA=",
    "code": "492039",
    "context": "backup-17",
    "csr": CSR,
    "device": "d-0b1946ac92492d2347c6",
    "deviceToken": "d-0b1946ac92492d2347c6",
    "domain": "acme",
    "groups": ["operators"],
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "issuer": "https://id.example.com",
    "key": "ak-7f3c",
    "activeKey": "local:5f0c2f1e9a7b4d3c",
    "keyId": "vck-5f0c2f1e9a7b4d3c",
    "kind": "Instance",
    "kinds": ["Instance"],
    "labelSelector": "env=prod",
    "labelSelectors": ["env=prod"],
    "labels": {"rack": "r7"},
    "mac": "02:00:00:00:00:01",
    "machine": "7",
    "message": "This is an example.",
    "methods": ["pwd", "otp", "mfa"],
    "name": "web-1",
    "notice": "The cloud is upgraded on Sunday.",
    "newPassword": "nine green lanterns hum",
    "overrules": "Setting images of project demo: 40",
    "password": "correct horse battery staple",
    "plaintext": "c2VjcmV0",
    "problem": "Changed",
    "project": "demo",
    "projects": ["demo"],
    "provider": "corporate",
    "recoveryCodes": ["k7d2-9xq4-m3pz", "v8s1-h5wn-c6ty"],
    "id": "rec-0ad0764b1589703c3fe2",
    "instance": "web-1",
    "instanceUid": "vm-7f3c2a9e",
    "login": "root",
    "continue": "WyIyMDI2LTExLTIzIl0=",
    "publicKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBk0Vb7v2cXwJm3d8m1y3s1P8i0l7F9C9m0bq2uX3f1D",
    "redirectUri": "http://127.0.0.1:8400/oidc/corporate",
    "refreshToken": "s-0ad0764b1589703c3fe2.0.Zm9v.9f86d081884c7d65",
    "remove": ["vcstack.io/compute"],
    "resourceVersion": "1042",
    "role": "member",
    "secret": "J5XW6ZDFNRQXSIDUNBUXG",
    "session": "s-0ad0764b1589703c3fe2",
    "delegation": "AtMost",
    "description": "Largest content of an image, in GiB.",
    "limits": "1 to 65536",
    "place": "demo",
    "scopes": ["Cloud", "Domain", "Project"],
    "source": "Project",
    "type": "int",
    "setting": "images.maxSizeGiB",
    "signature": "vck1:demo/disks:1:MEUCIQD3",
    "state": "7Yd1kJ2mQ0",
    "subject": "user:alice",
    "subresource": "console",
    "subresources": ["console"],
    "targetContext": "backup-18",
    "ticket": "0lYvQ1m3uWkXGZ3g6q1yq0b1",
    "token": "vcj-h9-2f7c4a9e",
    "tokenType": "Bearer",
    "uid": "vm-7f3c2a9e",
    "uri": "otpauth://totp/VC%20Stack:alice?secret=J5XW6ZDFNRQXSIDUNBUXG&issuer=VC%20Stack",
    "user": "alice",
    "userCode": "WDJB-MJHT",
    "values": {"password": "correct horse"},
    "verb": "create",
    "verbs": ["get", "list"],
    "verificationUri": "https://id.example.com/device",
    "verificationUriComplete": "https://id.example.com/device?user_code=WDJB-MJHT",
}
"""What fields that are text look like, by their names."""
REQUESTS: Final[dict[str, Json]] = {
    "CodeRequest": {"challenge": VALUES["challenge"], "code": VALUES["code"]},
    "PasswordRequest": {"challenge": VALUES["challenge"], "newPassword": VALUES["newPassword"]},
    "ProofRequest": {"password": VALUES["password"], "code": VALUES["code"]},
    "RefreshRequest": {"refreshToken": VALUES["refreshToken"]},
    "LogoutRequest": {"refreshToken": VALUES["refreshToken"]},
    "ReviewRequest": {"subject": "user:alice", "verb": "create", "kind": "Instance", "project": "demo"},
    "RightsRequest": {"subject": "user:alice", "project": "demo"},
    "SignRequest": {"message": "aGVsbG8="},
    "VerifyRequest": {"message": "aGVsbG8=", "signature": VALUES["signature"]},
}
"""Where what is asked at least would not show the use."""
RECORD: Final[Json] = {
    "chain": "m1-api",
    "seq": 17,
    "previous": "60303ae22b998861",
    "hash": "9f86d081884c7d65",
    "time": TIME,
    "subject": "user:alice",
    "verb": "create",
    "kind": "Instance",
    "project": "demo",
    "name": "web-1",
    "status": 201,
    "outcome": "Allowed",
    "requestId": "0af7651916cd43dd8448eb211c80319c",
    "peer": "192.0.2.10",
}
REVISION: Final[Json] = {
    "revision": "1042",
    "uid": "vm-7f3c2a9e",
    "operation": "Updated",
    "actor": "user:alice",
    "manager": "vcctl",
    "time": TIME,
    "diff": [{"path": "metadata.labels.env", "old": None, "new": "prod"}],
}
FINDING: Final[Json] = {
    "kind": "Instance",
    "project": "demo",
    "name": "web-1",
    "sentence": "ImageReady=False (ImageNotReady): waits for image debian-12",
    "healthy": False,
    "advice": "waits for image debian-12",
    "path": "",
    "warnings": [],
    "because": [],
}
LINK: Final[Json] = {
    "kind": "Port",
    "project": "demo",
    "name": "i-7f3c2a9e-eth0",
    "path": "metadata.ownerReferences",
    "uid": "pt-7f3c2a9e",
    "ready": "True",
    "deleting": False,
}
RELATED: Final[Json] = {
    "owners": [],
    "owned": [{"kind": "Port", "links": [LINK], "more": False}],
    "references": [],
    "users": [],
    "events": [],
}
PLANNED: Final[Json] = {
    "action": "Update",
    "kind": "Instance",
    "project": "demo",
    "name": "web-1",
    "resourceVersion": "1042",
    "changes": [{"path": "spec.flavor", "from": "small", "to": "large", "takes": "Reboot"}],
    "warnings": [],
}
ANSWERS: Final[dict[str, Any]] = {
    "/healthz": "ok\n",
    "/api/docs": "<!doctype html>",
    "/console/": "<!doctype html>",
    "/readyz": "ok\n",
    "/ca": PEM.format("CERTIFICATE"),
    "/metrics": '# TYPE vcstack_requests_total counter\nvcstack_requests_total{verb="GET",code="200"} 17\n',
    "/version": {"version": "0.1.0", "apiVersion": API_VERSION},
    "/openapi.json": {"openapi": "3.1.0", "info": {"title": "VC Stack", "version": "0.1.0"}, "paths": {}},
    "/api/v1": {
        "kind": "KindList",
        "apiVersion": API_VERSION,
        "items": [
            {
                "kind": "Flavor",
                "plural": "flavors",
                "singular": "flavor",
                "shortNames": [],
                "scope": "Global",
                "category": "compute",
                "subresources": ["finalize", "history", "status"],
            }
        ],
    },
    "/api/v1/auth/keys": {
        "keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]
    },
    "/api/v1/audit": {"kind": "AuditRecordList", "items": [RECORD]},
    "/api/v1/audit/export": '{"seq":17,"subject":"user:alice","verb":"create","status":201}\n',
    "/api/v1/audit/anchors": '{"chain":"m1-api","seq":17,"hash":"9f86d081884c7d65"}\n',
    "audit": {"kind": "AuditRecordList", "items": [RECORD]},
    "history": {"kind": "History", "metadata": {"reach": {"revision": "812"}}, "items": [REVISION]},
    "timeline": {
        "kind": "Timeline",
        "metadata": {
            "before": "1042",
            "reach": {"revision": "812", "time": "2026-08-24T00:00:00Z", "cuts": "0"},
        },
        "items": [{"kind": "Instance", "project": "demo", "name": "web-1", **REVISION}],
    },
    "screenshot": "the bytes of a PNG",
    "{id}": '{"version":2,"width":80,"height":24,"timestamp":1795424400}\n[0.5,"o","root@web-1:~# "]\n',
    "log": "[    0.000000] Linux version 6.1.0\n",
    "content": "the bytes of a disk image",
}
"""Answers that are no model, by path or by the subresource at its end."""


class Unknown(Exception):
    """A field of which nobody has said what it looks like; put its name into VALUES."""


def written(definition: KindDefinition, *, in_project: bool | None = None) -> Json:
    """Return an object of the kind as a user writes it; in_project: where, None: where its example lies."""
    metadata, spec = dict(definition.example["metadata"]), definition.example["spec"]
    if in_project is False and definition.scope is not Scope.PROJECT and "project" in metadata:
        del metadata["project"]
        spec = definition.spec_outside or spec
    elif in_project:
        metadata["project"] = metadata.get("project", "demo")
    return {"apiVersion": API_VERSION, "kind": definition.kind, "metadata": metadata, "spec": dict(spec)}


def stored(definition: KindDefinition, *, in_project: bool | None = None) -> Json:
    """Return the same as it is read, once the cloud has made it so."""
    wire = written(definition, in_project=in_project)
    conditions = [
        {
            "type": name,
            "status": "True",
            "reason": name,
            "message": "",
            "lastTransitionTime": TIME,
            "observedGeneration": 1,
        }
        for name in (*definition.ready_when, *(["Ready"] if definition.ready_when else []))
    ]
    wire["metadata"] |= {
        "uid": f"{definition.uid_prefix}-7f3c2a9e",
        "generation": 1,
        "resourceVersion": "1042",
        "creationTimestamp": TIME,
        **({"finalizers": list(definition.finalizers)} if definition.finalizers else {}),
    }
    observed = {"observedGeneration": 1, "conditions": conditions} if conditions else {}
    return {**wire, "status": {**observed, **definition.example.get("status", {})}}


class Examples:
    """Adds them to a document."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._schemas: Json = document["components"]["schemas"]
        self._kinds = load_kinds()

    def add(self) -> None:
        """Put an example into every body and answer, and into the parameters of paths."""
        for path, item in self._document["paths"].items():
            definition = self._kind_of(path)
            if definition is not None:
                _fill_path(item, definition)
            elif "{name}" in path:
                _fill_path(item, self._kinds["GitSource"])  # a webhook's
            for method, operation in _operations(item):
                if "requestBody" in operation:
                    contents = operation["requestBody"]["content"].items()
                    operation["requestBody"]["content"] = {
                        media: _with(content, self._request(path, method, media, content["schema"], definition))
                        for media, content in contents
                    }
                for code, answer in operation["responses"].items():
                    if code < "300" and "content" in answer:
                        answer["content"] = {
                            media: _with(content, self._answer(path, content["schema"], definition))
                            for media, content in answer["content"].items()
                        }

    def _request(self, path: str, method: str, media: str, schema: Json, definition: KindDefinition | None) -> Json:
        if definition is not None and path.endswith("/status"):
            return {"status": {"status": stored(definition)["status"]}}
        if definition is not None and method == "patch":
            whole = written(definition, in_project=_is_in_project(path))
            return {"patch": whole if "apply" in media else {"metadata": {"labels": {"env": "prod"}}}}
        if path.endswith("/content"):
            return {"content": ANSWERS["content"]}
        return self._of_models(path, schema, asked=True)

    def _answer(self, path: str, schema: Json, definition: KindDefinition | None) -> Json:
        name = path.rsplit("/", 1)[1] if definition is not None else path
        if path == kindroutes.KINDS:
            flavor = kindroutes.describe(self._kinds["Flavor"])
            return {"answer": {"kind": "KindList", "apiVersion": API_VERSION, "items": [flavor]}}
        return (
            {"answer": ANSWERS[name]}
            if name in ANSWERS and "$ref" not in schema
            else self._of_models(path, schema, asked=False)
        )

    def _of_models(self, path: str, schema: Json, *, asked: bool) -> Json:
        """Return an example for each model that the body may be."""
        found = {}
        for choice in schema.get("oneOf", [schema]):
            name = choice.get("$ref", "").rsplit("/", 1)[-1]
            try:
                found[name] = self._of_model(path, name, choice, asked=asked)
            except Unknown:
                continue  # the document is served all the same; a test tells
        return found

    def _of_model(self, path: str, name: str, schema: Json, *, asked: bool) -> Any:
        if name in self._kinds:
            return (written if asked else stored)(self._kinds[name], in_project=_is_in_project(path))
        if name.removesuffix("List") in self._kinds:
            item = stored(self._kinds[name.removesuffix("List")], in_project=_is_in_project(path) or None)
            return {"apiVersion": API_VERSION, "kind": name, "metadata": {"resourceVersion": "1042"}, "items": [item]}
        if name == "ProvidersReply":
            return {"items": [{"name": "corporate", "displayName": "Example Corporation", "type": "OIDC"}]}
        if name == "PlanRequest":
            return {"objects": [written(self._kinds["RoleBinding"])]}
        if name == "ApplyPlanRequest":
            return {"items": [written(self._kinds["Instance"])], "fieldManager": "console"}
        if name == "WhyReply":
            return {"finding": FINDING}
        if name == "RelatedReply":
            return RELATED
        if name == "ApplyPlanReply":
            return {"kind": "Plan", "items": [PLANNED]}
        if name == "KindDescription":
            # Without the schema's references, which would lead nowhere here.
            return {**kindroutes.describe_fully(self._kinds["Flavor"]), "schema": {"type": "object"}}
        if name == "QuotaCheckRequest":
            return {"items": [written(self._kinds["Instance"])]}
        return REQUESTS[name] if asked and name in REQUESTS else self._value("", schema, asked=asked)

    def _value(self, name: str, schema: Json, *, asked: bool) -> Any:
        """Return what a field of that name and schema looks like."""
        if "$ref" in schema:
            return self._value(name, self._schemas[schema["$ref"].rsplit("/", 1)[1]], asked=asked)
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                real = [each for each in schema[choice] if each.get("type") != "null"]
                return self._value(name, real[0], asked=asked)
        if "const" in schema or "enum" in schema:
            return schema["const"] if "const" in schema else schema["enum"][0]
        match schema.get("type"):
            case "object" if "properties" in schema:
                return self._object(schema, asked=asked)
            case "object":
                return VALUES.get(name, {})
            case "array":
                known = VALUES.get(name)
                return known if isinstance(known, list) else [self._value(name, schema["items"], asked=asked)]
            case "boolean":
                return True
            case "integer":
                return max(schema.get("minimum", 0), schema.get("default") or 1)
            case "number":
                return 1.5
        return self._text(name, schema)

    def _object(self, schema: Json, *, asked: bool) -> Json:
        required = schema.get("required", ())
        names = [n for n in schema["properties"] if not asked or n in required]
        return {n: self._value(n, schema["properties"][n], asked=asked) for n in names}

    def _text(self, name: str, schema: Json) -> str:
        if schema.get("format") == "date-time":
            return TIME
        if schema.get("default"):
            return str(schema["default"])
        known = VALUES.get(name)
        if isinstance(known, str):
            return known
        if "pattern" in schema and "a-z0-9" in schema["pattern"]:
            return "demo"
        raise Unknown(name)

    def _kind_of(self, path: str) -> KindDefinition | None:
        steps = path.removeprefix("/api/v1/").replace("projects/{project}/", "").split("/")
        return next((d for d in self._kinds.values() if d.plural == steps[0]), None)


def _with(content: Json, examples: Json) -> Json:
    if len(examples) == 1:
        return {**content, "example": next(iter(examples.values()))}
    return (
        {**content, "examples": {name: {"value": value} for name, value in examples.items()}} if examples else content
    )


def _is_in_project(path: str) -> bool:
    return "{project}" in path


def _operations(item: Json) -> Iterator[tuple[str, Json]]:
    for method, operation in item.items():
        if method != "parameters":
            yield method, operation


def _fill_path(item: Json, definition: KindDefinition) -> None:
    metadata = definition.example["metadata"]
    known = {"name": metadata["name"], "project": metadata.get("project", "demo")}
    for parameter in item.get("parameters", ()):
        if parameter["in"] == "path" and "example" not in parameter:
            parameter["example"] = known[parameter["name"]]
