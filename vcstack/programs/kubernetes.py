"""What the Helm chart's pods run beside the programs: secrets of the installation, accounts, joining hosts.

python -m vcstack.programs.kubernetes prepare ...   a hook: makes what is missing of the installation's Secrets
python -m vcstack.programs.kubernetes seed ...      a manager's init container: its state from the Secrets
python -m vcstack.programs.kubernetes keep ...      beside a manager: renewed files to it, its authority to the Secrets
python -m vcstack.programs.kubernetes enrol ...     a hook: accounts of hosts and operator, their keys into Secrets
python -m vcstack.programs.kubernetes join ...      a host's init container: its settings, and a one-time join token

Nothing secret is ever an argument or printed.
"""

import argparse
import asyncio
import os
import signal
import socket
import ssl
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

import structlog
import yaml

from vcstack.apiclient.auth import AuthClient
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.credentials import ApiKey, KeyCredentials
from vcstack.apiclient.hosts import HostClient
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.crypto.errors import CryptoError
from vcstack.dumps import forbid_dumps
from vcstack.pki.files import PRIVATE, write_atomically
from vcstack.pki.keys import PkiError
from vcstack.programs.clusterinstallation import (
    ADMIN_TOKEN,
    CA,
    Cluster,
    Objects,
    copy_private,
    prepare_backends,
    prepare_installation,
    prepare_password,
    publish,
    seed,
)
from vcstack.programs.kubernetesapi import Account, ClusterError, ClusterObjects
from vcstack.programs.logs import set_up_logging
from vcstack.programs.settings import KEYRING_NAME
from vcstack.specs.errors import AlreadyExists, ApiError, Unavailable
from vcstack.specs.meta import API_VERSION
from vcstack.specs.registry import get_kind

LOOK_SECONDS: Final = 5.0
"""How often mounted Secrets and the authority are looked at; the kubelet takes a minute for its part."""
RETRY_SECONDS: Final = 3.0
API_KEY: Final = "api-key"
"""The field of a Secret with KEYID:SECRET."""
EXPECTED: Final = (ClusterError, ApiError, PkiError, CryptoError, OSError, ValueError, KeyError)

logger = structlog.get_logger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Run the command given."""
    forbid_dumps()
    set_up_logging("info")
    asked = _parser().parse_args(arguments)
    try:
        asked.run(asked)
    except EXPECTED as error:
        print(f"vcstack.programs.kubernetes: {error}", file=sys.stderr)
        sys.exit(1)


def prepare(asked: argparse.Namespace) -> None:
    """Make what is missing of the Secrets, renew certificates; idempotent."""
    cluster = _cluster(asked.release)
    prepare_installation(cluster, asked.ovn_name or ["localhost"])
    backends: dict[str, list[str]] = {}
    for given in asked.backend:
        part, equals, name = given.partition("=")
        if not equals or not name:
            raise ValueError(f"--backend {given!r}: write PART=NAME")
        backends.setdefault(part, []).append(name)
    if backends:
        prepare_backends(cluster, backends)
    for part in asked.password:
        prepare_password(cluster, part)
    logger.info("prepared", release=asked.release)


def start(asked: argparse.Namespace) -> None:
    """Make a manager's private state and settings from what is mounted."""
    seed(asked.state, asked.installation, asked.san)
    _copy(asked)
    config: dict[str, Any] = yaml.safe_load(asked.config.read_text())
    for field in ("northbound", "southbound"):
        if config.get("ovn", {}).get(field):
            config["ovn"][field] = resolve_remotes(config["ovn"][field])
    text = yaml.safe_dump(config, sort_keys=False)
    write_atomically(asked.state / "management.yaml", text.encode(), PRIVATE)


