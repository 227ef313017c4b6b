"""A master key inside a PKCS#11 token: it never leaves it, wrapping happens there.

The only module that knows the pkcs11 library. PKCS#11 logs a whole process in to a token, not a session, so all keys
of one token share one session here.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11 import exceptions as faults
from pkcs11.mechanisms import GCMParams

from vcstack.crypto.errors import InsecureKey, KeyUnavailable, Tampered
from vcstack.crypto.masterkey import NONCE_BYTES, TAG_BYTES

T = TypeVar("T")

ID_BYTES: Final = 16
# What a session answers when the token was pulled, restarted, or logged out by somebody else.
_LOST: Final = (
    faults.SessionHandleInvalid,
    faults.SessionClosed,
    faults.UserNotLoggedIn,
    faults.KeyHandleInvalid,
    faults.ObjectHandleInvalid,
    faults.DeviceRemoved,
    faults.TokenNotPresent,
)
# What the library says only by a name.
_WORDS: Final[Mapping[type[Exception], str]] = {
    faults.NoSuchToken: "it has no token of that label",
    faults.PinIncorrect: "the PIN is wrong; mind that tokens lock after a few tries",
    faults.PinLocked: "the PIN is locked after too many tries; the token's security officer unlocks it",
}


@dataclass(frozen=True, slots=True)
class TokenAddress:
    """Which token."""

    module: str
    """Path of the vendor's library, e.g. /usr/lib/softhsm/libsofthsm2.so."""
    token: str
    """The token's label."""


class _Login:
    """The one session of this process with a token."""

    def __init__(self, address: TokenAddress) -> None:
        self.address = address
        self._lock = threading.RLock()  # a session does one operation at a time
        self._session: Any = None
        self._generation = 0
        self._refused_pin: str | None = None

    def run(self, pin: str, work: Callable[[Any, int], T]) -> T:
        """Do `work(session, generation)`, once more with a new session when the old one was lost."""
        with self._lock:
            try:
                return work(self._open(pin), self._generation)
            except _LOST:
                self._close()
            except (faults.PKCS11Error, OSError) as error:
                raise self._explain(error) from error
            try:
                return work(self._open(pin), self._generation)
            except (faults.PKCS11Error, OSError) as error:
                self._close()
                raise self._explain(error) from error

    def _open(self, pin: str) -> Any:
        if self._session is not None:
            return self._session
        if pin == self._refused_pin:  # trying again would lock the token
            raise KeyUnavailable(f"token {self.address.token} has refused this PIN")
        token = pkcs11.lib(self.address.module).get_token(token_label=self.address.token)
        try:
            self._session = token.open(rw=True, user_pin=pin)
        except (faults.PinIncorrect, faults.PinLenRange, faults.PinInvalid, faults.PinLocked):
            self._refused_pin = pin
            raise
        self._generation += 1
        return self._session

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.close()
            except faults.PKCS11Error:
                return  # it was lost, which is why it is closed

    def _explain(self, error: Exception) -> KeyUnavailable:
        says = _WORDS.get(type(error)) or str(error) or type(error).__name__
        return KeyUnavailable(f"token {self.address.token} ({self.address.module}): {says}")


_logins: dict[TokenAddress, _Login] = {}
_logins_lock = threading.Lock()


def _login(address: TokenAddress) -> _Login:
    with _logins_lock:
        return _logins.setdefault(address, _Login(address))


