"""What can be done with a managed key, each a subresource with its own right: update on Key/encrypt and so on."""

import asyncio
import base64
from collections.abc import Callable
from typing import TypeVar

from starlette.responses import Response

from vcstack.apiclient import keymessages as messages
from vcstack.apiserver import bodies
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.identity import Identity
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.queries import NONE
from vcstack.apiserver.replies import model_reply
from vcstack.apiserver.targets import Target
from vcstack.crypto.errors import CryptoError, KeyUnavailable
from vcstack.crypto.kms import ManagedKey
from vcstack.specs.errors import Cause, Conflict, ErrorDetails, Forbidden, Invalid, MethodNotAllowed, Unavailable
from vcstack.specs.kinds.key import Key, KeyState, policy_subjects
from vcstack.specs.model import Model
from vcstack.store.keymaterial import KeyMaterial

T = TypeVar("T")
M = TypeVar("M", bound=Model)


class KeyOperations:
    """Answers requests for the operations."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer) -> None:
        self._store = parts.store
        self._material = KeyMaterial(parts.auth.credentials)
        self._kms = self._material.kms
        self._authorizer = authorizer

    async def encrypt(self, call: Call) -> Response:
        """Encrypt with the newest version."""
        key, asked = await self._begin(call, messages.EncryptRequest)
        plaintext = _bytes(asked.plaintext, "plaintext")
        text = await _work(lambda: self._kms.encrypt(key, plaintext, asked.context.encode()))
        return model_reply(messages.Ciphertext(ciphertext=text))

    async def decrypt(self, call: Call) -> Response:
        """Decrypt what any version has encrypted."""
        key, asked = await self._begin(call, messages.DecryptRequest)
        plaintext = await _work(lambda: self._kms.decrypt(key, asked.ciphertext, asked.context.encode()))
        return model_reply(messages.Plaintext(plaintext=_text(plaintext)))

    async def reencrypt(self, call: Call) -> Response:
        """Encrypt anew with the newest version of this key or of another one that the caller may encrypt with."""
        key, asked = await self._begin(call, messages.ReencryptRequest)
        target = key
        if asked.target_key is not None and asked.target_key != call.target.name:
            other = Target(call.target.definition, call.target.project, asked.target_key, "encrypt")
            await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, other))
            target = await self._load(call.identity, other)
        context = asked.context if asked.target_context is None else asked.target_context
        text = await _work(
            lambda: self._kms.re_encrypt(
                key, asked.ciphertext, target, context=asked.context.encode(), target_context=context.encode()
            )
        )
        return model_reply(messages.Ciphertext(ciphertext=text))

    async def data_key(self, call: Call) -> Response:
        """Make a data key."""
        key, asked = await self._begin(call, messages.DataKeyRequest)
        made = await _work(lambda: self._kms.generate_data_key(key, asked.length_bytes, asked.context.encode()))
        return model_reply(messages.DataKeyReply(plaintext=_text(made.plaintext), ciphertext=made.ciphertext))

    async def sign(self, call: Call) -> Response:
        """Sign with the newest version."""
        key, asked = await self._begin(call, messages.SignRequest)
        message = _bytes(asked.message, "message")
        text = await _work(lambda: self._kms.sign(key, message, prehashed=asked.prehashed))
        return model_reply(messages.Signature(signature=text))

    async def verify(self, call: Call) -> Response:
        """Say whether a signature is the key's."""
        key, asked = await self._begin(call, messages.VerifyRequest)
        message = _bytes(asked.message, "message")
        valid = await _work(lambda: self._kms.verify(key, message, asked.signature, prehashed=asked.prehashed))
        return model_reply(messages.Verdict(valid=valid))

    async def _begin(self, call: Call, model: type[M]) -> tuple[ManagedKey, M]:
        if call.method != "POST":
            raise MethodNotAllowed(f"{call.method} is not possible here; there is POST")
        call.query.only(NONE)
        await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, call.target))
        asked = await bodies.read_model(call.request, model)
        return await self._load(call.identity, call.target), asked

    async def _load(self, identity: Identity, target: Target) -> ManagedKey:
        """Return the key. Raises NotFound, Forbidden by its policy, Conflict when it is not to be used."""
        stored = await self._store.get(target.definition, target.project, target.name)
        key = Key.from_wire(stored.json)
        details = ErrorDetails(kind=Key.KIND, project=target.project or "", name=target.name)
        # The cache that the groups are from was proven fresh when the key was read.
        named = key.spec.policy is None or self._authorizer.is_one_of(
            identity, policy_subjects(key, target.subresource)
        )
        if not named:
            what = f"{target.subresource} with Key {target.name}"
            raise Forbidden(f"{identity.subject} may not {what}: its policy says who may", details=details)
        if key.deleting:
            raise Conflict(f"key {target.name} is being deleted", details=details)
        if key.spec.state is not KeyState.ENABLED:
            raise Conflict(
                f"key {target.name} is {key.spec.state}; set spec.state to Enabled to use it", details=details
            )
        return await self._material.load(key.uid)


async def _work(operation: Callable[[], T]) -> T:
    """Do it in a thread, for RSA takes milliseconds and a token may take longer."""
    try:
        return await asyncio.to_thread(operation)
    except KeyUnavailable as error:
        raise Unavailable("the master key that protects keys cannot be reached; try again") from error
    except CryptoError as error:
        raise Invalid(str(error)) from error


def _bytes(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one; what is not ASCII is another
        raise Invalid(
            f"{field}: is no base64", causes=[Cause(field=field, reason="FieldValueInvalid", message="is no base64")]
        ) from None


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