def keep(asked: argparse.Namespace) -> None:
    """Hand renewed files to the manager, and its authority to the Secrets, until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    cluster = _cluster(asked.release)
    while True:
        try:
            _copy(asked)
            if is_ready(asked.api, asked.state / "pki" / CA):
                changed = publish(cluster, asked.state)
                if changed:
                    logger.info("published", secrets=changed)
        except EXPECTED as error:
            logger.warning("it is tried again", error=str(error))
        if asked.once or stop.wait(LOOK_SECONDS):
            return


def enrol(asked: argparse.Namespace) -> None:
    """Make the accounts, and their keys unless they are in Secrets; waits for the API."""
    settings = ConnectionSettings(
        api_url=asked.api,
        ca_file=asked.installation / CA,
        token=(asked.installation / ADMIN_TOKEN).read_text().strip(),
        user_agent="vcstack-enrol",
    )
    secrets, manifests = _cluster(asked.release).secrets, asked.manifests.read_text()
    asyncio.run(ensure_accounts(settings, secrets, asked.release, manifests, wait_seconds=asked.wait_seconds))


def join(asked: argparse.Namespace) -> None:
    """Write a host's settings, and a join token if the host has not joined yet."""
    asyncio.run(write_host(asked))


async def write_host(asked: argparse.Namespace) -> None:
    """Write what the agent of a host starts with."""
    config: dict[str, Any] = yaml.safe_load(asked.config.read_text())
    config["hostName"] = asked.host.replace(".", "-")
    if asked.address:
        config["ovn"] = {**config["ovn"], "remote": resolve_remotes(config["ovn"]["remote"]), "encapIp": asked.address}
    token_file = asked.state / "join-token"
    config |= {"stateDir": str(asked.state), "joinTokenFile": str(token_file)}
    asked.state.mkdir(mode=0o711, parents=True, exist_ok=True)
    write_atomically(asked.state / "compute.yaml", yaml.safe_dump(config, sort_keys=False).encode(), PRIVATE)
    if not (asked.state / "pki" / "host.crt").exists():
        token = await _ask_for_token(asked, config["apiUrl"], config["hostName"])
        write_atomically(token_file, token.encode(), PRIVATE)


def resolve_remotes(remotes: str) -> str:
    """Return OVSDB's remotes with addresses instead of names: its clients take nothing else. Raises OSError."""
    found = []
    for remote in remotes.split(","):
        scheme, _, rest = remote.strip().partition(":")
        host, _, port = rest.rpartition(":")
        if scheme in ("ssl", "tcp") and host:
            address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0][4][0]
            rest = f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"
        found.append(f"{scheme}:{rest}")
    return ",".join(found)


def is_ready(url: str, ca_file: Path) -> bool:
    """Return whether the manager beside us serves: then it agrees with the store on who signs."""
    context = ssl.create_default_context(cafile=str(ca_file))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"{url}/readyz", timeout=LOOK_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def _copy(asked: argparse.Namespace) -> None:
    for given in asked.copy:
        source, _, target = given.partition("=")
        copy_private(Path(source), Path(target))
    keyring, own = asked.installation / KEYRING_NAME, asked.state / KEYRING_NAME
    # Master keys are changed in the Secret, for all replicas at once.
    if own.exists() and keyring.read_bytes() != own.read_bytes():
        write_atomically(own, keyring.read_bytes(), PRIVATE)


async def ensure_accounts(
    settings: ConnectionSettings, secrets: Objects, release: str, manifests: str, *, wait_seconds: float
) -> None:
    """Make the objects of the manifests, and a Secret with a key for each APIKey among them, unless there is one."""
    async with Connection(settings) as connection:
        client = ApiClient(connection)
        await _until_ready(connection, wait_seconds)
        for each in yaml.safe_load_all(manifests):
            await _ensure(client, each)
            name, project = each["metadata"]["name"], each["metadata"].get("project")
            secret = f"{release}-{name}"
            if each["kind"] != "APIKey" or await asyncio.to_thread(secrets.find, secret) is not None:
                continue
            issued = await AuthClient(connection).issue_key_secret(name, project=project)
            key = str(ApiKey(issued.key_id, issued.secret)).encode()
            await asyncio.to_thread(secrets.create, secret, {API_KEY: key})
            logger.info("a key was made", secret=secret)


