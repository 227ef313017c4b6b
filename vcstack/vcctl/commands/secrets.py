"""secrets: key files and ENC(...) values for configuration files, here; of what the store needs the API is asked."""

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from vcstack.apiclient.encryption import read_encryption
from vcstack.crypto import keyringfile
from vcstack.crypto.enc import (
    KEY_FILE_VARIABLE,
    decrypt_value,
    encrypt_value,
    find_key_file,
    find_values,
    version_needed,
)
from vcstack.crypto.envelope import FORMAT, Envelopes
from vcstack.crypto.errors import CryptoError
from vcstack.crypto.keyring import Keyring
from vcstack.crypto.sources import FromPassphrase, InFile, InToken, Source
from vcstack.specs.errors import ApiError
from vcstack.vcctl.application import app, command
from vcstack.vcctl.arguments import SETTINGS
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.printing import Table, write
from vcstack.vcctl.session import Session
from vcstack.vcctl.terminal import write_raw

secrets = typer.Typer(help="Key files and ENC(...) values for configuration files.", no_args_is_help=True)
app.add_typer(secrets, name="secrets", rich_help_panel=SETTINGS)

KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="The key file; default $VCSTACK_SECRETS_KEY_FILE, else the systemd credential vcstack-secrets-key.",
    ),
]
Passphrase = Annotated[bool, typer.Option("--passphrase", help="Derive the key from a passphrase, by Argon2id.")]
PassphraseFile = Annotated[
    str, typer.Option("--passphrase-file", metavar="FILE", help="A file with the passphrase, read at each start.")
]
Module = Annotated[
    str, typer.Option("--pkcs11-module", metavar="FILE", help="Make the key in a token: the library that drives it.")
]
Token = Annotated[str, typer.Option("--token", metavar="LABEL", help="The token's label.")]
Label = Annotated[str, typer.Option("--label", metavar="LABEL", help="The key's label in the token; a new one.")]
PinFile = Annotated[str, typer.Option("--pin-file", metavar="FILE", help="A file with the token's PIN.")]


@command(
    "init",
    panel=SETTINGS,
    within=secrets,
    examples="""
    vcctl secrets init --key-file /etc/vcstack/secrets.key
    vcctl secrets init --key-file keyring.json --passphrase
    vcctl secrets init --key-file keyring.json --pkcs11-module /usr/lib/softhsm/libsofthsm2.so --token vcstack
    """,
)
async def init(
    session: Session,
    key_file: KeyFile = None,
    passphrase: Passphrase = False,
    passphrase_file: PassphraseFile = "",
    pkcs11_module: Module = "",
    token: Token = "",
    label: Label = "vcstack-1",
    pin_file: PinFile = "",
) -> None:
    """Make a key file, readable by you only. One that exists is kept, for nothing could be read without it."""
    source = _source(passphrase, passphrase_file, pkcs11_module, token, label, pin_file)
    path = key_file or Path(session.environ.get(KEY_FILE_VARIABLE, ""))
    if not path.name:
        raise CommandError("where is the key file to be?", hint=f"Add --key-file FILE, or set ${KEY_FILE_VARIABLE}.")
    with _Explained():
        made = keyringfile.create(path, source, _Asking(confirm=True))
    [entry] = made.entries
    session.out.print(
        f"{escape(str(path))}: master key version 1, {escape(entry.source.describe())}. "
        "Keep a copy where this machine's backups are not.",
        soft_wrap=True,
    )


@command(
    "encrypt",
    panel=SETTINGS,
    within=secrets,
    examples="""
    vcctl secrets encrypt
    pwgen -s 32 1 | vcctl secrets encrypt --key-file /etc/vcstack/secrets.key
    """,
)
async def encrypt(session: Session, key_file: KeyFile = None) -> None:
    """Read a value from stdin, or ask for it without echo, and print it as ENC(...).

    A line's end after the value is not part of it.
    """
    envelopes = _open(session, key_file)
    value = _read_value("Value")
    with _Explained():
        write(session.out, encrypt_value(envelopes, value))


@command(
    "decrypt",
    panel=SETTINGS,
    within=secrets,
    examples="""
    vcctl secrets decrypt
    grep -o 'ENC(.*)' management.yaml | vcctl secrets decrypt
    """,
)
async def decrypt(session: Session, key_file: KeyFile = None) -> None:
    """Read ENC(...) from stdin, or ask for it, and print the value."""
    envelopes = _open(session, key_file)
    text = _read_value("ENC(...)")
    with _Explained():
        value = decrypt_value(envelopes, text)
    write_raw(value.encode() + b"\n")  # a tab stays a tab


