"""Keys: made, rotated, used by those who may, and destroyed only after they have waited."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fakes.master_keys import credentials_on
from tests.fakes.world import PROJECT, World, sweep
from tests.fixtures.api import SYSTEM, Api, create_samples, error_of
from tests.kinds.identities import make_project
from vcstack.controllers import key as controller
from vcstack.controllers import project as projects
from vcstack.controllers.key import KEY_MATERIAL
from vcstack.runtime.users import DELETABLE
from vcstack.specs.errors import Conflict, Invalid, NotFound
from vcstack.specs.kinds.key import ROTATION_OVERDUE, Key, KeyAlgorithm, KeyOperation, KeyRule, KeySpec, KeyState
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.rolebinding import Subject, SubjectKind
from vcstack.specs.registry import get_kind
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.keymaterial import AREA, MOST_BYTES, KeyMaterial

DAY = 86400
WORDS = b"attack at dawn"


def add_material(world: World) -> KeyMaterial:
    """Give the controllers a place for material, and start them anew."""
    made = KeyMaterial(credentials_on(world.etcd, clock=world.clock))
    world.backends[KEY_MATERIAL.name] = made
    world.restart()
    return made


async def make(world: World, name: str = "disks", **spec: Any) -> Key:
    return await world.create(Key.new(name, KeySpec(**spec), project=PROJECT))


async def settled(world: World, name: str = "disks") -> Key:
    await world.settle(controller.build)
    return await world.get(Key, name)


async def change(world: World, **spec: Any) -> Key:
    found = await world.get(Key, "disks")
    return await world.admin.update(found.model_copy(update={"spec": found.spec.model_copy(update=spec)}))


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
async def test_a_key_becomes_ready_with_its_first_version_and_a_second_run_writes_nothing(
    world: World, algorithm: KeyAlgorithm
) -> None:
    add_material(world)
    await make_project(world)
    await make(world, algorithm=algorithm)
    made = await settled(world)
    assert made.is_true("Ready")
    assert made.status.current_version == 1
    assert made.status.versions is not None
    public = made.status.versions[0].public_key
    assert (public is None) is (algorithm is KeyAlgorithm.AES_256_GCM)
    assert "PRIVATE" not in (public or "")
    assert await world.writes_of(controller.build) == 0


async def test_a_new_version_comes_by_the_schedule_and_old_ones_still_decrypt(world: World) -> None:
    material = add_material(world)
    await make_project(world)
    made = await make(world, rotation_days=30)
    await world.settle(controller.build)
    text = material.kms.encrypt(await material.load(made.uid), WORDS)
    world.clock.skip(29 * DAY)
    assert (await settled(world)).status.current_version == 1
    world.clock.skip(2 * DAY)
    after = await settled(world)
    assert after.status.current_version == 2
    assert after.status.rotated_at == world.clock.now()
    assert material.kms.decrypt(await material.load(made.uid), text) == WORDS
    assert await world.writes_of(controller.build) == 0


async def test_a_key_that_has_as_many_versions_as_can_be_kept_says_so_and_goes_on(world: World) -> None:
    material = add_material(world)
    await make_project(world)
    key = await make(world, rotation_days=1)
    await settled(world)
    await fill(material, key.uid)
    world.clock.skip(DAY)
    full = await settled(world)
    overdue = full.find_condition(ROTATION_OVERDUE)
    assert overdue is not None
    assert (overdue.status, overdue.reason) == ("True", "TooManyVersions")
    assert "no more can be kept; make another key" in overdue.message
    assert full.is_true("Ready")
    loaded = await material.load(key.uid)
    assert loaded.newest.number == full.status.current_version
    assert await world.writes_of(controller.build) == 0
    await change(world, rotation_days=None)
    assert (await settled(world)).find_condition(ROTATION_OVERDUE).status == "False"  # type: ignore[union-attr]


async def fill(material: KeyMaterial, uid: str) -> None:
    """Give a key as many versions as fit, all with the material of its last one."""
    credentials, path = material._credentials, f"{AREA}/{uid}"
    record = await credentials.get(path)
    assert record is not None
    wire = orjson.loads(record.value)
    last = wire["versions"][-1]
    count = MOST_BYTES // (len(orjson.dumps(last)) + 8)
    wire["versions"] = [{**last, "number": n + 1} for n in range(count)]
    while len(orjson.dumps(wire)) + len(orjson.dumps(wire["versions"][-1])) < MOST_BYTES:
        wire["versions"].append({**last, "number": len(wire["versions"]) + 1})
    await credentials.put(path, orjson.dumps(wire), record.revision)


async def test_etcd_takes_a_key_with_as_many_versions_as_can_be_kept(etcd_client: EtcdClient) -> None:
    material = KeyMaterial(credentials_on(etcd_client))
    now = datetime.now(UTC)
    await material.ensure("kms-1", KeyAlgorithm.RSA_OAEP_3072, now)
    await fill(material, "kms-1")
    newest = (await material.load("kms-1")).newest
    with pytest.raises(Conflict, match="no more can be kept"):
        await material.rotate("kms-1", KeyAlgorithm.RSA_OAEP_3072, newest.number, now)
    assert (await material.load("kms-1")).newest == newest


async def test_a_disabled_key_is_not_rotated(world: World) -> None:
    add_material(world)
    await make_project(world)
    await make(world, rotation_days=1, state=KeyState.DISABLED)
    await world.settle(controller.build)
    world.clock.skip(5 * DAY)
    assert (await settled(world)).status.current_version == 1


async def test_a_scheduled_deletion_waits_can_be_called_off_and_then_begins_anew(world: World) -> None:
    material = add_material(world)
    await make_project(world)
    made = await make(world, deletion_wait_days=7)
    await world.settle(controller.build)
    await change(world, state=KeyState.PENDING_DELETION)
    begun = world.clock.now()
    assert (await settled(world)).status.delete_at == begun + timedelta(days=7)
    world.clock.skip(6 * DAY)
    await change(world, state=KeyState.ENABLED)
    assert (await settled(world)).status.delete_at is None
    await material.load(made.uid)
    await change(world, state=KeyState.PENDING_DELETION)
    assert (await settled(world)).status.delete_at == world.clock.now() + timedelta(days=7)
    world.clock.skip(6 * DAY)
    await settled(world)
    world.clock.skip(2 * DAY)
    await world.settle(controller.build)
    assert await world.find(Key, "disks") is None
    with pytest.raises(NotFound):
        await material.load(made.uid)


async def test_a_deleted_key_waits_too_and_says_so(world: World) -> None:
    material = add_material(world)
    await make_project(world)
    made = await make(world, deletion_wait_days=7)
    await world.settle(controller.build)
    await world.delete(await world.get(Key, "disks"))
    held = (await settled(world)).find_condition(DELETABLE)
    assert held is not None
    assert held.reason == "WaitingPeriod"
    await material.load(made.uid)
    world.clock.skip(8 * DAY)
    await world.settle(controller.build)
    assert await world.find(Key, "disks") is None
    with pytest.raises(NotFound):
        await material.load(made.uid)


async def test_a_waiting_period_can_be_shortened_while_it_lasts_and_the_project_says_what_it_waits_for(
    world: World,
) -> None:
    material = add_material(world)
    await make_project(world)
    made = await make(world)
    await world.settle(controller.build)
    await world.delete(await world.get(Project, PROJECT, project=None))
    await world.settle(controller.build, projects.build)
    held = (await world.get(Project, PROJECT, project=None)).find_condition(DELETABLE)
    assert held is not None
    assert "Key demo/disks" in held.message
    assert "Its material is destroyed at" in held.message
    world.clock.skip(DAY)
    await change(world, deletion_wait_days=2)
    await world.settle(controller.build, projects.build)
    await material.load(made.uid)
    await change(world, deletion_wait_days=1)
    await world.settle(controller.build, projects.build)
    assert await world.find(Key, "disks") is None
    assert await world.find(Project, PROJECT, project=None) is None
    with pytest.raises(NotFound):
        await material.load(made.uid)


async def test_a_rotation_that_is_asked_for_comes_at_once_and_once(world: World) -> None:
    add_material(world)
    await make_project(world)
    await make(world)
    await world.settle(controller.build)
    world.clock.skip(60)
    await change(world, rotate_after=world.clock.now())
    assert (await settled(world)).status.current_version == 2
    world.clock.skip(DAY)
    assert (await settled(world)).status.current_version == 2


async def test_a_policy_fits_its_key_and_names_who_is_there(world: World) -> None:
    await make_project(world)

    def policy(operation: KeyOperation, name: str, project: str | None = None) -> list[KeyRule]:
        kind = SubjectKind.USER if project else SubjectKind.SERVICE_ACCOUNT
        return [KeyRule(operations=[operation], subjects=[Subject(kind=kind, name=name, project=project)])]

    for rules, word in (
        (policy(KeyOperation.SIGN, "ci"), "does not sign"),
        (policy(KeyOperation.DECRYPT, "ci"), "there is no ServiceAccount ci"),
        (policy(KeyOperation.DECRYPT, "ci", "demo"), "a User is global"),
    ):
        with pytest.raises(Invalid) as error:
            await make(world, policy=rules)
        assert word in str([c.message for c in error.value.causes])


async def test_the_algorithm_never_changes(world: World) -> None:
    await make_project(world)
    await make(world)
    with pytest.raises(Invalid):
        await change(world, algorithm=KeyAlgorithm.ECDSA_P256)


async def test_material_is_made_and_rotated_once_killed_where_it_may_be() -> None:
    async def scenario(world: World) -> None:
        material = add_material(world)
        await make_project(world)
        made = await make(world, rotation_days=10)
        await world.settle(controller.build)
        world.clock.skip(11 * DAY)
        assert (await settled(world)).status.current_version == 2
        assert len((await material.load(made.uid)).versions) == 2

    assert await sweep(scenario) > 1


async def ready_key(api: Api, **spec: Any) -> str:
    """Make key disks with material, as the controller does, and return its path."""
    if not (await api.store.list(get_kind("Project"), None)).items:
        await create_samples(api, "Project")
    wire = {"metadata": {"project": "demo", "name": "disks"}, "spec": spec}
    made = (await api.store.create(get_kind("Key"), wire, actor=SYSTEM)).wire
    material = KeyMaterial(api.application.auth.credentials)
    await material.ensure(made["metadata"]["uid"], spec.get("algorithm", "AES-256-GCM"), api.store.clock.now())
    return "/api/v1/projects/demo/keys/disks"


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


async def test_the_api_encrypts_decrypts_and_makes_data_keys(api: Api) -> None:
    path = await ready_key(api)
    async with api.raw() as client:
        made = (await client.post(f"{path}/encrypt", json={"plaintext": b64(WORDS), "context": "a"})).json()
        again = (await client.post(f"{path}/decrypt", json={**made, "context": "a"})).json()
        assert base64.b64decode(again["plaintext"]) == WORDS
        other = error_of(await client.post(f"{path}/decrypt", json={**made, "context": "b"}))
        assert (other["code"], "context" in other["message"]) == (422, True)
        moved = {**made, "context": "a", "targetContext": "b"}
        fresh = (await client.post(f"{path}/reencrypt", json=moved)).json()
        assert (await client.post(f"{path}/decrypt", json={**fresh, "context": "b"})).json() == again
        data = (await client.post(f"{path}/datakey", json={"lengthBytes": 16})).json()
        opened = (await client.post(f"{path}/decrypt", json={"ciphertext": data["ciphertext"]})).json()
        assert opened["plaintext"] == data["plaintext"]
        assert len(base64.b64decode(data["plaintext"])) == 16


async def test_the_api_signs_and_verifies(api: Api) -> None:
    path = await ready_key(api, algorithm="ECDSA-P256")
    async with api.raw() as client:
        made = (await client.post(f"{path}/sign", json={"message": b64(WORDS)})).json()
        good = await client.post(f"{path}/verify", json={"message": b64(WORDS), **made})
        assert good.json() == {"valid": True}
        bad = await client.post(f"{path}/verify", json={"message": b64(b"attack at dusk"), **made})
        assert bad.json() == {"valid": False}


@pytest.mark.parametrize(
    ("operation", "body", "code", "word"),
    [
        ("encrypt", {"plaintext": "no base64!"}, 422, "base64"),
        ("encrypt", {"plaintext": "YQ==\u00e9"}, 422, "base64"),
        ("encrypt", {}, 422, "plaintext"),
        ("encrypt", {"plaintext": "A" * 100_000}, 422, "plaintext"),
        ("decrypt", {"ciphertext": "nonsense"}, 422, "form"),
        ("decrypt", {"ciphertext": "vck1:kms-000000000000:1:AAAA"}, 422, "key kms-000000000000"),
        ("sign", {"message": "AAAA"}, 422, "cannot sign"),
        ("datakey", {"lengthBytes": 4}, 422, "lengthBytes"),
        ("reencrypt", {"ciphertext": "x", "targetKey": "none"}, 404, "none"),
    ],
)
async def test_what_a_key_cannot_do_is_refused_with_the_reason(
    api: Api, operation: str, body: dict[str, Any], code: int, word: str
) -> None:
    path = await ready_key(api)
    async with api.raw() as client:
        refused = error_of(await client.post(f"{path}/{operation}", json=body))
        assert refused["code"] == code
        assert word in refused["message"]
        assert error_of(await client.get(f"{path}/{operation}"))["code"] == 405


@pytest.mark.parametrize("state", ["Disabled", "PendingDeletion"])
async def test_a_key_that_is_not_enabled_does_nothing(api: Api, state: str) -> None:
    path = await ready_key(api, state=state)
    async with api.raw() as client:
        refused = error_of(await client.post(f"{path}/encrypt", json={"plaintext": b64(WORDS)}))
        assert refused["code"] == 409
        assert state in refused["message"]
        await client.patch(path, json={"spec": {"state": "Enabled"}}, headers=MERGE)
        assert (await client.post(f"{path}/encrypt", json={"plaintext": b64(WORDS)})).status_code == 200
        await client.delete(path)
        assert error_of(await client.post(f"{path}/encrypt", json={"plaintext": b64(WORDS)}))["code"] == 409


async def test_a_policy_lets_only_those_use_a_key_whom_it_names_and_their_roles_allow_it(api: Api) -> None:
    await put(api, "Domain", "acme", {})
    await put(api, "Project", "demo", {"domain": "acme"})
    path = await ready_key(api)
    await put_roles(api)
    for name, role in (("alice", "member"), ("bob", "member"), ("pat", "project-admin"), ("rita", "reader")):
        await put(api, "User", name, {"domain": "acme"})
        await bind(api, name, name, role, "demo")
    await put(api, "Group", "ops", {"domain": "acme", "members": ["bob", "rita"]})
    policy = [
        {"operations": ["encrypt", "decrypt"], "subjects": [{"kind": "User", "name": "alice"}]},
        {"operations": ["encrypt"], "subjects": [{"kind": "Group", "name": "ops"}]},
    ]
    body = {"plaintext": b64(WORDS)}
    async with (
        as_(api, await log_in(api, "alice")) as alice,
        as_(api, await log_in(api, "bob")) as bob,
        as_(api, await log_in(api, "pat")) as pat,
        as_(api, await log_in(api, "rita")) as rita,
        api.raw() as admin,
    ):
        assert (await bob.patch(path, json={"spec": {"policy": policy}}, headers=MERGE)).status_code == 403
        assert (await bob.post(f"{path}/encrypt", json=body)).status_code == 200
        assert (await pat.patch(path, json={"spec": {"policy": policy}}, headers=MERGE)).status_code == 200
        made = (await alice.post(f"{path}/encrypt", json=body)).json()
        assert (await bob.post(f"{path}/encrypt", json=body)).status_code == 200
        assert (await alice.post(f"{path}/decrypt", json=made)).status_code == 200
        for client in (bob, pat, admin):
            refused = error_of(await client.post(f"{path}/decrypt", json=made))
            assert (refused["code"], "its policy says who may" in refused["message"]) == (403, True)
        assert (await pat.post(f"{path}/encrypt", json=body)).status_code == 403
        assert (await rita.post(f"{path}/encrypt", json=body)).status_code == 403  # named, but without the role
        assert (await alice.post(f"{path}/datakey", json={})).status_code == 403  # named for something else
        for changed in (None, [], policy[:1]):
            spec = {"spec": {"policy": changed}}
            assert (await alice.patch(path, json=spec, headers=MERGE)).status_code == 403
        assert (await alice.patch(path, json={"spec": {"description": "x"}}, headers=MERGE)).status_code == 200
        assert (await pat.patch(path, json={"spec": {"policy": []}}, headers=MERGE)).status_code == 200
        assert (await alice.post(f"{path}/decrypt", json=made)).status_code == 403  # an empty one lets nobody


async def test_who_may_delete_the_project_may_let_a_key_go_sooner(api: Api) -> None:
    path = await ready_key(api)
    await put_roles(api)
    await put(api, "User", "pat", {})
    await bind(api, "pat", "pat", "project-admin", "demo")
    soon = {"spec": {"deletionWaitDays": 0}}
    async with as_(api, await log_in(api, "pat")) as pat, api.raw() as admin:
        refused = error_of(await pat.patch(path, json=soon, headers=MERGE))
        assert (refused["code"], "may delete the project" in refused["message"]) == (403, True)
        assert (await pat.patch(path, json={"spec": {"deletionWaitDays": 7}}, headers=MERGE)).status_code == 200
        await admin.delete(path)
        assert (await admin.patch(path, json=soon, headers=MERGE)).status_code == 200


MERGE = {"content-type": "application/merge-patch+json"}
