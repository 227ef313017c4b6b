"""A URL that a tenant wrote, taken apart once. Only the parts are used afterwards, so no second parser can disagree."""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import urljoin

from vcstack.outbound.addresses import parse_address
from vcstack.outbound.errors import BadUrl

LONGEST: Final = 2048
_ALLOWED: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
"""RFC 3986, section 2; a backslash is none of them, and browsers take it for a slash."""
_AUTHORITY: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label of which some resolvers make an IPv4 address: 2130706433, 0x7f.1, 127.1 (WHATWG URL, 'ends in a
number')."""
_SSH: Final = re.compile(
    r"ssh://(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]{0,63})@(?P<authority>[^/]+)(?P<path>/[A-Za-z0-9_~.][A-Za-z0-9._~/+-]*)"
)
"""No word of it can be taken for an option by a program, nor for more than a word by a shell."""
SSH_PORT: Final = 22
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request goes."""

    scheme: str
    host: str
    """A DNS name in lower case, or an IP address without brackets."""
    port: int
    path: str
    """With the query, without the fragment."""

    @property
    def origin(self) -> str:
        """Return scheme, host and port as they are written, the usual port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.is_usual_port else f":{self.port}")

    @property
    def authority(self) -> str:
        """Return what the header Host says."""
        return self.origin.partition("://")[2]

    @property
    def url(self) -> str:
        """Return the URL in its one spelling."""
        return f"{self.origin}{self.path}"

    @property
    def is_usual_port(self) -> bool:
        """Return whether the port need not be written."""
        return self.port == _DEFAULT_PORTS[self.scheme]


def parse_url(text: str) -> Target:
    """Return the parts. Raises BadUrl for all that is not exactly an http or https URL of a full name or address."""
    if len(text) > LONGEST:
        raise BadUrl(f"the address has {len(text)} characters, {LONGEST} at most are taken")
    if not _ALLOWED.fullmatch(text):
        raise BadUrl("the address has characters that no URL has")
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    if scheme not in _DEFAULT_PORTS or not rest:
        raise BadUrl("the address must begin with https://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise BadUrl("the address must not have a user or password in it")
    found = _AUTHORITY.fullmatch(authority)
    if not found:
        raise BadUrl("the address has no host name that can be used")
    port = int(found["port"]) if found["port"] else _DEFAULT_PORTS[scheme]
    if not 0 < port < 65536:
        raise BadUrl(f"there is no port {port}")
    path = rest[len(authority) :].partition("#")[0]
    path = path if path.startswith("/") else f"/{path}"
    return Target(scheme=scheme, host=_host(found["host"]), port=port, path=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class SshTarget:
    """Where a repository is that is reached by SSH."""

    user: str
    host: str
    """A DNS name in lower case, or an IP address without brackets."""
    port: int
    path: str
    """On the server, beginning with a slash."""


def parse_ssh_url(text: str) -> SshTarget:
    """Return the parts of ssh://USER@HOST[:PORT]/PATH. Raises BadUrl for everything else."""
    if len(text) > LONGEST:
        raise BadUrl(f"the address has {len(text)} characters, {LONGEST} at most are taken")
    found = _SSH.fullmatch(text)
    if not found:
        raise BadUrl("the address must be like ssh://git@HOST/PATH")
    authority = _AUTHORITY.fullmatch(found["authority"])
    if not authority:
        raise BadUrl("the address has no host name that can be used")
    port = int(authority["port"]) if authority["port"] else SSH_PORT
    if not 0 < port < 65536:
        raise BadUrl(f"there is no port {port}")
    return SshTarget(user=found["user"], host=_host(authority["host"]), port=port, path=found["path"])


def url_host(text: str) -> str:
    """Return the host of a URL, for messages. Raises BadUrl."""
    return parse_url(text).host


def follow(target: Target, location: str) -> Target:
    """Return where a redirect leads. Raises BadUrl, also from https to http."""
    if len(location) > LONGEST or not _ALLOWED.fullmatch(location):
        raise BadUrl("the redirect's address has characters that no URL has")
    following = parse_url(urljoin(target.url, location))
    if target.scheme == "https" and following.scheme != "https":
        raise BadUrl("the redirect leads from https to http")
    return following


def _host(text: str) -> str:
    if text.startswith("["):
        address = parse_address(text[1:-1])
        if not isinstance(address, IPv6Address):
            raise BadUrl("what is in brackets is no IPv6 address")
        return str(address)
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        address = parse_address(name)
        if address is None:
            raise BadUrl("an IPv4 address is written as four decimal numbers")
        return str(address)
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadUrl("the address has no host name that can be used")
    if len(labels) < 2:
        raise BadUrl("the host's full name is needed, with its domain")
    return name
