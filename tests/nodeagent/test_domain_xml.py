"""The domain's XML: what must be in it, and that no string breaks out of it."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vcstack.nodeagent.backends.hypervisor import Mark
from vcstack.nodeagent.domain_read import digest_definition, parse, read_interfaces, read_mark
from vcstack.nodeagent.domain_xml import DomainWanted, InterfaceWanted, build_domain, build_interface, seal
from vcstack.nodeagent.names import domain_uuid

HOSTILE = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=60)
CARD = InterfaceWanted("52:54:00:00:00:01", "tap0123456789ab", 1442)


def wanted(name: str = "web-1", folder: str = "/state", **changes: object) -> DomainWanted:
    mark = Mark(uid="i-0123456789ab", project="demo", name=name, generation=3, reboot_fields={"flavor": "x"})
    path = Path(folder)
    fields = {
        "mark": mark,
        "vcpus": 1,
        "memory_mib": 128,
        "virt_type": "qemu",
        "root_disk": path / "root.qcow2",
        "seed": path / "seed.iso",
        "serial_log": path / "serial.log",
        "interfaces": (CARD,),
    }
    return DomainWanted(**(fields | changes))  # type: ignore[arg-type]


@given(HOSTILE, HOSTILE)
def test_no_string_breaks_out_of_its_place(name: str, folder: str) -> None:
    folder = "/" + folder.replace("/", "")
    tree = parse(build_domain(wanted(name, folder)))
    assert len(tree.findall("devices/*")) == len(parse(build_domain(wanted())).findall("devices/*"))
    source = tree.find("devices/disk/source")
    assert source is not None
    assert source.get("file") == str(Path(folder) / "root.qcow2")
    mark, _ = read_mark(tree)
    assert mark is not None
    assert mark.name == name


def test_the_mark_survives_the_way_through_the_definition() -> None:
    mark, defined = read_mark(parse(build_domain(wanted())))
    assert mark == seal(wanted())
    assert defined == ""


def test_uuid_name_and_definition_follow_from_the_uid_alone() -> None:
    tree = parse(build_domain(wanted()))
    assert tree.findtext("name") == "i-0123456789ab"
    assert tree.findtext("uuid") == domain_uuid("i-0123456789ab")
    assert build_domain(wanted()) == build_domain(wanted())


def test_checksums_stay_with_the_guest_on_the_userspace_datapath_only() -> None:
    assert "csum" in build_interface(CARD, userspace_datapath=True)
    assert "csum" not in build_interface(CARD, userspace_datapath=False)
    (card,) = read_interfaces(parse(build_domain(wanted())))
    assert (card.mac, card.tap, card.mtu) == (CARD.mac, CARD.tap, CARD.mtu)


def test_kvm_gets_the_host_s_cpu_and_tcg_a_small_cache() -> None:
    assert "host-passthrough" in build_domain(wanted(virt_type="kvm"))
    assert "tb-cache" not in build_domain(wanted(virt_type="kvm"))
    assert "tb-cache" in build_domain(wanted())


def test_the_digest_ignores_metadata_and_sees_everything_else() -> None:
    first = digest_definition(parse(build_domain(wanted("a"))))
    other_title = build_domain(wanted("a")).replace("demo/a", "demo/b")
    assert first != digest_definition(parse(other_title))
    assert first == digest_definition(parse(build_domain(wanted("a")).replace('generation="3"', 'generation="4"')))


def test_the_seal_changes_with_what_is_built_and_not_with_the_generation() -> None:
    assert seal(wanted()).wanted != seal(wanted(memory_mib=256)).wanted
    newer = Mark(uid="i-0123456789ab", project="demo", name="web-1", generation=9)
    assert seal(wanted()).wanted == seal(wanted(mark=newer)).wanted
