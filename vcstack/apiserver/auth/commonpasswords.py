"""The list of common passwords, and whether a password is little more than entries of it.

The list ships with the program (``data/``, its source and licence beside it): 33,744 entries, 3,973 of them
as long as a password must be. OWASP ASVS 5.0 V6.2.4 asks for 3,000. As a minimum length only makes people
decorate the short ones, these count as common, too: an entry with digits and signs around it, and two
entries in a row ("Password-2026!", "qwertydragon1"). Three are a passphrase.
"""

import gzip
import itertools
import re
from collections.abc import Collection
from functools import cache
from importlib import resources
from typing import Final

_LEET: Final = str.maketrans({"@": "a", "4": "a", "3": "e", "1": "i", "!": "i", "0": "o", "$": "s", "5": "s", "7": "t"})
_NOT_LETTERS: Final = re.compile(r"[\W\d_]+")
_ENOUGH_DECORATION: Final = 8
"""That many digits and signs are hard to guess by themselves, unless they are common or in a row."""
_DIFFERENT_CHARACTERS: Final = 5
_CODES: Final = 0x110000


@cache
def load_common() -> frozenset[str]:
    """Return the list, case folded; read when it is first asked for."""
    packed = (resources.files("vcstack.apiserver.auth") / "data" / "common-passwords.txt.gz").read_bytes()
    return frozenset(gzip.decompress(packed).decode().split("\n"))


def is_common(password: str, context: Collection[str] = ()) -> bool:
    """Return whether the password is easily guessed.

    Args:
        password: in NFC.
        context: words that are common here: the user's name, the product's.
    """
    folded = password.casefold()
    words = {word.casefold() for word in context if len(word) >= 3}
    return (
        len(set(folded)) < _DIFFERENT_CHARACTERS
        or _is_sequence(folded)
        or any(_is_covered(form, words) for form in (folded, folded.translate(_LEET)))
    )


def _is_covered(form: str, words: Collection[str]) -> bool:
    common = load_common()
    if form in common:
        return True
    core = _unit_of(_NOT_LETTERS.sub("", form))
    decoration = "".join(_NOT_LETTERS.findall(form))
    if len(decoration) >= _ENOUGH_DECORATION and decoration not in common and not _is_sequence(decoration):
        return False
    known = [i for i in range(len(core) + 1) if _is_known(core[i:], common, words)]
    return any(_is_known(core[:i], common, words) for i in known)


def _unit_of(text: str) -> str:
    """Return what is repeated all through the text; the text itself when nothing is."""
    return text[: (text + text).index(text, 1)] if text else text


def _is_known(word: str, common: Collection[str], words: Collection[str]) -> bool:
    return not word or word in words or word in common


def _is_sequence(text: str) -> bool:
    """Return whether each character is the next of the one before, upwards or downwards: 901234, zyxw."""
    steps = {(ord(b) - ord(a)) % (10 if a.isdigit() and b.isdigit() else _CODES) for a, b in itertools.pairwise(text)}
    return len(steps) == 1 and steps <= {0, 1, 9, _CODES - 1}
