"""The accounts that the chart's hook makes, on the real API."""

from pathlib import Path

import pytest
import yaml

from tests.fakes.cluster_objects import MemoryObjects
from tests.fixtures.api import Api
from tests.fixtures.helm import Helm
from vcstack.apiclient.auth import AuthClient
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.credentials import ApiKey, KeyCredentials
from vcstack.nodeagent.settings import load_settings
from vcstack.programs import kubernetes
from vcstack.programs.kubernetes import API_KEY, ensure_accounts
from vcstack.specs.errors import ApiError, Forbidden, NotFound
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.role import Role, RoleSpec
from vcstack.specs.kinds.user import User, UserSpec
from vcstack.specs.permissions import ADMIN, built_in_roles


@pytest.fixture
async def api(api: Api, admin: ApiClient) -> Api:
    """With the role that the manager's controllers make."""
    await admin.create(Role.new(ADMIN, RoleSpec(rules=list(built_in_roles()[ADMIN].rules))))
    return api


def key_client(api: Api, text: bytes) -> ApiClient:
    settings = api.settings(token=None)
    credentials = KeyCredentials(ApiKey.parse(text.decode(), source="the Secret"), AuthClient(Connection(settings)))
    return ApiClient.connect(settings, credentials)


async def test_hosts_join_with_the_key_of_their_account_which_is_good_for_nothing_else(
    api: Api, helm: Helm, tmp_path: Path
) -> None:
    rendered, secrets = helm.render(), MemoryObjects()
    manifests = rendered.one("ConfigMap", "rel-vcstack-accounts")["data"]["accounts.yaml"]
    for _ in range(2):  # an upgrade finds all there
        await ensure_accounts(api.settings(), secrets, "rel-vcstack", manifests, wait_seconds=30)
    assert sorted(secrets.writes) == ["rel-vcstack-hosts", "rel-vcstack-operator"]

    common = yaml.safe_load(rendered.one("ConfigMap", "rel-vcstack-compute")["data"]["compute.yaml"])
    common |= {"apiUrl": api.url, "ovn": {"remote": "ssl:localhost:6642"}}
    (tmp_path / "compute.yaml").write_text(yaml.safe_dump(common))
    (tmp_path / "api-key").write_bytes(secrets.kept["rel-vcstack-hosts"][API_KEY])
    state = tmp_path / "state"
    arguments = [
        f"--state={state}", f"--config={tmp_path / 'compute.yaml'}", "--host=node-1.example", "--address=192.0.2.11",
        f"--ca={api.installation.ca_cert}", f"--key={tmp_path / 'api-key'}",
    ]  # fmt: skip
    asked = kubernetes._parser().parse_args(["join", *arguments])
    await kubernetes.write_host(asked)
    settings = load_settings(state / "compute.yaml")
    assert settings.host_name == "node-1-example", "names of hosts have no dots"
    assert settings.ovn is not None
    assert settings.ovn.encap_ip == "192.0.2.11"
    assert settings.join_token_file is not None
    token = settings.join_token_file.read_text()
    assert token
    (state / "pki").mkdir()
    (state / "pki" / "host.crt").write_text("joined")
    await kubernetes.write_host(asked)
    assert settings.join_token_file.read_text() == token, "who has joined needs no other"

    hosts, operator = (key_client(api, secrets.kept[f"rel-vcstack-{name}"][API_KEY]) for name in ("hosts", "operator"))
    async with hosts.connection, operator.connection:
        for path in ("/api/v1/hosts", "/api/v1/projects", "/api/v1/projects/vcstack-kubernetes/secrets"):
            with pytest.raises(ApiError):
                await hosts.connection.request("GET", path)
        with pytest.raises(NotFound):
            await operator.get(Project, "nosuch")
        assert (await operator.get(Project, "vcstack-kubernetes")).metadata.name == "vcstack-kubernetes"
        made = await operator.create(Network.new("net", NetworkSpec(), project="vcstack-kubernetes"))
        await operator.delete(made.ref)
        for refused in (
            Project.new("another", ProjectSpec()),
            Role.new("mine", RoleSpec(rules=list(built_in_roles()[ADMIN].rules))),
            User.new("eve", UserSpec()),
        ):
            with pytest.raises(Forbidden):
                await operator.create(refused)


async def test_a_key_whose_secret_was_deleted_is_made_anew(api: Api, helm: Helm) -> None:
    secrets = MemoryObjects()
    manifests = helm.render().one("ConfigMap", "rel-vcstack-accounts")["data"]["accounts.yaml"]
    await ensure_accounts(api.settings(), secrets, "rel-vcstack", manifests, wait_seconds=30)
    lost = secrets.kept.pop("rel-vcstack-operator")
    await ensure_accounts(api.settings(), secrets, "rel-vcstack", manifests, wait_seconds=30)
    assert secrets.kept["rel-vcstack-operator"] != lost
    async with key_client(api, secrets.kept["rel-vcstack-operator"][API_KEY]).connection as connection:
        await connection.request("GET", "/api/v1/projects")
