"""charts/vcstack: what it renders is looked at as a cluster, the programs and an auditor would."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.containers.dockerfile import PARTS
from tests.fixtures.helm import CHART, Helm, Rendered, Wire
from vcstack.nodeagent.settings import Settings
from vcstack.nodeagent.settings import load_settings as load_compute
from vcstack.operator.settings import read_settings
from vcstack.pki.installation import ETCD_CLIENT
from vcstack.programs import kubernetes
from vcstack.programs.managementsafety import demand_safe_management
from vcstack.programs.safety import demand_safe_compute
from vcstack.programs.settings import load_settings

VALUES = ["", *sorted(each.name for each in (CHART / "ci").glob("*.yaml"))]
WITH_PODS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
HOOK_SECRETS = ("installation", "ovn-tls", "backends-ca", "backends-client", "etcd-tls", "postgresql-tls", "postgresql")
"""What `prepare` makes; `enrol` makes hosts and operator."""


@pytest.fixture(params=VALUES, ids=lambda name: name or "default")
def rendered(request: pytest.FixtureRequest, helm: Helm) -> Rendered:
    return helm.render(*([f"--values={CHART / 'ci' / request.param}"] if request.param else []))


def pods(rendered: Rendered) -> Iterator[tuple[str, Wire, Wire]]:
    """Each workload's name, its pod template and what selects it."""
    for each in rendered.objects:
        if each["kind"] in WITH_PODS:
            spec = each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each["spec"]
            yield f"{each['kind']} {each['metadata']['name']}", spec["template"], spec.get("selector", {})


def containers(template: Wire) -> list[Wire]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


@pytest.mark.parametrize("values", VALUES, ids=lambda name: name or "default")
def test_helm_finds_nothing_to_complain_about(helm: Helm, values: str) -> None:
    done = helm.run("lint", str(CHART), "--strict", *([f"--values={CHART / 'ci' / values}"] if values else []))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_nothing_secret_is_rendered_and_rendering_again_changes_nothing(rendered: Rendered, helm: Helm) -> None:
    assert not rendered.all("Secret"), "what is rendered lies in the release and in repositories of GitOps"
    assert "BEGIN" not in rendered.text
    again = helm.run("template", "rel", str(CHART), "--namespace", "cloud")
    assert again.stdout == helm.render().text


def test_every_container_has_as_little_power_as_it_needs(rendered: Rendered) -> None:
    for name, template, _ in pods(rendered):
        pod = template["spec"]
        is_host = "compute" in name
        for container in containers(template):
            context = container["securityContext"]
            where = f"{name}/{container['name']}"
            assert context["allowPrivilegeEscalation"] is False, where
            assert context["readOnlyRootFilesystem"] is True, where
            assert context["capabilities"]["drop"] == ["ALL"], where
            assert not context.get("privileged"), where
            assert {"requests", "limits"} <= set(container["resources"]), where
            assert "memory" in container["resources"]["limits"], where
            added = context["capabilities"].get("add", [])
            if is_host:
                assert set(added) <= {
                    "NET_ADMIN", "CHOWN", "FOWNER", "DAC_OVERRIDE", "SETUID", "SETGID", "SYS_ADMIN"
                }, where  # fmt: skip
            else:
                assert not added, where
        if not is_host:
            assert pod["securityContext"]["runAsNonRoot"] is True, name
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert not pod.get("hostNetwork"), name
            assert not [each for each in pod["volumes"] if "hostPath" in each], name
        assert pod["enableServiceLinks"] is False, name


def test_only_who_calls_the_cluster_has_a_token_of_it(rendered: Rendered) -> None:
    callers = {name.rpartition("-")[2] for name, template, _ in pods(rendered)
               if template["spec"].get("automountServiceAccountToken", True)}  # fmt: skip
    assert callers <= {"prepare", "renew", "enrol", "operator"}
    for _, template, _ in pods(rendered):
        for container in containers(template):
            if "account" in str([m for m in container.get("volumeMounts", []) if "kubernetes.io" in m["mountPath"]]):
                assert container["name"] == "keeper"


def test_all_that_pods_refer_to_is_rendered_or_made_by_a_hook(rendered: Rendered) -> None:
    text = rendered.text
    full = "cloud" if "name: cloud-management" in text else "rel-vcstack"
    made = {f"{full}-{part}" for part in (*HOOK_SECRETS, "hosts", "operator")}
    made |= {each["spec"]["secretName"] for each in rendered.all("Certificate")} | {"etcd-client", "database"}
    maps = {each["metadata"]["name"] for each in rendered.all("ConfigMap")} | {f"{full}-trust", "kube-root-ca.crt"}
    accounts = {each["metadata"]["name"] for each in rendered.all("ServiceAccount")}
    claims = {each["metadata"]["name"] for each in rendered.all("PersistentVolumeClaim")} | {"contents"}
    for name, template, _ in pods(rendered):
        pod = template["spec"]
        volumes = {each["name"]: each for each in pod["volumes"]}
        for each in volumes.values():
            if "secret" in each:
                assert each["secret"]["secretName"] in made, name
                assert each["secret"]["defaultMode"] & 0o007 == 0, name
            if "configMap" in each:
                assert each["configMap"]["name"] in maps, name
            if "persistentVolumeClaim" in each:
                assert each["persistentVolumeClaim"]["claimName"] in claims, name
        owner = next(o for o in rendered.objects if f"{o['kind']} {o['metadata']['name']}" == name)
        owned = {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for container in containers(template) for mount in container.get("volumeMounts", [])}
        assert mounted == set(volumes) | owned, f"{name}: what is mounted is there, and what is there is mounted"
        assert pod.get("serviceAccountName", "default") in accounts | {"default"}, name


