"""What is said about logging in by a directory, as it is on the wire: ``/api/v1/auth/ldap/...``."""

from typing import Final

from vcstack.apiclient.authmessages import Secret
from vcstack.specs.model import Model, Name

PASSWORD_LOGIN: Final = "PasswordLogin"  # noqa: S105 (a word, no password)
"""The reason why a directory is no provider to log in at with a browser."""


class LdapLoginRequest(Model):
    """Who logs in by which directory. The answer is a ``TokensReply``."""

    provider: Name
    """The IdentityProvider, of type LDAP."""
    user: Secret
    """The user's name there."""
    password: Secret
    """The password there. It is shown to the directory and not kept."""
