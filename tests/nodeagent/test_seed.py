"""The NoCloud drive."""

import io
import json
import time

import pycdlib
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vcstack.nodeagent.backends.seed import SeedCard, SeedWanted, build_seed
from vcstack.nodeagent.realizers.guest_network import build_card
from vcstack.specs.kinds.port import PortAddress
from vcstack.specs.kinds.subnet import DHCP, HostRoute, Subnet, SubnetSpec

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=200)


def read(image: bytes, name: str) -> bytes:
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(image))
    out = io.BytesIO()
    iso.get_file_from_iso_fp(out, rr_path=f"/{name}")
    iso.close()
    return out.getvalue()


@settings(deadline=None)
@given(TEXT, TEXT, TEXT)
def test_every_string_arrives_as_it_was_for_json_and_yaml_readers(host: str, key: str, user_data: str) -> None:
    image = build_seed(SeedWanted("i-1", host, [key], user_data))
    assert read(image, "user-data") == user_data.encode()
    meta = read(image, "meta-data")
    for loaded in (json.loads(meta), yaml.safe_load(meta)):
        assert loaded == {"instance-id": "i-1", "local-hostname": host, "public-keys": [key]}


def test_the_same_input_gives_the_same_bytes_at_another_time() -> None:
    wanted = SeedWanted("i-1", "web-1", ["ssh-ed25519 AAAA"], "#!/bin/sh\n", [SeedCard("52:54:00:00:00:01", 1442)])
    before = build_seed(wanted)
    time.sleep(1.1)
    assert build_seed(wanted) == before


def test_the_label_is_what_cloud_init_looks_for() -> None:
    image = build_seed(SeedWanted("i-1", "web-1"))
    assert image[32768 + 40 : 32768 + 72].rstrip() == b"cidata"


def network_of(*cards: SeedCard) -> dict[str, dict[str, object]]:
    content = read(build_seed(SeedWanted("i-1", "web-1", cards=cards)), "network-config")
    assert json.loads(content) == yaml.safe_load(content)
    return json.loads(content)["ethernets"]  # type: ignore[no-any-return]


def test_each_card_is_found_by_its_mac_and_the_first_ones_routes_are_preferred() -> None:
    cards = network_of(SeedCard("52:54:00:00:00:01", 1442, dhcp4=True), SeedCard("52:54:00:00:00:02", 1400, dhcp4=True))
    assert cards == {
        "eth0": {
            "match": {"macaddress": "52:54:00:00:00:01"},
            "set-name": "eth0",
            "mtu": 1442,
            "dhcp4": True,
            "dhcp6": False,
            "dhcp4-overrides": {"route-metric": 100},
        },
        "eth1": {
            "match": {"macaddress": "52:54:00:00:00:02"},
            "set-name": "eth1",
            "mtu": 1400,
            "dhcp4": True,
            "dhcp6": False,
            "dhcp4-overrides": {"route-metric": 101},
        },
    }


def build_subnet(cidr: str, **spec: object) -> Subnet:
    return Subnet.new("s", SubnetSpec(network="web", cidr=cidr, **spec), project="demo")  # type: ignore[arg-type]


def test_ipv6_is_set_with_its_prefix_as_no_router_tells_it() -> None:
    v4, v6 = build_subnet("10.0.0.0/24", dns_servers=["9.9.9.9"]), build_subnet("fd00::/64", dns_servers=["fd00::53"])
    held = [PortAddress(subnet="v4", address="10.0.0.5"), PortAddress(subnet="v6", address="fd00::5")]
    (card,) = network_of(build_card("52:54:00:00:00:01", 1442, zip(held, (v4, v6), strict=True))).values()
    assert card["dhcp4"] is True
    assert card["addresses"] == ["fd00::5/64"]
    assert card["nameservers"] == {"addresses": ["fd00::53"]}
    assert "routes" not in card


def test_without_dhcp_the_guest_sets_its_ipv4_address_and_routes() -> None:
    route = HostRoute(destination="192.168.0.0/16", next_hop="10.0.0.2")
    subnet = build_subnet("10.0.0.0/20", dhcp=DHCP.DISABLED, host_routes=[route])
    held = [(PortAddress(subnet="v4", address="10.0.0.5"), subnet)]
    (card,) = network_of(build_card("52:54:00:00:00:01", 1442, held)).values()
    assert card["dhcp4"] is False
    assert card["addresses"] == ["10.0.0.5/20"]
    assert card["routes"] == [{"to": "192.168.0.0/16", "via": "10.0.0.2", "metric": 100}]