def test_services_policies_and_budgets_meet_the_pods_they_are_for(rendered: Rendered) -> None:
    labels = {name: template["metadata"]["labels"] for name, template, _ in pods(rendered)}

    def chosen(selector: dict[str, str]) -> list[str]:
        return [name for name, has in labels.items() if selector.items() <= has.items()]

    for name, _, selector in pods(rendered):
        if selector:
            assert chosen(selector["matchLabels"]) == [name], "nobody else's pods"
    ports = {name: {p["name"] for c in containers(t) for p in c.get("ports", [])} for name, t, _ in pods(rendered)}
    for service in rendered.all("Service"):
        [found] = chosen(service["spec"]["selector"])
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports[found]
    for each in rendered.all("PodDisruptionBudget"):
        assert chosen(each["spec"]["selector"]["matchLabels"])
    policies = rendered.all("NetworkPolicy")
    guarded = {name for policy in policies for name in chosen(policy["spec"]["podSelector"]["matchLabels"])}
    if policies:
        assert guarded == {name for name in labels if "compute" not in name}, "hosts are in the nodes' networks"
        for policy in policies:
            for peer in re.findall(r'"matchLabels": (\{[^}]*\})', json.dumps(policy["spec"].get("ingress", []))):
                if "app.kubernetes.io/component" in peer:
                    assert chosen(json.loads(peer)) or json.loads(peer)["app.kubernetes.io/component"] == "operator"


def test_hooks_may_no_more_than_they_do(rendered: Rendered) -> None:
    full = "cloud" if "name: cloud-management" in rendered.text else "rel-vcstack"
    for role in rendered.all("Role"):
        for rule in role["rules"]:
            if rule["verbs"] != ["create"]:
                assert rule["resourceNames"], "by name only"
                if rule["resources"] != ["leases"]:
                    assert all(name.startswith(f"{full}-") for name in rule["resourceNames"])
            assert "*" not in rule["verbs"] + rule["resources"]
    keeper = rendered.one("Role", f"{full}-management")
    named = {name for rule in keeper["rules"] for name in rule["resourceNames"]}
    assert named == {f"{full}-installation", f"{full}-ovn-tls", f"{full}-trust"}
    for role in rendered.all("ClusterRole"):
        for rule in role["rules"]:
            assert not {"create", "delete", "*"} & set(rule["verbs"]) or rule["resources"] == ["events"]


def test_the_arguments_are_those_that_the_programs_take(rendered: Rendered) -> None:
    found = 0
    for name, template, _ in pods(rendered):
        for container in containers(template):
            if container.get("command", [])[-1:] == ["vcstack.programs.kubernetes"]:
                kubernetes._parser().parse_args(container["args"])
                found += 1
            image = container["image"].rpartition("/")[2].removeprefix("vcstack-")
            assert re.split("[:@]", image)[0] in PARTS, name
    assert found >= 3


def test_managers_and_hosts_start_with_the_rendered_settings(rendered: Rendered, tmp_path: Path) -> None:
    full = "cloud" if "name: cloud-management" in rendered.text else "rel-vcstack"
    config = tmp_path / "management.yaml"
    config.write_text(rendered.one("ConfigMap", f"{full}-management")["data"]["management.yaml"])
    settings = load_settings(config)
    demand_safe_management(settings, config)
    assert settings.etcd.ca_file is not None
    assert settings.ovn is not None
    assert "password" not in (settings.postgres.dsn if settings.postgres else "")
    for each in rendered.all("ConfigMap"):
        if each["metadata"]["name"] == f"{full}-compute":
            given = yaml.safe_load(each["data"]["compute.yaml"])
            file = tmp_path / "compute.yaml"
            file.write_text(yaml.safe_dump(given | {"hostName": "node-1", "stateDir": "/var/lib/vcstack"}))
            host = load_compute(file)
            demand_safe_compute(host)
            assert isinstance(host, Settings)


def test_etcd_lets_in_the_names_that_managers_and_members_have(rendered: Rendered) -> None:
    for name, template, _ in pods(rendered):
        if name.endswith("-etcd"):
            [container] = containers(template)
            for who in ("client-cert", "peer-cert"):
                assert f"--{who}-allowed-hostname={ETCD_CLIENT}" in container["args"], name
    named = {c["metadata"]["name"] for c in rendered.all("Certificate") if ETCD_CLIENT in c["spec"].get("dnsNames", [])}
    made = {c["metadata"]["name"] for c in rendered.all("Certificate")}
    assert named == {name for name in made if name.endswith(("-etcd", "-backends-client"))}


