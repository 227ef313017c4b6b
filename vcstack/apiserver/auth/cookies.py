"""The refresh token in a cookie, for pages in a browser: no script can read it, so none that was smuggled in steals it.

A page asks for it by the header ``vcstack-session: cookie`` with the last step of a login, keeps the access token in
memory, and refreshes with an empty body. SameSite keeps the cookie from requests of foreign pages, and ``edges``
refuses what comes with one from elsewhere.
"""

from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from vcstack.apiclient.authmessages import ChallengeReply, TokensReply
from vcstack.apiserver.auth.challenges import Challenge
from vcstack.apiserver.auth.requests import tokens_reply
from vcstack.apiserver.auth.sessions import Tokens
from vcstack.apiserver.edges import SESSION_HEADER
from vcstack.apiserver.replies import model_reply
from vcstack.specs.model import Model

COOKIE: Final = "__Host-vcstack-refresh"
"""Browsers take a name of that beginning only with Secure, for the whole host, and from this very host (RFC 6265bis,
section 4.1.3.2): no neighbour under the same domain can plant one."""


def reply_tokens(
    request: Request,
    tokens: Tokens,
    build: Callable[[TokensReply], Model] = lambda reply: reply,
    *,
    came_by_cookie: bool = False,
) -> Response:
    """Return the tokens as an answer, the refresh token in a cookie where the page wants it so or had it there."""
    reply = tokens_reply(tokens)
    if not tokens.refresh_token or not (came_by_cookie or _wants_cookie(request)):
        return model_reply(build(reply))
    response = model_reply(build(reply.model_copy(update={"refresh_token": None})))
    # Without a date the browser forgets it at its end; how long it is good at most is for us to say.
    response.set_cookie(COOKIE, tokens.refresh_token, secure=True, httponly=True, samesite="strict")
    return response


def reply_step(request: Request, result: Tokens | Challenge) -> Response:
    """Return tokens, or what is left to do before there are any."""
    if isinstance(result, Challenge):
        return model_reply(ChallengeReply(kind=result.kind, challenge=result.token, expires_at=result.expires_at))
    return reply_tokens(request, result)


def find_refresh_token(request: Request) -> str:
    """Return the refresh token of the cookie; empty when there is none."""
    return request.cookies.get(COOKIE, "")


def forget(response: Response) -> Response:
    """Return the answer, with which the browser forgets the cookie."""
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict")
    return response


def _wants_cookie(request: Request) -> bool:
    return request.headers.get(SESSION_HEADER, "").lower() == "cookie"
