"""A custom resource's life, between a real Kubernetes and a real cloud."""

import json

import pytest
import yaml

from deploy.lab.layout import CHECKOUT
from tests.e2e.cloud import Cloud
from tests.fixtures.samples import SAMPLES
from tests.k8s.cluster import ACCOUNT, SYSTEM, Cluster, OperatorProcess, Refused, condition, wait
from tests.k8s.home import KEY, Home, Wire, manifest
from vcstack.operator.crds import custom_kinds, is_namespaced
from vcstack.operator.schemas import SECRET_KEY_REF
from vcstack.specs.sensitive import change_sensitive

OPEN = {
    "name": "ssh",
    "direction": "Ingress",
    "protocol": "TCP",
    "portMin": 22,
    "portMax": 22,
    "remoteCidr": "0.0.0.0/0",
}


def desired(document: Wire) -> Wire:
    """The document of an object without what observing it changes."""
    metadata = {key: value for key, value in document["metadata"].items() if key != "resourceVersion"}
    metadata["managedFields"] = [f for f in metadata["managedFields"] if f.get("subresource") != "status"]
    return {**{key: value for key, value in document.items() if key != "status"}, "metadata": metadata}


def test_what_is_applied_is_made_mirrored_changed_and_deleted(home: Home) -> None:
    labels, annotations = {"tier": "front"}, {"note": "mine"}
    home.apply("securitygroups", "web", {"rules": []}, labels=labels, annotations=annotations)
    found = home.wait_condition("securitygroups", "web", "Ready")
    real = home.must("securitygroups", "web")
    assert real["metadata"]["labels"]["tier"] == "front"
    assert real["metadata"]["annotations"]["note"] == "mine"
    assert not any("kubectl" in name for name in real["metadata"]["annotations"])
    assert found["status"]["vcstack"] == {
        "project": home.name, "name": "web", "uid": real["metadata"]["uid"], "fieldManager": "vc-operator"
    }  # fmt: skip
    assert condition(found, "Reconciling")["status"] == condition(found, "Stalled")["status"] == "False"
    assert found["metadata"]["finalizers"] == ["vcstack.io/operator"]
    theirs = {c["type"] for c in real["status"]["conditions"]}
    assert theirs <= {c["type"] for c in found["status"]["conditions"]}

    home.apply("securitygroups", "web", {"rules": [OPEN]}, labels={"tier": "back"})
    changed = home.wait_condition("securitygroups", "web", "Ready")
    assert changed["metadata"]["generation"] == changed["status"]["observedGeneration"] > 1
    real = home.must("securitygroups", "web")
    assert real["spec"]["rules"] == [OPEN]
    assert real["metadata"]["labels"]["tier"] == "back"
    # What is applied no more is gone there too.
    assert "note" not in real["metadata"]["annotations"]

    home.delete_custom("securitygroups", "web")
    home.wait_gone("securitygroups", "web")
    assert home.real("securitygroups", "web") is None
    expected = {"Created", "Changed", "Ready", "Deleting"}
    wait("all events", lambda: expected <= {reason for _, reason in home.cluster.events(home.name, "web")})


def test_what_the_api_refuses_stalls_with_its_words_until_it_is_right(home: Home) -> None:
    home.apply("subnets", "s", {"network": "net", "cidr": "10.0.0.0/24", "gateway": "192.0.2.1"})
    found = home.wait_condition("subnets", "s", "Stalled", reason="Invalid")
    assert "gateway" in condition(found, "Stalled")["message"]
    assert condition(found, "Ready")["status"] == "False"
    assert home.real("subnets", "s") is None
    wait("a warning", lambda: ("Warning", "Invalid") in home.cluster.events(home.name, "s"))

    home.apply("subnets", "s", {"network": "net", "cidr": "10.0.0.0/24"})
    home.wait_condition("subnets", "s", "Stalled", "False")
    # Its network comes later: that is no fault, and is seen as soon as it is there.
    waiting = home.wait_condition("subnets", "s", "Reconciling")
    assert condition(waiting, "Ready")["status"] != "True"
    home.apply("networks", "net", {})
    home.wait_condition("subnets", "s", "Ready")


