"""The verbs: create, read, list, replace, patch, apply, delete, dry runs."""

import json
from typing import Any

import httpx2
import pytest

from tests.fixtures.api import SYSTEM, Api, create_samples, error_of, snapshot
from tests.fixtures.samples import sample
from vcstack.apiclient.client import ApiClient
from vcstack.specs.access import Propagation
from vcstack.specs.errors import AlreadyExists, Conflict, Expired, Invalid, NotFound
from vcstack.specs.kinds.flavor import Flavor, FlavorSpec
from vcstack.specs.kinds.project import Project
from vcstack.specs.registry import get_kind
from vcstack.store.etcd.errors import EtcdUnavailable

FLAVOR, PROJECT, NETWORK = get_kind("Flavor"), get_kind("Project"), get_kind("Network")
APPLY = {"content-type": "application/apply-patch+yaml"}


def flavor(name: str = "tiny") -> Flavor:
    return Flavor.new(name, FlavorSpec(vcpus=1, memory_mib=128, root_disk_gib=1))


async def test_what_is_created_is_read_listed_and_deleted(admin: ApiClient) -> None:
    made = await admin.create(flavor())
    assert made.uid.startswith("fl-")
    assert await admin.get(Flavor, "tiny") == made
    page = await admin.list(Flavor)
    assert page.items == [made]
    assert page.resource_version == made.metadata.resource_version
    await admin.delete(made.ref)
    held = await admin.get(Flavor, "tiny")
    assert held.deleting
    with pytest.raises(AlreadyExists):
        await admin.create(flavor())


async def test_an_object_without_finalizers_is_gone_with_its_deletion(api: Api, admin: ApiClient) -> None:
    await create_samples(api)
    task = get_kind("Task")
    assert await admin.delete_wire(task, "reboot-1", project="demo") is None
    with pytest.raises(NotFound):
        await admin.delete_wire(task, "reboot-1", project="demo")


@pytest.mark.parametrize("propagation", list(Propagation))
async def test_propagation_reaches_the_store(api: Api, admin: ApiClient, propagation: Propagation) -> None:
    await create_samples(api, "Flavor")
    wire = await admin.delete_wire(FLAVOR, "tiny", propagation=propagation)
    assert wire is not None
    marks = {Propagation.FOREGROUND: "foregroundDeletion", Propagation.ORPHAN: "orphan"}
    assert [m for m in marks.values() if m in wire["metadata"]["finalizers"]] == [
        m for p, m in marks.items() if p is propagation
    ]


async def test_delete_preconditions_may_stand_in_the_body(api: Api) -> None:
    await create_samples(api, "Flavor")
    async with api.raw() as raw:
        wrong = await raw.request("DELETE", "/api/v1/flavors/tiny", content=b'{"uid":"fl-0"}')
        assert wrong.status_code == 409
        uid = (await raw.get("/api/v1/flavors/tiny")).json()["metadata"]["uid"]
        right = await raw.request("DELETE", "/api/v1/flavors/tiny", content=json.dumps({"uid": uid}).encode())
        assert right.status_code == 200


async def test_dry_runs_of_every_write_show_the_result_and_change_nothing(api: Api, admin: ApiClient) -> None:
    await create_samples(api, "Project")
    before = await snapshot(api)
    made = await admin.create_wire(FLAVOR, sample("Flavor"), dry_run=True)
    assert made["metadata"]["uid"]
    replaced = await admin.replace_wire(PROJECT, sample("Project", labels={"a": "b"}), dry_run=True)
    assert replaced["metadata"]["labels"] == {"a": "b"}
    patch = {"spec": {"displayName": "Demo"}}
    assert (await admin.merge_patch_wire(PROJECT, "demo", patch, dry_run=True))["spec"] == {"displayName": "Demo"}
    applied = await admin.apply_wire(NETWORK, sample("Network"), manager="me", dry_run=True)
    assert applied["metadata"]["name"] == "web"
    assert (await admin.delete_wire(PROJECT, "demo", dry_run=True) or {})["metadata"]["deletionTimestamp"]
    assert await snapshot(api) == before


async def test_a_dry_run_finds_what_the_write_would_find(admin: ApiClient) -> None:
    with pytest.raises((NotFound, Invalid), match="demo"):
        await admin.create_wire(NETWORK, sample("Network"), dry_run=True)


async def test_a_reference_to_nothing_may_be_allowed(api: Api, admin: ApiClient) -> None:
    await create_samples(api, "Project")
    subnet = get_kind("Subnet")
    with pytest.raises(Invalid):
        await admin.create_wire(subnet, sample("Subnet"))
    assert await admin.create_wire(subnet, sample("Subnet"), missing_references="Allow")


async def test_of_two_writers_with_one_version_one_wins(admin: ApiClient) -> None:
    await admin.create_wire(PROJECT, sample("Project"))
    mine, theirs = await admin.get(Project, "demo"), await admin.get(Project, "demo")
    mine.spec.description = "mine"
    theirs.spec.description = "theirs"
    await admin.update(mine)
    with pytest.raises(Conflict):
        await admin.update(theirs)
    assert (await admin.get(Project, "demo")).spec.description == "mine"


