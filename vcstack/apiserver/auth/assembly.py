"""Logging in, put together: everything that one API server needs of it."""

from dataclasses import dataclass, field

from vcstack.apiserver.auth.apikeys import ApiKeys
from vcstack.apiserver.auth.challenges import Challenges
from vcstack.apiserver.auth.commonpasswords import load_common
from vcstack.apiserver.auth.external import ExternalUsers
from vcstack.apiserver.auth.ldapconnection import LdapConnections
from vcstack.apiserver.auth.ldapdirectory import LdapDirectories
from vcstack.apiserver.auth.ldaplogins import LdapLogins
from vcstack.apiserver.auth.ldaproutes import LdapRoutes
from vcstack.apiserver.auth.login import LoginParts, LoginService
from vcstack.apiserver.auth.offered import OfferedProviders
from vcstack.apiserver.auth.oidc import OidcLogins
from vcstack.apiserver.auth.oidcprovider import OidcProviders
from vcstack.apiserver.auth.oidcroutes import OidcRoutes
from vcstack.apiserver.auth.passwords import HashingSettings, Passwords
from vcstack.apiserver.auth.routes import AuthRoutes
from vcstack.apiserver.auth.sealing import Seals
from vcstack.apiserver.auth.secondfactor import SecondFactors
from vcstack.apiserver.auth.sessions import Sessions
from vcstack.apiserver.auth.signing import SigningKeys, SigningSettings
from vcstack.apiserver.auth.stored import StoredDirectory
from vcstack.apiserver.auth.throttle import Throttle, ThrottleSettings
from vcstack.apiserver.auth.tokens import AccessTokens, TokenSettings
from vcstack.apiserver.auth.userpasswords import UserPasswords
from vcstack.apiserver.auth.vouching import ProviderVouching
from vcstack.clock import Clock
from vcstack.outbound.client import OutboundClient, OutboundSettings
from vcstack.store.credentials import Credentials
from vcstack.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """What an operator may turn."""

    tokens: TokenSettings
    signing: SigningSettings = field(default_factory=SigningSettings)
    hashing: HashingSettings = field(default_factory=HashingSettings)
    throttle: ThrottleSettings = field(default_factory=ThrottleSettings)
    outbound: OutboundSettings = field(default_factory=OutboundSettings)
    """Of requests to identity providers."""


class Auth:
    """The services. ``start`` first; ``run`` beside the server; ``close`` at the end."""

    def __init__(self, store: Store, credentials: Credentials, clock: Clock, settings: AuthSettings) -> None:
        self.credentials = credentials
        self.directory = StoredDirectory(store)
        self.signing = SigningKeys(credentials, clock, settings.signing)
        self.tokens = AccessTokens(self.signing, clock, settings.tokens)
        self.sessions = Sessions(credentials, self.directory, self.tokens, clock, store.cache.setting_book)
        self.throttle = Throttle(clock, settings.throttle)
        self.keys = ApiKeys(credentials, self.directory, self.tokens, self.throttle, clock)
        self._passwords = Passwords(settings.hashing)
        self.user_passwords = UserPasswords(credentials, self._passwords, clock)
        parts = LoginParts(
            directory=self.directory,
            passwords=self.user_passwords,
            factors=SecondFactors(credentials, clock),
            challenges=Challenges(credentials, clock),
            sessions=self.sessions,
            throttle=self.throttle,
            clock=clock,
        )
        self.login = LoginService(parts)
        self._outbound = OutboundClient(settings.outbound)
        users = ExternalUsers(store, self.directory, self.login)
        self.oidc = OidcLogins(
            store,
            OidcProviders(self._outbound, clock),
            users,
            Seals(credentials, clock),
            self.throttle,
            clock,
            settings.tokens.issuer,
        )
        self._directories = LdapDirectories(LdapConnections(self._outbound))
        self.ldap = LdapLogins(store, self._directories, users, self.throttle, clock)
        self.sessions.vouching = ProviderVouching(store, self.oidc, self.ldap)
        more = {**OidcRoutes(self.oidc).posts, **LdapRoutes(self.ldap).posts}
        offered = OfferedProviders(store.cache)
        self.routes = AuthRoutes(self.login, self.keys, self.tokens, self.signing, self.directory, offered, more)

    async def start(self) -> None:
        """Read the signing keys, or make the first one. Raises Unavailable."""
        load_common()  # now, not while others wait for the first password that is set
        await self.signing.load()

    async def run(self) -> None:
        """Keep the signing keys fresh until cancelled."""
        await self.signing.run()

    def close(self) -> None:
        """Let the threads of hashing, directories and DNS end."""
        self._passwords.close()
        self._directories.close()
        self._outbound.close()
