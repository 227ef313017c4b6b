"""The NoCloud drive."""

import io
import json
import time

import pycdlib
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vcstack.nodeagent.backends.seed import SeedWanted, build_seed

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
    wanted = SeedWanted("i-1", "web-1", ["ssh-ed25519 AAAA"], "#!/bin/sh\n", ["52:54:00:00:00:01", "52:54:00:00:00:02"])
    before = build_seed(wanted)
    time.sleep(1.1)
    assert build_seed(wanted) == before


def test_the_label_is_what_cloud_init_looks_for() -> None:
    image = build_seed(SeedWanted("i-1", "web-1"))
    assert image[32768 + 40 : 32768 + 72].rstrip() == b"cidata"


def test_several_cards_all_ask_for_addresses_and_one_gives_the_routes() -> None:
    image = build_seed(SeedWanted("i-1", "web-1", macs=["52:54:00:00:00:01", "52:54:00:00:00:02"]))
    cards = json.loads(read(image, "network-config"))["ethernets"]
    assert [c["match"]["macaddress"] for c in cards.values()] == ["52:54:00:00:00:01", "52:54:00:00:00:02"]
    assert [c["dhcp4-overrides"]["use-routes"] for c in cards.values()] == [True, False]
