"""A real kube-apiserver on an etcd of its own, kubectl, and the operator as a process that can be killed."""

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.lab.layout import CHECKOUT
from tests.fixtures.etcd import EtcdServer
from tests.fixtures.ports import free_port

Wire = dict[str, Any]
T = TypeVar("T")
ADMIN_TOKEN = "only-for-tests"
BUILD_SECONDS = 3600
START_SECONDS = 300
WAIT_SECONDS = 60.0
GROUP = "vcstack.io/v1"
SYSTEM = "vcstack-system"
"""The namespace that the operator runs in."""
ACCOUNT, PROJECT = "vc-operator", "kubernetes"
"""Its service account in VC Stack, and that one's project."""


def build(cache: Path) -> Path:
    """The folder with kube-apiserver and kubectl, built unless the cache has them."""
    folder = cache / "kubernetes"
    subprocess.run(["bash", CHECKOUT / "deploy/k8s/build.sh", folder], check=True, timeout=BUILD_SECONDS)
    return folder / "bin"


class Refused(Exception):
    """kubectl ended with an error."""


class Cluster:
    """Kubernetes, as far as an operator sees it."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._etcd = EtcdServer()
        self.folder = Path(tempfile.mkdtemp(prefix="vcstack-kubernetes-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self.folder / "pki/apiserver.crt"

    def start(self) -> None:
        """Start it with an empty store."""
        self._etcd.start()
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        (self.folder / "sa.key").write_bytes(pem)
        (self.folder / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')
        self.serve()
        self.write_kubeconfig("admin", ADMIN_TOKEN)

    def serve(self) -> None:
        """Start the API server and wait until it answers."""
        key = str(self.folder / "sa.key")
        command = ["setpriv", "--pdeathsig", "KILL", str(self._programs / "kube-apiserver")]
        command += ["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self.port}"]
        command += [f"--etcd-servers=http://{self._etcd.endpoint}", f"--cert-dir={self.folder / 'pki'}"]
        command += [f"--token-auth-file={self.folder / 'tokens.csv'}", "--authorization-mode=RBAC"]
        command += ["--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}"]
        command += [f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.96.0.0/16"]
        # Nothing here makes service accounts and their tokens by itself.
        command += ["--disable-admission-plugins=ServiceAccount"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"kube-apiserver did not start:\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL to the API server; what it stored stays."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def discard(self) -> None:
        self.kill()
        self._etcd.discard()
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)

    def _answers(self) -> bool:
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            with urllib.request.urlopen(f"{self.url}/readyz", context=context, timeout=20) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def write_kubeconfig(self, name: str, token: str) -> Path:
        """Write how somebody reaches it."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": name}}],
            "current-context": "x",
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    # --- as a user ---------------------------------------------------------------------------------------------

    def kubectl(self, *args: str, stdin: str | None = None, user: str = "admin") -> str:
        """Run kubectl and return what it prints. Raises Refused."""
        config = str(self.folder / f"{user}.kubeconfig")
        home = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin", "KUBECONFIG": config}
        done = subprocess.run(
            [str(self._programs / "kubectl"), *args], input=stdin, capture_output=True, text=True, env=home, timeout=180
        )  # fmt: skip
        if done.returncode:
            raise Refused(f"kubectl {' '.join(args)}: {done.stderr}{done.stdout}")
        return done.stdout + done.stderr

    def apply(self, *objects: Wire, namespace: str | None = None) -> str:
        """kubectl apply of some manifests."""
        place = ["-n", namespace] if namespace else []
        return self.kubectl("apply", *place, "-f", "-", stdin=yaml.safe_dump_all(objects, sort_keys=False))

    def find(self, plural: str, name: str, namespace: str | None = None) -> Wire | None:
        """A custom resource, or None."""
        found = self.items(plural, namespace, f"--field-selector=metadata.name={name}")
        return found[0] if found else None

    def get(self, plural: str, name: str, namespace: str | None = None) -> Wire:
        """A custom resource that is there."""
        found = self.find(plural, name, namespace)
        assert found is not None, f"no {plural}/{name} in {namespace}"
        return found

    def items(self, plural: str, namespace: str | None = None, *args: str) -> list[Wire]:
        """All of a collection."""
        place = ["-n", namespace] if namespace else []
        resource = f"{plural}.vcstack.io" if "." not in plural else plural.removesuffix(".")
        found: list[Wire] = json.loads(self.kubectl("get", resource, *place, *args, "-o", "json"))["items"]
        return found

    def annotate(self, plural: str, name: str, namespace: str | None, *annotations: str) -> None:
        place = ["-n", namespace] if namespace else []
        resource = "namespace" if plural == "namespaces" else f"{plural}.vcstack.io"
        self.kubectl("annotate", resource, name, *place, "--overwrite", *annotations)

    def make_namespace(self, name: str, project: str) -> None:
        """A namespace that stands for a project of another name."""
        annotations = {"kubernetes.vcstack.io/project": project}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}})

    def events(self, namespace: str, name: str) -> list[tuple[str, str]]:
        """Type and reason of the events about a custom resource."""
        found = json.loads(self.kubectl("get", "events", "-n", namespace, "-o", "json"))["items"]
        return [(e["type"], e["reason"]) for e in found if e["involvedObject"].get("name") == name]

    def install(self) -> None:
        """What a chart does: the definitions, a namespace, a service account with the operator's roles."""
        self.kubectl("apply", "-f", str(CHECKOUT / "crds"))
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=120s")
        self.kubectl("create", "namespace", SYSTEM)
        self.kubectl("create", "serviceaccount", "vc-operator", "-n", SYSTEM)
        self.kubectl("apply", "-n", SYSTEM, "-f", str(CHECKOUT / "deploy/k8s/role.yaml"))
        account = f"--serviceaccount={SYSTEM}:vc-operator"
        self.kubectl("create", "clusterrolebinding", "vc-operator", "--clusterrole=vc-operator", account)
        self.kubectl("create", "rolebinding", "vc-operator", "-n", SYSTEM, "--role=vc-operator", account)
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
        path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/vc-operator/token"
        answer = json.loads(self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body)))
        self.write_kubeconfig("operator", answer["status"]["token"])

    def put_secret(self, namespace: str, name: str, **values: str) -> None:
        """A Secret of Kubernetes."""
        data = {k: base64.b64encode(v.encode()).decode() for k, v in values.items()}
        self.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}, namespace=namespace
        )


