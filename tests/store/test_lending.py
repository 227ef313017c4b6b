"""Networks that are shared with other projects: who may name them, and what stays missing."""

import asyncio
from typing import Any

import pytest

from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    INSTANCE,
    NETWORK,
    PORT,
    PROJECT,
    SUBNET,
    causes,
    create,
    instance,
    make_project,
    make_world,
    wire,
)
from vcstack.specs.errors import ClaimTaken, Invalid
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

DOMAIN = get_kind("Domain")
MISSING = "there is no Network lab/blue that is shared with project demo; name another one"


@pytest.fixture
async def store(memory_store: Store) -> Store:
    """Project demo, and lab with network blue (10.9.0.0/24), which is shared with nobody."""
    await make_world(memory_store)
    await make_project(memory_store, "lab")
    await create(memory_store, NETWORK, wire("blue", project="lab"))
    await create(memory_store, SUBNET, wire("blue-v4", {"network": "blue", "cidr": "10.9.0.0/24"}, project="lab"))
    return memory_store


async def share(store: Store, *shares: dict[str, str], name: str = "blue") -> None:
    await store.merge_patch(NETWORK, "lab", name, {"spec": {"sharedWith": list(shares)}}, actor=ADMIN)


async def port(store: Store, name: str = "p", project: str = "demo", **spec: Any) -> Any:
    return await create(store, PORT, wire(name, {"network": "lab/blue", **spec}, project=project))


