"""What controllers do to grants is recorded, with what set it off and who."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from tests.apiserver.audit.conftest import Audited, Open
from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from vcstack.apiserver.audit.controllers import RecordedStore
from vcstack.apiserver.audit.settings import KindLevels, Level
from vcstack.clock import SystemClock
from vcstack.controllers.rolebinding import build
from vcstack.runtime.manager import Manager
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.resource import Ref
from vcstack.store.actor import Actor

CONTROLLER = Actor("system:controller:rolebinding", "rolebinding")
PATIENCE = 60
GIVEN = {"subject": {"kind": "ServiceAccount", "name": "robot", "project": "demo"}, "role": "reader"}


class LaterClock(SystemClock):
    """Two hours ahead."""

    def now(self) -> datetime:
        return super().now() + timedelta(hours=2)


def of_controllers(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [r for r in records if r["subject"].startswith("system:controller:")]


async def test_a_grant_that_a_controller_removes_names_what_set_it_off_and_who(audited: Audited) -> None:
    api = audited.api
    await put_roles(api)
    await put(api, "Project", "demo", {})
    await put(api, "User", "alice", {})
    await put(api, "ServiceAccount", "robot", {}, "demo")
    await bind(api, "alice", "alice", "project-admin", "demo")
    async with as_(api, await log_in(api, "alice")) as alice:
        body = {"metadata": {"name": "for-a-while"}, "spec": GIVEN}
        assert (await alice.post("/api/v1/projects/demo/rolebindings", json=body)).status_code == 201
    store = RecordedStore(api.store, CONTROLLER, audited.trail)
    ref = Ref("RoleBinding", "demo", "for-a-while")
    with structlog.contextvars.bound_contextvars(kind="RoleBinding", project="demo", name="for-a-while"):
        await store.delete(ref)
        await store.delete(ref)  # it is gone: nothing is done, and nothing recorded
    (record,) = of_controllers(audited.records)
    assert (record["verb"], record["kind"], record["project"], record["name"]) == (
        "delete", "RoleBinding", "demo", "for-a-while",
    )  # fmt: skip
    assert (record["onBehalfOf"], record["cause"]) == ("user:alice", str(ref))
    assert record["subject"] == CONTROLLER.subject
    assert int(record["after"]) > int(record["before"]) > 0


async def test_what_gives_no_rights_is_left_to_history(audited: Audited) -> None:
    await put(audited.api, "Project", "demo", {})
    store = RecordedStore(audited.api.store, CONTROLLER, audited.trail)
    made = await store.create(Network.new("web", NetworkSpec(), project="demo"))
    await store.delete(made.ref)
    assert of_controllers(audited.records) == []


async def test_a_level_of_the_kind_holds_for_controllers_too(open_audited: Open) -> None:
    async with open_audited(kinds={"Network": KindLevels(writes=Level.METADATA)}) as audited:
        await put(audited.api, "Project", "demo", {})
        store = RecordedStore(audited.api.store, CONTROLLER, audited.trail)
        await store.create(Network.new("web", NetworkSpec(), project="demo"))
        (record,) = of_controllers(audited.records)
    assert (record["verb"], record["name"], record.get("onBehalfOf")) == ("create", "web", None)


async def test_an_expired_grant_is_recorded_when_its_controller_takes_it_away(audited: Audited) -> None:
    """The real controller in the real runtime, whose context names the object."""
    api = audited.api
    await put_roles(api)
    await put(api, "Project", "demo", {})
    await put(api, "ServiceAccount", "robot", {}, "demo")
    async with api.raw() as admin:
        spec = {**GIVEN, "expiresAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
        body = {"metadata": {"name": "for-an-hour"}, "spec": spec}
        answer = await admin.post("/api/v1/projects/demo/rolebindings", json=body)
        assert answer.status_code == 201, answer.text

    def client_for(name: str, fence: Any) -> RecordedStore:
        return RecordedStore(api.store, CONTROLLER, audited.trail)

    client = api.store.bound(Actor("system:management", "tests"))
    manager = Manager({"rolebinding": build}, client, clock=LaterClock(), actor="tests", client_for=client_for)
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    async with asyncio.timeout(PATIENCE):
        while not of_controllers(audited.records):
            await asyncio.sleep(0.02)
    stop.set()
    await running
    (record,) = of_controllers(audited.records)
    assert (record["verb"], record["name"], record["onBehalfOf"]) == ("delete", "for-an-hour", "admin")
