"""What the programs refuse to start with: secrets that others can read or guess, and connections without TLS.

Here is what both share, and vc-compute's part. Each sentence names the file or field, and what to do; all faults are
told at once.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from vcstack.crypto.errors import CryptoError, KeyUnavailable
from vcstack.crypto.private import read_private
from vcstack.nodeagent.settings import Settings


class Unsafe(Exception):
    """It would not be safe to start; each line says why, and what to do."""


def demand_safe_compute(settings: Settings) -> None:
    """Return if vc-compute may start with these settings. Raises Unsafe."""
    demand_none(list(_faults_of(settings)))


def demand_none(faults: Sequence[str]) -> None:
    """Return if there are no faults. Raises Unsafe."""
    if faults:
        raise Unsafe("it would not be safe to start:\n" + "\n".join(f"  {fault}" for fault in faults))


def find_readable(field: str, path: Path | None) -> Iterator[str]:
    """Yield what is wrong with who may read a secret's file; one that is missing is told by who needs it."""
    if path is None:
        return
    try:
        read_private(path)
    except KeyUnavailable:
        return
    except CryptoError as error:
        yield f"{field}: {error}"


def find_plain_remotes(field: str, remotes: str) -> Iterator[str]:
    """Yield which of OVSDB's remotes are reached without TLS."""
    for remote in remotes.split(","):
        scheme, _, address = remote.strip().partition(":")
        if scheme == "tcp" and not is_loopback(host_of(address)):
            yield f"{field}: {remote.strip()} is not on this machine; write ssl: instead of tcp:, or unix:PATH"


def host_of(address: str) -> str:
    """Return the host of HOST:PORT."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, as far as its name says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _faults_of(settings: Settings) -> Iterator[str]:
    yield from find_readable("joinTokenFile", settings.join_token_file)
    yield from find_readable("stateDir", settings.state_dir / "host.key")
    if urlsplit(settings.api_url).scheme != "https":
        yield f"apiUrl: {settings.api_url} is no https address; the API is served with TLS only"
    if settings.metrics_listen and not is_loopback(host_of(settings.metrics_listen)):
        yield (
            f"metricsListen: {settings.metrics_listen} can be reached from elsewhere, and there is no TLS; write "
            "127.0.0.1:PORT and put a proxy with TLS in front of it"
        )
    yield from find_plain_remotes("ovsdb", settings.ovsdb)
    if settings.ovn is not None:
        yield from find_plain_remotes("ovn.remote", settings.ovn.remote)
    uri = urlsplit(settings.libvirt_uri)
    if uri.scheme.endswith("+tcp") and not is_loopback(uri.hostname or ""):
        yield f"libvirtUri: {settings.libvirt_uri} is not on this machine; write {uri.scheme.removesuffix('tcp')}tls://"
