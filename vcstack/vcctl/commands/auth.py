"""auth: passwords, and who may what."""

import json
from typing import Annotated, Any

import typer
from rich.markup import escape

from vcstack.apiclient.access import AccessClient
from vcstack.apiclient.accessmessages import PlanChange, ReviewRequest, RightsReply
from vcstack.apiclient.auth import AuthClient
from vcstack.specs.apply import apply as apply_locally
from vcstack.specs.kinds.user import User
from vcstack.specs.permissions import Rule, Verb
from vcstack.specs.registry import KindDefinition, Scope
from vcstack.vcctl.application import app, command
from vcstack.vcctl.arguments import SETTINGS, Files, OutputFormat, Recursive, Yes
from vcstack.vcctl.asking import ask_secret, confirm
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.identities import Means
from vcstack.vcctl.loggingin import Proving, set_new_password
from vcstack.vcctl.manifests import read_manifests
from vcstack.vcctl.printing import Table, parse_output, to_yaml, write
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.selection import parse_kind
from vcstack.vcctl.session import MANAGER, Session

auth = typer.Typer(help="Who may what; your password, second factor, sessions and API keys.", no_args_is_help=True)
app.add_typer(auth, name="auth", rich_help_panel=SETTINGS)

GIVING = ("Domain", "Group", "IdentityProvider", "Project", "Role", "RoleBinding", "ServiceAccount", "User")
"""The kinds on which rights rest."""


