"""The OpenAPI document's part on logging in and on who one is."""

from collections.abc import Iterator

from pydantic import BaseModel

from vcstack.apiclient.accessmessages import (
    PlanReply,
    PlanRequest,
    ReviewReply,
    ReviewRequest,
    RightsReply,
    RightsRequest,
)
from vcstack.apiclient.authmessages import (
    ChallengeReply,
    CodeRequest,
    EnrolledReply,
    EnrolmentReply,
    InitialSecretReply,
    KeyRequest,
    KeySecretReply,
    LoginRequest,
    LogoutRequest,
    PasswordRequest,
    ProofRequest,
    ProvidersReply,
    RefreshRequest,
    TokensReply,
)
from vcstack.apiclient.ldapmessages import LdapLoginRequest
from vcstack.apiclient.oidcmessages import (
    OidcBeginReply,
    OidcBeginRequest,
    OidcCompleteRequest,
    OidcDeviceReply,
    OidcDeviceRequest,
    OidcPendingReply,
    OidcPollRequest,
)
from vcstack.apiserver.auth.reviews import PREFIX as REVIEWS
from vcstack.apiserver.auth.routes import PREFIX
from vcstack.apiserver.me import Me
from vcstack.apiserver.openapi_operations import Json, operation, reference

TAG = "auth"
AUTH_MODELS: tuple[type[BaseModel], ...] = (
    ChallengeReply,
    CodeRequest,
    EnrolledReply,
    EnrolmentReply,
    InitialSecretReply,
    KeyRequest,
    KeySecretReply,
    LdapLoginRequest,
    LoginRequest,
    LogoutRequest,
    OidcBeginReply,
    OidcBeginRequest,
    OidcCompleteRequest,
    OidcDeviceReply,
    OidcDeviceRequest,
    OidcPendingReply,
    OidcPollRequest,
    PasswordRequest,
    ProofRequest,
    ProvidersReply,
    RefreshRequest,
    TokensReply,
    Me,
    PlanReply,
    PlanRequest,
    ReviewReply,
    ReviewRequest,
    RightsReply,
    RightsRequest,
)
DONE: Json = {"204": {"description": "Done; nothing to say."}}


def auth_paths() -> Iterator[tuple[str, Json]]:
    """Yield the routes below /api/v1/auth and /api/v1/access, and /api/v1/me."""
    step = _one_of("TokensReply", "ChallengeReply")
    yield _post("login", "Log in: tokens, or a challenge to go on with.", "LoginRequest", step)
    yield _post("password", "Set the first password, or another one.", "PasswordRequest", step, also=DONE)
    yield _post("mfa/verify", "Complete a login by a code.", "CodeRequest", step)
    yield _post("mfa/enrol", "Begin to enrol a second factor.", "ProofRequest", _one_of("EnrolmentReply"))
    yield _post("mfa/confirm", "Make the second factor count.", "CodeRequest", _one_of("EnrolledReply"))
    yield _post("mfa/recoverycodes", "Replace the recovery codes.", "ProofRequest", _one_of("EnrolledReply"))
    yield _post("mfa/disable", "Remove the second factor.", "ProofRequest", None)
    yield _post("refresh", "Get new tokens for a refresh token, which is used up.", "RefreshRequest", step)
    yield _post("logout", "End the session.", "LogoutRequest", None)
    yield _post("token", "Exchange an API key for an access token.", "KeyRequest", _one_of("TokensReply"))
    begun, device = _one_of("OidcBeginReply"), _one_of("OidcDeviceReply")
    yield _post("oidc/begin", "Begin a login with a browser at an identity provider.", "OidcBeginRequest", begun)
    yield _post("oidc/complete", "Complete it.", "OidcCompleteRequest", step)
    yield _post("oidc/device", "Begin a login from a device without a browser.", "OidcDeviceRequest", device)
    done = _one_of("TokensReply", "ChallengeReply", "OidcPendingReply")
    yield _post("oidc/poll", "Ask whether it is complete.", "OidcPollRequest", done)
    yield _post("ldap/login", "Log in by a directory.", "LdapLoginRequest", step)
    anything = {"application/json": {"schema": {"type": "object"}}}
    keys = operation(TAG, "The public keys that access tokens are verified with (a JWK set).", content=anything)
    yield PREFIX + "keys", {"get": {**keys, "security": []}}
    offered = operation(
        TAG,
        "The identity providers that the page for logging in offers to everybody.",
        content=_json(reference("ProvidersReply")),
        parameters=(("domain", "Those of this domain, too.", {"type": "string"}),),
        public=True,
    )
    yield PREFIX + "providers", {"get": offered}
    who = operation(TAG, "Who am I, and what was given to me where?", content=_json(reference("Me")))
    yield "/api/v1/me", {"get": who}
    yield _ask("review", "May somebody do something?", "Review")
    yield _ask("rights", "What may somebody do?", "Rights")
    yield _ask("plan", "What would writing these objects allow and forbid? Nothing is written.", "Plan")


def _post(path: str, summary: str, model: str, answer: Json | None, *, also: Json | None = None) -> tuple[str, Json]:
    """Return one route. All are public: those that need an access token look at it themselves."""
    content = _json(answer) if answer is not None else None
    found = operation(
        TAG,
        summary,
        content=content,
        body=_json(reference(model)),
        success="200" if content else "204",
        also=also,
        public=True,
    )
    return PREFIX + path, {"post": found}


def _ask(path: str, summary: str, word: str) -> tuple[str, Json]:
    body, answer = _json(reference(f"{word}Request")), _json(reference(f"{word}Reply"))
    return REVIEWS + path, {"post": operation(TAG, summary, content=answer, body=body, success="200")}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _one_of(*models: str) -> Json:
    return reference(models[0]) if len(models) == 1 else {"oneOf": [reference(m) for m in models]}
