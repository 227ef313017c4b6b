"""why: what really holds an object up, and what to do."""

from rich.markup import escape
from rich.tree import Tree

from vcstack.apiclient.explainmessages import WhyFinding
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import READ, OneTarget
from vcstack.vcctl.printing import write
from vcstack.vcctl.reading import get_object
from vcstack.vcctl.selection import parse_one
from vcstack.vcctl.session import Session


@command(
    "why",
    panel=READ,
    examples="""
    vcctl why instance web-1
    vcctl why port/i-7fa3b2c4d5e6-eth0
    """,
)
async def why(session: Session, targets: OneTarget) -> None:
    """Say what really holds an object up, and what to do.

    Follows the object's conditions, what it refers to, what it owns and the host it is on, down to the
    end of the chain.
    """
    selection = parse_one(targets)
    wire = await get_object(session, selection.definition, selection.name or "")
    name, project = wire["metadata"]["name"], wire["metadata"].get("project")
    finding = await session.client.why(selection.definition, name, project=project)
    if finding.healthy:
        session.out.print(f"[green]{escape(finding.label)}[/] {escape(finding.sentence)}.", soft_wrap=True)
        return
    if finding.warnings or finding.because:
        # A tree cuts what it may not wrap.
        session.out.print(_grow(finding), soft_wrap=not session.out.is_terminal)
        write(session.out, "")
    causes = {c.label: c for c in finding.causes()}
    for cause in causes.values():
        session.out.print(f"[bold red]Cause:[/]      {escape(f'{cause.label}: {cause.sentence}')}", soft_wrap=True)
        if cause.advice and cause.advice not in cause.sentence:
            session.out.print(f"[bold yellow]What to do:[/] {escape(cause.advice)}", soft_wrap=True)


def _grow(finding: WhyFinding, tree: Tree | None = None) -> Tree:
    style = "green" if finding.healthy else "red"
    via = f" [dim](by {escape(finding.path)})[/]" if finding.path else ""
    text = f"[{style}]{escape(finding.label)}[/]{via}: {escape(finding.sentence)}"
    branch = Tree(text) if tree is None else tree.add(text)
    for warning in finding.warnings:
        branch.add(f"[dim]event {escape(warning)}[/]")
    for below in finding.because:
        _grow(below, branch)
    return branch
