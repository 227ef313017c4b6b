"""The central node: etcd, PostgreSQL, OVN's databases and northd, vc-management, and the underlay all hosts hang on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from deploy.lab import namespaces
from deploy.lab.errors import LabError
from deploy.lab.layout import BIN, CENTRAL, CHECKOUT, Layout, write
from deploy.lab.programs import Program
from deploy.lab.shell import run, wait_until
from deploy.lab.supervisor import Supervisor

ADDRESS = "10.98.0.1"
LOOPBACK = "127.0.0.1"
"""For what only programs of the node call: the store and the northbound database have no business with hosts."""
UNDERLAY_MTU = 1600  # a 1500-byte guest frame and geneve's 58 bytes
POSTGRES = "/usr/lib/postgresql/15/bin"
PG_DATA = "/var/lib/postgresql/data"
SCHEMAS = Path("/usr/share/ovn")
ETCD_CLIENT = "etcd-client.vcstack.internal"
"""What etcd asks of certificates; as in vcstack.pki.installation, which the lab can do without."""
CHASSIS = "system:host:"
"""What a host is called in its certificate, before its name; OVN lets it change the chassis of that very name only."""
PROBE_MS = 60000  # a busy small machine must not lose its OVSDB sessions to the default of 5 s
INFRA = ("etcd", "postgres", "ovn-nb", "ovn-sb", "northd")
MANAGEMENT = "vc-management"


def binds(layout: Layout) -> dict[Path, str]:
    """The node's private folders and the default paths at which its programs see them."""
    base = layout.node(CENTRAL)
    return {
        base / "run": "/run",
        base / "ovn": "/var/lib/ovn",
        base / "postgres": "/var/lib/postgresql",
        layout.state / "logs" / CENTRAL / "ovn": "/var/log/ovn",
    }


def forget_last_boot(layout: Layout) -> None:
    """Empties what a real machine loses when it boots."""
    shutil.rmtree(layout.node(CENTRAL) / "run", ignore_errors=True)


def ensure_underlay(layout: Layout) -> None:
    """Makes the bridge that stands for the machine room's switch; idempotent."""
    script = f"""
ip link show br-ul >/dev/null 2>&1 || ip link add br-ul type bridge
ip link set br-ul mtu {UNDERLAY_MTU} up
ip addr replace {ADDRESS}/24 dev br-ul
ethtool -K br-ul tx off >/dev/null
"""  # Open vSwitch reads frames as sent: with checksums left to the card, TCP to the hosts would hang.
    run([*namespaces.enter_argv(layout, CENTRAL), "sh", "-ec", script])


def programs(layout: Layout, port: int) -> list[Program]:
    """All programs of the node; `port` is the API's on the machine."""
    pki = layout.state / "pki"
    return [
        Program(CENTRAL, "etcd", [*_restarted_for(pki / "ca.crt"), *_etcd_argv(layout, pki)], pid_file="etcd.pid"),
        Program(
            CENTRAL, "postgres", [f"{POSTGRES}/postgres", "-D", PG_DATA], user="postgres", stop_signal="INT"
        ),  # INT is PostgreSQL's fast shutdown
        Program(CENTRAL, "ovn-nb", _ovsdb_argv("nb", "OVN_Northbound", "NB_Global", pki)),
        Program(CENTRAL, "ovn-sb", _ovsdb_argv("sb", "OVN_Southbound", "SB_Global", pki)),
        Program(
            CENTRAL, "northd", ["ovn-northd", "--pidfile", "-vconsole:info", "-vfile:off", "-vsyslog:off", "--no-chdir"]
        ),
        Program(
            CENTRAL,
            MANAGEMENT,
            [str(BIN / "vc-management"), "serve", "--config", str(layout.state / "management.yaml")],
            listen=f"127.0.0.1:{port}",
        ),
    ]


def _restarted_for(ca: Path) -> list[str]:
    return [str(BIN / "python"), "-IS", str(CHECKOUT / "deploy" / "lab" / "restarting.py"), "/run/etcd.pid", str(ca)]


