"""A custom resource's life, between a real Kubernetes and a real cloud."""

from tests.k8s.cluster import condition, wait
from tests.k8s.home import KEY, Home

RULE = {"name": "ssh", "direction": "Ingress", "protocol": "TCP", "ports": "22", "remoteCidr": "0.0.0.0/0"}


def test_what_is_applied_is_made_mirrored_changed_and_deleted(home: Home) -> None:
    home.apply("networks", "web", {}, labels={"tier": "front"}, annotations={"note": "mine"})
    found = home.wait_condition("networks", "web", "Ready")
    real = home.real("networks", "web")
    assert real is not None
    assert real["metadata"]["labels"]["tier"] == "front"
    assert real["metadata"]["annotations"]["note"] == "mine"
    assert not any("kubectl" in name for name in real["metadata"]["annotations"])
    assert found["status"]["vcstack"] == {
        "project": home.name, "name": "web", "uid": real["metadata"]["uid"], "fieldManager": "vc-operator"
    }  # fmt: skip
    assert condition(found, "Reconciling")["status"] == condition(found, "Stalled")["status"] == "False"
    assert found["metadata"]["finalizers"] == ["vcstack.io/operator"]
