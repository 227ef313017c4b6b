"""vc-management: the cloud's manager.

vc-management init --state DIR [--api-url URL]     makes CA, certificates, keys, admin token and vcctl's context
vc-management serve --config FILE [--roles ...]    runs API, controllers and mirror
vc-management join-token --config FILE HOST        prints a one-time token that lets a host join
"""

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import structlog
import uvloop
import yaml

from vcstack.apiclient.connection import Connection
from vcstack.apiclient.hosts import HostClient
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.apiserver.door import raise_file_limit
from vcstack.apiserver.limits.shared import SharedTable
from vcstack.crypto import keyringfile
from vcstack.crypto.errors import CryptoError
from vcstack.dumps import forbid_dumps
from vcstack.pki.files import PRIVATE, write_atomically
from vcstack.pki.installation import DEFAULT_SANS, ensure_installation
from vcstack.pki.keys import PkiError
from vcstack.programs.composition import Management, read_admin_token
from vcstack.programs.logs import set_up_logging
from vcstack.programs.managementsafety import demand_safe_management
from vcstack.programs.roles import ALL_ROLES, Role, parse_roles
from vcstack.programs.safety import Unsafe
from vcstack.programs.settings import KEYRING_NAME, ManagementSettings, SettingsError, load_settings
from vcstack.programs.workers import BUCKETS_VARIABLE, WORKER_VARIABLE, run_worker, stop_with_parent
from vcstack.specs.errors import ApiError

DEFAULT_API_URL = "https://127.0.0.1:8443"
EXPECTED = (SettingsError, Unsafe, PkiError, CryptoError, ApiError, OSError, ValueError)
"""What is told as a sentence; anything else is a fault of ours and shows its traceback."""

OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""Requests leave hardly any cycles behind; at Python's 700 the collector took an eighth of a write's CPU."""

logger = structlog.get_logger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Run the command given."""
    forbid_dumps()
    asked = _parser().parse_args(arguments)
    try:
        asked.run(asked)
    except Exception as error:
        cause = _innermost(error)
        if not isinstance(cause, EXPECTED):
            raise
        print(f"vc-management: {_sentence(cause)}", file=sys.stderr)
        _leave(1)
    _leave(0)


def init(asked: argparse.Namespace) -> None:
    """Make what is missing of an installation; idempotent."""
    state: Path = asked.state.absolute()
    host = urlsplit(asked.api_url).hostname
    if host is None or urlsplit(asked.api_url).scheme != "https":
        raise SettingsError(f"--api-url {asked.api_url!r}: write https://HOST:PORT")
    sans = tuple(dict.fromkeys((*DEFAULT_SANS, host, *asked.san)))
    paths = ensure_installation(state, sans)
    keyringfile.ensure(state / KEYRING_NAME)
    context = {
        "name": "default",
        "apiUrl": asked.api_url,
        "caFile": str(paths.ca_cert),
        "tokenFile": str(paths.admin_token),
        **({"project": asked.project} if asked.project else {}),
    }
    text = yaml.safe_dump({"currentContext": "default", "contexts": [context]}, sort_keys=False)
    write_atomically(state / "vcctl.yaml", text.encode(), PRIVATE)
    print(f"certificates, master key, admin token and vcctl's context are in {state}")


def serve(asked: argparse.Namespace) -> None:
    """Run until SIGTERM or SIGINT."""
    settings = load_settings(asked.config)
    demand_safe_management(settings, asked.config)
    roles = parse_roles(asked.roles) if asked.roles else ALL_ROLES
    set_up_logging(settings.log_level)
    logger.info("starting", roles=sorted(roles), pid=os.getpid())
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, roles, asked.config.absolute()))


def join_token(asked: argparse.Namespace) -> None:
    """Print a join token, asked of the running API."""
    settings = load_settings(asked.config)
    print(asyncio.run(_ask_for_token(settings, asked.api_url or _own_url(settings), asked.host)))


async def _serve(settings: ManagementSettings, roles: frozenset[Role], config: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, stop.set)
    worker = os.environ.get(WORKER_VARIABLE)
    inherited = _count_inherited()
    environment = dict(os.environ)
    identity = f"{socket.gethostname()}-{os.getpid()}"
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(stop_with_parent(stop)) if worker else None
        if worker is None and Role.API in roles and settings.api_workers > 1:
            limits = SharedTable.create(settings.api_workers)
            environment[BUCKETS_VARIABLE] = str(limits.fd)
            for number in range(1, settings.api_workers):
                group.create_task(run_worker(config, number, inherited, limits, stop))
        try:
            await Management(settings, roles, environment, identity, config).run(stop)
        finally:
            stop.set()
            if watching is not None:
                watching.cancel()
    logger.info("stopped")


async def _ask_for_token(settings: ManagementSettings, url: str, host: str) -> str:
    token = read_admin_token(settings.state_dir)
    connection = ConnectionSettings(
        api_url=url, ca_file=settings.pki.ca_cert_file, token=token, user_agent="vc-management"
    )
    async with Connection(connection) as opened:
        return (await HostClient(opened).create_join_token(host)).token


def _own_url(settings: ManagementSettings) -> str:
    if not settings.api.listen:
        raise SettingsError("api.listen: is empty; name the API with --api-url")
    return f"https://{settings.api.listen[0]}"


def _count_inherited() -> int:
    """Return how many sockets systemd (or a parent) has passed on to this very process."""
    count, owner = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", "")
    return int(count) if count.isdigit() and owner in ("", str(os.getpid())) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vc-management", description="The manager of a VC Stack cloud.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    making = commands.add_parser("init", help="make CA, certificates, master key, admin token and vcctl's context")
    making.add_argument("--state", type=Path, required=True, help="the folder that keeps them")
    making.add_argument("--api-url", default=DEFAULT_API_URL, help="where the API will be (default: %(default)s)")
    making.add_argument("--project", default="", help="the project that vcctl means when none is named")
    making.add_argument("--san", action="append", default=[], help="one more name or address of the servers")
    making.set_defaults(run=init)
    serving = commands.add_parser("serve", help="run API, controllers and mirror")
    serving.add_argument("--config", type=Path, required=True, help="the settings file (YAML)")
    serving.add_argument("--roles", default="", help="some of api,controllers,mirror (default: all)")
    serving.set_defaults(run=serve)
    token = commands.add_parser("join-token", help="print a one-time token that lets a host join")
    token.add_argument("--config", type=Path, required=True, help="the settings file (YAML)")
    token.add_argument("--api-url", default="", help="where the API is (default: the first of api.listen)")
    token.add_argument("host", help="the host's name")
    token.set_defaults(run=join_token)
    return parser


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _sentence(error: BaseException) -> str:
    if isinstance(error, ApiError):
        return error.message
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _leave(code: int) -> NoReturn:
    """End at once: a thread that hangs in a library must not hold up the end of the program."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