class OperatorProcess:
    """One replica."""

    def __init__(self, cluster: Cluster, environment: Mapping[str, str], pod: str) -> None:
        self._cluster = cluster
        self.pod = pod
        self.health = free_port()
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONWARNINGS": "default",
            "KUBECONFIG": str(cluster.folder / "operator.kubeconfig"),
            "VC_OPERATOR_NAMESPACE": SYSTEM,
            "VC_OPERATOR_HEALTH_ADDRESS": f"127.0.0.1:{self.health}",
            # Short, for tests wait for it, and longer than a busy machine lets a process stand still.
            "VC_OPERATOR_LEASE_SECONDS": "8",
            "POD_NAME": pod,
            **environment,
        }
        self.log = cluster.folder / f"operator-{pod}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "OperatorProcess":
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "vcstack.programs.operator"],
                env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=CHECKOUT,
            )  # fmt: skip
        return self

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        try:
            return process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def ask(self, path: str) -> tuple[int, str]:
        """Status and text of /healthz, /readyz or /metrics; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except (OSError, urllib.error.URLError):
            return 0, ""

    @property
    def leads(self) -> bool:
        return "vcstack_operator_leading 1.0" in self.ask("/metrics")[1]


def wait(what: str | Callable[[], object], look: Callable[[], T], seconds: float = WAIT_SECONDS) -> T:
    """Wait until look() returns something true."""
    deadline, fault = time.monotonic() + seconds, ""
    while True:
        try:
            if found := look():
                return found
        except Refused as error:
            fault = str(error)
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what() if callable(what) else what} {fault}")
        time.sleep(0.1)


def condition(wire: Wire | None, type_: str) -> Wire:
    """A condition of a custom resource; empty when it has none."""
    conditions = ((wire or {}).get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == type_), {})
