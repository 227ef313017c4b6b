"""What all routes of logging in share: reading a body, who is at the other end, tokens as an answer."""

from typing import Final, TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from vcstack.apiclient.authmessages import TokensReply
from vcstack.apiserver.auth.sessions import Client, Tokens
from vcstack.apiserver.bodies import JSON, decode, invalid_body, media_type_of, read_bytes
from vcstack.specs.errors import BadRequest
from vcstack.specs.model import Model

BODY_LIMIT: Final = 16 * 1024
M = TypeVar("M", bound=Model)


async def read(request: Request, model: type[M]) -> M:
    """Return the body: JSON only, so that no form of another site can send one."""
    media_type_of(request, (JSON,))
    wire = decode(await read_bytes(request, BODY_LIMIT), is_yaml=False)
    try:
        return model.from_wire(wire)
    except ValidationError as error:
        raise invalid_body(error) from error
    except TypeError as error:  # orjson on a lone surrogate
        raise BadRequest("the body has text that is not Unicode") from error


def client_of(request: Request, device: str = "") -> Client:
    """Return who is at the other end of the connection; no proxy's word is taken for it."""
    address = request.client.host if request.client else ""
    return Client(address=address, program=request.headers.get("user-agent", ""), device=device)


def tokens_reply(tokens: Tokens) -> TokensReply:
    """Return tokens as they are on the wire."""
    return TokensReply(
        access_token=tokens.access_token,
        expires_at=tokens.expires_at,
        refresh_token=tokens.refresh_token or None,
        session=tokens.session or None,
        session_expires_at=tokens.session_expires_at,
        device_token=tokens.device_token or None,
    )
