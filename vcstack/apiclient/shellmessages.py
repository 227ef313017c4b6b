"""What is said about shells in guests, as it is on the wire."""

from vcstack.specs.model import Model


class SshAuthority(Model):
    """Whom the guests of a project trust when somebody logs in by SSH."""

    public_key: str
    """As it stands in authorized_keys behind ``cert-authority``: ssh-ed25519 AAAA..."""
