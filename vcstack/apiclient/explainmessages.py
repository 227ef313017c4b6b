"""What holds an object up and what it is connected with, as ``.../why`` and ``.../related`` answer."""

from typing import Any

from pydantic import Field

from vcstack.specs.model import Model

LINKS_SHOWN = 20
"""Objects of each kind that are told; a flavor may be used by thousands."""


class WhyFinding(Model):
    """One object on the way down to what really holds another one up."""

    kind: str
    """Its kind."""
    project: str | None = None
    """Its project, of what lies in one."""
    name: str
    """Its name."""
    sentence: str
    """What is wrong with it, or that nothing is."""
    healthy: bool
    """Whether nothing is."""
    advice: str = ""
    """What to do when this is the end of the chain."""
    path: str = ""
    """The field that led here."""
    warnings: list[str] = Field(default_factory=list)
    """The last warning events."""
    because: list["WhyFinding"] = Field(default_factory=list)
    """What is wrong below it."""

    @property
    def label(self) -> str:
        """Return the object as vcctl names it."""
        return f"{self.kind.lower()}/{self.name}"

    def causes(self) -> list["WhyFinding"]:
        """Return the ends of the chain: what is wrong and has nothing wrong below it."""
        if self.healthy:
            return []
        below = [cause for finding in self.because for cause in finding.causes()]
        return below or [self]


class WhyReply(Model):
    """What really holds an object up."""

    finding: WhyFinding
    """The object, and what is wrong below it."""


class Link(Model):
    """One other object."""

    kind: str
    """Its kind."""
    project: str | None = None
    """Its project, of what lies in one."""
    name: str
    """Its name."""
    path: str
    """The field that makes the connection."""
    uid: str = ""
    """Its uid; empty: it does not exist, or may not be seen."""
    ready: str = ""
    """The status of its condition Ready: True, False, Unknown; empty for kinds without conditions."""
    deleting: bool = False
    """Whether its deletion was asked for."""

    @property
    def exists(self) -> bool:
        """Return whether it is there."""
        return bool(self.uid)

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


class Links(Model):
    """The objects of one kind that are connected in the same way."""

    kind: str
    """Their kind."""
    links: list[Link]
    """The first of them."""
    more: bool = False
    """Whether there are others."""


class RelatedReply(Model):
    """All that an object is connected with, as far as the caller may read it."""

    owners: list[Link] = Field(default_factory=list)
    """What it belongs to."""
    owned: list[Links] = Field(default_factory=list)
    """What belongs to it, and goes with it."""
    references: list[Link] = Field(default_factory=list)
    """What it names."""
    users: list[Links] = Field(default_factory=list)
    """What names it."""
    events: list[dict[str, Any]] = Field(default_factory=list)
    """The events that regard it, the oldest first."""