@command(
    "rotate",
    panel=SETTINGS,
    within=secrets,
    examples="""
    vcctl secrets rotate
    vcctl secrets rotate --stage
    """,
)
async def rotate(
    session: Session,
    key_file: KeyFile = None,
    stage: Annotated[
        bool, typer.Option("--stage", help="Only add it; make it active with `activate` once every copy has it.")
    ] = False,
    passphrase: Passphrase = False,
    passphrase_file: PassphraseFile = "",
    pkcs11_module: Module = "",
    token: Token = "",
    label: Label = "",
    pin_file: PinFile = "",
) -> None:
    """Add a new master key version and encrypt with it from now on. Older ones still decrypt.

    Programs that have the key file open read it again by themselves.
    """
    with _Explained():
        path = find_key_file(key_file, session.environ)
        fresh = label or f"vcstack-{keyringfile.read(path).entries[-1].version + 1}"
        source = _source(passphrase, passphrase_file, pkcs11_module, token, fresh, pin_file)
        version = keyringfile.add(path, source, _Asking(confirm=True), activate=not stage)
    state = "added, not active yet" if stage else "active"
    session.out.print(f"Master key version {version} is {state}.", soft_wrap=True)


@command("activate", panel=SETTINGS, within=secrets, examples="vcctl secrets activate 2")
async def activate(session: Session, version: Annotated[int, typer.Argument(min=1)], key_file: KeyFile = None) -> None:
    """Encrypt with a master key version from now on, one that `rotate --stage` has added."""
    with _Explained():
        keyringfile.make_active(find_key_file(key_file, session.environ), version, _Asking())
    session.out.print(f"Master key version {version} is active.", soft_wrap=True)


@command(
    "retire",
    panel=SETTINGS,
    within=secrets,
    examples="""
    vcctl secrets retire 1 --key-file /var/lib/vcstack/keyring.json
    vcctl secrets retire 1 --config /etc/vcstack/management.yaml --config /etc/vcstack/compute.yaml
    """,
)
async def retire(
    session: Session,
    version: Annotated[int, typer.Argument(min=1)],
    key_file: KeyFile = None,
    config: Annotated[
        list[Path],
        typer.Option(
            "--config",
            metavar="FILE",
            help="Of a key file for ENC(...) values: a file that has some, of whatever machine; may be repeated.",
        ),
    ] = [],  # noqa: B006 - typer copies it
    yes: Annotated[bool, typer.Option("--yes", help="Do not look; what needs it may be lost.")] = False,
) -> None:
    """Forget a master key version, once nothing needs it any more.

    Of the cloud's own keyring the API says whether anything in the store does; of a key file for ENC(...) values the
    configuration files that are named do.
    """
    with _Explained():
        path = find_key_file(key_file, session.environ)
        if not yes and config:
            _demand_no_value(path, version, config)
        elif not yes:
            await _demand_unneeded(session, path, version)
        keyringfile.retire(path, version)
    session.out.print(f"Master key version {version} is gone.", soft_wrap=True)


@command("status", panel=SETTINGS, within=secrets, examples="vcctl secrets status")
async def status(session: Session) -> None:
    """Show how far the cloud is with a new master key: how many encrypted records need which version."""
    found = await read_encryption(session.client.connection)
    table = Table(["ACTIVE", "VERSION", "RECORDS"])
    counts = {found.active_version: 0} | {each.version: each.envelopes for each in found.needed}
    for version, count in sorted(counts.items()):
        table.add(["*" if version == found.active_version else "", str(version), str(count)])
    table.print(session.out)
    left = sum(count for version, count in counts.items() if version != found.active_version)
    if left:
        session.out.print(f"{left} records are still to be put under version {found.active_version}.", soft_wrap=True)
    if found.unreadable:
        session.err.print(f"{found.unreadable} records are damaged; the API's log names them.", soft_wrap=True)


@command("keys", panel=SETTINGS, within=secrets, examples="vcctl secrets keys")
async def keys(session: Session, key_file: KeyFile = None) -> None:
    """List the master key versions of the key file; * marks the active one. No key is shown."""
    with _Explained():
        contents = keyringfile.read(find_key_file(key_file, session.environ))
    table = Table(["ACTIVE", "VERSION", "ID", "WHERE"])
    for entry in contents.entries:
        table.add(
            ["*" if entry.version == contents.active else "", str(entry.version), entry.id, entry.source.describe()]
        )
    table.print(session.out)