def test_with_no_values_changed_all_parts_are_there(helm: Helm) -> None:
    default = helm.render()
    assert {each["metadata"]["name"] for each in default.all("StatefulSet")} == {
        f"rel-vcstack-{part}" for part in ("management", "etcd", "postgresql", "ovn")
    }
    hooks = {e["metadata"]["name"]: e["metadata"]["annotations"]["helm.sh/hook"] for e in default.all("Job")}
    assert hooks == {"rel-vcstack-prepare": "pre-install,pre-upgrade", "rel-vcstack-enrol": "post-install,post-upgrade"}
    [daemons] = default.all("DaemonSet")
    assert daemons["spec"]["template"]["spec"]["nodeSelector"] == {"vcstack.io/host": "true"}


def test_who_narrows_who_calls_the_api_does_not_cut_off_the_hosts(helm: Helm) -> None:
    rendered = helm.render(f"--values={CHART / 'ci' / 'replicated-values.yaml'}")
    policies = {p["metadata"]["name"].rpartition("-")[2]: p["spec"]["ingress"] for p in rendered.all("NetworkPolicy")}
    hosts = {"ipBlock": {"cidr": "192.0.2.0/24"}}
    for name, port in (("management", 8443), ("ovn", 6642)):
        assert [hosts in r["from"] for r in policies[name] if [p["port"] for p in r.get("ports", [])] == [port]] == [
            True
        ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["management.replicas=2"], "images.persistence.accessModes must be [ReadWriteMany]"),
        (["etcd.replicas=2"], "etcd.replicas"),
        (["etcd.mode=External"], "name endpoints and existingSecret"),
        (["postgresql.mode=External"], "name host and existingSecret"),
        (["ovn.mode=External"], "name northbound and southbound"),
        (
            ["ovn.mode=External", "ovn.external.northbound=tcp:192.0.2.1:6641", "ovn.external.southbound=ssl:x:1"],
            "write ssl:HOST:PORT",
        ),
        (["ingress.enabled=true"], "ingress.host"),
        (["networkPolicy.apiFrom[0].podSelector.matchLabels.app=ingress"], "networkPolicy.hostsFrom"),
        (["management.url=http://cloud.example"], "management.url"),
        (["image.digests.etcd=latest"], "image.digests.etcd"),
        (["managment.replicas=1"], "Additional property managment is not allowed"),
    ],
    ids=lambda given: "+".join(given) if isinstance(given, list) else "",
)
def test_values_that_would_not_work_are_refused_with_what_to_do(helm: Helm, values: list[str], said: str) -> None:
    assert said in helm.refuse(*(f"--set={each}" for each in values))


def test_the_schema_says_of_every_default_what_it_may_be() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def walk(value: Any, known: Wire, place: str) -> None:
        if isinstance(value, dict) and "properties" in known:
            assert set(value) <= set(known["properties"]), place
            assert known["additionalProperties"] is False, place
            for name, each in value.items():
                walk(each, known["properties"][name], f"{place}.{name}")
            missing = set(known["properties"]) - set(value) - {"global"}
            assert not missing or place.endswith(("seccompProfile", "digests", "issuerRef")), f"{place}: {missing}"

    walk(values, schema, "values")


def test_an_older_cluster_gets_the_versions_it_has(helm: Helm) -> None:
    old = helm.render("--kube-version=1.20.2")
    assert {each["apiVersion"] for each in old.all("PodDisruptionBudget")} == {"policy/v1beta1"}
    assert {each["apiVersion"] for each in old.all("CronJob")} == {"batch/v1beta1"}
    new = helm.render("--kube-version=1.30.0")
    assert {each["apiVersion"] for each in new.all("PodDisruptionBudget")} == {"policy/v1"}


def test_the_operator_may_what_its_own_documents_say_and_its_settings_are_those_that_it_reads(helm: Helm) -> None:
    documents = yaml.safe_load_all((CHART.parents[1] / "deploy" / "k8s" / "role.yaml").read_text())
    [wanted] = [each for each in documents if each and each["kind"] == "ClusterRole"]
    rendered = helm.render("--set=operator.name=east")
    [role] = rendered.all("ClusterRole")
    assert role["rules"] == wanted["rules"]
    [deployment] = rendered.all("Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    settings = read_settings({each["name"]: each.get("value", "pod") for each in container["env"]})
    assert settings.api_url == "https://rel-vcstack.cloud.svc:443"
    lease = rendered.one("Role", "rel-vcstack-operator")["rules"][1]
    assert lease["resourceNames"] == [settings.name] == ["east"]


def test_custom_resource_definitions_come_with_the_chart(helm: Helm) -> None:
    found = {each["metadata"]["name"] for each in helm.render("--include-crds").all("CustomResourceDefinition")}
    assert found == {path.name.removesuffix(".yaml") for path in (CHART.parents[1] / "crds").glob("*.yaml")}
