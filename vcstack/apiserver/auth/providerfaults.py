"""What an identity provider fails to do: told at logins, and in the provider's status."""

from vcstack.specs.errors import Unavailable


class ProviderFailed(Unavailable):
    """Nobody can log in by it now."""

    def __init__(self, message: str, why: str, *, away: bool) -> None:
        super().__init__(message)
        self.why = why
        """For whoever looks after it: a sentence's end, without anything secret."""
        self.away = away
        """It does not answer at all."""


def does_not_answer(name: str, why: str = "it does not answer") -> ProviderFailed:
    """Return the error of a provider that is down."""
    message = f"the identity provider {name} does not answer; users of this cloud's own log in as always"
    return ProviderFailed(message, why, away=True)


def says_nonsense(name: str, what: str) -> ProviderFailed:
    """Return the error of a provider that answers, but not as it should, or that is not set up as it has to be."""
    message = f"the identity provider {name} does not work as it should: {what[:300]}"
    return ProviderFailed(message, what[:300], away=False)
