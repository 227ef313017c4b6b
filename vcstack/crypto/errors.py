"""What can go wrong with keys and ciphertexts. No text of these errors holds a secret.

CryptoError
├── MalformedText        not of our format at all
├── UnknownKeyVersion    sound, but its key is not here
├── Tampered             changed, or moved to another place than it was made for
├── InsecureKey          a key or its file that must not be used: weak, readable by others
├── KeyUnavailable       the key exists and cannot be reached: file gone, token away, passphrase wrong
└── UnfitKey             a key asked for what its kind cannot do
"""


class CryptoError(Exception):
    """Any of them."""


class MalformedText(CryptoError):
    """The text is none of our formats; damaged, cut, or never encrypted."""


class UnknownKeyVersion(CryptoError):
    """The text names a key version that is not here."""


class Tampered(CryptoError):
    """The ciphertext was changed, or does not belong to the place where it was found."""


class InsecureKey(CryptoError):
    """A key that must not be used."""


class KeyUnavailable(CryptoError):
    """The key cannot be reached."""


class UnfitKey(CryptoError):
    """The kind of the key cannot do what is asked."""
