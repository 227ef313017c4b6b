"""An instance that is applied by kubectl is a real guest."""

from tests.e2e.cloud import FLAVOR, IMAGE
from tests.k8s.cluster import condition
from tests.k8s.home import Home, manifest


def test_an_instance_applied_by_kubectl_becomes_a_guest_that_runs_and_goes(home: Home) -> None:
    everything = {"name": "all", "direction": "Ingress", "remoteCidr": "0.0.0.0/0"}
    interfaces = [{"name": "eth0", "network": "net", "securityGroups": ["open"]}]
    # In an order in which nothing is there yet that it needs.
    home.cluster.apply(
        manifest("instances", "web", {"flavor": FLAVOR, "image": IMAGE, "networkInterfaces": interfaces}),
        manifest("securitygroups", "open", {"rules": [everything]}),
        manifest("subnets", "v4", {"network": "net", "cidr": "10.40.0.0/24"}),
        manifest("networks", "net", {}),
        namespace=home.name,
    )
    found = home.wait_condition("instances", "web", "Ready", seconds=120)
    assert found["status"]["powerState"] == "Running"
    assert found["status"]["addresses"][0]["address"].startswith("10.40.0.")
    assert condition(found, "Reconciling")["status"] == "False"
    uid, host = found["status"]["vcstack"]["uid"], found["status"]["host"]
    assert uid in home.cloud.domains(host)
    assert found["status"]["addresses"][0]["address"] in home.cluster.kubectl("get", "vm", "-n", home.name)

    home.cluster.kubectl(
        "patch", "vm", "web", "-n", home.name, "--type=merge", "-p", '{"spec": {"powerState": "Stopped"}}'
    )
    stopped = home.wait_condition("instances", "web", "Ready", seconds=120)
    assert stopped["status"]["powerState"] == "Stopped"

    home.delete_custom("instances", "web")
    home.wait_gone("instances", "web", 90)
    assert uid not in home.cloud.domains(host)