def _etcd_argv(layout: Layout, pki: Path) -> list[str]:
    return [
        "etcd", "--name=lab", f"--data-dir={layout.node(CENTRAL)}/etcd",
        f"--listen-client-urls=https://{LOOPBACK}:2379", f"--advertise-client-urls=https://{LOOPBACK}:2379",
        f"--listen-peer-urls=http://{LOOPBACK}:2380", f"--initial-advertise-peer-urls=http://{LOOPBACK}:2380",
        f"--initial-cluster=lab=http://{LOOPBACK}:2380",
        # One member waits for nobody's vote; it is back sooner after a restart.
        "--heartbeat-interval=10", "--election-timeout=100",
        "--client-cert-auth", f"--trusted-ca-file={pki}/ca.crt", f"--client-cert-allowed-hostname={ETCD_CLIENT}",
        f"--cert-file={pki}/etcd.crt", f"--key-file={pki}/etcd.key",
        # The gateway would dial etcd with the server's certificate as a client's; nobody uses it.
        "--enable-grpc-gateway=false",
        # Debian's 3.4.23 copies the uncommitted buffer on every read (etcd PR 15195): keep that buffer small.
        "--backend-batch-limit=200", "--backend-batch-interval=10ms",
        "--auto-compaction-mode=periodic", "--auto-compaction-retention=5m", f"--quota-backend-bytes={4 << 30}",
        "--logger=zap", "--log-outputs=stderr",
    ]  # fmt: skip


def _ovsdb_argv(db: str, schema: str, table: str, pki: Path) -> list[str]:
    return [
        "ovsdb-server", "-vconsole:info", "-vfile:off", "-vsyslog:off", "--no-chdir",
        f"--pidfile=/run/ovn/ovn{db}_db.pid", f"--unixctl=/run/ovn/ovn{db}_db.ctl",
        f"--remote=punix:/run/ovn/ovn{db}_db.sock", f"--remote=db:{schema},{table},connections",
        f"--private-key={pki}/ovn.key", f"--certificate={pki}/ovn.crt", f"--ca-cert={pki}/ca.crt",
        "--ssl-protocols=TLSv1.2", f"/var/lib/ovn/ovn{db}_db.db",
    ]  # fmt: skip


def prepare(layout: Layout) -> None:
    """Makes the databases that do not exist yet; idempotent, and an interrupted attempt is begun again."""
    enter = namespaces.enter_argv(layout, CENTRAL)
    script = f"""
mkdir -p /run/ovn /run/lock /run/postgresql
chown postgres:postgres /run/postgresql /var/lib/postgresql
for db in nb sb; do
  [ -s /var/lib/ovn/ovn${{db}}_db.db ] && continue
  rm -f /var/lib/ovn/ovn${{db}}_db.new /var/lib/ovn/.ovn${{db}}_db.new.~lock~
  ovsdb-tool create /var/lib/ovn/ovn${{db}}_db.new {SCHEMAS}/ovn-$db.ovsschema
  mv /var/lib/ovn/ovn${{db}}_db.new /var/lib/ovn/ovn${{db}}_db.db
done
if [ ! -e {PG_DATA}/PG_VERSION ] || [ -e /var/lib/postgresql/new ]; then
  cd /
  rm -rf /var/lib/postgresql/new {PG_DATA}
  setpriv --reuid=postgres --regid=postgres --init-groups \\
    {POSTGRES}/initdb --pgdata=/var/lib/postgresql/new --auth=peer --encoding=UTF8 --locale=C.UTF-8 --no-sync
  mv /var/lib/postgresql/new {PG_DATA}
fi
printf 'local all all peer map=lab\\n' >{PG_DATA}/pg_hba.conf
printf 'lab root vcstack\\nlab root postgres\\nlab postgres postgres\\n' >{PG_DATA}/pg_ident.conf
printf '%s\\n' "listen_addresses = ''" "unix_socket_directories = '/run/postgresql'" \\
  "max_connections = 60" "shared_buffers = 64MB" "huge_pages = off" >{PG_DATA}/postgresql.auto.conf
"""
    (layout.node(CENTRAL) / "etcd").mkdir(mode=0o700, exist_ok=True)
    run([*enter, "sh", "-ec", script], timeout=120)


def configure_postgres(layout: Layout) -> None:
    """Makes the mirror's role and database; idempotent. The role may make databases: a lost mirror is rebuilt."""
    script = """
sql() { psql -qAtX -h /run/postgresql -U postgres -d postgres -c "$1"; }
[ "$(sql "select 1 from pg_roles where rolname = 'vcstack'")" ] || sql "create role vcstack login createdb"
[ "$(sql "select 1 from pg_database where datname = 'vcstack'")" ] || sql "create database vcstack owner vcstack"
"""
    run([*namespaces.enter_argv(layout, CENTRAL), "sh", "-ec", script])


