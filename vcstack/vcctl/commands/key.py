"""key: what can be done with a managed key: encrypt, sign, rotate, disable, destroy."""

import asyncio
import base64
import hashlib
import sys
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer
from rich.markup import escape

from vcstack.apiclient.keymessages import MAX_BYTES
from vcstack.specs.kinds.key import Key, KeyAlgorithm, KeyState
from vcstack.specs.meta import format_time
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import app, command
from vcstack.vcctl.arguments import CHANGE, Yes
from vcstack.vcctl.asking import confirm
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.printing import write
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.selection import parse_objects
from vcstack.vcctl.session import Session
from vcstack.vcctl.terminal import write_raw

STDIN = "-"
READ_BYTES: Final = 1024 * 1024
HASHES: Final = {KeyAlgorithm.ECDSA_P256: "sha256", KeyAlgorithm.ECDSA_P384: "sha384"}

key = typer.Typer(help="Use and look after managed keys.", no_args_is_help=True)
app.add_typer(key, name="key", rich_help_panel=CHANGE)

Name = Annotated[str, typer.Argument(metavar="KEY", help="The Key's name.", show_default=False)]
Input = Annotated[str, typer.Option("--file", "-f", metavar="FILE|-", help="What to read; default stdin.")]
Context = Annotated[
    str,
    typer.Option(
        "--encryption-context", metavar="TEXT", help="Text that has to be given again to decrypt; kept nowhere."
    ),
]
Prehashed = Annotated[bool, typer.Option("--prehashed", help="The input is the digest, not the message.")]


@command(
    "encrypt",
    panel=CHANGE,
    within=key,
    examples="vcctl key encrypt disks --encryption-context 'disk 7' < plain > cipher",
)
async def encrypt(session: Session, name: Name, file: Input = STDIN, encryption_context: Context = "") -> None:
    """Encrypt what is read, 64 KiB at most; larger things are encrypted with a data key."""
    plain = await asyncio.to_thread(_read, file)
    if len(plain) > MAX_BYTES:
        hint = f"vcctl key datakey {name} --plaintext-file FILE makes a key for that, and prints it encrypted."
        raise CommandError(f"there is more than the {MAX_BYTES // 1024} KiB that a key encrypts at once", hint=hint)
    body = {"plaintext": base64.b64encode(plain).decode(), "context": encryption_context}
    write(session.out, (await _do(session, name, "encrypt", body))["ciphertext"])


@command(
    "decrypt",
    panel=CHANGE,
    within=key,
    examples="vcctl key decrypt disks --encryption-context 'disk 7' < cipher > plain",
)
async def decrypt(session: Session, name: Name, file: Input = STDIN, encryption_context: Context = "") -> None:
    """Decrypt what any version of the key has encrypted."""
    reply = await _do(session, name, "decrypt", {"ciphertext": await _read_text(file), "context": encryption_context})
    write_raw(base64.b64decode(reply["plaintext"]))


@command("reencrypt", panel=CHANGE, within=key, examples="vcctl key reencrypt disks --to archive < cipher > fresh")
async def reencrypt(
    session: Session,
    name: Name,
    file: Input = STDIN,
    to: Annotated[str | None, typer.Option("--to", metavar="KEY", help="Another key; default the same.")] = None,
    encryption_context: Context = "",
) -> None:
    """Encrypt anew with the newest version of the same or another key; nobody sees the plaintext."""
    body = {
        "ciphertext": await _read_text(file),
        "context": encryption_context,
        **({"targetKey": _name(to)} if to else {}),
    }
    write(session.out, (await _do(session, name, "reencrypt", body))["ciphertext"])


@command("datakey", panel=CHANGE, within=key, examples="vcctl key datakey disks --plaintext-file /dev/shm/key")
async def data_key(
    session: Session,
    name: Name,
    plaintext_file: Annotated[
        Path, typer.Option("--plaintext-file", metavar="FILE", help="A new file, for the key itself.")
    ],
    length: Annotated[int, typer.Option("--bytes", min=16, max=128, help="Its length.")] = 32,
    encryption_context: Context = "",
) -> None:
    """Make a key for your own use: itself into a file of mode 0600, encrypted to stdout, to be kept beside the data."""
    if plaintext_file.exists():
        raise CommandError(f"{plaintext_file} is there already", code=ExitCode.USAGE)
    reply = await _do(session, name, "datakey", {"lengthBytes": length, "context": encryption_context})
    await asyncio.to_thread(_write_private, plaintext_file, base64.b64decode(reply["plaintext"]))
    write(session.out, reply["ciphertext"])


@command("sign", panel=CHANGE, within=key, examples="vcctl key sign releases -f release.tar > release.sig")
async def sign(session: Session, name: Name, file: Input = STDIN, prehashed: Prehashed = False) -> None:
    """Sign what is read; of what is larger than 64 KiB only the digest goes to the API."""
    body = await _read_message(session, name, file, prehashed=prehashed)
    write(session.out, (await _do(session, name, "sign", body))["signature"])


