"""From custom resources to manifests."""

from typing import Any

import pytest

from vcstack.operator.kubernetes import Key
from vcstack.operator.manifests import build_manifest, find_secret_keys, fingerprint_of, is_owned
from vcstack.operator.places import Place
from vcstack.operator.settings import NamespaceMode, SettingsError, read_settings
from vcstack.specs.errors import Invalid

SECRET = Key("Secret", "shop", "db")


def custom(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "db", "uid": "u-1", **metadata}, "spec": spec}


def test_a_manifest_has_its_place_its_owner_and_what_means_something_in_the_cloud() -> None:
    annotations = {
        "note": "kept", "example.com/x": "kept", "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "argocd.argoproj.io/sync-wave": "1", "kubernetes.vcstack.io/adopt": "true",
    }  # fmt: skip
    resource = custom({"cidr": "10.0.0.0/24"}, labels={"a": "b"}, annotations=annotations)
    wire = build_manifest(Key("Subnet", "shop", "s"), resource, Place("other"), {}, "op")
    assert wire["metadata"] == {
        "name": "s",
        "project": "other",
        "labels": {"a": "b", "vcstack.io/operator": "op"},
        "annotations": {
            "note": "kept", "example.com/x": "kept",
            "kubernetes.vcstack.io/uid": "u-1", "kubernetes.vcstack.io/object": "shop/s",
        },
    }  # fmt: skip
    assert "project" not in build_manifest(Key("Setting", "x", "s"), custom({}), Place(None), {}, "op")["metadata"]


def test_values_are_put_in_where_they_are_referred_to() -> None:
    resource = custom({"data": {"password": {"secretKeyRef": {"name": "s", "key": "k"}}}})
    assert list(find_secret_keys(SECRET, resource)) == [("s", "k")]
    wire = build_manifest(SECRET, resource, Place("shop"), {("s", "k"): "value"}, "op")
    assert wire["spec"] == {"data": {"password": "value"}}


@pytest.mark.parametrize("value", ["in the clear", {"secretKeyRef": {"name": "s"}}, {}, 1])
def test_whatever_is_no_reference_is_refused_and_not_sent(value: Any) -> None:
    resource = custom({"data": {"password": value}})
    assert list(find_secret_keys(SECRET, resource)) == []
    with pytest.raises(Invalid, match=r"spec\.data\.password"):
        build_manifest(SECRET, resource, Place("shop"), {}, "op")


def test_an_object_belongs_to_whom_it_says_and_else_to_whom_remembers_it() -> None:
    def live(**annotations: str) -> dict[str, Any]:
        return {"metadata": {"uid": "net-1", "annotations": annotations}}

    mine, other = {"kubernetes.vcstack.io/uid": "u-1"}, {"kubernetes.vcstack.io/uid": "u-2"}
    remembering = {**custom({}), "status": {"vcstack": {"uid": "net-1"}}}
    assert is_owned(live(**mine), custom({}))
    assert not is_owned(live(**other), remembering)
    assert not is_owned(live(), custom({}))
    assert is_owned(live(), remembering)


def test_status_does_not_count_as_a_change_by_somebody_else() -> None:
    before = {"metadata": {"uid": "u"}, "spec": {"a": 1}, "status": {"x": 1}}
    assert fingerprint_of(before) == fingerprint_of({**before, "status": {"x": 2}})
    assert fingerprint_of(before) != fingerprint_of({**before, "spec": {"a": 2}})


def test_settings_are_read_from_the_environment_and_wrong_ones_are_named() -> None:
    needed = {"VCSTACK_API_URL": "https://cloud:8443", "VCSTACK_API_KEY_FILE": "/key"}
    found = read_settings({**needed, "VC_OPERATOR_NAMESPACES": "Annotated", "VC_OPERATOR_WORKERS": "3"})
    assert (found.namespaces, found.workers, found.name) == (NamespaceMode.ANNOTATED, 3, "vc-operator")
    for wrong in (
        {"VCSTACK_API_URL": ""}, {"VC_OPERATOR_NAMESPACES": "Some"}, {"VC_OPERATOR_WORKERS": "0"},
        {"VC_OPERATOR_LEASE_SECONDS": "x"}, {"VC_OPERATOR_NAME": "Not a label"},
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            read_settings({**needed, **wrong})
