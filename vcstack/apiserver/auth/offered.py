"""Which identity providers people may choose before anybody knows who they are.

Only those that say so, of these the three fields below, and nothing else: strangers read it. Who may write providers of
one domain only must not put anything on everybody's page, where it could pass for the cloud's own: a provider of a
domain is shown to who came for that domain.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from vcstack.apiclient.authmessages import OfferedProvider
from vcstack.specs.kinds.identityprovider import IdentityProvider, ProviderType
from vcstack.specs.registry import get_kind
from vcstack.store.cache import WatchCache

MOST: Final = 100
"""More than anybody would look through."""


class OfferedProviders:
    """Looks them up in the watch cache; objects are decoded when one has changed."""

    def __init__(self, cache: WatchCache) -> None:
        self._table = cache.table(get_kind(IdentityProvider.KIND))
        self._seen: tuple[object, int] = (None, -1)
        self._by_domain: Mapping[str | None, Sequence[OfferedProvider]] = {}

    def find(self, domain: str | None = None) -> list[OfferedProvider]:
        """Return those of the whole cloud and of the domain, by name. A domain that is not there has none."""
        if self._seen[1] != self._table.revision or self._seen[0] is not self._table.objects:
            self._read()
        found = [*self._by_domain.get(None, ()), *(self._by_domain.get(domain, ()) if domain else ())]
        return sorted(found, key=lambda each: each.name)[:MOST]

    def _read(self) -> None:
        self._seen = (self._table.objects, self._table.revision)
        found: dict[str | None, list[OfferedProvider]] = {}
        for entry in self._table.objects.values():
            wire = orjson.loads(entry.json)
            metadata, spec = wire["metadata"], wire["spec"]
            if spec.get("offered") and spec.get("enabled", True) and "deletionTimestamp" not in metadata:
                offered = OfferedProvider(
                    name=metadata["name"], display_name=spec.get("displayName", ""), type=ProviderType(spec["type"])
                )
                found.setdefault(spec.get("domain"), []).append(offered)
        self._by_domain = found