def test_the_same_manifest_is_for_kubectl_and_for_vcctl(home: Home) -> None:
    text = (CHECKOUT / "examples/kubernetes/network.yaml").read_text().replace("demo", home.name)
    home.cluster.kubectl("apply", "-f", "-", stdin=text)
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        plural = next(d.plural for d in custom_kinds() if d.kind == document["kind"])
        home.wait_condition(plural, document["metadata"]["name"], "Ready")
    shown = home.cloud.vcctl("apply", "-f", "-", stdin=text)
    assert shown.count("configured") + shown.count("unchanged") == len(documents), shown


def test_an_object_that_is_there_is_taken_over_only_when_told_to(home: Home) -> None:
    home.cloud.apply("sshkeys", home.name, "me", {"publicKey": KEY})
    before = home.must("sshkeys", "me")
    home.apply("sshkeys", "me", {"publicKey": KEY})
    found = home.wait_condition("sshkeys", "me", "Stalled", reason="AlreadyExists")
    assert "kubernetes.vcstack.io/adopt" in condition(found, "Stalled")["message"]
    # Its status may have been observed in between; nothing that anybody wants of it was touched.
    assert desired(home.must("sshkeys", "me")) == desired(before)

    home.cluster.annotate("sshkeys", "me", home.name, "kubernetes.vcstack.io/adopt=true")
    home.wait_condition("sshkeys", "me", "Ready")
    assert home.must("sshkeys", "me")["metadata"]["uid"] == before["metadata"]["uid"]
    # A second custom resource, in another namespace of the same project, does not get it by its mere name.
    other = f"{home.name}-b"
    home.cluster.make_namespace(other, home.name)
    home.cluster.apply(manifest("sshkeys", "me", {"publicKey": KEY}), namespace=other)

    def refused() -> bool:
        return condition(home.cluster.find("sshkeys", "me", other), "Stalled").get("reason") == "AlreadyExists"

    wait("the second one stalled", refused)
    message = condition(home.cluster.find("sshkeys", "me", other), "Stalled")["message"]
    assert f"{home.name}/me" in message
    # Told to, it does, and the first one, which was told so too, does not take it back.
    home.cluster.annotate("sshkeys", "me", other, "kubernetes.vcstack.io/adopt=true")
    home.wait_condition("sshkeys", "me", "Stalled", reason="TakenOver")
    assert home.must("sshkeys", "me")["metadata"]["annotations"]["kubernetes.vcstack.io/object"] == f"{other}/me"
    home.delete_custom("sshkeys", "me")
    home.wait_gone("sshkeys", "me")
    assert home.must("sshkeys", "me")["metadata"]["uid"] == before["metadata"]["uid"]
    home.cluster.kubectl("delete", "sshkeys.vcstack.io", "me", "-n", other, "--timeout=120s")
    home.cluster.kubectl("delete", "namespace", other, "--wait=false")
    assert home.real("sshkeys", "me") is None


def test_drift_is_settled_by_who_owns_the_field(home: Home) -> None:
    home.apply("networks", "net", {"mtuBytes": 1400})
    home.wait_condition("networks", "net", "Ready")
    # A field that the custom resource says nothing about is anybody's.
    home.cloud.patch("networks", home.name, "net", {"metadata": {"labels": {"cost": "42"}}})
    # A field that it owns was changed by somebody else: shown, and left alone.
    home.cloud.patch("networks", home.name, "net", {"spec": {"mtuBytes": 1300}})
    found = home.wait_condition("networks", "net", "Stalled", reason="FieldManagerConflict")
    assert "spec.mtuBytes" in condition(found, "Stalled")["message"]
    assert home.must("networks", "net")["spec"]["mtuBytes"] == 1300

    home.cluster.annotate("networks", "net", home.name, "kubernetes.vcstack.io/conflicts=Take")
    home.wait_condition("networks", "net", "Stalled", "False")
    real = home.must("networks", "net")
    assert real["spec"]["mtuBytes"] == 1400
    assert real["metadata"]["labels"]["cost"] == "42"
    # With that annotation the next one is taken back at once.
    home.cloud.patch("networks", home.name, "net", {"spec": {"mtuBytes": 1290}})
    wait("it taken back", lambda: home.must("networks", "net")["spec"]["mtuBytes"] == 1400)


