"""The values of a Secret: a subresource, so that who may read the object may not yet read them."""

from typing import Final

from starlette.responses import Response

from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.replies import model_reply
from vcstack.specs.errors import MethodNotAllowed, NotFound
from vcstack.specs.kinds.secret import SecretValues

QUERY: Final = frozenset({"key"})


class SecretRoutes:
    """Answers requests for value."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer) -> None:
        self._store = parts.store
        self._authorizer = authorizer

    async def value(self, call: Call) -> Response:
        """Return the values, or with ?key=NAME that one only."""
        if call.method != "GET":
            raise MethodNotAllowed(f"{call.method} is not possible here; there is GET")
        key = call.query.only(QUERY).text("key")
        await self._authorizer.authorize(call.identity, Action(Verb.GET, call.target))
        target = call.target
        found = await self._store.reveal(target.definition, target.project, target.name)
        values: dict[str, str] = found["spec"].get("data") or {}
        allowed = self._authorizer.secret_keys(call.identity, target)
        if allowed is not None:
            values = {name: value for name, value in values.items() if name in allowed}
        if key is not None and key not in values:
            raise NotFound(
                f"Secret {target.name} has no value {key[:80]!r}; it has {', '.join(sorted(values)) or 'none'}"
            )
        return model_reply(SecretValues(values=values if key is None else {key: values[key]}))