async def _until_ready(connection: Connection, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                await connection.request("GET", "/readyz")
                return
            except Unavailable as error:
                logger.info("the API does not answer yet", error=error.message)
                await asyncio.sleep(RETRY_SECONDS)


async def _ensure(client: ApiClient, wire: dict[str, Any]) -> None:
    """Make the object, unless there is one: an administrator may have changed it since."""
    try:
        await client.create_wire(get_kind(wire["kind"]), {"apiVersion": API_VERSION, **wire})
    except AlreadyExists:
        return


async def _ask_for_token(asked: argparse.Namespace, url: str, host: str) -> str:
    settings = ConnectionSettings(api_url=url, ca_file=asked.ca, user_agent="vcstack-join")
    credentials = KeyCredentials(ApiKey.read(asked.key), AuthClient(Connection(settings)))
    async with Connection(settings, credentials=credentials) as connection:
        await _until_ready(connection, asked.wait_seconds)
        return (await HostClient(connection).create_join_token(host)).token


def _cluster(release: str) -> Cluster:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    account = Account.of_pod(host, port)
    labels = {
        "app.kubernetes.io/part-of": "vcstack",
        "app.kubernetes.io/instance": release,
        "app.kubernetes.io/managed-by": "vcstack",
    }
    return Cluster(release, ClusterObjects(account, "secrets", labels), ClusterObjects(account, "configmaps", labels))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vcstack.programs.kubernetes", description="What the Helm chart's pods run.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    making = commands.add_parser("prepare", help="make what is missing of the installation's Secrets")
    making.add_argument("--release", required=True, help="what the Secrets' names begin with")
    making.add_argument("--ovn-name", action="append", default=[], help="a name of OVN's databases")
    making.add_argument("--backend", action="append", default=[], metavar="PART=NAME", help="a name of a server")
    making.add_argument("--password", action="append", default=[], metavar="PART", help="a part that has a password")
    making.set_defaults(run=prepare)
    seeding = commands.add_parser("seed", help="make a manager's state and settings from what is mounted")
    _state_arguments(seeding)
    seeding.add_argument("--config", type=Path, required=True, help="management.yaml, with names in it")
    seeding.add_argument("--san", action="append", default=[], help="a name or address of this manager")
    seeding.set_defaults(run=start)
    keeping = commands.add_parser("keep", help="hand renewed files to the manager, its authority to the Secrets")
    _state_arguments(keeping)
    keeping.add_argument("--release", required=True, help="what the Secrets' names begin with")
    keeping.add_argument("--api", default="https://127.0.0.1:8443", help="the manager (default: %(default)s)")
    keeping.add_argument("--once", action="store_true", help="do it once")
    keeping.set_defaults(run=keep)
    enrolling = commands.add_parser("enrol", help="make accounts and their keys")
    enrolling.add_argument("--release", required=True, help="what the Secrets' names begin with")
    enrolling.add_argument("--installation", type=Path, required=True, help="the mounted Secret")
    enrolling.add_argument("--api", required=True, help="the API")
    enrolling.add_argument("--manifests", type=Path, required=True, help="accounts, roles, bindings and keys")
    enrolling.add_argument("--wait-seconds", type=float, default=600, help="for the API (default: %(default)s)")
    enrolling.set_defaults(run=enrol)
    joining = commands.add_parser("join", help="write a host's settings and a join token")
    joining.add_argument("--state", type=Path, required=True, help="the host's state folder")
    joining.add_argument("--config", type=Path, required=True, help="what all hosts' settings have in common")
    joining.add_argument("--host", required=True, help="the host's name")
    joining.add_argument("--address", default="", help="its tunnels' address")
    joining.add_argument("--ca", type=Path, required=True, help="the cloud's CA")
    joining.add_argument("--key", type=Path, required=True, help="the file with the API key that may ask for tokens")
    joining.add_argument("--wait-seconds", type=float, default=600, help="for the API (default: %(default)s)")
    joining.set_defaults(run=join)
    return parser


def _state_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", type=Path, required=True, help="the manager's state folder")
    parser.add_argument("--installation", type=Path, required=True, help="the mounted Secret of the installation")
    parser.add_argument("--copy", action="append", default=[], metavar="FROM=TO", help="a mounted Secret and its copy")


if __name__ == "__main__":
    main()