@command(
    "can-i",
    panel=SETTINGS,
    within=auth,
    examples="""
    vcctl auth can-i create instances -p demo
    vcctl auth can-i get instance/web-1 --subresource console
    vcctl auth can-i delete volumes --as bob
    vcctl auth can-i --list --as serviceaccount:demo/ci
    """,
)
async def can_i(
    session: Session,
    verb: Annotated[
        str | None, typer.Argument(metavar="VERB", help="get, list, watch, create, update, delete.", show_default=False)
    ] = None,
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND[/NAME]", help="A kind, or one object.", show_default=False)
    ] = None,
    subresource: Annotated[str, typer.Option("--subresource", metavar="NAME", help="E.g. console or log.")] = "",
    as_: Annotated[
        str | None,
        typer.Option("--as", metavar="SUBJECT", help="USER, group:NAME or serviceaccount:PROJECT/NAME; default you."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List all that is allowed instead.")] = False,
    output: OutputFormat = None,
) -> int:
    """Say whether you, or somebody else, may do something. Ends with 0 for yes and 1 for no.

    About others it answers who may list the grants (RoleBindings) there.
    """
    form = _format(output)
    client = AccessClient(session.client.connection)
    subject = _subject(as_) if as_ else None
    if list_:
        rights = await client.rights(subject=subject, project=session.options.project)
        _print_rights(session, form, rights)
        return ExitCode.OK
    if verb is None or kind is None:
        raise CommandError("may you do what?", hint="E.g. vcctl auth can-i create instances, or add --list.")
    question = _question(session, verb, kind, subresource, subject)
    answer = await client.review(question)
    if form == "table":
        write(session.out, f"{'yes' if answer.allowed else 'no'}: {answer.message}")
    else:
        _print_value(session, form, answer.to_wire())
    return ExitCode.OK if answer.allowed else ExitCode.DIFFERENCE


def _question(session: Session, verb: str, kind: str, subresource: str, subject: str | None) -> ReviewRequest:
    if verb not in set(Verb):
        raise CommandError(f"{verb!r} is no verb", hint=f"There are {', '.join(Verb)}.")
    word, slash, name = kind.partition("/")
    definition = parse_kind(word)
    if slash and not name:
        raise CommandError(f"{kind!r} names no object", hint="Write KIND or KIND/NAME.")
    return ReviewRequest(
        subject=subject,
        verb=verb,
        kind=definition.kind,
        subresource=subresource,
        project=_project(session, definition),
        name=name or None,
    )


def _project(session: Session, definition: KindDefinition) -> str | None:
    """Return where it is asked about: as for other commands, but across projects where none is known."""
    if definition.scope is Scope.GLOBAL:
        return None
    return session.options.project if definition.scope is Scope.GLOBAL_OR_PROJECT else session.default_project


def _subject(text: str) -> str:
    return text if ":" in text else f"user:{text}"


def _print_rights(session: Session, form: str, rights: RightsReply) -> None:
    if form != "table":
        _print_value(session, form, rights.to_wire())
        return
    if not rights.rights:
        write(session.out, f"{rights.subject} may nothing here")
        return
    if rights.seen_groups:
        seen = rights.seen_groups
        of, at = ", ".join(seen.groups), f"{seen.seen_at:%Y-%m-%d %H:%M} UTC"
        session.err.print(f"In a session by {escape(seen.provider)}, with {of} as of {at}.", soft_wrap=True)
    table = Table(["WHERE", "VERBS", "KINDS", "SUBRESOURCES", "ONLY WHERE"])
    for right in rights.rights:
        table.add([_where(right.project, right.domain), *_cells(right.rule)])
    for rule in rights.restriction or []:
        table.add(["of that only", *_cells(rule)])
    table.print(session.out)


def _cells(rule: Rule) -> list[str]:
    return [", ".join(rule.verbs), ", ".join(rule.kinds), ", ".join(rule.subresources or []), rule.label_selector]


@command(
    "plan",
    panel=SETTINGS,
    within=auth,
    examples="""
    vcctl auth plan -f roles.yaml
    vcctl auth plan -f access/ -o json
    """,
)
async def plan(session: Session, file: Files = [], recursive: Recursive = False, output: OutputFormat = None) -> int:  # noqa: B006 - typer copies it
    """Show what applying manifests would allow and forbid: who, what, where. Nothing is written.

    Ends with 0 when nothing would change, 1 when something would. Shown are the places whose grants
    (RoleBindings) you may list.
    """
    form = _format(output)
    wanted: list[Wire] = []
    for manifest in read_manifests(session, file, recursive=recursive):
        if manifest.definition.kind in GIVING:
            live = await session.applier.find_live(manifest)
            model, now = manifest.definition.model, session.clock.now()
            wanted.append(apply_locally(model, live, manifest.wire, manager=MANAGER, force=True, now=now))
    changes = await AccessClient(session.client.connection).plan(wanted) if wanted else []
    if form != "table":
        _print_value(session, form, [change.to_wire() for change in changes])
    elif not changes:
        write(session.out, "nobody gains or loses anything")
    else:
        _print_changes(session, changes)
    return ExitCode.DIFFERENCE if changes else ExitCode.OK


def _print_changes(session: Session, changes: list[PlanChange]) -> None:
    """Print a line for what is alike but for the kind."""
    kinds: dict[tuple[str, str, str, str, str], list[str]] = {}
    for change in changes:
        sign = "+ may" if change.granted else "- may no more"
        where = _where(change.project, change.domain)
        key = (change.subject, where, sign, ", ".join(change.verbs), change.label_selector)
        kinds.setdefault(key, []).append(f"{change.kind}/{change.subresource}" if change.subresource else change.kind)
    before = None
    for (subject, where, sign, verbs, selector), found in sorted(kinds.items()):
        if (subject, where) != before:
            write(session.out, f"{subject} in {where}")
        before = (subject, where)
        only = f" where {selector}" if selector else ""
        style = "green" if sign.startswith("+") else "red"
        session.out.print(f"  [{style}]{sign}[/] {verbs}: {escape(', '.join(found) + only)}", soft_wrap=True)
    seen = sorted({(change.subject, change.seen_at) for change in changes if change.seen_at is not None})
    for subject, at in seen:
        write(session.err, f"{subject}: with the groups that its identity provider said at {at:%Y-%m-%d %H:%M} UTC")


@command("password", panel=SETTINGS, within=auth, examples="vcctl auth password")
async def password(session: Session) -> None:
    """Set another password. Your sessions on other machines end; this one goes on."""
    client, device = own_login(session)
    with Proving():
        present = ask_secret("Present password")
        await set_new_password(session, lambda new: client.change_password(present, new, device=device))
    session.err.print("The password is changed; other sessions have ended.")


@command(
    "reset-user",
    panel=SETTINGS,
    within=auth,
    examples="""
    vcctl auth reset-user alice
    vcctl auth reset-user alice --mfa
    """,
)
async def reset_user(
    session: Session,
    user: Annotated[str, typer.Argument(metavar="USER", show_default=False)],
    mfa: Annotated[bool, typer.Option("--mfa", help="Forget the second factor too: its owner has lost it.")] = False,
    yes: Yes = False,
) -> None:
    """Print a one-time secret with which a user logs in and sets a password; for a new user the first one.

    Password and sessions of the user end. Nobody but the user ever knows the new password.
    """
    what = "password, second factor and sessions" if mfa else "password and sessions"
    confirm(session, f"Present {what} of {user} end, if there are any. Go on?", yes=yes)
    client = AuthClient(session.client.connection, session.clock)
    if mfa:
        await client.reset_mfa(user)
        if (await session.client.get(User, user)).spec.identity_provider:
            session.err.print(f"The second factor of {escape(user)} is forgotten; its sessions have ended.")
            return
    issued = await client.issue_initial_secret(user)
    session.err.print(
        f"One-time secret of {escape(user)}, good until {issued.expires_at:%Y-%m-%d %H:%M} UTC for: "
        f"vcctl login --user {escape(user)}. It is not shown again.",
        soft_wrap=True,
    )
    write(session.out, issued.secret)


def own_login(session: Session) -> tuple[AuthClient, str]:
    """Return a client of the session, and the token by which it is known that this device logged in before.

    Raises:
        CommandError: if commands speak as somebody who has not logged in.
    """
    if session.identities.means is not Means.SESSION:
        raise CommandError(
            f"commands use {session.identities.means}, which has no password of its own",
            hint="Log in first: vcctl login --user USER",
            code=ExitCode.REFUSED,
        )
    held = session.identities.open_session_file().read()
    device = held.devices.get(held.user, "") if held is not None else ""
    return AuthClient(session.client.connection, session.clock), device


def _where(project: str | None, domain: str | None) -> str:
    if project:
        return f"project {project}"
    return f"domain {domain}" if domain else "the whole cloud"


def _format(output: str | None) -> str:
    form = parse_output(output).format
    if form not in ("table", "json", "yaml"):
        raise CommandError(f"-o {output} is no format here", hint="There are json and yaml.")
    return form


def _print_value(session: Session, form: str, value: Any) -> None:
    write(session.out, json.dumps(value, indent=2) if form == "json" else to_yaml(value).rstrip("\n"))
