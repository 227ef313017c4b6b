"""get: objects as tables or in any format, once or as they change."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated

import typer

from vcstack.applying.concurrency import gather
from vcstack.applying.sets import project_in
from vcstack.specs.access import EventType
from vcstack.specs.errors import Forbidden, NotFound
from vcstack.specs.registry import Column, KindDefinition, Scope, get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import READ, Everywhere, Fields, Labels, OutputFormat, Targets
from vcstack.vcctl.errors import CommandError, ExitCode, exit_code_of, show_error
from vcstack.vcctl.printing import (
    Output,
    Table,
    build_row,
    parse_output,
    parse_path,
    print_objects,
    sort_objects,
    table_columns,
    to_yaml,
    without_managed_fields,
    write,
)
from vcstack.vcctl.reading import Place, Wire, follow, get_object, list_objects, places_of
from vcstack.vcctl.selection import Selection, parse_selections
from vcstack.vcctl.session import Session

LABELS = Column("LABELS", "metadata.labels")
_MAPS = ("metadata.labels.", "metadata.annotations.")
_INDEX = re.compile(r"\[[^]]*\]")


@command(
    "get",
    panel=READ,
    examples="""
    vcctl get instances
    vcctl get instance web-1 -o yaml
    vcctl get networks,subnets -A -o wide
    vcctl get instances -l app=web --field-selector status.host=h1 --sort-by .metadata.creationTimestamp
    vcctl get networks,subnets --shared
    vcctl get networks --shared -w
    vcctl get hosts -w
    vcctl get instance web-1 -o jsonpath='{.status.addresses[0].address}'
    vcctl get instance web-1 --at-revision 1042 -o yaml
    """,
)
async def get(
    session: Session,
    targets: Targets,
    output: OutputFormat = None,
    selector: Labels = "",
    field_selector: Fields = "",
    all_projects: Everywhere = False,
    shared: Annotated[bool, typer.Option("--shared", help="Instead what other projects share with this one.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing what changes.")] = False,
    sort_by: Annotated[str | None, typer.Option("--sort-by", metavar="PATH", help="E.g. .metadata.name.")] = None,
    show_labels: Annotated[bool, typer.Option("--show-labels", help="Add a column with the labels.")] = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Rows only.")] = False,
    show_managed_fields: Annotated[bool, typer.Option("--show-managed-fields", help="In json and yaml.")] = False,
    at_revision: Annotated[
        str | None, typer.Option("--at-revision", metavar="REVISION", help="As it was then; see vcctl history.")
    ] = None,
) -> int:
    """Show objects: a table, or any format, once or as they change."""
    selections = parse_selections(targets)
    view = _View(session, parse_output(output), all_projects, show_labels, no_headers, show_managed_fields)
    if at_revision is not None:
        return await view.show_past(selections, at_revision)
    if shared:
        await view.show_lent(selections, sort_by, watch=watch)
        return 0
    places = [p for s in selections for p in _places(session, s, all_projects, selector, field_selector)]
    if watch:
        await view.follow(places)
        return 0
    if selections[0].name:
        if selector or field_selector:
            raise CommandError("names and selectors do not go together", hint="Leave one of them out.")
        return await view.show_named(selections)
    listed = []
    for definition in {s.definition.kind: s.definition for s in selections}.values():
        own = [p for p in places if p.definition is definition]
        _check_sorting(definition, sort_by)
        listed += [(definition, w) for w in sort_objects(await list_objects(session, own), sort_by)]
    if not listed and not all_projects:
        await _check_project(session, selections)
    view.show(listed, single=False)
    if not listed:
        view.show_nothing(selections)
    return 0


def _check_sorting(definition: KindDefinition, path: str | None) -> None:
    """Raise CommandError when no object of the kind can have anything at the path."""
    if path and not parse_path(path).startswith(_MAPS):
        # Imported when needed: a start without it takes less time.
        from vcstack.vcctl.fields import find_known_field

        find_known_field(definition, _INDEX.sub("", parse_path(path)))


async def _check_project(session: Session, selections: Sequence[Selection]) -> None:
    """Raise NotFound when nothing is there because the project is not."""
    project = session.default_project
    if project is None or all(s.definition.scope is Scope.GLOBAL for s in selections):
        return
    try:
        await session.client.get_wire(get_kind("Project"), project)
    except NotFound:
        raise NotFound(f"project {project} does not exist; see vcctl get projects") from None
    except Forbidden:
        return


def _places(session: Session, selection: Selection, everywhere: bool, labels: str, fields: str) -> Sequence[Place]:
    if selection.name:
        fields = f"metadata.name={selection.name}"
    return places_of(session, selection.definition, everywhere=everywhere, labels=labels, fields=fields)


class _View:
    """Prints objects as the options say."""

    def __init__(
        self,
        session: Session,
        output: Output,
        everywhere: bool,
        show_labels: bool,
        no_headers: bool,
        show_managed_fields: bool,
    ) -> None:
        self._session, self._output = session, output
        self._everywhere, self._show_labels, self._no_headers = everywhere, show_labels, no_headers
        self._managed = show_managed_fields

    def show(self, found: Sequence[tuple[KindDefinition, Wire]], *, single: bool) -> None:
        """Print the objects, a table for each kind."""
        if not self._output.is_table:
            items = [w if self._managed else without_managed_fields(w) for _, w in found]
            print_objects(self._session, self._output, items, single=single)
            return
        kinds = list(dict.fromkeys(d.kind for d, _ in found))
        for index, kind in enumerate(kinds):
            if index:
                write(self._session.out, "")
            own = [(d, w) for d, w in found if d.kind == kind]
            mixed = self._mixed([w for _, w in own])
            table = self._table(own[0][0], mixed=mixed)
            for definition, wire in own:
                table.add(self._row(definition, wire, prefixed=len(kinds) > 1, mixed=mixed))
            table.print(self._session.out)

    def show_nothing(self, selections: Sequence[Selection]) -> None:
        """Say that there is nothing, and where it was looked for."""
        if not self._output.is_table:
            return
        project = None if self._everywhere else self._session.default_project
        if all(s.definition.scope is Scope.GLOBAL for s in selections):
            project = None
        text = f"Nothing found in project {project}; -A looks in all projects." if project else "Nothing found."
        self._session.err.print(text, soft_wrap=True)

    async def show_lent(self, selections: Sequence[Selection], sort_by: str | None, *, watch: bool) -> None:
        """Print what other projects share with the one that is meant, once or as it changes."""
        places: list[Place] = []
        for definition in {s.definition.kind: s.definition for s in selections}.values():
            project = self._session.project_of(definition)
            if definition.lent_view is None or project is None:
                raise CommandError(f"{definition.plural} are not shared", hint="Networks and their subnets are.")
            places.append(Place(definition, project, lent=True))
        self._everywhere = True  # whose it is, is in the table
        if watch:
            await self.follow(places)
        found: list[tuple[KindDefinition, Wire]] = []
        for place in places:
            items = await list_objects(self._session, [place])
            found += [(place.definition, wire) for wire in sort_objects(items, sort_by)]
        self.show(found, single=False)
        if not found:
            self._session.err.print(f"Nothing is shared with project {self._session.default_project}.", soft_wrap=True)

    async def show_named(self, selections: Sequence[Selection]) -> int:
        """Print what is there of the named objects, then what is wrong with the others; return the exit code."""
        calls = [partial(get_object, self._session, s.definition, s.name or "") for s in selections]
        results = await gather(calls)
        found = [(s.definition, r) for s, r in zip(selections, results, strict=True) if not isinstance(r, Exception)]
        failures = [r for r in results if isinstance(r, Exception)]
        if found:
            self.show(found, single=len(selections) == 1)
        for failure in failures:
            show_error(self._session.err, failure)
        return max((exit_code_of(f) for f in failures), default=ExitCode.OK)

    async def follow(self, places: Sequence[Place]) -> None:
        """Print the objects and then every change, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for place in places:
                tasks.create_task(self._follow(place, prefixed=len({p.definition.kind for p in places}) > 1))

    async def _follow(self, place: Place, *, prefixed: bool) -> None:
        """Print the list as one table, then a row for each change."""
        table: Table | None = None
        first: list[Wire] = []
        async with aclosing(follow(self._session, place)) as stream:
            async for kind, wire in stream:
                if not self._output.is_table:
                    if kind is not EventType.BOOKMARK:
                        self._print_change(wire)
                elif kind is EventType.BOOKMARK:
                    table = self._table(place.definition, mixed=self._everywhere)
                    for item in first:
                        table.add(self._row(place.definition, item, prefixed=prefixed, mixed=self._everywhere))
                    table.print(self._session.out)
                elif table is None:
                    first.append(wire)
                else:
                    row = self._row(place.definition, wire, prefixed=prefixed, mixed=self._everywhere)
                    table.add([*row[:-1], f"{row[-1]} (deleted)"] if kind is EventType.DELETED else row)
                    table.print(self._session.out)

    def _print_change(self, wire: Wire) -> None:
        shown = wire if self._managed else without_managed_fields(wire)
        if self._output.format == "yaml":
            write(self._session.out, "---\n" + to_yaml(shown).rstrip("\n"))
        else:
            print_objects(self._session, self._output, [shown], single=True)

    async def show_past(self, selections: Sequence[Selection], revision: str) -> int:
        """Print one object as it was at a revision."""
        if len(selections) != 1 or selections[0].name is None:
            raise CommandError("--at-revision is for one object", hint="Write KIND NAME --at-revision REVISION.")
        definition, name = selections[0].definition, selections[0].name
        project = self._session.project_of(definition)
        if definition.scope is Scope.GLOBAL_OR_PROJECT:
            project = self._session.options.project
        wire = await self._session.client.get_at_revision(definition, name, revision, project=project)
        self.show([(definition, wire)], single=True)
        return 0

    def _mixed(self, items: Sequence[Wire]) -> bool:
        """Return whether the table needs a column for the project."""
        return self._everywhere or len({project_in(w) for w in items}) > 1

    def _columns(self, definition: KindDefinition, mixed: bool) -> list[Column]:
        with_project = mixed and definition.scope is not Scope.GLOBAL
        columns = table_columns(definition, self._output, with_project=with_project)
        return [*columns, LABELS] if self._show_labels else columns

    def _table(self, definition: KindDefinition, *, mixed: bool) -> Table:
        headings = [c.name for c in self._columns(definition, mixed)]
        return Table(headings, show_headings=not self._no_headers)

    def _row(self, definition: KindDefinition, wire: Wire, *, prefixed: bool, mixed: bool) -> list[str]:
        prefix = f"{definition.singular}/" if prefixed else ""
        return build_row(self._session, self._columns(definition, mixed), wire, prefix=prefix)