def test_what_is_deleted_behind_its_back_is_made_anew(home: Home) -> None:
    home.apply("sshkeys", "me", {"publicKey": KEY})
    home.wait_condition("sshkeys", "me", "Ready")
    uid = home.must("sshkeys", "me")["metadata"]["uid"]
    home.cloud.delete("sshkeys", home.name, "me", wait=False)

    def anew() -> bool:
        found = home.real("sshkeys", "me")
        return found is not None and found["metadata"]["uid"] != uid

    wait("another one", anew)
    recorded = home.must("sshkeys", "me")["metadata"]["uid"]
    wait("its uid recorded", lambda: home.get("sshkeys", "me")["status"]["vcstack"]["uid"] == recorded)


def test_the_finalizer_waits_until_it_is_really_gone_and_says_what_holds_it(home: Home) -> None:
    home.apply("networks", "net", {})
    home.wait_condition("networks", "net", "Ready")
    home.cloud.apply("ports", home.name, "user", {"network": "net"})
    home.delete_custom("networks", "net")
    found = home.wait_condition("networks", "net", "Reconciling", reason="Deleting")
    assert found["metadata"]["finalizers"] == ["vcstack.io/operator"]
    wait("the user named", lambda: "user" in json.dumps(home.get("networks", "net")["status"]["conditions"]))
    home.cloud.delete("ports", home.name, "user")
    home.wait_gone("networks", "net")
    assert home.real("networks", "net") is None


def test_who_may_see_nothing_any_more_does_not_take_that_for_gone(home: Home) -> None:
    home.apply("sshkeys", "me", {"publicKey": KEY})
    home.apply("sshkeys", "left", {"publicKey": KEY})
    for name in ("me", "left"):
        home.wait_condition("sshkeys", name, "Ready")
    granted = home.cloud.get("rolebindings", None, ACCOUNT)["spec"]
    home.cloud.delete("rolebindings", None, ACCOUNT)
    try:
        wait("the right lost", lambda: home.cloud.find("rolebindings", None, ACCOUNT) is None)
        home.delete_custom("sshkeys", "me")
        home.delete_custom("sshkeys", "left")
        home.wait_condition("sshkeys", "me", "Stalled", reason="Forbidden")
        home.cluster.kubectl(
            "annotate", "sshkeys.vcstack.io", "left", "-n", home.name, "kubernetes.vcstack.io/deletion=Orphan"
        )
        home.wait_gone("sshkeys", "left")
    finally:
        home.cloud.apply("rolebindings", None, ACCOUNT, granted)
    home.wait_gone("sshkeys", "me", 120)
    assert home.real("sshkeys", "me") is None
    home.cloud.delete("sshkeys", home.name, "left")


def test_an_orphan_stays(home: Home) -> None:
    home.apply("sshkeys", "me", {"publicKey": KEY}, annotations={"kubernetes.vcstack.io/deletion": "Orphan"})
    home.wait_condition("sshkeys", "me", "Ready")
    home.delete_custom("sshkeys", "me")
    home.wait_gone("sshkeys", "me")
    left = home.must("sshkeys", "me")["metadata"]
    assert not any("vcstack.io" in name for name in [*left.get("labels", {}), *left.get("annotations", {})])


def test_values_come_from_secrets_of_kubernetes_and_follow_them(home: Home) -> None:
    plain = manifest("secrets", "db", {"data": {"password": "in the clear"}})
    with pytest.raises(Refused, match="password"):
        home.cluster.apply(plain, namespace=home.name)
    reference = {SECRET_KEY_REF: {"name": "db", "key": "pw"}}
    home.apply("secrets", "db", {"data": {"password": reference}})
    found = home.wait_condition("secrets", "db", "Reconciling", reason="SecretMissing")
    assert f"{home.name}/db" in condition(found, "Reconciling")["message"]
    home.cluster.put_secret(home.name, "db", pw="first words")
    home.wait_condition("secrets", "db", "Ready")
    assert home.secret("db") == {"password": "first words"}
    home.cluster.put_secret(home.name, "db", pw="second words")
    wait("the new value", lambda: home.secret("db") == {"password": "second words"})
    # Nowhere in Kubernetes but in the Secret itself.
    assert "words" not in json.dumps(home.get("secrets", "db"))