@command(
    "verify", panel=CHANGE, within=key, examples="vcctl key verify releases -f release.tar --signature release.sig"
)
async def verify(
    session: Session,
    name: Name,
    signature: Annotated[Path, typer.Option("--signature", metavar="FILE", help="What sign has printed.")],
    file: Input = STDIN,
    prehashed: Prehashed = False,
) -> int:
    """Say whether a signature is the key's for what is read; exit code 1 if not."""
    text = (await asyncio.to_thread(signature.read_text)).strip()
    body = {**await _read_message(session, name, file, prehashed=prehashed), "signature": text}
    valid = (await _do(session, name, "verify", body))["valid"]
    write(session.out, "valid" if valid else "not valid")
    return ExitCode.OK if valid else ExitCode.DIFFERENCE


@command("rotate", panel=CHANGE, within=key, examples="vcctl key rotate disks")
async def rotate(session: Session, name: Name) -> None:
    """Make a new version now, which encrypts and signs from then on; older ones still decrypt and verify."""
    await _change(session, name, {"rotateAfter": format_time(datetime.now(UTC))}, "is given a new version")


@command("enable", panel=CHANGE, within=key, examples="vcctl key enable disks")
async def enable(session: Session, name: Name) -> None:
    """Let a key be used again; calls off a scheduled deletion."""
    await _change(session, name, {"state": KeyState.ENABLED.value}, "can be used")


@command("disable", panel=CHANGE, within=key, examples="vcctl key disable disks")
async def disable(session: Session, name: Name) -> None:
    """Let nothing be done with a key until it is enabled again."""
    await _change(session, name, {"state": KeyState.DISABLED.value}, "does nothing any more")


@command(
    "schedule-deletion",
    panel=CHANGE,
    within=key,
    examples="""
    vcctl key schedule-deletion disks
    vcctl key schedule-deletion disks --days 0
    """,
)
async def schedule_deletion(
    session: Session,
    name: Name,
    days: Annotated[
        int | None, typer.Option("--days", min=0, max=90, help="How long to wait; below 7 for administrators.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Destroy the key's material, and with it all that it encrypted, when the waiting period is over. Asks first."""
    question = f"Destroy key {name} when its waiting period is over? Nothing that it encrypted can be read any more."
    confirm(session, question, yes=yes)
    wait = {} if days is None else {"deletionWaitDays": days}
    await _change(session, name, {"state": KeyState.PENDING_DELETION.value, **wait}, "is destroyed when it has waited")


@command("cancel-deletion", panel=CHANGE, within=key, examples="vcctl key cancel-deletion disks")
async def cancel_deletion(session: Session, name: Name) -> None:
    """Call off a scheduled deletion; the key stays disabled until it is enabled."""
    found = await _get(session, name)
    state = found.spec.state
    if state != KeyState.PENDING_DELETION:
        raise CommandError(f"key {name} is not to be deleted; it is {state}", code=ExitCode.REFUSED)
    version = found.metadata.resource_version or ""
    await _change(session, name, {"state": KeyState.DISABLED.value}, "stays, disabled", version=version)


async def _get(session: Session, name: str) -> Key:
    definition = get_kind(Key.KIND)
    wire = await session.client.get_wire(definition, _name(name), project=session.project_of(definition))
    return Key.from_wire(wire)


async def _do(session: Session, name: str, operation: str, body: dict[str, Any]) -> Wire:
    definition = get_kind(Key.KIND)
    return await session.client.subresource(
        "POST", definition, _name(name), operation, project=session.project_of(definition), body=body
    )


async def _change(session: Session, name: str, spec: dict[str, Any], done: str, *, version: str = "") -> None:
    definition = get_kind(Key.KIND)
    patch = {"spec": spec, **({"metadata": {"resourceVersion": version}} if version else {})}
    await session.client.merge_patch_wire(definition, _name(name), patch, project=session.project_of(definition))
    session.out.print(f"key/{escape(_name(name))} {done}", soft_wrap=True)


def _name(word: str) -> str:
    return parse_objects([word], Key.KIND)[0]


async def _read_message(session: Session, name: str, file: str, *, prehashed: bool) -> Wire:
    """Return what is signed or verified: the message, or of a larger one than the API takes its digest."""
    with _open(file) as opened:
        message = await asyncio.to_thread(opened.read, MAX_BYTES + 1)
        if len(message) > MAX_BYTES and not prehashed:
            message = await asyncio.to_thread(_digest, await _hash_of(session, name), message, opened)
            prehashed = True
    return {"message": base64.b64encode(message).decode(), "prehashed": prehashed}


async def _hash_of(session: Session, name: str) -> str:
    """Return what the key's signatures hash with."""
    algorithm = (await _get(session, name)).spec.algorithm
    if algorithm not in HASHES:
        raise CommandError(f"the key is {algorithm}; it cannot sign or verify", code=ExitCode.REFUSED)
    return HASHES[algorithm]


def _digest(algorithm: str, begin: bytes, rest: BinaryIO) -> bytes:
    digest = hashlib.new(algorithm, begin)
    while part := rest.read(READ_BYTES):
        digest.update(part)
    return digest.digest()


async def _read_text(file: str) -> str:
    return (await asyncio.to_thread(_read, file)).decode(errors="replace").strip()


def _read(file: str) -> bytes:
    with _open(file) as opened:
        return opened.read()


def _open(file: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if file == STDIN else Path(file).open("rb")


def _write_private(path: Path, data: bytes) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(data)
