"""Secrets that are made for others: subresources of User and APIKey, decided about like all others.

POST   users/NAME/initialsecret    a one-time secret with which the user sets a password
DELETE users/NAME/mfa              forget the second factor of a user who lost it
POST   apikeys/NAME/secret         the key's first secret, or another one
"""

from starlette.responses import Response

from vcstack.apiclient.authmessages import InitialSecretReply, KeySecretReply
from vcstack.apiserver.auth.assembly import Auth
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.queries import NONE
from vcstack.apiserver.replies import model_reply
from vcstack.specs.errors import MethodNotAllowed
from vcstack.store.draft import not_found


class IdentitySubresources:
    """Answers requests for initialsecret, mfa and secret."""

    def __init__(self, auth: Auth, authorizer: Authorizer) -> None:
        self._auth = auth
        self._authorizer = authorizer

    async def initial_secret(self, call: Call) -> Response:
        """Make a one-time secret; the user's password and sessions end."""
        await self._authorize(call, "POST")
        self._authorizer.demand_power_over(call.identity, call.target.ref)
        issued = await self._auth.login.issue_initial_secret(call.target.name)
        return model_reply(InitialSecretReply(secret=issued.secret, expires_at=issued.expires_at), 201)

    async def mfa(self, call: Call) -> Response:
        """Forget a user's second factor; the user's sessions end."""
        await self._authorize(call, "DELETE")
        self._authorizer.demand_power_over(call.identity, call.target.ref)
        await self._auth.login.reset_mfa(call.target.name)
        return Response(status_code=204)

    async def secret(self, call: Call) -> Response:
        """Make a key's secret; the one before it stays good for the key's overlap."""
        await self._authorize(call, "POST")
        target = call.target
        key = await self._auth.directory.find_key(target.project, target.name)
        if key is None:
            raise not_found(target.definition, target.project, target.name)
        self._authorizer.demand_power_over(call.identity, key.owner, by_key=True)
        until = self._authorizer.find_end_of_power(call.identity, target, key.owner)
        issued = await self._auth.keys.issue(key, expires_at=until)
        reply = KeySecretReply(
            key_id=issued.key_id,
            secret=issued.secret,
            created_at=issued.created_at,
            previous_until=issued.previous_until,
            expires_at=issued.expires_at,
        )
        return model_reply(reply, 201)

    async def _authorize(self, call: Call, method: str) -> None:
        if call.method != method:
            raise MethodNotAllowed(f"{call.method} is not possible here; there is {method}")
        call.query.only(NONE)
        await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, call.target))
