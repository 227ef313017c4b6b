"""Logging in, and everything about it that a user does: the one place that puts the steps in order.

    login ──► Tokens
      │  ──► Challenge VerifyMFA    ──► verify_mfa ──────────► Tokens
      │  ──► Challenge EnrolMFA     ──► enrol, confirm ──────► Tokens (and recovery codes)
      └─ ──► Challenge SetPassword  ──► set_password ────────► as after a login
    vouch ─► Tokens, VerifyMFA, EnrolMFA: an identity provider's word instead of a password

Whether a user exists, is disabled, logs in elsewhere or has no password: the answer to a wrong login is the
same text, after the same work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from vcstack.apiclient.authmessages import ChallengeKind
from vcstack.apiserver.audit.entry import note_attempt, note_caller
from vcstack.apiserver.auth.challenges import NOT_VALID, Challenge, Challenges
from vcstack.apiserver.auth.devices import find_device, new_device_token
from vcstack.apiserver.auth.directory import Account, Directory
from vcstack.apiserver.auth.records import ChallengeRecord, PasswordRecord, digest_of
from vcstack.apiserver.auth.secondfactor import Enrolment, SecondFactors
from vcstack.apiserver.auth.sessions import Client, Sessions, Tokens, Vouched
from vcstack.apiserver.auth.throttle import Throttle
from vcstack.apiserver.auth.tokens import Access
from vcstack.apiserver.auth.userpasswords import WRONG, IssuedSecret, UserPasswords, stamp_of
from vcstack.clock import Clock
from vcstack.specs.errors import ApiError, Conflict, Forbidden, NotFound, Unauthorized
from vcstack.specs.kinds.identityprovider import SecondFactor

logger = structlog.get_logger(__name__)

PASSWORD: Final = "pwd"  # noqa: S105 (a word of RFC 8176, no password)
CODE: Final = "otp"
MULTIPLE: Final = "mfa"
FRESH: Final = timedelta(minutes=10)
"""How young the login has to be of who changes a second factor and has no password here to prove it again with."""
Result = Tokens | Challenge


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A second factor counts from now on."""

    recovery_codes: list[str]
    """Shown once."""
    tokens: Tokens | None = None
    """When it was the last step of a login."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginParts:
    """What logging in is made of."""

    directory: Directory
    passwords: UserPasswords
    factors: SecondFactors
    challenges: Challenges
    sessions: Sessions
    throttle: Throttle
    clock: Clock


class LoginService:
    """The steps. All raise Unauthorized for what is not good, and Unavailable while the store does not answer."""

    def __init__(self, parts: LoginParts) -> None:
        self._parts = parts

    async def login(self, user: str, password: str, client: Client) -> Result:
        """Return tokens, or what is left to do. Raises TooManyRequests after too many failures."""
        account, record, initial = await self._prove(user, password, client)
        if initial:
            kind = ChallengeKind.SET_PASSWORD
            return await self._parts.challenges.begin(kind, account, [], stamp_of(record), initial)
        return await self._go_on(account, record, client)

    async def set_password(self, challenge: str, new_password: str, client: Client) -> Result:
        """Set the first password after a login with a one-time secret; return as ``login``. Raises Invalid."""
        step, account, _ = await self._resume(challenge, ChallengeKind.SET_PASSWORD)
        record = await self._parts.passwords.set(account, new_password, initial=step.initial)
        await self._parts.challenges.complete(challenge)
        await self._parts.directory.end_sessions(account)
        return await self._go_on(account, record, client)

    async def verify_mfa(self, challenge: str, code: str, client: Client) -> Tokens:
        """Complete a login by a code. Raises TooManyRequests after too many wrong ones."""
        step, account, record = await self._resume(challenge, ChallengeKind.VERIFY_MFA)
        await self._use_code(account, record, code, client)
        await self._parts.challenges.complete(challenge)
        return await self._complete(account, record, _with_code(step), client, vouched=_vouched(step), enrolled=True)

    async def begin_enrolment(self, challenge: str) -> Enrolment:
        """Return a second factor's secret, in a login that demands one."""
        _, account, _ = await self._resume(challenge, ChallengeKind.ENROL_MFA)
        await self._demand_not_enrolled(account)
        return await self._parts.factors.begin(account)

    async def confirm_enrolment(self, challenge: str, code: str, client: Client) -> Enrolled:
        """Complete a login by the first code of a new second factor."""
        step, account, record = await self._resume(challenge, ChallengeKind.ENROL_MFA)
        await self._demand_not_enrolled(account)
        codes = await self._parts.factors.confirm(account, code)
        await self._parts.challenges.complete(challenge)
        tokens = await self._complete(account, record, _with_code(step), client, vouched=_vouched(step), enrolled=True)
        return Enrolled(recovery_codes=codes, tokens=tokens)

    async def vouch(
        self, account: Account, methods: list[str], vouched: Vouched, factor: SecondFactor, client: Client
    ) -> Result:
        """Return what comes after an identity provider's word for the user.

        Args:
            account: the user, who may log in.
            methods: how it was proven there, as RFC 8176 calls it.
            vouched: what the provider says.
            factor: whose second factor counts for its users.
            client: who is at the other end.

        Raises:
            Unauthorized: a second factor is demanded that had to be asked for there, and was not.
        """
        if factor is SecondFactor.OURS:
            methods = [method for method in methods if method != MULTIPLE]
        done = MULTIPLE in methods
        enrolled = None if done or factor is SecondFactor.THEIRS else await self._parts.factors.is_enrolled(account)
        if done or not (enrolled or account.mfa_required):
            return await self._complete(account, None, methods, client, vouched=vouched, enrolled=enrolled)
        if enrolled is None:
            raise Unauthorized("this user needs a second factor, and the identity provider did not ask for one")
        kind = ChallengeKind.VERIFY_MFA if enrolled else ChallengeKind.ENROL_MFA
        return await self._parts.challenges.begin(kind, account, methods, stamp_of(None), vouched=vouched)

    async def refresh(self, refresh_token: str, client: Client) -> Tokens:
        """Return new tokens; the refresh token is used up, and using it again later ends the session."""
        return await self._parts.sessions.refresh(refresh_token, client)

    async def logout(self, refresh_token: str) -> None:
        """End the session of the refresh token."""
        await self._parts.sessions.end_by_token(refresh_token)

    async def logout_session(self, access: Access) -> None:
        """End the session of an access token."""
        await self._parts.sessions.end(access.session)

    async def change_password(self, access: Access, password: str, new_password: str, client: Client) -> None:
        """Set another password, by the present one; all other sessions end. Raises Invalid, TooManyRequests."""
        account, record = await self._prove_again(access, password, client)
        kept = record.password
        assert kept is not None  # it has just been proven
        await self._parts.passwords.set(account, new_password, replaces=kept)
        await self._parts.directory.end_sessions(account, keep=access.session)
        await self._note(account, password_set_at=self._parts.clock.now())
        logger.info("password changed", user=account.name)

    async def enrol(self, access: Access, password: str, code: str, client: Client) -> Enrolment:
        """Return a new second factor's secret, by the password and, when there is one, the present factor.

        Users of identity providers have no password here: their login has to be fresh.
        """
        account = await self._prove_fully(access, password, code, client)
        return await self._parts.factors.begin(account)

    async def confirm(self, access: Access, code: str) -> Enrolled:
        """Make the new second factor count, by its first code."""
        account = await self._account_of(access.user, access.uid)
        codes = await self._parts.factors.confirm(account, code)
        await self._note(account, mfa_enrolled=True)
        logger.info("second factor enrolled", user=account.name)
        return Enrolled(recovery_codes=codes)

    async def renew_recovery_codes(self, access: Access, password: str, code: str, client: Client) -> list[str]:
        """Return new recovery codes; the old ones end."""
        account = await self._prove_fully(access, password, code, client)
        return await self._parts.factors.renew_recovery_codes(account)

    async def disable_mfa(self, access: Access, password: str, code: str, client: Client) -> None:
        """Log in without a second factor from now on. Raises Forbidden where it is demanded."""
        account = await self._prove_fully(access, password, code, client)
        if account.mfa_required:
            raise Forbidden("this user has to have a second factor; enrol another one instead")
        await self._parts.factors.remove(account)
        await self._note(account, mfa_enrolled=False)
        logger.info("second factor removed", user=account.name)

    async def issue_initial_secret(self, user: str) -> IssuedSecret:
        """Return a one-time secret, shown once, with which the user sets a password.

        For administrators, who never learn or choose a password. The present password and all sessions end;
        the second factor stays. Raises NotFound, Conflict.
        """
        account = await self._local(user)
        issued = await self._parts.passwords.issue(account)
        await self._parts.directory.end_sessions(account)
        return issued

    async def reset_mfa(self, user: str) -> None:
        """Forget a user's second factor, for administrators; all sessions end. Raises NotFound."""
        account = await self._parts.directory.find_user(user)
        if account is None:
            raise NotFound(f"there is no user {user!r}")
        await self._parts.factors.remove(account)
        await self._parts.directory.end_sessions(account)
        await self._note(account, mfa_enrolled=False)

    async def _prove(self, user: str, password: str, client: Client) -> tuple[Account, PasswordRecord | None, str]:
        """Return who it is; the text is the one-time secret's digest when that was shown. Raises Unauthorized."""
        note_attempt(user)
        parts = self._parts
        found = await parts.directory.find_user(user)
        account = found if found is not None and found.enabled and found.local else None
        record = await parts.passwords.find(account)
        device = find_device(record, client.device)
        with parts.throttle.attempt(digest_of(user), client.address, device=device) as attempt:
            outcome = await parts.passwords.check(account, record, password)
            if account is None or not (outcome.password or outcome.initial):
                logger.info("login refused", user=account.name if account else "unknown", client=client.address)
                raise Unauthorized(WRONG)
            attempt.succeed()
        return account, outcome.record, outcome.initial

    async def _prove_again(self, access: Access, password: str, client: Client) -> tuple[Account, PasswordRecord]:
        account, record, initial = await self._prove(access.user, password, client)
        if account.uid != access.uid or record is None or initial:
            raise Unauthorized(WRONG)
        return account, record

    async def _prove_first(
        self, access: Access, password: str, client: Client
    ) -> tuple[Account, PasswordRecord | None]:
        """Return who it is, by the password or, of who has none here, by a login of just now."""
        account = await self._account_of(access.user, access.uid)
        if account.local:
            return await self._prove_again(access, password, client)
        began = await self._parts.sessions.find_beginning(access.session)
        if began is None or self._parts.clock.now() - began >= FRESH:
            minutes = int(FRESH.total_seconds() // 60)
            raise Forbidden(f"log in anew first: this is possible within {minutes} minutes of a login only")
        return account, None

    async def _prove_fully(self, access: Access, password: str, code: str, client: Client) -> Account:
        account, record = await self._prove_first(access, password, client)
        if await self._parts.factors.is_enrolled(account):
            await self._use_code(account, record, code, client)
        return account

    async def _use_code(self, account: Account, record: PasswordRecord | None, code: str, client: Client) -> None:
        """Use a code of the second factor up. Raises Unauthorized, TooManyRequests.

        Wrong ones of all others do not make a known device wait, so it waits for its own.
        """
        parts, device = self._parts, find_device(record, client.device)
        if not device:
            await parts.factors.use(account, code, known_device=False)
            return
        with parts.throttle.attempt(f"code/{account.uid}", client.address, device=device) as attempt:
            await parts.factors.use(account, code, known_device=True)
            attempt.succeed()

    async def _go_on(self, account: Account, record: PasswordRecord | None, client: Client) -> Result:
        """Return what comes after the password."""
        enrolled = await self._parts.factors.is_enrolled(account)
        if not enrolled and not account.mfa_required:
            return await self._complete(account, record, [PASSWORD], client, enrolled=False)
        kind = ChallengeKind.VERIFY_MFA if enrolled else ChallengeKind.ENROL_MFA
        return await self._parts.challenges.begin(kind, account, [PASSWORD], stamp_of(record))

    async def _resume(
        self, challenge: str, kind: ChallengeKind
    ) -> tuple[ChallengeRecord, Account, PasswordRecord | None]:
        step = await self._parts.challenges.use(challenge, kind)
        account = await self._account_of(step.user, step.uid)
        record = await self._parts.passwords.find(account)
        if stamp_of(record) != step.stamp:
            raise Unauthorized(NOT_VALID)
        return step, account, record

    async def _complete(
        self,
        account: Account,
        record: PasswordRecord | None,
        methods: list[str],
        client: Client,
        *,
        vouched: Vouched | None = None,
        enrolled: bool | None,
    ) -> Tokens:
        device = new_device_token(record) if record else ""
        tokens = await self._parts.sessions.begin(account, methods, client, device, vouched)
        # Whoever sets or resets a password ends all sessions after it: one that begins meanwhile with the password
        # before is seen by them, or sees here that it is not the password any more.
        if stamp_of(await self._parts.passwords.find(account)) != stamp_of(record):
            await self._parts.sessions.end(tokens.session)
            raise Unauthorized(WRONG)
        note_caller(f"user:{account.name}", session=tokens.session)
        await self._note(
            account,
            last_login_at=self._parts.clock.now(),
            password_set_at=record.set_at if record else None,
            mfa_enrolled=enrolled,
            groups=vouched.groups if vouched else None,
        )
        provider = {"provider": vouched.voucher.provider} if vouched else {}
        logger.info(
            "login", user=account.name, session=tokens.session, client=client.address, methods=methods, **provider
        )
        return tokens

    async def _demand_not_enrolled(self, account: Account) -> None:
        if await self._parts.factors.is_enrolled(account):
            raise Unauthorized(NOT_VALID)

    async def _account_of(self, user: str, uid: str) -> Account:
        """Return the user, who must be the very one that logged in."""
        account = await self._parts.directory.find_user(user) if user else None
        if account is None or account.uid != uid or not account.enabled:
            raise Unauthorized(NOT_VALID)
        note_caller(f"user:{account.name}")
        return account

    async def _local(self, user: str) -> Account:
        account = await self._parts.directory.find_user(user)
        if account is None:
            raise NotFound(f"there is no user {user!r}")
        if not account.local:
            raise Conflict(f"{user} logs in by an identity provider; the password is set there")
        return account

    async def _note(self, account: Account, **observed: datetime | bool | Sequence[str] | None) -> None:
        """Write into the user's status; the next login writes it again, so a failure does no harm."""
        fields: dict[str, Any] = observed
        try:
            await self._parts.directory.note_user(account, **fields)
        except ApiError as error:
            logger.warning("the user's status could not be written", user=account.name, error=error.message)


def _with_code(step: ChallengeRecord) -> list[str]:
    """Return what a login has proven that ends with a code of ours."""
    return [*dict.fromkeys([*step.methods, CODE, MULTIPLE])]


def _vouched(step: ChallengeRecord) -> Vouched | None:
    return Vouched(step.voucher, step.groups) if step.voucher is not None else None
