"""Asks identity providers again about users who are logged in: at each refresh of a session that began there."""

from vcstack.apiserver.auth.external import find_provider
from vcstack.apiserver.auth.ldaplogins import LdapLogins
from vcstack.apiserver.auth.oidc import OidcLogins
from vcstack.apiserver.auth.records import VoucherRecord
from vcstack.apiserver.auth.sessions import Vouched
from vcstack.specs.errors import NotFound, Unauthorized
from vcstack.store.store import Store


class ProviderVouching:
    """Implements ``Vouching`` by what each kind of provider can be asked."""

    def __init__(self, store: Store, oidc: OidcLogins, ldap: LdapLogins) -> None:
        self._store = store
        self._oidc = oidc
        self._ldap = ldap

    async def renew(self, voucher: VoucherRecord) -> Vouched:
        """Return what the provider says now. Raises Unauthorized, Forbidden, Unavailable."""
        try:
            provider = await find_provider(self._store, voucher.provider, voucher.provider_uid)
        except NotFound as error:
            raise Unauthorized(f"the identity provider {voucher.provider} vouches for nobody any more") from error
        if provider.spec.ldap is not None:
            return await self._ldap.renew(provider, voucher)
        return await self._oidc.renew(provider, voucher)
