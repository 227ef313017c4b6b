"""What can go wrong in the lab, told in sentences."""

from pathlib import Path


class LabError(Exception):
    """A part of the lab failed; carries the part's name and, where there is one, its log."""

    def __init__(self, part: str, message: str, log: Path | None = None) -> None:
        super().__init__(f"{part}: {message}")
        self.part = part
        self.message = message
        self.log = log

    def explain(self, lines: int = 15) -> str:
        """The failure for a person: the part, what happened, and the end of its log with the log's path."""
        text = f"{self.part} failed: {self.message}"
        if self.log is None:
            return text
        try:
            tail = self.log.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            tail = []
        shown = "\n".join(f"    {line}" for line in tail) or "    (nothing was logged)"
        return f"{text}\n  last lines of its log, {self.log}:\n{shown}"
