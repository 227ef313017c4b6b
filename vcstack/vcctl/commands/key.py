"""key: what can be done with a managed key: encrypt, sign, rotate, disable, destroy."""

import asyncio
import base64
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from vcstack.specs.kinds.key import Key, KeyState
from vcstack.specs.meta import format_time
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import app, command
from vcstack.vcctl.arguments import CHANGE, Yes
from vcstack.vcctl.asking import confirm
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.printing import write
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.session import Session
from vcstack.vcctl.terminal import write_raw

STDIN = "-"

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
    reply = await _do(session, name, "encrypt", {"plaintext": await _read_base64(file), "context": encryption_context})
    write(session.out, reply["ciphertext"])


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
    body = {"ciphertext": await _read_text(file), "context": encryption_context, **({"targetKey": to} if to else {})}
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
    """Sign what is read."""
    body = {"message": await _read_base64(file), "prehashed": prehashed}
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
    body = {"message": await _read_base64(file), "signature": text, "prehashed": prehashed}
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
    definition = get_kind(Key.KIND)
    found = await session.client.get_wire(definition, name, project=session.project_of(definition))
    state = found["spec"]["state"]
    if state != KeyState.PENDING_DELETION:
        raise CommandError(f"key {name} is not to be deleted; it is {state}", code=ExitCode.REFUSED)
    version = found["metadata"]["resourceVersion"]
    await _change(session, name, {"state": KeyState.DISABLED.value}, "stays, disabled", version=version)


async def _do(session: Session, name: str, operation: str, body: dict[str, Any]) -> Wire:
    definition = get_kind(Key.KIND)
    return await session.client.subresource(
        "POST", definition, name, operation, project=session.project_of(definition), body=body
    )


async def _change(session: Session, name: str, spec: dict[str, Any], done: str, *, version: str = "") -> None:
    definition = get_kind(Key.KIND)
    patch = {"spec": spec, **({"metadata": {"resourceVersion": version}} if version else {})}
    await session.client.merge_patch_wire(definition, name, patch, project=session.project_of(definition))
    session.out.print(f"key/{escape(name)} {done}", soft_wrap=True)


async def _read_base64(file: str) -> str:
    return base64.b64encode(await asyncio.to_thread(_read, file)).decode()


async def _read_text(file: str) -> str:
    return (await asyncio.to_thread(_read, file)).decode(errors="replace").strip()


def _read(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()


def _write_private(path: Path, data: bytes) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(data)
