"""How many streams may be open: they hold no seat, but memory and a connection."""

from vcstack.apiserver.limits.defaults import StreamSettings


class StreamCount:
    """The open streams of one level at this worker."""

    def __init__(self, settings: StreamSettings) -> None:
        self.settings = settings
        self.open = 0
        self._of: dict[str, int] = {}

    def find_limit(self, owner: str, workers: int) -> int | None:
        """Return the limit that one more of the owner's would exceed: its share of one's own, or all there may be."""
        mine = max(1, -(-self.settings.of_one // workers))
        if self._of.get(owner, 0) >= mine:
            return mine
        return self.settings.in_all if self.open >= self.settings.in_all else None

    def add(self, owner: str) -> None:
        """Count one more."""
        self.open += 1
        self._of[owner] = self._of.get(owner, 0) + 1

    def remove(self, owner: str) -> None:
        """Count one less."""
        self.open -= 1
        left = self._of[owner] - 1
        if left:
            self._of[owner] = left
        else:
            del self._of[owner]
