"""The operator dies, is doubled, and loses either side: nothing is lost, and nothing is doubled."""

import random
import time
from collections import Counter
from pathlib import Path

from deploy.lab.layout import CENTRAL
from tests.e2e.cloud import Cloud
from tests.fixtures import freezer
from tests.k8s.cluster import ACCOUNT, PROJECT, Cluster, OperatorProcess, condition, wait
from tests.k8s.home import KEY, Home, manifest

KILLS = 8
OBJECTS = 24
AWAY_SECONDS = 12
"""Longer than the lease of the operator, and than connections are waited for."""
LONG_AWAY_SECONDS = 75
"""Longer than the longest pause between two attempts, 60 s; within a minute it comes to that, and there it stays."""


def names(count: int = OBJECTS) -> list[str]:
    return [f"k{i}" for i in range(count)]


def keys_ready(home: Home, wanted: int) -> bool:
    found = home.cluster.items("sshkeys", home.name)
    return sum(condition(wire, "Ready").get("status") == "True" for wire in found) == wanted


def real_keys(home: Home) -> Counter[str]:
    return Counter(wire["metadata"]["name"] for wire in home.cloud.items("sshkeys", home.name))


def apply_keys(home: Home, **labels: str) -> None:
    wires = [manifest("sshkeys", name, {"publicKey": KEY}, labels=labels) for name in names()]
    home.cluster.apply(*wires, namespace=home.name)


