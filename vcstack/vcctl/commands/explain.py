"""explain and api-resources: what kinds and fields there are, from the models themselves."""

from typing import Annotated

import typer
from rich.markup import escape

from vcstack.specs.fielddocs import FieldDoc, document, document_tree
from vcstack.specs.meta import API_VERSION
from vcstack.specs.model import Change
from vcstack.specs.registry import KindDefinition, Scope, load_kinds
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import READ, SETTINGS, OutputFormat
from vcstack.vcctl.completing import complete_kinds
from vcstack.vcctl.fields import find_known_field
from vcstack.vcctl.printing import Table, parse_output, style_of, write
from vcstack.vcctl.selection import parse_kind
from vcstack.vcctl.session import Session
from vcstack.vcctl.showing import EXPLAINED


@command(
    "explain",
    panel=READ,
    examples="""
    vcctl explain instance
    vcctl explain instance.spec.networkInterfaces
    vcctl explain subnet --recursive
    """,
)
async def explain(
    session: Session,
    field: Annotated[str, typer.Argument(metavar="KIND[.FIELD...]", autocompletion=complete_kinds)],
    recursive: Annotated[bool, typer.Option("--recursive", help="All fields, nested ones too.")] = False,
) -> None:
    """Say what a kind or a field is: its type, its rules, and what a change of it takes."""
    word, _, path = field.partition(".")
    definition = parse_kind(word)
    if not path:
        _print_kind(session, definition, recursive)
        return
    _print_field(session, definition, find_known_field(definition, path), recursive)


def _print_kind(session: Session, definition: KindDefinition, recursive: bool) -> None:
    where = {Scope.GLOBAL: "global", Scope.PROJECT: "in a project"}.get(definition.scope, "global or in a project")
    session.out.print(f"[bold]{definition.kind}[/]  {API_VERSION}, {where}, {definition.category}", soft_wrap=True)
    write(session.out, (definition.model.__doc__ or "").strip())
    names = ", ".join(n for n in (definition.plural, definition.singular, *definition.short_names))
    write(session.out, f"Names: {names}")
    if definition.ready_when:
        write(session.out, f"Ready when: {', '.join(definition.ready_when)}")
    fields = document(definition.model)
    nested = (f for f in document_tree(definition.model) if f.path.split(".")[0] in ("spec", "status"))
    shown = list(nested) if recursive else [f for f in fields if f.name in ("metadata", "spec", "status")]
    if not recursive:
        shown += [f for s in shown if s.name in ("spec", "status") and s.model for f in document(s.model, path=s.path)]
    _print_fields(session, sorted(shown, key=lambda f: f.path.split(".")[0]) if not recursive else shown)


def _print_field(session: Session, definition: KindDefinition, field: FieldDoc, recursive: bool) -> None:
    session.out.print(f"[bold]{definition.kind}.{escape(field.path)}[/]  <{escape(field.type_name)}>", soft_wrap=True)
    write(session.out, field.description)
    if field.required:
        write(session.out, "Required.")
    if field.default is not None:
        write(session.out, f"Default: {field.default}")
    if field.choices:
        write(session.out, f"One of: {', '.join(field.choices)}")
    for rule in field.rules:
        write(session.out, f"Rule: {rule}")
    if field.refers_to:
        write(session.out, f"Refers to {field.refers_to}.")
    if field.path.startswith("spec"):
        style = style_of(field.change.value)
        word = f"[{style}]{field.change.value.lower()}[/]"
        session.out.print(f"A change ({word}) {EXPLAINED[field.change]}.", soft_wrap=True)
    if field.model is not None:
        tree = document_tree if recursive else document
        _print_fields(session, list(tree(field.model, path=field.path, above=field.change)))


def _print_fields(session: Session, fields: list[FieldDoc]) -> None:
    write(session.out, "\nFields:")
    table = Table(["  FIELD", "TYPE", "CHANGE", "DESCRIPTION"])
    for field in fields:
        change = field.change.value if field.path.startswith("spec.") else ""
        more = f" One of {', '.join(field.choices)}." if field.choices else ""
        more += f" Refers to {field.refers_to}." if field.refers_to else ""
        change = "" if change == Change.LIVE else change
        required = " (required)" if field.required and field.path != "spec" else ""
        table.add([f"  {field.path}{required}", field.type_name, change, field.description + more])
    table.print(session.out)


@command("api-resources", panel=SETTINGS, examples="vcctl api-resources -o wide")
async def api_resources(session: Session, output: OutputFormat = None) -> None:
    """List the kinds with their names, where they live and what group they are in."""
    form = parse_output(output)
    definitions = sorted(load_kinds().values(), key=lambda d: (d.category, d.kind))
    if form.format == "name":
        for definition in definitions:
            write(session.out, definition.plural)
        return
    wide = ["APPLY ORDER", "READY WHEN", "DESCRIPTION"] if form.format == "wide" else []
    table = Table(["NAME", "SHORT NAMES", "KIND", "IN A PROJECT", "GROUP", *wide])
    for d in definitions:
        where = {Scope.GLOBAL: "no", Scope.PROJECT: "yes"}.get(d.scope, "or global")
        more = [d.apply_order, ",".join(d.ready_when), (d.model.__doc__ or "").strip()] if wide else []
        table.add([d.plural, ",".join(d.short_names), d.kind, where, d.category, *more])
    table.print(session.out)
