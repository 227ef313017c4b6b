"""The lab's command line, `python -m deploy.lab up|down|clean|status|logs|exec|rotate`, behind the Makefile."""

import argparse
import os
import shlex
import sys

from deploy.lab import operator, rotation, status
from deploy.lab.cloud import Lab
from deploy.lab.errors import LabError
from deploy.lab.layout import CHECKOUT, default_state
from deploy.lab.report import Report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring the cloud up, or repair it")
    up.add_argument("--hosts", type=int, default=1, help="number of hosts; hosts made before stay (default 1)")
    up.add_argument("--only", choices=["infra"], help="infra: without vc-management and vc-compute")
    up.add_argument("--no-quickstart", action="store_true", help="do not upload the image and apply the examples")
    commands.add_parser("down", help="stop everything, guests included; keep the state")
    commands.add_parser("clean", help="stop everything and remove the state folder")
    commands.add_parser("status", help="show the processes")
    commands.add_parser("rotate", help="a new master key and a new certificate authority, while requests flow")
    logs = commands.add_parser("logs", help="show and follow the logs")
    logs.add_argument("part", nargs="?", default="", help="NODE or NODE/PROGRAM, such as h1 or h1/vc-compute")
    logs.add_argument("--no-follow", action="store_true", help="end after the last lines")
    execute = commands.add_parser("exec", help="run a command inside a host or central")
    execute.add_argument("--host", default="h1")
    execute.add_argument("--shell", help="the command as one line for sh")
    execute.add_argument("argv", nargs=argparse.REMAINDER, help="the command, after --")
    return parser


def _up(args: argparse.Namespace) -> int:
    report = Report()
    lab = Lab(default_state(), args.hosts, report=report)
    quick = args.only is None and not args.no_quickstart
    lab.up(args.only, with_quickstart=quick)
    print(f"\nUp in {report.elapsed():.1f} s; hosts: {', '.join(lab.hosts) or 'none'}. State: {lab.state}")
    if args.only is None:
        print(_console(lab, operator.ensure(lab.layout)))
        print(
            f"  API        {lab.api_url}  (CA certificate: {lab.path('pki/ca.crt')})\n"
            f"  vcctl      context written to {lab.path('vcctl.yaml')}\n\n"
            "Try:\n"
            "  .venv/bin/vcctl get instances -A -o wide\n"
            "  make exec HOST=h1 CMD='virsh list'\n"
            "  make exec HOST=central CMD='ovn-nbctl show'\n"
            "  make status; make logs PART=h1/vc-compute; make down"
        )
    return 0


def _console(lab: Lab, login: operator.FirstLogin) -> str:
    """Says where the console is and how a person gets in."""
    lines = [f"  console    {lab.api_url}/console/"]
    if login.secret_file is None:
        lines.append(f"             log in as {login.user} (forgot the password? vcctl auth reset-user {login.user})")
    elif login.secret is not None and sys.stdout.isatty():
        # Not into a pipe or a log: what is kept there may be read by others.
        lines.append(f"             log in as {login.user} with the one-time secret {login.secret}")
        lines.append(f"             (shown once; until the login it is in {login.secret_file} too)")
    else:
        lines.append(f"             log in as {login.user} with the one-time secret in {login.secret_file}")
    lines.append("             the browser asks about the certificate: it is of the CA below, which you may import")
    return "\n".join(lines)


def _logs(args: argparse.Namespace) -> int:
    folder = default_state() / "logs"
    node, _, program = args.part.partition("/")
    pattern = f"{node or '*'}/{program or '*'}.log" if args.part else "**/*.log"
    files = sorted(folder.glob(pattern)) or sorted(folder.glob(f"{args.part}.log"))
    if not files:
        raise LabError("logs", f"there is no log for '{args.part}' in {folder}.")
    follow = [] if args.no_follow else ["-F"]
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", "20" if len(files) > 1 else "100", *follow, *map(str, files)])


def _exec(args: argparse.Namespace) -> int:
    lab = Lab(default_state(), 0)
    argv = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    if args.shell:
        argv = ["sh", "-c", args.shell]
    if not argv:
        raise LabError("exec", "no command was given. Try: make exec HOST=h1 CMD='virsh list'")
    enter = lab.enter_argv(args.host)
    if not lab.layout.netns_file(args.host).exists():
        raise LabError("exec", f"{args.host} is not up ({shlex.join(argv)} was not run); try make up.")
    sys.stdout.flush()
    os.execvp(enter[0], [*enter, *argv])


def main() -> int:
    """Runs one command and returns its exit code."""
    args = _parser().parse_args()
    os.chdir(CHECKOUT)
    try:
        if args.command == "up":
            return _up(args)
        if args.command == "logs":
            return _logs(args)
        if args.command == "exec":
            return _exec(args)
        lab = Lab(default_state(), 0, report=Report())
        if args.command == "status":
            print(status.table(status.rows(lab)))
        elif args.command == "rotate":
            return 0 if rotation.rotate_under_load(lab, Report()) else 1
        elif args.command == "down":
            lab.down()
        else:
            lab.clean()
            print(f"Removed {lab.state}.")
    except LabError as error:
        print(f"\n{error.explain()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. What is there stays; run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit, which would wait for the threads of an interrupted `up`.
    os._exit(code)
