"""Whether logins by an identity provider would work, found out without anybody's login."""

from vcstack.apiserver.auth.ldapconnection import LdapConnections
from vcstack.apiserver.auth.ldapdirectory import LdapDirectories
from vcstack.apiserver.auth.ldaplogins import own_account, telling
from vcstack.apiserver.auth.oidcprovider import OidcProviders, ProviderClient
from vcstack.apiserver.auth.providerfaults import ProviderFailed
from vcstack.clock import Clock
from vcstack.outbound.client import OutboundClient
from vcstack.runtime.errors import BackendRefused, BackendUnavailable
from vcstack.specs.kinds.identityprovider import IdentityProvider, LDAPProvider, OIDCProvider
from vcstack.store.store import Store


class ProviderProbes:
    """Asks providers what logins ask them first. ``close`` at the end."""

    def __init__(self, store: Store, outbound: OutboundClient, clock: Clock) -> None:
        self._store = store
        self._outbound = outbound
        self._clock = clock
        self._directories = LdapDirectories(LdapConnections(outbound))

    def close(self) -> None:
        """Let the threads end."""
        self._directories.close()

    async def ask(self, provider: IdentityProvider) -> None:
        """Return when logins would work.

        Raises:
            BackendUnavailable: it does not answer.
            BackendRefused: it does, but not as it should.
        """
        spec = provider.spec
        try:
            if spec.oidc is not None:
                await self._read_documents(provider.metadata.name, spec.oidc)
            if spec.ldap is not None:
                await self._bind(provider, spec.ldap)
        except ProviderFailed as error:
            raise (BackendUnavailable if error.away else BackendRefused)(error.why) from error

    async def _read_documents(self, name: str, oidc: OIDCProvider) -> None:
        client = ProviderClient(name=name, issuer=oidc.issuer_url, client_id=oidc.client_id, client_secret=None)
        # One that has kept nothing: it is what the provider says now that counts.
        await OidcProviders(self._outbound, self._clock).keys(client)

    async def _bind(self, provider: IdentityProvider, directory: LDAPProvider) -> None:
        own = await own_account(self._store, provider, directory)
        with telling(provider.metadata.name):
            await self._directories.try_own(directory, own)
