"""audit: who did what. For administrators and auditors."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError

from vcstack.apiclient.connection import Connection
from vcstack.specs.audit import Anchor, VerificationReport, Verifier, format_instant
from vcstack.vcctl.application import app, command
from vcstack.vcctl.arguments import SETTINGS
from vcstack.vcctl.completing import complete_kinds
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.moments import parse_moment
from vcstack.vcctl.printing import Table, write
from vcstack.vcctl.selection import parse_kind
from vcstack.vcctl.session import Session

PATH = "/api/v1/audit"
PAGE = 500
READ_BYTES = 1024 * 1024

audit = typer.Typer(help="The audit trail: who did what, and whether it was tampered with.", no_args_is_help=True)
app.add_typer(audit, name="audit", rich_help_panel=SETTINGS)

Kind = Annotated[
    str,
    typer.Argument(
        metavar="[KIND[/NAME]]", autocompletion=complete_kinds, show_default=False, help="A kind or object."
    ),
]
User = Annotated[
    str, typer.Option("--user", "-u", metavar="SUBJECT", help="Who: admin, alice, user:alice, system:host:h1.")
]
Verb = Annotated[str, typer.Option("--verb", metavar="VERB", help="create, update, delete, login, join, ...")]
Outcome = Annotated[str, typer.Option("--outcome", metavar="OUTCOME", help="Allowed, Denied or Failed.")]
Since = Annotated[str, typer.Option("--since", metavar="TIME", help="2026-11-22T08:00:00Z, or how long ago: 2h, 7d.")]
Until = Annotated[str, typer.Option("--until", metavar="TIME", help="The same; before that.")]
Request = Annotated[str, typer.Option("--request", metavar="ID", help="The id in the answer's header x-request-id.")]


@command(
    "list",
    panel=SETTINGS,
    within=audit,
    examples="""
    vcctl audit list --since 2h
    vcctl audit list instance/web-1 -p demo
    vcctl audit list --user alice --outcome Denied -o json
    """,
)
async def list_records(
    session: Session,
    about: Kind = "",
    user: User = "",
    verb: Verb = "",
    outcome: Outcome = "",
    since: Since = "",
    until: Until = "",
    request: Request = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many, the newest.")] = 50,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="table or json (lines).")] = "table",
) -> None:
    """Show who did what, the newest first. A record is there a second or two after its request."""
    if output not in ("table", "json"):
        raise CommandError(f"-o {output} is no output format", hint="There are table and json")
    wanted = _filter(session, about, user, verb, outcome, since, until, request)
    records = [r async for r in _pages(session.client.connection, wanted, limit)]
    if output == "json":
        for record in records:
            write(session.out, orjson.dumps(record).decode())
        return
    if not records:
        session.err.print("Nothing of that is recorded.")
        return
    table = Table(["TIME", "SUBJECT", "VERB", "OBJECT", "OUTCOME", "STATUS", "FROM", "REQUEST"])
    for record in records:
        table.add(_row(record))
    table.print(session.out)


@command(
    "export",
    panel=SETTINGS,
    within=audit,
    examples="""
    vcctl audit export --file trail.jsonl
    vcctl audit export --since 30d --user alice
    """,
)
async def export(
    session: Session,
    about: Kind = "",
    user: User = "",
    verb: Verb = "",
    outcome: Outcome = "",
    since: Since = "",
    until: Until = "",
    request: Request = "",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Where to; default the terminal.")
    ] = None,
) -> None:
    """Write records as they were written, JSON lines; a whole export can be verified without the API."""
    wanted = _filter(session, about, user, verb, outcome, since, until, request)
    count = 0
    async with aclosing(_lines(session.client.connection, "/export", wanted)) as lines:
        if file is None:
            async for line in lines:
                write(session.out, line.decode())
            return
        with file.open("xb") as opened:
            file.chmod(0o600)
            async for line in lines:
                opened.write(line + b"\n")
                count += 1
    session.err.print(f"{count} records are in {file}", markup=False)


@command(
    "verify",
    panel=SETTINGS,
    within=audit,
    examples="""
    vcctl audit verify
    vcctl audit verify --anchors /mnt/worm/audit-anchors.jsonl
    vcctl audit verify trail.jsonl --anchors anchors.jsonl
    """,
)
async def verify(
    session: Session,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="[FILE]...", show_default=False, help="An export or segments; default the API's."),
    ] = [],  # noqa: B006 - typer copies it
    anchors: Annotated[
        list[Path], typer.Option("--anchors", metavar="FILE", help="Anchors kept elsewhere, besides the API's own.")
    ] = [],  # noqa: B006
    output: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="table or json.")] = "table",
) -> int:
    """Find records that were changed, removed or put in, and ends that were cut off; exit code 1 when there are.

    All records are read and checked here, so the server need not be trusted with it. Whether the end was cut off
    is known by anchors only: keep copies of the anchor file where the cloud's administrators cannot change them.
    """
    known = [anchor for path in anchors for anchor in _read_anchors(path.read_bytes().split(b"\n"), str(path))]
    if files:
        verifier = Verifier(known, partial=True)
        for path in sorted(files):
            with path.open("rb") as opened:
                for line in opened:
                    verifier.add(line)
    else:
        connection = session.client.connection
        known += _read_anchors([line async for line in _lines(connection, "/anchors", {})], "the API's anchors")
        verifier = Verifier(known)
        async with aclosing(_lines(connection, "/export", {})) as lines:
            async for line in lines:
                verifier.add(line)
    report = verifier.finish()
    if files and not report.records and report.intact:  # an export that failed leaves such a file
        message = f"there is no record in {', '.join(map(str, files))}: nothing was verified"
        raise CommandError(message, hint="vcctl audit export --file FILE writes them.", code=ExitCode.LOCAL)
    if output == "json":
        write(session.out, report.to_json().decode())
    else:
        _show(session, report)
    return ExitCode.OK if report.intact else ExitCode.DIFFERENCE


def _show(session: Session, report: VerificationReport) -> None:
    table = Table(["CHAIN", "FIRST", "LAST", "ANCHORED UP TO"])
    for chain in report.chains:
        table.add([chain.chain, chain.first, chain.last, chain.anchored or "no anchor is known"])
    table.print(session.out)
    if report.findings:
        session.out.print("")
        table = Table(["PROBLEM", "CHAIN", "RECORD", "WHAT"])
        for finding in report.findings:
            table.add([finding.problem, finding.chain, finding.seq, finding.message])
        table.print(session.out)
    found = "1 finding" if len(report.findings) == 1 else f"{len(report.findings)} findings"
    verdict = "intact" if report.intact else f"{found}: it was tampered with, or damaged"
    session.out.print(f"\n{report.records} records: {verdict}", soft_wrap=True)


def _row(record: dict[str, Any]) -> list[object]:
    where = "/".join(str(record[k]) for k in ("project", "name") if record.get(k))
    about = f"{record.get('kind', '')} {where}".strip()
    sub = f"/{record['subresource']}" if record.get("subresource") else ""
    who = record.get("subject", "")
    tried = record.get("user")
    return [
        str(record.get("time", ""))[:19] + "Z",
        f"{who} as {tried}" if tried and who == "anonymous" else who,
        record.get("verb", ""),
        about + sub or record.get("message", ""),
        record.get("outcome", ""),
        record.get("status", ""),
        record.get("peer", ""),
        record.get("requestId", ""),
    ]


def _filter(
    session: Session, about: str, user: str, verb: str, outcome: str, since: str, until: str, request: str
) -> dict[str, str]:
    kind, _, name = about.partition("/")
    found = {
        "kind": parse_kind(kind).kind if kind else "",
        "name": name,
        "project": session.options.project or "",
        "subject": user if not user or user in ("admin", "anonymous") or ":" in user else f"user:{user}",
        "verb": verb,
        "outcome": outcome.capitalize(),
        "since": _time(session, since),
        "until": _time(session, until),
        "requestId": request,
    }
    return {key: value for key, value in found.items() if value}


def _time(session: Session, text: str) -> str:
    return format_instant(parse_moment(session, text)) if text else ""


async def _pages(connection: Connection, wanted: dict[str, str], limit: int) -> AsyncIterator[dict[str, Any]]:
    token, left = "", limit
    while left > 0:
        params = {**wanted, "limit": str(min(left, PAGE)), **({"continue": token} if token else {})}
        page = orjson.loads((await connection.request("GET", PATH, params=params)).content)
        for record in page["items"]:
            yield record
        left -= len(page["items"])
        token = page["metadata"].get("continue", "")
        if not token:
            return


async def _lines(connection: Connection, path: str, wanted: dict[str, str]) -> AsyncGenerator[bytes, None]:
    rest = b""
    async with connection.stream("GET", PATH + path, params=wanted, timeout_seconds=120) as answer:
        async for chunk in answer.aiter_bytes(READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line
    if rest:
        raise CommandError("the export broke off", hint="Try again.", code=ExitCode.UNREACHABLE)


def _read_anchors(lines: Iterable[bytes], source: str) -> list[Anchor]:
    try:
        return [Anchor.from_wire(line) for line in lines if line.strip()]
    except (ValidationError, ValueError) as error:
        raise CommandError(f"{source} has a line that is no anchor", code=ExitCode.LOCAL) from error
