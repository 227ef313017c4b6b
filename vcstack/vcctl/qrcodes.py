"""QR codes in a terminal."""

import io

import segno

WHITE_ON_BLACK = "\x1b[97;40m"
RESET = "\x1b[0m"


def draw(text: str) -> str:
    """Return lines that show the text as a QR code, light on dark whatever the terminal's colours are."""
    out = io.StringIO()
    segno.make_qr(text, error="l").terminal(out, compact=True, border=2)
    return "".join(f"{WHITE_ON_BLACK}{line}{RESET}\n" for line in out.getvalue().splitlines())
