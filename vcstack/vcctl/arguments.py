"""The arguments and options that several commands share."""

from typing import Annotated

import typer

from vcstack.vcctl.completing import complete_kinds, complete_names_of, complete_targets

READ = "Look"
CHANGE = "Change"
INSTANCES = "Instances and images"
HOSTS = "Hosts"
SETTINGS = "Settings and help"

Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="KIND [NAME] | KIND/NAME",
        help="A kind and names, or KIND/NAME for each object.",
        autocompletion=complete_targets,
        show_default=False,
    ),
]
OneTarget = Annotated[
    list[str],
    typer.Argument(
        metavar="KIND NAME | KIND/NAME", help="One object.", autocompletion=complete_targets, show_default=False
    ),
]
Kind = Annotated[str, typer.Argument(metavar="KIND", autocompletion=complete_kinds, show_default=False)]
InstanceNames = Annotated[
    list[str],
    typer.Argument(metavar="INSTANCE", help="Names.", autocompletion=complete_names_of("Instance"), show_default=False),
]
InstanceName = Annotated[
    str, typer.Argument(metavar="INSTANCE", autocompletion=complete_names_of("Instance"), show_default=False)
]
HostNames = Annotated[
    list[str],
    typer.Argument(metavar="HOST", help="Names.", autocompletion=complete_names_of("Host"), show_default=False),
]
Files = Annotated[
    list[str],
    typer.Option("--file", "-f", metavar="FILE|DIR|-", help="A manifest, a folder of manifests, or - for stdin."),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-R", help="Folders below a folder too.")]
Overlays = Annotated[
    list[str],
    typer.Option("--overlay", metavar="DIR", help="Manifests laid over those of -f, field by field; may be repeated."),
]
PruneSet = Annotated[
    bool, typer.Option("--prune", help="Delete what belongs to the set and is in no manifest any more.")
]
SetName = Annotated[
    str | None,
    typer.Option("--set", metavar="NAME", help="The apply set; default one that stands for the folder's path."),
]
Labels = Annotated[
    str, typer.Option("--selector", "-l", metavar="SELECTOR", help="Labels, e.g. app=web,tier!=db or 'zone in (a,b)'.")
]
Fields = Annotated[
    str,
    typer.Option("--field-selector", metavar="SELECTOR", help="Fields, e.g. status.host=h1 or spec.sshKeys\\[*]=me."),
]
Everywhere = Annotated[bool, typer.Option("--all-projects", "-A", help="Across all projects.")]
OutputFormat = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FORMAT",
        help="table, wide, json, yaml, name, jsonpath=TEMPLATE, custom-columns=HEADING:PATH,...",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Let the API check everything and write nothing.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is so.")]
Timeout = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait, e.g. 90s, 5m.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