async def test_a_replace_without_version_always_lands(admin: ApiClient) -> None:
    await admin.create_wire(PROJECT, sample("Project"))
    await admin.merge_patch_wire(PROJECT, "demo", {"spec": {"description": "x"}})
    wire = await admin.replace_wire(PROJECT, sample("Project"))
    assert wire["spec"] == {}


async def test_a_merge_patch_adds_changes_and_removes(admin: ApiClient) -> None:
    await admin.create_wire(PROJECT, sample("Project", labels={"a": "1", "b": "2"}))
    wire = await admin.merge_patch_wire(PROJECT, "demo", {"metadata": {"labels": {"a": None, "b": "3", "c": "4"}}})
    assert wire["metadata"]["labels"] == {"b": "3", "c": "4"}
    assert wire["metadata"]["generation"] == 1


async def test_applying_the_same_twice_changes_nothing(admin: ApiClient) -> None:
    await admin.create_wire(PROJECT, sample("Project"))
    first = await admin.apply_wire(NETWORK, sample("Network", labels={"a": "b"}), manager="vcctl")
    second = await admin.apply_wire(NETWORK, sample("Network", labels={"a": "b"}), manager="vcctl")
    assert first == second


async def test_an_applied_field_of_another_manager_is_a_conflict_that_names_both(admin: ApiClient) -> None:
    project = sample("Project")
    await admin.apply_wire(PROJECT, project | {"spec": {"description": "a"}}, manager="alice")
    with pytest.raises(Conflict) as refused:
        await admin.apply_wire(PROJECT, project | {"spec": {"description": "b"}}, manager="bob")
    assert refused.value.causes[0].field == "spec.description"
    assert "alice" in refused.value.causes[0].message
    forced = await admin.apply_wire(PROJECT, project | {"spec": {"description": "b"}}, manager="bob", force=True)
    assert forced["spec"]["description"] == "b"


async def test_a_field_no_longer_applied_is_removed(admin: ApiClient) -> None:
    project = sample("Project")
    await admin.apply_wire(PROJECT, project | {"spec": {"description": "a", "displayName": "D"}}, manager="me")
    wire = await admin.apply_wire(PROJECT, project | {"spec": {"displayName": "D"}}, manager="me")
    assert wire["spec"] == {"displayName": "D"}


async def test_yaml_is_applied_as_it_stands_in_a_file(api: Api) -> None:
    text = b"# my flavor\nkind: Flavor\nmetadata: {name: big}\nspec: {vcpus: 4, memoryMiB: 1024, rootDiskGiB: 10}\n"
    async with api.raw() as raw:
        made = await raw.patch("/api/v1/flavors/big?fieldManager=me", content=text, headers=APPLY)
        assert made.status_code == 200, made.text
        again = await raw.post("/api/v1/flavors", content=text, headers={"content-type": "application/yaml"})
        assert again.status_code == 409