class Pkcs11MasterKey:
    """A non-extractable AES-256 key in a token; data keys are encrypted there with CKM_AES_GCM."""

    def __init__(self, address: TokenAddress, label: str, pin: str) -> None:
        """Look the key up.

        Raises:
            KeyUnavailable: no token, no such key, or the PIN is wrong.
            InsecureKey: the key could be read out of the token.
        """
        self._login = _login(address)
        self._label = label
        self._pin = pin
        self._key: Any = None
        self._generation = 0
        self._id = ""
        self._login.run(pin, self._find)

    @classmethod
    def create(cls, address: TokenAddress, label: str, pin: str) -> "Pkcs11MasterKey":
        """Make a key in the token under a label that is free.

        Raises:
            KeyUnavailable: no token, a wrong PIN, or the label is taken.
        """

        def generate(session: Any, _: int) -> None:
            _touch(session)
            found = list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: label}))
            if found:
                raise KeyUnavailable(f"token {address.token} has a key {label} already; give another label")
            session.generate_key(
                KeyType.AES, 256, id=os.urandom(ID_BYTES), label=label, store=True, template=dict(_TEMPLATE)
            )

        _login(address).run(pin, generate)
        return cls(address, label, pin)

    @property
    def id(self) -> str:
        """The CKA_ID, which was drawn at random when the key was made."""
        return self._id

    def wrap(self, data_key: bytes, associated: bytes) -> bytes:
        """Encrypt a data key for the place that `associated` names, in the token."""
        nonce = os.urandom(NONCE_BYTES)

        def encrypt(session: Any, generation: int) -> bytes:
            return nonce + bytes(self._find(session, generation).encrypt(data_key, **_gcm(nonce, associated)))

        return self._login.run(self._pin, encrypt)

    def unwrap(self, wrapped: bytes, associated: bytes) -> bytes:
        """Return the data key, decrypted in the token. Raises Tampered, KeyUnavailable."""
        if len(wrapped) < NONCE_BYTES + TAG_BYTES:
            raise Tampered("the wrapped data key is cut off")

        def decrypt(session: Any, generation: int) -> bytes:
            key = self._find(session, generation)
            try:
                return bytes(key.decrypt(wrapped[NONCE_BYTES:], **_gcm(wrapped[:NONCE_BYTES], associated)))
            except _LOST:
                raise
            except faults.PKCS11Error as error:
                # SoftHSM calls a wrong tag CKR_GENERAL_ERROR, as it would a failure of its own. A token that can
                # still decrypt what it has just encrypted is sound, so it is the ciphertext that is not.
                _probe(key)
                raise Tampered("the data key was changed, or belongs to another place or master key") from error

        return self._login.run(self._pin, decrypt)

    def _find(self, session: Any, generation: int) -> Any:
        """The key's handle, which is good for one session."""
        if self._generation == generation:
            return self._key
        token = self._login.address.token
        _touch(session)
        try:
            key = session.get_key(object_class=ObjectClass.SECRET_KEY, key_type=KeyType.AES, label=self._label)
        except faults.NoSuchKey as error:
            raise KeyUnavailable(f"token {token} has no AES key {self._label}") from error
        except faults.MultipleObjectsReturned as error:
            raise KeyUnavailable(f"token {token} has several AES keys {self._label}; labels must be unique") from error
        found = _check_key(key, self._label)
        if self._id not in ("", found):
            raise KeyUnavailable(f"key {self._label} in token {token} is another one now: {found}, it was {self._id}")
        self._key, self._id, self._generation = key, found, generation
        return key


_TEMPLATE: Final = {
    Attribute.EXTRACTABLE: False,
    Attribute.SENSITIVE: True,
    Attribute.PRIVATE: True,
    Attribute.MODIFIABLE: False,
    Attribute.ENCRYPT: True,
    Attribute.DECRYPT: True,
    Attribute.WRAP: False,
    Attribute.UNWRAP: False,
    Attribute.SIGN: False,
    Attribute.VERIFY: False,
    Attribute.DERIVE: False,
}


def _touch(session: Any) -> None:
    """Raise when the session is lost. The library's search would, too, but complain a second time on its way out."""
    session.generate_random(64)


def _gcm(nonce: bytes, associated: bytes) -> dict[str, Any]:
    return {"mechanism": Mechanism.AES_GCM, "mechanism_param": GCMParams(nonce, associated, TAG_BYTES * 8)}


def _check_key(key: Any, label: str) -> str:
    """The key's id, once it is known that nobody can read the key."""
    if key[Attribute.EXTRACTABLE] or not key[Attribute.SENSITIVE]:
        raise InsecureKey(f"key {label} can be read out of its token; make one that is sensitive and not extractable")
    if key.key_length != 256:
        raise InsecureKey(f"key {label} has {key.key_length} bits; 256 are needed")
    if not key.id:
        raise InsecureKey(f"key {label} has no CKA_ID; set one, so that another key of that label is noticed")
    return f"pkcs11:{key.id.hex()}"


def _probe(key: Any) -> None:
    nonce = os.urandom(NONCE_BYTES)
    sound = key.encrypt(bytes(NONCE_BYTES), **_gcm(nonce, b"probe"))
    key.decrypt(sound, **_gcm(nonce, b"probe"))
