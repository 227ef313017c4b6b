"""A commit to a Git server makes a guest, the next one changes it, and a revert removes it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.lab.layout import BIN, CENTRAL, CHECKOUT
from tests.e2e.cloud import FLAVOR, IMAGE, Cloud, condition
from tests.e2e.tenant import NETWORK, OPEN, Tenant
from tests.fixtures.git_server import GitRepository, git

SECRET = "only-for-tests"
SOURCE = "shop"
HOOK = """#!{python} -IS
import hashlib, hmac, pathlib, ssl, sys, urllib.request
body = sys.stdin.buffer.read()
request = urllib.request.Request("{url}", body, method="POST")
request.add_header("x-gitea-signature", hmac.new(b"{secret}", body, hashlib.sha256).hexdigest())
answer = urllib.request.urlopen(request, context=ssl.create_default_context(cafile="{ca}"), timeout=60)
with pathlib.Path("{told}").open("a") as told:
    told.write(f"{{answer.status}}\\n")
"""
"""Run by git when somebody has pushed: what servers such as Gitea do then."""


@pytest.fixture
def served(cloud: Cloud, tmp_path: Path) -> Iterator[tuple[GitRepository, str]]:
    """A repository on a server beside the manager, and its address; the operator allows it meanwhile."""
    folder = tmp_path / "git"
    repository = GitRepository(folder / "served/shop.git", folder / "work")
    command = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={cloud.lab.layout.netns_file(CENTRAL)}", "--"]
    command += [sys.executable, "-m", "tests.fixtures.git_server", str(folder)]
    settings = cloud.lab.path("management.yaml")
    before = settings.read_text()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        allowed = {"network": "127.0.0.1/32", "ports": [port], "plainHttp": True}
        settings.write_text(yaml.safe_dump({**yaml.safe_load(before), "outbound": {"allowed": [allowed]}}))
        try:
            cloud.lab.restart(CENTRAL, "vc-management")
            yield repository, f"http://127.0.0.1:{port}/shop.git"
        finally:
            settings.write_text(before)
            cloud.lab.restart(CENTRAL, "vc-management")


@pytest.fixture
def repository(cloud: Cloud, tenant: Tenant, served: tuple[GitRepository, str], tmp_path: Path) -> GitRepository:
    """What a project follows: a group so far; whoever pushes is heard at once."""
    found, url = served
    hook = {"python": BIN / "python", "url": f"{cloud.lab.api_url}/api/v1/webhooks/git/{tenant.name}/{SOURCE}"}
    hook |= {"secret": SECRET, "ca": cloud.lab.path("pki/ca.crt"), "told": tmp_path / "told"}
    group = {"kind": "SecurityGroup", "metadata": {"name": "shop"}, "spec": {"rules": []}}
    found.write("cloud/group.yaml", yaml.safe_dump(group))
    found.commit("A group")
    script = found.bare / "hooks/post-receive"
    script.write_text(HOOK.format(**hook))
    script.chmod(0o755)
    tenant.apply("serviceaccounts", "deployer", {})
    subject = {"kind": "ServiceAccount", "name": "deployer"}
    tenant.apply("rolebindings", "deployer", {"subject": subject, "role": "member"})
    tenant.apply("secrets", "hook", {"data": {"secret": SECRET}})
    webhook = {"name": "hook", "key": "secret"}
    # So rarely that nothing here is found by looking again: only who pushes makes it look.
    spec = {"url": url, "path": "cloud", "serviceAccount": "deployer", "webhook": webhook, "intervalSeconds": 86400}
    tenant.apply("gitsources", SOURCE, spec)
    wait_applied(cloud, tenant, found.head())
    return found


def wait_applied(cloud: Cloud, tenant: Tenant, commit: str) -> None:
    """Wait until exactly that commit is applied, and all is well."""

    def look() -> bool:
        found = tenant.get("gitsources", SOURCE)
        return found["status"].get("appliedCommit") == commit and condition(found, "Ready")["status"] == "True"

    cloud.wait(lambda: f"{commit} applied: {tenant.get('gitsources', SOURCE)['status']}", look)


def wait_healthy(cloud: Cloud, tenant: Tenant) -> None:
    """Wait until the source says that all it applied is ready."""

    def look() -> bool:
        return condition(tenant.get("gitsources", SOURCE), "Healthy")["status"] == "True"

    cloud.wait(lambda: f"healthy: {tenant.get('gitsources', SOURCE)['status']}", look)


def test_a_commit_makes_a_guest_the_next_changes_it_and_a_revert_removes_it(
    cloud: Cloud, tenant: Tenant, repository: GitRepository, tmp_path: Path
) -> None:
    nic = {"name": "eth0", "network": NETWORK, "securityGroups": [OPEN]}
    spec = {"flavor": FLAVOR, "image": IMAGE, "networkInterfaces": [nic]}
    instance = {"apiVersion": "vcstack.io/v1", "kind": "Instance", "metadata": {"name": "web"}, "spec": spec}
    repository.write("cloud/web.yaml", yaml.safe_dump(instance))
    wait_applied(cloud, tenant, repository.commit("A guest"))
    made = tenant.wait_ready("instances", "web")
    wait_healthy(cloud, tenant)
    guest = tenant.guest("web")
    assert guest.sh("hostname") == "web"
    host, uid = made["status"]["host"], made["metadata"]["uid"]
    assert uid in cloud.domains(host)

    # A field that is changed live, and one that stops it.
    client = tenant.client(host, "client")
    cloud.wait("pings answered", lambda: client.reaches(guest.address))
    nic["securityGroups"] = ["shop"]
    repository.write("cloud/web.yaml", yaml.safe_dump(instance))
    wait_applied(cloud, tenant, repository.commit("Nobody gets in"))
    cloud.wait("pings dropped", lambda: not client.reaches(guest.address))
    pid = cloud.qemu_pid(host, uid)
    spec["powerState"] = "Stopped"
    repository.write("cloud/web.yaml", yaml.safe_dump(instance))
    wait_applied(cloud, tenant, repository.commit("Off"))
    cloud.wait("the guest stopped", lambda: pid not in cloud.qemu_pids(host).get(uid, []))
    assert tenant.wait_ready("instances", "web")["metadata"]["uid"] == uid
    wait_healthy(cloud, tenant)

    git(repository.work, "revert", "--no-edit", "HEAD", "HEAD~1", "HEAD~2")
    wait_applied(cloud, tenant, repository.push())
    cloud.wait("the guest gone", lambda: cloud.find("instances", tenant.name, "web") is None)
    assert uid not in cloud.domains(host)
    assert tenant.get("securitygroups", "shop")["spec"] == {"rules": []}
    assert (tmp_path / "told").read_text().split() == ["202"] * 4
