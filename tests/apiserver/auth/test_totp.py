"""One-time codes: RFC 6238's own vectors, the window, single use, recovery codes, and waiting after failures."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.manual_clock import BEGINNING
from vcstack.apiserver.auth.records import MfaRecord
from vcstack.apiserver.auth.totp import (
    RECOVERY_CODES,
    build_uri,
    find_step,
    new_recovery_codes,
    new_totp_secret,
    note_failure,
    recovery_digest,
    use_code,
)

RFC_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
"""RFC 6238, appendix B: the ASCII text 12345678901234567890."""


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_the_codes_are_those_of_the_rfc(seconds: int, code: str) -> None:
    assert find_step(RFC_SECRET, code, datetime.fromtimestamp(seconds, UTC)) == seconds // 30


@pytest.mark.parametrize(
    ("shift", "good"), [(-3600, False), (-60, False), (-30, True), (0, True), (30, True), (60, False), (3600, False)]
)
def test_a_code_of_the_step_before_or_after_is_good_and_no_other(shift: int, good: bool) -> None:
    secret = new_totp_secret()
    code = pyotp.TOTP(secret).at(BEGINNING + timedelta(seconds=shift))
    assert (find_step(secret, code, BEGINNING) is not None) is good


@pytest.mark.parametrize(
    "code",
    ["", "28708", "2870822", "\uff12\uff18\uff17\uff10\uff18\uff12", "-87082", "0x1234", "abcdef", "\0" * 6],
)
def test_what_is_no_code_is_wrong(code: str) -> None:
    assert find_step(RFC_SECRET, code, datetime.fromtimestamp(59, UTC)) is None


def test_a_code_may_be_typed_in_two_groups() -> None:
    assert find_step(RFC_SECRET, "287 082", datetime.fromtimestamp(59, UTC)) == 1


def test_a_step_counts_once_and_older_ones_no_more() -> None:
    secret = new_totp_secret()
    record = MfaRecord(secret=secret)
    code = pyotp.TOTP(secret).at(BEGINNING)
    before = pyotp.TOTP(secret).at(BEGINNING - timedelta(seconds=30))
    used = use_code(record, code, BEGINNING)
    assert used is not None
    for again in (code, before):
        assert use_code(used, again, BEGINNING + timedelta(seconds=1)) is None
    after = BEGINNING + timedelta(seconds=30)
    assert use_code(used, pyotp.TOTP(secret).at(after), after) is not None


def test_a_clock_set_back_does_not_make_used_codes_good_again() -> None:
    secret = new_totp_secret()
    used = use_code(MfaRecord(secret=secret), pyotp.TOTP(secret).at(BEGINNING), BEGINNING)
    assert used is not None
    back = BEGINNING - timedelta(hours=1)
    assert use_code(used, pyotp.TOTP(secret).at(back), back) is None


def test_each_recovery_code_replaces_the_factor_once() -> None:
    codes = new_recovery_codes()
    assert len(set(codes)) == RECOVERY_CODES == 10
    record = MfaRecord(secret=new_totp_secret(), recovery=[recovery_digest(code) for code in codes])
    for i, code in enumerate(codes):
        used = use_code(record, code.upper().replace("-", " "), BEGINNING)
        assert used is not None
        assert len(used.recovery) == RECOVERY_CODES - 1 - i
        assert use_code(used, code, BEGINNING) is None
        record = used


def test_recovery_codes_have_the_entropy_for_which_a_fast_hash_is_enough() -> None:
    code = new_recovery_codes()[0]
    assert len(code.replace("-", "")) * 5 >= 112
    assert code.replace("-", "") not in recovery_digest(code)


def test_the_address_is_what_authenticators_read_and_fits_a_qr_code() -> None:
    secret = new_totp_secret()
    uri = urlsplit(build_uri(secret, "alice"))
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert uri.path == "/VC%20Stack:alice"
    assert parse_qs(uri.query) == {"secret": [secret], "issuer": ["VC Stack"]}
    assert len(secret) * 5 >= 160
    assert segno.make(uri.geturl(), error="m").symbol_size()[0] < 80


def test_the_first_nine_failures_cost_nothing_and_the_next_ones_ever_more() -> None:
    record, now = MfaRecord(secret=new_totp_secret()), BEGINNING
    for _ in range(9):
        record = note_failure(record, now)
    assert record.refused_until is None
    waits = []
    for _ in range(12):
        record = note_failure(record, now)
        assert record.refused_until is not None
        waits.append((record.refused_until - now).total_seconds())
    assert waits[:3] == [30, 60, 120]
    assert waits[-1] == 3600


@given(st.text(max_size=40))
def test_no_text_is_a_code_by_accident(text: str) -> None:
    record = MfaRecord(secret=RFC_SECRET, recovery=[recovery_digest(code) for code in new_recovery_codes()])
    now = datetime.fromtimestamp(59, UTC)
    good = {pyotp.TOTP(RFC_SECRET).at(now + timedelta(seconds=s)) for s in (-30, 0, 30)}
    assert (use_code(record, text, now) is not None) == (text.replace(" ", "") in good)
