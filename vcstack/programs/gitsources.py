"""What Git sources need of the manager: the values of secrets, and the API as a service account.

Nobody's key is kept for that: each time a token is made that is good for ten minutes, and only while the GitSource is
there, not suspended, and names that very account.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.apiclient.wire import WireClient
from vcstack.apiserver.auth.signing import SigningKeys
from vcstack.apiserver.auth.tokens import AccessTokens, Bearer, TokenSettings
from vcstack.clock import Clock
from vcstack.specs.kinds.gitsource import GitSource
from vcstack.specs.kinds.secret import Secret
from vcstack.specs.kinds.serviceaccount import ServiceAccount
from vcstack.specs.registry import definition_of
from vcstack.store.credentials import Credentials
from vcstack.store.store import Store


class ManagedSourceAccess:
    """``controllers.gitsource.SourceAccess``, on the store and the API of this cloud."""

    def __init__(
        self,
        store: Store,
        credentials: Credentials,
        clock: Clock,
        *,
        issuer: str,
        api_url: str,
        ca_file: Path,
    ) -> None:
        """``issuer``: as whom the API issues tokens; ``api_url``: where it is reached from here."""
        self._store = store
        self._clock = clock
        self._keys = SigningKeys(credentials, clock)
        self._tokens = AccessTokens(self._keys, clock, TokenSettings(issuer=issuer))
        self._api_url = api_url
        self._ca_file = ca_file

    async def read_secret(self, project: str, name: str) -> Mapping[str, str]:
        """Return a Secret's values. Raises NotFound."""
        found = await self._store.reveal(definition_of(Secret), project, name)
        values: dict[str, str] = found["spec"].get("data") or {}
        return values

    @contextlib.asynccontextmanager
    async def connect(self, source: GitSource, account: ServiceAccount) -> AsyncIterator[WireClient]:
        """Give a client that speaks as the account, on behalf of the source."""
        await self._keys.load()
        project, name = account.metadata.project, account.metadata.name
        bearer = Bearer(
            subject=f"serviceaccount:{project}/{name}",
            uid=account.uid,
            source=f"{source.metadata.name}/{source.uid}",
            methods=["source"],
        )
        token, _ = self._tokens.issue(bearer)
        client = ApiClient.connect(
            ConnectionSettings(
                api_url=self._api_url,
                ca_file=self._ca_file,
                token=token,
                user_agent=f"vc-gitsource/{source.metadata.project}/{source.metadata.name}",
            )
        )
        try:
            yield client
        finally:
            await client.aclose()
