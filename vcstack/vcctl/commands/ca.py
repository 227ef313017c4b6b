"""ca: the authority of the cloud's own services and hosts: its rotation, and taking its certificates over."""

from typing import Annotated

import typer

from vcstack.specs.kinds.certificateauthority import INTERNAL, CertificateAuthority
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import app, command
from vcstack.vcctl.arguments import SETTINGS, Timeout
from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.reading import get_object
from vcstack.vcctl.session import Session
from vcstack.vcctl.trusting import take_over
from vcstack.vcctl.waiting import Awaited, condition_goal, parse_duration, wait_for

ca = typer.Typer(help="The authority that signs for the cloud's services and hosts.", no_args_is_help=True)
app.add_typer(ca, name="ca", rich_help_panel=SETTINGS)


@command(
    "rotate",
    panel=SETTINGS,
    within=ca,
    examples="""
    vcctl ca rotate
    vcctl ca rotate --overlap 0s --wait --timeout 10m
    """,
)
async def rotate(
    session: Session,
    overlap: Annotated[
        str | None,
        typer.Option(
            "--overlap",
            metavar="DURATION",
            help="How long both are trusted before the new one signs, for people with a copy. Default as it is set.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the old one is trusted no more.")] = False,
    timeout: Timeout = "5m",
) -> None:
    """Begin to replace the authority by a new one. Nothing fails on the way; vcctl why ca internal shows how far it is.

    The new one is given to all to trust, then signs, then all certificates are renewed, then the old one is trusted
    no more. Each step waits until everybody is seen to be ready for it. One that is under way goes on.
    """
    definition = get_kind(CertificateAuthority.KIND)
    wire = await get_object(session, definition, INTERNAL)
    status = wire.get("status", {})
    signing, versions = status.get("version"), status.get("versions") or []
    if signing is None:
        raise CommandError("the authority has not been looked at yet", hint="Is vc-management's controller running?")
    under_way = len(versions) > 1 or wire["spec"].get("version", 1) > signing
    wanted = wire["spec"].get("version", 1) if under_way else signing + 1
    spec: dict[str, int] = {"version": wanted}
    if overlap is not None:
        spec["overlapSeconds"] = int(parse_duration(overlap))
    await session.client.merge_patch_wire(definition, INTERNAL, {"spec": spec})
    session.out.print(f"version {wanted} of the authority {'is under way' if under_way else 'will be made'}")
    if wait:
        awaited = [Awaited(CertificateAuthority.KIND, None, INTERNAL)]
        await wait_for(session, awaited, condition_goal("Ready", "True"), timeout_seconds=parse_duration(timeout))
        session.out.print(f"version {wanted} signs and is trusted alone")


@command("trust", panel=SETTINGS, within=ca, examples="vcctl ca trust")
async def trust(session: Session) -> None:
    """Take over whom the cloud trusts into the context's CA file, from an API that the file trusts now.

    Every command does so once a day.
    """
    path = session.identities.settings.ca_file
    if path is None:
        raise CommandError("this context trusts the system's authorities", hint="There is no file to keep.")
    changed = await take_over(session.client.connection, path)
    session.out.print(f"{path} {'holds the new certificates' if changed else 'is as it should be'}", soft_wrap=True)