def _demand_no_value(path: Path, version: int, files: Sequence[Path]) -> None:
    """Return when no ENC(...) value in the files needs the version, and the key file is the one for them."""
    keyringfile.read(path).entry(version)
    values = [(f"{file}:{line}", value) for file in files for line, value in find_values(_read_config(file))]
    if not values:
        raise CommandError(
            f"no ENC(...) value is in {', '.join(map(str, files))}",
            hint="Name the files that have values of this key file; --yes forgets the key without looking.",
        )
    envelopes = Envelopes(Keyring(path, _Asking()))
    needing = []
    for place, value in values:
        try:
            decrypt_value(envelopes, value)  # or it is another key file's, and nobody looked at what needs this one
            needing += [place] if version_needed(value) == version else []
        except CryptoError as error:
            raise CommandError(f"{place}: this key file is not for that value: {error}", code=ExitCode.LOCAL) from error
    if needing:
        raise CommandError(
            f"the ENC(...) values at {', '.join(needing)} need master key version {version}",
            hint="Encrypt each anew: vcctl secrets decrypt, vcctl secrets encrypt.",
        )


def _read_config(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}", code=ExitCode.LOCAL) from error


async def _demand_unneeded(session: Session, path: Path, version: int) -> None:
    """Return when the key file is the cloud's, and nothing in its store needs the version."""
    contents = keyringfile.read(path)
    contents.entry(version)
    look = (
        "If it is a key file for ENC(...) values, name the files that have some by --config FILE. In the files and "
        f"environment variables of all machines, what begins with ENC({FORMAT}:{version}: needs this version."
    )
    try:
        found = await read_encryption(session.client.connection)
    except (ApiError, CommandError) as error:
        raise CommandError(
            f"whether something in the cloud needs master key version {version} is not known: {error}",
            hint=f"{look} --yes forgets it without looking.",
        ) from error
    if found.active_key not in {entry.id for entry in contents.entries}:
        raise CommandError(f"{path} is not the keyring of this cloud, or an old copy of it", hint=look)
    if version == found.active_version:
        raise CommandError(
            f"master key version {version} is the active one of the cloud",
            hint="vcctl secrets rotate makes another one; when nothing needs this one any more, it can go.",
        )
    count = sum(each.envelopes for each in found.needed if each.version == version) + found.unreadable
    if count:
        raise CommandError(
            f"{count} encrypted records in the store need master key version {version} or are damaged",
            hint="Wait until `vcctl secrets status` shows none; --yes forgets the key nevertheless.",
        )


class _Explained:
    """Shows what went wrong with a key as a sentence."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, CryptoError):
            raise CommandError(str(error), code=ExitCode.LOCAL) from error


class _Asking:
    """Asks without echo, once for each thing."""

    def __init__(self, *, confirm: bool = False) -> None:
        self._confirm = confirm
        self._known: dict[str, str] = {}

    def __call__(self, what: str) -> str:
        if what not in self._known:
            if not sys.stdin.isatty():
                raise CommandError(
                    f"nobody can be asked here: {what}", hint="Give --passphrase-file or --pin-file, or use a terminal."
                )
            answer = getpass.getpass(f"{what}: ")
            if self._confirm and getpass.getpass("The same again: ") != answer:
                raise CommandError("the two are not the same")
            self._known[what] = answer
        return self._known[what]


def _source(passphrase: bool, passphrase_file: str, module: str, token: str, label: str, pin_file: str) -> Source:
    if module:
        if not token:
            raise CommandError("which token?", hint="Add --token LABEL; softhsm2-util --show-slots lists those here.")
        return InToken(module, token, label, _absolute(pin_file))
    if passphrase or passphrase_file:
        return FromPassphrase.fresh(_absolute(passphrase_file))
    return InFile.fresh()


def _absolute(path: str) -> str:
    """The path as the key file needs it: it is read again from other working directories."""
    return str(Path(path).absolute()) if path else ""


def _open(session: Session, key_file: Path | None) -> Envelopes:
    with _Explained():
        return Envelopes(Keyring(find_key_file(key_file, session.environ), _Asking()))


def _read_value(prompt: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(f"{prompt}: ")
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise CommandError("the value is no text") from error