def test_killed_again_and_again_it_loses_nothing_and_doubles_nothing(home: Home, operator: OperatorProcess) -> None:
    chance = random.Random(4)
    apply_keys(home, round="0")
    for _ in range(KILLS):
        # From before it has looked at anything to when it is done with some.
        time.sleep(chance.uniform(0.0, 3.0))
        operator.kill()
        operator.start()
    wait("all made", lambda: keys_ready(home, OBJECTS), 90)
    assert real_keys(home) == Counter(names())
    uids = {w["metadata"]["name"]: w["metadata"]["uid"] for w in home.cloud.items("sshkeys", home.name)}

    home.cluster.kubectl("delete", "sshkeys.vcstack.io", "-n", home.name, "--wait=false", *names(OBJECTS // 2))
    apply_changed = [manifest("sshkeys", n, {"publicKey": KEY}, labels={"round": "1"}) for n in names()[OBJECTS // 2 :]]
    home.cluster.apply(*apply_changed, namespace=home.name)
    for _ in range(KILLS // 2):
        time.sleep(chance.uniform(0.0, 3.0))
        operator.kill()
        operator.start()

    def changed() -> bool:
        found = home.cloud.items("sshkeys", home.name)
        return len(found) == OBJECTS // 2 and all(w["metadata"]["labels"]["round"] == "1" for w in found)

    wait("half gone, half changed", changed, 90)
    wait("so in Kubernetes", lambda: len(home.cluster.items("sshkeys", home.name)) == OBJECTS // 2)
    assert all(w["metadata"]["uid"] == uids[w["metadata"]["name"]] for w in home.cloud.items("sshkeys", home.name))


def leader(*replicas: OperatorProcess) -> OperatorProcess | None:
    """The one of them that says it leads; two must never."""
    found = [each for each in replicas if each.leads]
    assert len(found) < 2
    return found[0] if found else None


def test_of_two_replicas_one_works_and_the_other_takes_over(
    home: Home, operator: OperatorProcess, cluster: Cluster, environment: dict[str, str]
) -> None:
    other = OperatorProcess(cluster, environment, "vc-operator-1").start()
    both = (operator, other)
    try:
        for each in both:
            wait("ready", lambda each=each: each.ask("/readyz")[0] == 200)  # type: ignore[misc]
        home.apply("sshkeys", "one", {"publicKey": KEY})
        home.wait_condition("sshkeys", "one", "Ready")
        first = wait("one leads", lambda: leader(*both))
        second = other if first is operator else operator
        first.kill()
        home.apply("sshkeys", "two", {"publicKey": KEY})
        home.wait_condition("sshkeys", "two", "Ready")
        wait("the second leads", lambda: leader(*both) is second)
        # One that stood still comes back as another, and does not work with the one that leads now.
        first.start()
        wait("the first ready again", lambda: first.ask("/readyz")[0] == 200)
        freezer.freeze(second.pid)
        home.apply("sshkeys", "three", {"publicKey": KEY})
        home.wait_condition("sshkeys", "three", "Ready")
        freezer.thaw(second.pid)
        wait("the frozen one ended", lambda: not second.running)
        wait("the first leads", lambda: leader(*both) is first)
        # Told to stop it lets go, so that nobody waits for the lease to end.
        first.stop()
        second.start()
        wait("taken over", lambda: leader(*both) is second)
    finally:
        other.stop()
        if not operator.running:
            operator.start()
    wait("the first leads again", lambda: operator.leads)
    assert real_keys(home) == Counter(["one", "two", "three"])


def test_kubernetes_away_for_long_loses_nothing(home: Home, operator: OperatorProcess, cluster: Cluster) -> None:
    home.apply("sshkeys", "before", {"publicKey": KEY})
    home.wait_condition("sshkeys", "before", "Ready")
    pid = operator.pid
    cluster.kill()
    try:
        home.cloud.delete("sshkeys", home.name, "before")
        time.sleep(AWAY_SECONDS)
        # It writes to neither side while it cannot know what is wanted.
        assert home.real("sshkeys", "before") is None
    finally:
        cluster.serve()
    wait("it made anew", lambda: home.real("sshkeys", "before"), 60)
    home.apply("sshkeys", "after", {"publicKey": KEY})
    home.wait_condition("sshkeys", "after", "Ready")
    assert operator.running
    assert operator.pid == pid


def test_the_cloud_away_for_long_loses_nothing(home: Home, operator: OperatorProcess, cloud: Cloud) -> None:
    home.apply("sshkeys", "before", {"publicKey": KEY})
    home.wait_condition("sshkeys", "before", "Ready")
    home.apply("sshkeys", "gone", {"publicKey": KEY})
    home.wait_condition("sshkeys", "gone", "Ready")
    cloud.lab.stop(CENTRAL, "vc-management")
    try:
        home.apply("sshkeys", "during", {"publicKey": KEY})
        home.delete_custom("sshkeys", "gone")
        wait("it said", lambda: _is_away(home, "during"))
        # What was observed is kept.
        assert condition(home.get("sshkeys", "before"), "Ready")["status"] == "True"
        time.sleep(AWAY_SECONDS)
        assert home.find("sshkeys", "gone") is not None
    finally:
        cloud.lab.start(CENTRAL, "vc-management")
        cloud.lab.wait_ready(CENTRAL, "vc-management")
    home.wait_condition("sshkeys", "during", "Ready")
    home.wait_gone("sshkeys", "gone")
    assert real_keys(home) == Counter(["before", "during"])


def test_both_away_for_longer_than_any_pause_between_attempts_loses_nothing(
    home: Home, operator: OperatorProcess, cluster: Cluster, cloud: Cloud
) -> None:
    for name in ("changed", "gone"):
        home.apply("sshkeys", name, {"publicKey": KEY}, labels={"round": "0"})
        home.wait_condition("sshkeys", name, "Ready")
    pid = operator.pid
    cloud.lab.stop(CENTRAL, "vc-management")
    try:
        home.apply("sshkeys", "during", {"publicKey": KEY})
        home.apply("sshkeys", "changed", {"publicKey": KEY}, labels={"round": "1"})
        home.delete_custom("sshkeys", "gone")
        wait("it said", lambda: _is_away(home, "during"))
        cluster.kill()
        try:
            time.sleep(LONG_AWAY_SECONDS)
        finally:
            cluster.serve()
        # It has Kubernetes again, and nothing is settled by that.
        assert home.find("sshkeys", "gone") is not None
        assert _is_away(home, "during")
    finally:
        cloud.lab.start(CENTRAL, "vc-management")
        cloud.lab.wait_ready(CENTRAL, "vc-management")
    home.wait_condition("sshkeys", "during", "Ready", seconds=90)
    home.wait_gone("sshkeys", "gone", seconds=90)
    wait("the change made", lambda: home.must("sshkeys", "changed")["metadata"]["labels"]["round"] == "1", 90)
    assert real_keys(home) == Counter(["changed", "during"])
    assert operator.running
    assert operator.pid == pid


def _reason(home: Home, name: str) -> tuple[str, str]:
    found = condition(home.find("sshkeys", name), "Reconciling")
    return found.get("status", ""), found.get("reason", "")


def _is_away(home: Home, name: str) -> bool:
    return _reason(home, name) == ("True", "ServiceUnavailable")


def test_another_api_key_is_taken_without_a_restart(
    home: Home, operator: OperatorProcess, cloud: Cloud, environment: dict[str, str]
) -> None:
    home.apply("sshkeys", "before", {"publicKey": KEY})
    home.wait_condition("sshkeys", "before", "Ready")
    (old,) = [w["metadata"]["name"] for w in cloud.items("apikeys", PROJECT)]
    file = Path(environment["VCSTACK_API_KEY_FILE"])
    pid, fresh = operator.pid, file.with_name("fresh-key")
    cloud.vcctl("auth", "key", "create", f"{old}-b", "--service-account", ACCOUNT, "-p", PROJECT, "--to", fresh)
    cloud.delete("apikeys", PROJECT, old)
    home.apply("sshkeys", "during", {"publicKey": KEY})
    wait("it said", lambda: _reason(home, "during") == ("True", "NotLoggedIn"))
    fresh.replace(file)
    home.wait_condition("sshkeys", "during", "Ready")
    assert operator.pid == pid
