"""``/api/v1/projects/PROJECT/sshauthority``: whom the guests of a project are to trust when somebody logs in by SSH."""

from starlette.responses import Response

from vcstack.apiclient.shellmessages import SshAuthority
from vcstack.apiserver import queries
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.replies import model_reply
from vcstack.specs.errors import MethodNotAllowed
from vcstack.store.shellkeys import ShellKeyRecords


class SshAuthorityRoutes:
    """Answers with the public half."""

    def __init__(self, keys: ShellKeyRecords, authorizer: Authorizer) -> None:
        self._keys = keys
        self._authorizer = authorizer

    async def answer(self, call: Call) -> Response:
        """Return the authority's public key; the authority is made by whoever asks first."""
        if call.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{call.method} is not possible here; there is GET")
        call.query.only(queries.NONE)
        await self._authorizer.authorize(call.identity, Action(Verb.GET, call.target))
        keys = await self._keys.ensure(call.target.name)
        return model_reply(SshAuthority(public_key=keys.public_key))