def test_namespaces_stand_for_projects_as_they_say(home: Home, cluster: Cluster, cloud: Cloud) -> None:
    space = f"{home.name}-outside"
    cluster.make_namespace(space, "-")
    # A kind that may lie outside projects does so there, one that may not is refused.
    name = f"{home.name}-s"
    cluster.apply(manifest("settings", name, {"setting": "images.maxSizeGiB", "value": 30}), namespace=space)
    cluster.apply(manifest("sshkeys", "me", {"publicKey": KEY}), namespace=space)
    wait("it global", lambda: cloud.find("settings", None, name))
    wait("it refused", lambda: condition(cluster.find("sshkeys", "me", space), "Stalled").get("reason") == "NoProject")
    # What was put somewhere does not move with the annotation; where it is it is deleted.
    cluster.annotate("namespaces", space, None, f"kubernetes.vcstack.io/project={home.name}")
    wait("it shown", lambda: condition(cluster.find("settings", name, space), "Stalled").get("reason") == "NoProject")
    wait("the key made", lambda: home.real("sshkeys", "me"))
    for plural, one in (("settings", name), ("sshkeys", "me")):
        cluster.kubectl("delete", f"{plural}.vcstack.io", one, "-n", space, "--timeout=120s")
    assert cloud.find("settings", None, name) is None
    assert home.real("sshkeys", "me") is None
    # A project that is not there is what is said to be missing; it may come yet.
    cluster.annotate("namespaces", space, None, "kubernetes.vcstack.io/project=not-there")
    cluster.apply(manifest("sshkeys", "lost", {"publicKey": KEY}), namespace=space)
    found = wait("it waiting", lambda: condition(cluster.find("sshkeys", "lost", space), "Reconciling"))
    assert found["status"] == "True"
    assert "no project not-there" in found["message"]
    cluster.kubectl("delete", "sshkeys.vcstack.io", "lost", "-n", space, "--timeout=120s")
    cluster.kubectl("delete", "namespace", space, "--wait=false")


@pytest.mark.parametrize("kind", [d.kind for d in custom_kinds()])
def test_the_example_of_each_kind_is_valid_for_kubectl(cluster: Cluster, kind: str) -> None:
    definition = next(d for d in custom_kinds() if d.kind == kind)
    reference = {SECRET_KEY_REF: {"name": "s", "key": "k"}}
    wire = change_sensitive(definition.model, SAMPLES[kind], lambda *_: reference)
    document = {"apiVersion": "vcstack.io/v1", "kind": kind, "metadata": {"name": "example"}, "spec": wire["spec"]}
    place = ["-n", "default"] if is_namespaced(definition) else []
    text = yaml.safe_dump(document)
    shown = cluster.kubectl("apply", *place, "--dry-run=server", "-o", "json", "-f", "-", stdin=text)
    # Nothing of it is pruned: the definition knows every field.
    assert json.loads(shown)["spec"] == wire["spec"]


def test_it_tells_how_it_is(operator: OperatorProcess, cluster: Cluster) -> None:
    wait("ready", lambda: operator.ask("/readyz")[0] == 200)
    assert operator.ask("/healthz")[0] == 200
    wait("leading", lambda: operator.leads)
    shown = operator.ask("/metrics")[1]
    assert "vcstack_operator_cloud_connected" in shown
    lease = json.loads(cluster.kubectl("get", "lease", "vc-operator", "-n", SYSTEM, "-o", "json"))
    assert lease["spec"]["holderIdentity"] == operator.pod


def test_columns_and_short_names_are_those_of_vcctl(home: Home) -> None:
    home.apply("networks", "net", {})
    home.wait_condition("networks", "net", "Ready")
    shown = home.cluster.kubectl("get", "net", "-n", home.name)
    assert shown.split()[:3] == ["NAME", "READY", "MTU"]
    assert "network.vcstack.io/net" in home.cluster.kubectl("get", "vcstack", "-n", home.name, "-o", "name")