def configure_ovn(layout: Layout) -> None:
    """Opens OVN's databases to TLS clients, the southbound one for what hosts have to change; idempotent.

    ovsdb-server gives connections the role that their address had when it began to listen there: one without is removed
    first. Nobody may change chassis of other names than hosts' certificates have, so those of an older version go.
    """
    script = f"""
ovn-nbctl --timeout=60 -- init -- set-connection pssl:6641:{LOOPBACK} -- set connection . inactivity_probe={PROBE_MS}
sb() {{ ovn-sbctl --timeout=60 --bare -- "$@"; }}
sb init
[ "$(sb --columns=role list connection)" = ovn-controller ] || sb del-connection
sb set-connection role=ovn-controller pssl:6642:{ADDRESS} -- set connection . inactivity_probe={PROBE_MS}
for name in $(sb --columns=name list Chassis); do
  case $name in {CHASSIS}*) ;; *) sb --if-exists chassis-del "$name" ;; esac
done
"""
    run([*namespaces.enter_argv(layout, CENTRAL), "sh", "-ec", script])


def start_infra(layout: Layout, supervisor: Supervisor, port: int) -> None:
    """Starts the store, the databases and northd, and returns when each answers."""
    by_name = {program.name: program for program in programs(layout, port)}
    for name in INFRA:
        supervisor.start(by_name[name])
    for name in INFRA:
        check, seconds = ready_checks(layout)[name]
        wait_until(f"central:{name}", "an answer", check, log=layout.log(CENTRAL, name), timeout=seconds)
    configure_ovn(layout)
    configure_postgres(layout)


def ready_checks(layout: Layout) -> dict[str, tuple[Callable[[], bool], float]]:
    """For each program: whether it answers, and how long it may take to."""
    enter = namespaces.enter_argv(layout, CENTRAL)
    pki = layout.state / "pki"

    def answers(*argv: str) -> Callable[[], bool]:
        return lambda: run([*enter, *argv], check=False, timeout=60).returncode == 0

    return {
        "etcd": (
            answers(
                "etcdctl", "--endpoints=https://127.0.0.1:2379", f"--cacert={pki}/ca.crt",
                f"--cert={pki}/management.crt", f"--key={pki}/management.key",
                "--command-timeout=2s", "endpoint", "health",
            ),
            60,
        ),
        "postgres": (answers("pg_isready", "-q", "-h", "/run/postgresql"), 60),
        "ovn-nb": (answers("ovn-nbctl", "--timeout=5", "--no-leader-only", "show"), 60),
        "ovn-sb": (answers("ovn-sbctl", "--timeout=5", "--no-leader-only", "show"), 60),
        "northd": (answers("ovn-appctl", "-t", "ovn-northd", "status"), 60),
        MANAGEMENT: (answers(*_api_probe(pki)), 120),
    }  # fmt: skip


def _api_probe(pki: Path) -> list[str]:
    # Any HTTP answer over TLS will do, a refusal included.
    code = (
        "import http.client,ssl,sys;"
        "c=http.client.HTTPSConnection('10.98.0.1',8443,timeout=5,context=ssl.create_default_context(cafile=sys.argv[1]));"
        "c.request('GET','/');c.getresponse()"
    )
    return ["python3", "-IS", "-c", code, str(pki / "ca.crt")]


def write_management_config(layout: Layout) -> bool:
    """Writes vc-management's configuration, with what stands in management.extra.yaml; returns whether it changed."""
    pki = layout.state / "pki"
    client = {"caFile": f"{pki}/ca.crt", "certFile": f"{pki}/management.crt", "keyFile": f"{pki}/management.key"}
    config: dict[str, Any] = {
        "stateDir": str(layout.state),
        "etcd": {"endpoints": ["127.0.0.1:2379"], **client},
        "postgres": {"dsn": "postgresql://vcstack@/vcstack?host=/run/postgresql"},
        "ovn": {"northbound": f"ssl:{LOOPBACK}:6641", "southbound": f"ssl:{ADDRESS}:6642", **client},
        "api": {
            "url": f"https://{ADDRESS}:8443",
            "listen": [f"{ADDRESS}:8443"],
            "certFile": f"{pki}/api.crt",
            "keyFile": f"{pki}/api.key",
        },
        "pki": {"caCertFile": f"{pki}/ca.crt", "caKeyFile": f"{pki}/ca.key"},
        "imageDir": str(layout.state / "images"),
    }
    for section, more in _extra_settings(layout.state / "management.extra.yaml").items():
        mine = config.get(section)
        config[section] = {**mine, **more} if isinstance(mine, dict) and isinstance(more, dict) else more
    return write(layout.state / "management.yaml", yaml.safe_dump(config, sort_keys=False), mode=0o600)


def _extra_settings(path: Path) -> dict[str, Any]:
    """Returns the settings that people add to those of the lab, such as `outbound`; vc-management checks them."""
    if not path.exists():
        return {}
    try:
        found = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LabError("settings", f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict | None):
        raise LabError("settings", f"{path} has to hold sections of settings, such as outbound:")
    return found or {}
