"""The operator's work on one custom resource, killed before and after each of its requests to either side."""

import asyncio
import contextlib
import itertools
from collections.abc import Mapping
from typing import Any

import kopf
import pytest
import yaml

from tests.k8s.cluster import Cluster, OperatorProcess, condition
from tests.k8s.home import KEY, Home, manifest
from vcstack.apiclient.wire import Wire, WireClient
from vcstack.clock import SystemClock
from vcstack.operator.cloud import Cloud, connect
from vcstack.operator.kubernetes import Key, Kubernetes
from vcstack.operator.places import Places
from vcstack.operator.reconciler import LookAgain, Reconciler
from vcstack.operator.secretvalues import SecretValues
from vcstack.operator.settings import NamespaceMode, OperatorSettings, read_settings

NAME = "vc-operator"


class Killed(BaseException):
    """The process is gone."""


class Death:
    """Comes at the given request: before it is sent, or after it was answered."""

    def __init__(self, at: int, after: bool) -> None:
        self._left, self._after = at, after
        self.came = False

    async def on(self, request: Any) -> Any:
        self._left -= 1
        mine = self._left == 0
        if mine and not self._after:
            request.close()
            self._die()
        answer = await request
        if mine:
            self._die()
        return answer

    def _die(self) -> None:
        self.came = True
        raise Killed


class DyingKubernetes(Kubernetes):
    """Kubernetes, until death comes."""

    death: Death

    async def request(self, method: str, path: str, body: Wire | None = None, **more: Any) -> Wire:
        answer: Wire = await self.death.on(super().request(method, path, body, **more))
        return answer


class DyingCloud(WireClient):
    """VC Stack, until death comes; each method is one request. It is asked again and again, so nothing is watched."""

    death: Death

    async def list_wire(self, *args: Any, **more: Any) -> Any:
        await asyncio.Event().wait()

    async def get_wire(self, *args: Any, **more: Any) -> Any:
        return await self.death.on(super().get_wire(*args, **more))

    async def apply_wire(self, *args: Any, **more: Any) -> Any:
        return await self.death.on(super().apply_wire(*args, **more))

    async def delete_wire(self, *args: Any, **more: Any) -> Any:
        return await self.death.on(super().delete_wire(*args, **more))


class Life:
    """One life of an operator: it knows nothing of those before."""

    def __init__(self, settings: OperatorSettings, info: kopf.ConnectionInfo, death: Death) -> None:
        clock, ignore = SystemClock(), lambda key: None
        self.posted: list[str] = []
        self._kubernetes = DyingKubernetes(lambda: info)
        client = DyingCloud(connect(settings, clock).connection)
        self._kubernetes.death = client.death = death
        self._cloud = Cloud(client, NAME, clock, ignore)
        self._secrets = SecretValues(self._kubernetes, "default", clock, ignore)
        places = Places(self._kubernetes, NamespaceMode.SAME_NAME)
        self.reconciler = Reconciler(
            self._kubernetes, self._cloud, places, self._secrets, name=NAME, clock=clock, post=self._post
        )

    def _post(self, resource: Mapping[str, Any], type_: str, reason: str, message: str) -> None:
        self.posted.append(reason)

    async def aclose(self) -> None:
        await self._cloud.aclose()
        await self._kubernetes.aclose()


async def live_until(done: Any, key: Key, settings: OperatorSettings, info: kopf.ConnectionInfo, death: Death) -> None:
    """Work on the custom resource, again from the beginning when death came, until it is done."""
    async with asyncio.timeout(180):
        while True:
            life = Life(settings, info, death)
            try:
                while not await asyncio.to_thread(done):
                    with contextlib.suppress(LookAgain):
                        await life.reconciler.reconcile(key)
                    await asyncio.sleep(0.05)
                return
            except Killed:
                continue
            finally:
                await life.aclose()


def is_made(home: Home) -> bool:
    found, real = home.get("sshkeys", "me"), home.real("sshkeys", "me")
    recorded = (found.get("status") or {}).get("vcstack", {}).get("uid")
    return real is not None and recorded == real["metadata"]["uid"] and condition(found, "Ready")["status"] == "True"


@pytest.fixture
def nobody(operator: OperatorProcess) -> Any:
    """No other operator runs meanwhile."""
    operator.stop()
    yield
    operator.start()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_it_may_be_killed_at_every_request(
    home: Home, cluster: Cluster, environment: dict[str, str], nobody: None, after: bool
) -> None:
    settings = read_settings(environment)
    config = yaml.safe_load((cluster.folder / "operator.kubeconfig").read_text())
    token = config["users"][0]["user"]["token"]
    info = kopf.ConnectionInfo(server=cluster.url, ca_path=str(cluster.ca_file), token=token)
    key = Key("SSHKey", home.name, "me")
    endings = 0
    for at in itertools.count(1):
        made, gone = Death(at, after), Death(at, after)
        cluster.apply(manifest("sshkeys", "me", {"publicKey": KEY}), namespace=home.name)

        await live_until(lambda: is_made(home), key, settings, info, made)
        assert home.must("sshkeys", "me")["metadata"]["generation"] == 1

        home.delete_custom("sshkeys", "me")
        await live_until(lambda: home.find("sshkeys", "me") is None, key, settings, info, gone)
        assert home.real("sshkeys", "me") is None
        endings += made.came + gone.came
        if not made.came and not gone.came:
            break
    # It was killed at each request of both; there are some.
    assert endings > 8
