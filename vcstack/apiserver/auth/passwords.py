"""Passwords: which are accepted (OWASP ASVS 5.0 V6.2), and how they are kept (Argon2id).

Length counts, composition does not. Nothing is cut off or changed but for Unicode's normal form C, so that
the same password typed on another keyboard is the same. What is kept is Argon2's own text with its
parameters; when these changed since, the next login hashes anew.
"""

import asyncio
import os
import unicodedata
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type
from prometheus_client import Histogram

from vcstack.apiserver.auth.commonpasswords import is_common
from vcstack.specs.errors import Cause, ErrorDetails, Invalid, Unavailable

MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 256
"""In characters. Longer ones are refused, not cut."""
PRODUCT_WORDS: Final = ("vcstack", "vcctl", "vc stack")
HASH_SECONDS = Histogram(
    "vcstack_password_hash_seconds", "Time of one Argon2id hash or check, by which logins are slow on purpose."
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class HashingSettings:
    """Argon2id's parameters, and how many hashes are made at once."""

    memory_kib: int = 47104
    passes: int = 2
    """With 46 MiB OWASP's Password Storage Cheat Sheet asks for one pass."""
    lanes: int = 1
    """Logins run beside each other, so one of them needs no more than one thread."""
    at_once: int = max(1, min(4, (os.cpu_count() or 2) // 2))
    """Threads: half of the cores at most, the rest is for those who are in. Memory: at_once x memory_kib."""
    waiting: int = 64
    """Who comes when so many wait is told to come again."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a check."""

    matches: bool
    outdated: bool = False
    """Hashed with other parameters than today's."""


class Passwords:
    """Hashes and checks passwords in threads of its own."""

    def __init__(self, settings: HashingSettings | None = None) -> None:
        self.settings = settings or HashingSettings()
        made = self.settings
        self._hasher = PasswordHasher(made.passes, made.memory_kib, made.lanes, type=Type.ID)
        self._threads = ThreadPoolExecutor(made.at_once, thread_name_prefix="password")
        self._pending = 0
        # For names that nobody has: checking against it takes as long as against a real one.
        self._nobody = self._hasher.hash("nobody has this password")

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """Return what is kept of the password. Raises Unavailable when too many wait."""
        return await self._in_thread(lambda: self._hasher.hash(_encode(password)))

    async def check(self, kept: str | None, password: str) -> Verdict:
        """Return whether it is that password; the same work is done when nothing is kept.

        Raises:
            Unavailable: too many wait.
        """
        usable = kept is not None and len(password) <= MAX_LENGTH
        against = kept if kept is not None and usable else self._nobody
        given = _encode(password[:MAX_LENGTH])
        matches = await self._in_thread(lambda: self._matches(against, given))
        if not usable or not matches:
            return Verdict(False)
        return Verdict(True, self._hasher.check_needs_rehash(against))

    def _matches(self, kept: str, given: bytes) -> bool:
        try:
            return self._hasher.verify(kept, given)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._pending >= self.settings.at_once + self.settings.waiting:
            details = ErrorDetails(retry_after_seconds=2)
            raise Unavailable("too many logins at once; try again in some seconds", details=details)
        self._pending += 1
        task = asyncio.get_running_loop().run_in_executor(self._threads, HASH_SECONDS.time()(work))
        task.add_done_callback(self._done)
        return await task

    def _done(self, _: object) -> None:
        self._pending -= 1


def normalize(password: str) -> str:
    """Return the password in Unicode's normal form C."""
    return unicodedata.normalize("NFC", password)


def demand_acceptable(password: str, context: Collection[str], *, field: str = "newPassword") -> None:
    """Return when the password may be set. Raises Invalid with the reason.

    Args:
        password: the wanted one.
        context: words that are easily guessed here besides the product's: the user's name.
        field: how the request calls it.
    """
    reason = find_fault(password, context)
    if reason:
        message = f"the password {reason}"
        raise Invalid(message, causes=[Cause(field=field, reason="PasswordRefused", message=message)])


def find_fault(password: str, context: Collection[str] = ()) -> str | None:
    """Return what is wrong with a new password, None when nothing is."""
    if len(password) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in password):
        return "has control characters, which not every keyboard can type"
    normal = normalize(password)
    if len(normal) < MIN_LENGTH:
        return f"is shorter than {MIN_LENGTH} characters"
    if is_common(normal, {*PRODUCT_WORDS, *context}):
        return "is one that others try first: a common one, a name, or a sequence; put three or more words together"
    return None


def _encode(password: str) -> bytes:
    return normalize(password).encode("utf-8", "surrogatepass")
