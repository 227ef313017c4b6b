"""What `up` asks of VC Stack's own programs: certificates, join tokens, the guest image, the first instances."""

import os
import ssl
import subprocess
import time
from pathlib import Path

from deploy.lab import central, host, namespaces
from deploy.lab.errors import LabError
from deploy.lab.layout import BIN, CENTRAL, CHECKOUT, Layout, write
from deploy.lab.report import Report
from deploy.lab.shell import run

PAIRS = ("ca", "etcd", "api", "management", "ovn")
RENEW_AFTER_SECONDS = 2 * 86400
"""The manager renews certificates while it runs; those of a cloud that was down for longer may have run out."""
EXAMPLES = CHECKOUT / "examples" / "quickstart"


def build_image(layout: Layout) -> Path:
    """Builds the tiny guest image unless the cache has it, and returns its path."""
    folder = layout.cache / "guest"
    log = layout.state / "logs" / "guest-image.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        argv = ["bash", str(CHECKOUT / "deploy" / "guest" / "build.sh"), str(folder)]
        done = subprocess.run(argv, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise LabError("guest image", "could not be built.", log)
    return folder / "tiny.qcow2"


def ensure_certificates(layout: Layout) -> None:
    """Makes what the databases need, without vc-management: the certificates alone; idempotent."""
    pki = layout.state / "pki"
    if all((pki / f"{name}.{end}").is_file() for name in PAIRS for end in ("crt", "key")) and _opens_etcd(pki):
        return
    # Here and not at the top: everything else of the lab works without the cloud's own code.
    from vcstack.pki.installation import ensure_installation

    ensure_installation(layout.state)


def ensure_host_certificate(layout: Layout, name: str) -> tuple[Path, Path, Path]:
    """Returns key, certificate and CA for the ovn-controller of a host without vc-compute, which would get its own."""
    from vcstack.pki.authority import CertificateAuthority

    pki, folder = layout.state / "pki", layout.node(name)
    key, certificate = folder / "chassis.key", folder / "chassis.crt"
    if not certificate.is_file() or certificate.stat().st_mtime < time.time() - RENEW_AFTER_SECONDS:
        authority = CertificateAuthority.load(pki / "ca.crt", pki / "ca.key")
        issued = authority.issue_client(host.chassis(name), hours=24 * 7)
        write(key, issued.key.decode(), mode=0o600)
        write(certificate, issued.cert.decode())
    return key, certificate, pki / "ca.crt"


def _opens_etcd(pki: Path) -> bool:
    """Returns whether the manager's certificate has the name that etcd asks for; one of an older version has not."""
    try:
        certificate = ssl.PEM_cert_to_DER_cert((pki / "management.crt").read_text())
    except ValueError:  # damaged; it is made anew
        return False
    return central.ETCD_CLIENT.encode() in certificate


PROJECT = "demo"
"""The project of examples/quickstart/: what vcctl means when none is named."""


def ensure_pki(layout: Layout, api_url: str) -> None:
    """Lets vc-management make what is missing: certificates, admin token and vcctl's context; idempotent."""
    pki = layout.state / "pki"
    files = [pki / f"{name}.{end}" for name in PAIRS for end in ("crt", "key")]
    context = layout.state / "vcctl.yaml"
    fresh = time.time() - RENEW_AFTER_SECONDS
    done = all(file.is_file() for file in files)
    done = done and all((pki / f"{name}.crt").stat().st_mtime > fresh for name in PAIRS if name != "ca")
    done = done and _opens_etcd(pki) and (layout.state / "keyring.json").is_file()
    if done and (layout.state / "admin-token").is_file() and context.is_file() and api_url in context.read_text():
        return
    run([BIN / "vc-management", "init", "--state", layout.state, "--api-url", api_url, "--project", PROJECT])


def ensure_join_token(layout: Layout, host: str) -> None:
    """Writes a one-time join token for a host that has no certificate yet."""
    if (layout.node(host) / "compute" / "pki" / "host.crt").exists():
        return
    config = layout.state / "management.yaml"
    argv = [str(BIN / "vc-management"), "join-token", "--config", str(config), host]
    token = run([*namespaces.enter_argv(layout, CENTRAL), *argv]).stdout.strip()
    write(layout.node(host) / "join-token", token + "\n", mode=0o600)


def _vcctl(layout: Layout, report: Report, *args: str | Path) -> None:
    """Runs vcctl, its output shown indented as it comes."""
    argv = [str(BIN / "vcctl"), *(str(arg) for arg in args)]
    env = {**os.environ, "VCCTL_CONFIG": str(layout.state / "vcctl.yaml"), "PYTHONUNBUFFERED": "1"}
    log = layout.state / "logs" / "quickstart.log"
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        cwd=CHECKOUT,
    )
    with log.open("a") as out, child:
        out.write(f"$ {' '.join(argv)}\n")
        for line in child.stdout or ():
            out.write(line)
            out.flush()
            report.say("", f"| {line.rstrip()}")
    if child.returncode:
        raise LabError("quick start", f"`{' '.join(argv)}` ended with {child.returncode}.", log)


def _has_image(layout: Layout) -> bool:
    """Tells whether the cloud has the quick start's image with all of its content."""
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    argv: list[str | Path] = [
        "env",
        f"VCCTL_CONFIG={layout.state / 'vcctl.yaml'}",
        BIN / "vcctl",
        "get",
        "image",
        "tiny",
        "-o",
        ready,
    ]
    return run(argv, check=False).stdout.strip() == "True"


def deploy(layout: Layout, image: Path, report: Report) -> None:
    """Uploads the guest image, applies the quick start's manifests and waits until all of it is Ready; idempotent."""
    with report.step("image", "tiny uploaded"):
        # An image's content never changes: one of an earlier build stays, with the instances made of it.
        if not _has_image(layout):
            _vcctl(layout, report, "image", "upload", "tiny", "--file", image, "--format", "qcow2")
    with report.step("quickstart", "examples/quickstart/ applied, everything Ready"):
        _vcctl(layout, report, "apply", "-f", EXAMPLES, "--wait")
