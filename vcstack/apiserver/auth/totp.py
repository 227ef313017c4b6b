"""The second factor: time-based one-time passwords (RFC 6238) and recovery codes.

Pure functions over the MfaRecord. That a code counts once, also over replicas, comes from writing the record
back by compare-and-swap with the step that was used.
"""

import base64
import re
import secrets
from datetime import datetime, timedelta
from typing import Final

import pyotp

from vcstack.apiserver.auth.records import MfaRecord, digest_of, equal

ISSUER: Final = "VC Stack"
STEP_SECONDS: Final = 30
WINDOW: Final = 1
"""Steps before and after the present one that are accepted, for clocks that differ."""
RECOVERY_CODES: Final = 10
RECOVERY_BYTES: Final = 15
"""120 bits: from 112 on a fast hash is enough (ASVS 5.0 V6.5.2). In base32: 24 characters, six groups."""
FREE_FAILURES: Final = 10
LONGEST_WAIT: Final = timedelta(hours=1)
_CODE: Final = re.compile(r"[0-9]{6}")


def new_totp_secret() -> str:
    """Return a secret of 160 bits, base32."""
    return pyotp.random_base32()


def build_uri(secret: str, user: str, issuer: str = ISSUER) -> str:
    """Return the otpauth:// address that an authenticator reads from a QR code."""
    return pyotp.TOTP(secret, interval=STEP_SECONDS).provisioning_uri(name=user, issuer_name=issuer)


def find_step(secret: str, code: str, now: datetime, *, after: int = 0) -> int | None:
    """Return the time step that the code belongs to, None when it is wrong or its step was used before."""
    digits = code.replace(" ", "")
    if not _CODE.fullmatch(digits):
        return None
    totp = pyotp.TOTP(secret, interval=STEP_SECONDS)
    present = int(now.timestamp()) // STEP_SECONDS
    found = None
    for step in range(present - WINDOW, present + WINDOW + 1):
        # All are compared, so that time does not tell which one it was.
        if step >= 0 and equal(totp.generate_otp(step), digits) and step > after:
            found = step
    return found


def new_recovery_codes() -> list[str]:
    """Return codes that replace the second factor, each once."""
    made = (base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES))
    return ["-".join(code[i : i + 4] for i in range(0, len(code), 4)) for code in made]


def recovery_digest(code: str) -> str:
    """Return what is kept of a recovery code; case, blanks and dashes do not count."""
    return digest_of(re.sub(r"[\s-]", "", code[:128]).lower())


def use_code(record: MfaRecord, code: str, now: datetime) -> MfaRecord | None:
    """Return the record with the code used up, None when the code is not good.

    Args:
        record: of a user who is enrolled.
        code: six digits, or a recovery code.
        now: the time.
    """
    forgiven = {"failures": 0, "refused_until": None}
    step = find_step(record.secret, code, now, after=record.last_step) if record.secret else None
    if step is not None:
        return record.model_copy(update={"last_step": step, **forgiven})
    digest = recovery_digest(code)
    left = [kept for kept in record.recovery if not equal(kept, digest)]
    if len(left) < len(record.recovery):
        return record.model_copy(update={"recovery": left, **forgiven})
    return None


def note_failure(record: MfaRecord, now: datetime) -> MfaRecord:
    """Return the record after a wrong code: from the tenth on devices that are not known have to wait.

    Only who knows the password gets here, so this locks nobody out for a stranger.
    """
    failures = record.failures + 1
    until = record.refused_until
    if failures >= FREE_FAILURES:
        wait = timedelta(seconds=30 * 2 ** min(failures - FREE_FAILURES, 16))
        until = now + min(wait, LONGEST_WAIT)
    return record.model_copy(update={"failures": failures, "refused_until": until})