async def test_the_writers_program_is_the_field_manager(api: Api, admin: ApiClient) -> None:
    wire = await admin.create_wire(FLAVOR, sample("Flavor"))
    assert wire["metadata"]["managedFields"][0]["manager"] == "tests"
    async with api.raw() as raw:
        answer = await raw.patch(
            "/api/v1/flavors/tiny?fieldManager=someone",
            content=b'{"metadata":{"labels":{"a":"b"}}}',
            headers={"content-type": "application/merge-patch+json"},
        )
        refused = await raw.delete("/api/v1/flavors/tiny?fieldManager=some%20one")
        gone = await raw.delete("/api/v1/flavors/tiny?fieldManager=someone")
    assert {m["manager"] for m in answer.json()["metadata"]["managedFields"]} == {"tests", "someone"}
    assert (refused.status_code, gone.status_code // 100) == (400, 2)


async def test_pages_show_the_revision_of_the_first(api: Api, admin: ApiClient) -> None:
    for n in range(7):
        await admin.create(flavor(f"f{n}"))
    first = await admin.list_page(FLAVOR, limit=3)
    assert (len(first.items), first.remaining) == (3, 4)
    await admin.create(flavor("f1a"))
    await admin.merge_patch_wire(FLAVOR, "f5", {"metadata": {"labels": {"late": "yes"}}})
    second = await admin.list_page(FLAVOR, limit=3, continue_token=first.continue_token)
    third = await admin.list_page(FLAVOR, limit=3, continue_token=second.continue_token)
    items = [*first.items, *second.items, *third.items]
    assert [i["metadata"]["name"] for i in items] == [f"f{n}" for n in range(7)]
    assert all("labels" not in i["metadata"] for i in items)
    assert third.continue_token == ""
    assert {p.resource_version for p in (first, second, third)} == {first.resource_version}
    whole = await admin.list_wire(FLAVOR, page_size=2)
    assert len(whole.items) == 8


async def test_a_page_after_compaction_is_gone(api: Api, admin: ApiClient) -> None:
    for n in range(3):
        await admin.create(flavor(f"f{n}"))
    first = await admin.list_page(FLAVOR, limit=1)
    await admin.create(flavor("late"))
    await api.etcd.compact(api.etcd.revision)
    with pytest.raises(Expired):
        await admin.list_page(FLAVOR, limit=1, continue_token=first.continue_token)


async def test_selectors_select(api: Api, admin: ApiClient) -> None:
    await create_samples(api)
    await admin.merge_patch_wire(FLAVOR, "tiny", {"metadata": {"labels": {"size": "s"}}})
    await admin.create(flavor("other"))
    assert [f.metadata.name for f in (await admin.list(Flavor, labels="size=s")).items] == ["tiny"]
    assert [f.metadata.name for f in (await admin.list(Flavor, fields="metadata.name!=tiny")).items] == ["other"]
    assert (await admin.list(Flavor, fields="spec.vcpus=2")).items == []


async def test_lists_of_a_project_and_across_projects(api: Api, admin: ApiClient) -> None:
    await create_samples(api, "Project", "Network")
    await admin.create_wire(PROJECT, {"metadata": {"name": "other"}, "spec": {}})
    await admin.create_wire(NETWORK, {"metadata": {"project": "other", "name": "lan"}, "spec": {}})
    everywhere = await admin.list_wire(NETWORK)
    assert {i["metadata"]["project"] for i in everywhere.items} == {"demo", "other"}
    assert len((await admin.list_wire(NETWORK, project="demo")).items) == 1


async def test_posting_across_projects_takes_the_project_from_the_body(api: Api) -> None:
    await create_samples(api, "Project")
    async with api.raw() as raw:
        made = await raw.post("/api/v1/networks", json=sample("Network"))
        assert made.status_code == 201
        wire = sample("Network", name="x")
        del wire["metadata"]["project"]
        answer = await raw.post("/api/v1/networks", json=wire)
    assert error_of(answer)["details"]["causes"][0]["field"] == "metadata.project"


async def test_users_read_status_where_hosts_write_it(api: Api, admin: ApiClient) -> None:
    await create_samples(api)
    await api.store.patch_status(get_kind("Instance"), "demo", "web-1", {"host": "h1"}, actor=SYSTEM)
    wire = await admin.subresource("GET", get_kind("Instance"), "web-1", "status", project="demo")
    assert wire["status"]["host"] == "h1"


async def test_an_object_read_can_be_put_back_as_it_is(api: Api, admin: ApiClient) -> None:
    await create_samples(api)
    for kind in ("Instance", "Flavor", "Project"):
        definition = get_kind(kind)
        project = "demo" if kind == "Instance" else None
        wire = await admin.get_wire(definition, sample(kind)["metadata"]["name"], project)
        assert await admin.replace_wire(definition, wire) == wire


async def test_etcd_away_is_503_with_a_sentence(api: Api) -> None:
    await create_samples(api, "Flavor")

    def away(call: str, phase: str) -> None:
        if phase == "before":
            raise EtcdUnavailable("away")

    api.etcd.hook = away
    try:
        async with api.raw() as raw:
            for answer in (
                await raw.get("/api/v1/flavors/tiny"),
                await raw.get("/api/v1/flavors"),
                await raw.post("/api/v1/flavors", json=sample("Flavor", name="new")),
                await raw.post("/api/v1/hosts/h1/jointoken"),
                await raw.get("/readyz"),
            ):
                assert answer.status_code == 503, answer.text
                error_of(answer)
            assert (await raw.get("/healthz")).status_code == 200
    finally:
        api.etcd.hook = lambda call, phase: None


async def test_a_fault_of_ours_is_500_with_the_request_id_and_no_traceback(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(call: str, phase: str) -> None:
        raise RuntimeError("secret detail")

    api.etcd.hook = broken
    try:
        async with api.raw() as raw:
            answer = await raw.post("/api/v1/hosts/h1/jointoken")
    finally:
        api.etcd.hook = lambda call, phase: None
    error = error_of(answer)
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in error["message"]
    assert "secret detail" not in answer.text
    written = "".join(capsys.readouterr())
    assert "secret detail" in written
    assert answer.headers["x-request-id"] in written


async def test_discovery_tells_all_kinds(admin: ApiClient) -> None:
    kinds: list[dict[str, Any]] = (await admin.discover())["items"]
    assert {k["kind"] for k in kinds} >= {"Instance", "Flavor", "Host", "Event"}
    assert all({"plural", "scope", "subresources"} <= set(k) for k in kinds)


async def test_answers_are_not_kept_and_not_guessed(api: Api) -> None:
    async with api.raw() as raw:
        answer: httpx2.Response = await raw.get("/api/v1/flavors")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