async def refusal(store: Store, **spec: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as error:
        await port(store, **spec)
    return causes(error)


async def test_what_is_not_shared_looks_like_what_is_not_there(store: Store) -> None:
    not_shared = await refusal(store)
    assert not_shared == {"spec.network": MISSING}
    absent = await refusal(store, network="lab/none")
    elsewhere = await refusal(store, network="none/blue")
    assert absent["spec.network"].replace("lab/none", "lab/blue") == MISSING
    assert elsewhere["spec.network"].replace("none/blue", "lab/blue") == MISSING


async def test_what_is_not_shared_cannot_be_named_for_later_either(store: Store) -> None:
    for name in ("lab/blue", "lab/none"):
        body = wire("p", {"network": name})
        with pytest.raises(Invalid):
            await create(store, PORT, body, allow_missing_references=True)


async def test_a_project_that_it_is_shared_with_puts_ports_and_instances_on_it(store: Store) -> None:
    await share(store, {"project": "demo"})
    assert (await port(store, subnet="lab/blue-v4")).wire["spec"]["network"] == "lab/blue"
    nic = {"name": "eth0", "network": "lab/blue", "subnet": "lab/blue-v4"}
    await create(store, INSTANCE, instance(networkInterfaces=[nic]))
    await make_project(store, "third")
    with pytest.raises(Invalid) as error:
        await port(store, project="third")
    assert causes(error) == {"spec.network": MISSING.replace("demo", "third")}


async def test_subnets_of_a_network_that_is_not_shared_are_missing(store: Store) -> None:
    await create(store, NETWORK, wire("red", project="lab"))
    await create(store, SUBNET, wire("red-v4", {"network": "red", "cidr": "10.8.0.0/24"}, project="lab"))
    await share(store, {"project": "demo"})
    assert await refusal(store, subnet="lab/red-v4") == {
        "spec.subnet": "there is no Subnet lab/red-v4 that is shared with project demo; name another one"
    }


async def test_a_domain_shares_with_all_projects_below(store: Store) -> None:
    await create(store, DOMAIN, wire("acme", project=None))
    await create(store, DOMAIN, wire("acme-lab", {"parent": "acme"}, project=None))
    await create(store, PROJECT, wire("deep", {"domain": "acme-lab"}, project=None))
    await share(store, {"domain": "acme"})
    assert await port(store, project="deep")
    assert await refusal(store) == {"spec.network": MISSING}


async def test_addresses_are_one_pool_for_all_who_are_on_it(store: Store) -> None:
    await share(store, {"project": "demo"})
    await create(store, PORT, wire("own", {"network": "blue", "address": "10.9.0.7"}, project="lab"))
    with pytest.raises(ClaimTaken) as error:
        await port(store, subnet="lab/blue-v4", address="10.9.0.7")
    assert causes(error)["spec.address"].startswith("10.9.0.7 is held by an object of another project")
    assert "own" not in str(error.value)
    # The same address of another network of the same name is another one.
    await create(store, NETWORK, wire("blue"))
    assert await create(store, PORT, wire("q", {"network": "blue", "address": "10.9.0.7"}))


async def test_kinds_that_nobody_shares_cannot_be_named_elsewhere(store: Store) -> None:
    await share(store, {"project": "demo"})
    refused = await refusal(store, securityGroups=["lab/default"])
    assert "no DNS label" in refused["spec.securityGroups[0]"]
    with pytest.raises(Invalid) as error:
        await create(store, SUBNET, wire("s", {"network": "lab/blue", "cidr": "10.7.0.0/24"}))
    assert "no DNS label" in causes(error)["spec.network"]


async def test_what_is_ones_own_has_one_name(store: Store) -> None:
    assert await refusal(store, network="demo/web") == {
        "spec.network": "demo/web is of the same project; write web",
    }


async def test_what_is_on_it_stays_changeable_when_it_is_shared_no_more(store: Store) -> None:
    await share(store, {"project": "demo"})
    await port(store)
    await share(store)
    patched = await store.merge_patch(PORT, "demo", "p", {"metadata": {"labels": {"a": "b"}}}, actor=ADMIN)
    assert patched.wire["metadata"]["labels"] == {"a": "b"}
    assert await refusal(store, name="q") == {"spec.network": MISSING}


async def test_nobody_gets_on_it_while_it_is_taken_back(store: Store) -> None:
    """Either the port came first, or it is refused: never a port after the share was gone."""
    await share(store, {"project": "demo"})
    results = await asyncio.gather(share(store), *(port(store, f"p{i}") for i in range(8)), return_exceptions=True)
    gone_at = int((await store.get(NETWORK, "lab", "blue")).wire["metadata"]["resourceVersion"])
    for result in results[1:]:
        if isinstance(result, BaseException):
            assert isinstance(result, Invalid), result
        else:
            assert int(result.wire["metadata"]["resourceVersion"]) < gone_at


async def test_a_new_project_of_the_same_name_gets_nothing(store: Store) -> None:
    await share(store, {"project": "demo"})
    uid = (await store.get(PROJECT, None, "demo")).wire["metadata"]["uid"]
    status = {"sharedWith": [{"project": "demo", "uid": f"{uid}-before", "portCount": 0}]}
    await store.patch_status(NETWORK, "lab", "blue", status, actor=CONTROLLER)
    assert await refusal(store) == {"spec.network": MISSING}


@pytest.mark.parametrize(
    ("shares", "field", "says"),
    [
        ([{}], "spec.sharedWith[0]", "give project or domain"),
        ([{"project": "demo", "domain": "acme"}], "spec.sharedWith[0]", "give project or domain"),
        ([{"project": "nobody"}], "spec.sharedWith[0].project", "there is no Project nobody"),
        ([{"domain": "nobody"}], "spec.sharedWith[0].domain", "there is no Domain nobody"),
        ([{"project": "lab"}], "spec.sharedWith[0].project", "own project"),
        ([{"project": "demo"}, {"project": "demo"}], "spec.sharedWith[1]", "occurs twice"),
        ([{"project": "*"}], "spec.sharedWith[0].project", "no DNS label"),
    ],
)
async def test_shares_name_somebody_who_is_there(
    store: Store, shares: list[dict[str, str]], field: str, says: str
) -> None:
    await create(store, DOMAIN, wire("acme", project=None))
    with pytest.raises(Invalid) as error:
        await share(store, *shares)
    assert says in causes(error)[field]
