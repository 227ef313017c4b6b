"""How far back history can be told: what retention has removed is not answered as if it had not been."""

from dataclasses import dataclass
from datetime import datetime

from vcstack.specs.errors import Cause, Expired
from vcstack.specs.resource import Ref


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back that of an object can be told."""

    revision: int
    """What it was at this revision and at later ones is known. Of what was earlier versions may have been removed."""
    lacks: bool
    """Whether earlier ones surely have been."""

    def refuse(self, ref: Ref, parameter: str) -> Expired:
        """Return the error for who asks for what was earlier, by that parameter of the query."""
        cause = Cause(field=f"query.{parameter}", reason="RevisionRemoved", message=f"must be {self.revision} or later")
        message = f"Older versions of {ref} were removed: its history reaches back to revision {self.revision}."
        return Expired(message, causes=[cause])


@dataclass(frozen=True, slots=True)
class ProjectReach:
    """How far back that of all that lies in a project can be told."""

    revision: int
    """Nothing that is as new as this revision was removed for its age; 0: nothing at all."""
    time: datetime | None
    """The same as a moment."""
    cuts: int
    """Another number when more versions of single objects in it were removed for their number; 0: none were."""
