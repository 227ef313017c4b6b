"""Other people's text on a terminal: shown, never obeyed."""

from typing import Any

from rich.console import Console
from rich.text import Text


def one_line(text: str) -> str:
    """Return the text on one line, with spaces for what is no visible character."""
    return "".join(c if c.isprintable() else " " for c in text)


class HarmlessConsole(Console):
    """Prints text without what a terminal takes for a command.

    Annotations, messages and fields are whatever a tenant wrote. With an escape in them he would clear the screen of
    the operator who looks, rename his window, or turn the direction of what stands beside.
    """

    def render_str(self, text: str, **given: Any) -> Text:
        """Return the text with spaces for all that is neither visible nor the end of a line."""
        return super().render_str("".join(c if c.isprintable() or c in "\n\t" else " " for c in text), **given)

    def on_broken_pipe(self) -> None:
        """Tell that nobody reads any more; rich would end the program as if something were different."""
        raise BrokenPipeError
