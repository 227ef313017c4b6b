"""charts/vcstack: all that it renders is taken by a real API server, as far as that knows the kinds."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.charts.test_chart import VALUES
from tests.fixtures.helm import CHART, Helm, Wire
from tests.k8s.cluster import Cluster, Refused

NAMESPACE = "chart"
VERSION = "--kube-version=1.20.2"
"""What Debian's source package is."""
OTHERS = "cert-manager.io/"
"""Kinds of a program that has its own definitions, which are not ours to install."""


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    cluster.kubectl("create", "namespace", NAMESPACE)
    yield NAMESPACE
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def ask(cluster: Cluster, *objects: Wire) -> list[Wire]:
    """The objects as the server would store them; kubectl refuses fields that it does not know."""
    text = yaml.safe_dump_all(objects)
    shown = cluster.kubectl(
        "apply", "--dry-run=server", "--validate=true", "-n", NAMESPACE, "-o", "json", "-f", "-", stdin=text
    )
    answer = json.loads(shown)
    found: list[Wire] = answer["items"] if answer["kind"] == "List" else [answer]
    return found


def key(wire: Wire) -> tuple[str, str, str]:
    return wire["apiVersion"], wire["kind"], wire["metadata"]["name"]


def missing(rendered: object, stored: object, path: str = "") -> Iterator[str]:
    """What was rendered and is not in what is stored: fields that the server dropped."""
    if isinstance(rendered, dict) and isinstance(stored, dict):
        for name, value in rendered.items():
            if name not in stored:
                if value not in (None, "", [], {}, False, 0):
                    yield f"{path}.{name}"
            else:
                yield from missing(value, stored[name], f"{path}.{name}")
    elif isinstance(rendered, list) and isinstance(stored, list):
        for n, (a, b) in enumerate(zip(rendered, stored, strict=True)):
            yield from missing(a, b, f"{path}[{n}]")


@pytest.mark.parametrize("values", VALUES, ids=lambda name: name or "default")
def test_the_api_server_takes_all_that_is_rendered(cluster: Cluster, helm: Helm, namespace: str, values: str) -> None:
    # The definitions are the same whatever the values.
    chosen = [f"--values={CHART / 'ci' / values}"] if values else ["--include-crds"]
    rendered = helm.render(VERSION, *chosen, namespace=namespace).objects
    ours = [each for each in rendered if not each["apiVersion"].startswith(OTHERS)]
    assert len(ours) > 10
    stored = {key(each): each for each in ask(cluster, *ours)}
    assert stored.keys() == {key(each) for each in ours}
    assert not [f"{key(each)} {path}" for each in ours for path in missing(each, stored[key(each)])]


def test_what_cannot_be_is_refused_there(cluster: Cluster, helm: Helm, namespace: str) -> None:
    job = next(each for each in helm.render(VERSION, namespace=namespace).objects if each["kind"] == "Job")
    pod = job["spec"]["template"]["spec"]
    for wrong in ({"restartPolicy": "Sometimes"}, {"containers": []}, {"nosuchField": True}):
        bad = {**job, "spec": {**job["spec"], "template": {**job["spec"]["template"], "spec": {**pod, **wrong}}}}
        with pytest.raises(Refused):
            ask(cluster, bad)
