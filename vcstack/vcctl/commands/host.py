"""cordon and uncordon: whether new instances may come to a host."""

from rich.markup import escape

from vcstack.specs.kinds.host import Host, Scheduling
from vcstack.specs.plan import compare
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import HOSTS, HostNames
from vcstack.vcctl.reading import get_object
from vcstack.vcctl.selection import parse_objects
from vcstack.vcctl.session import Session


@command("cordon", panel=HOSTS, examples="vcctl cordon h1")
async def cordon(session: Session, names: HostNames) -> None:
    """Place nothing new on hosts; what runs there stays."""
    await _set(session, names, Scheduling.DISABLED, "cordoned")


@command("uncordon", panel=HOSTS, examples="vcctl uncordon h1")
async def uncordon(session: Session, names: HostNames) -> None:
    """Let new instances come to hosts again."""
    await _set(session, names, Scheduling.ENABLED, "uncordoned")


async def _set(session: Session, words: list[str], scheduling: Scheduling, word: str) -> None:
    definition = get_kind(Host.KIND)
    for name in parse_objects(words, Host.KIND):
        wire = await get_object(session, definition, name)
        patched = await session.client.merge_patch_wire(definition, name, {"spec": {"scheduling": scheduling.value}})
        changed = compare(Host, wire, patched)
        session.out.print(f"host/{escape(name)} {'' if changed else 'already '}{word}", soft_wrap=True)
