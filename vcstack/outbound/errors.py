"""What goes wrong with a request to the outside.

OutboundError
├── BadUrl          the text itself may not be used; says why
├── NotReachable    refused, or nobody answers: told alike, since the difference maps the networks inside
└── BadAnswer       there was an answer, and it is not used; says why
"""

from typing import Final

NOT_REACHABLE: Final = "cannot be reached from here, or may not be"


class OutboundError(Exception):
    """A request was not made, or its answer is not used. The text may be shown to whoever named the address."""


class BadUrl(OutboundError):
    """The address cannot be used as it is written."""


class NotReachable(OutboundError):
    """The address is refused, or nobody answers there."""

    def __init__(self, host: str, detail: str) -> None:
        super().__init__(f"{host} {NOT_REACHABLE}")
        self.detail = detail
        """What it was: for the operator's log, not for tenants."""


class BadAnswer(OutboundError):
    """The answer is too large, encoded, or a redirect that is not followed."""
