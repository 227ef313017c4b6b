"""Names, paths and small decisions of the lab; no daemons needed."""

import re
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.lab import Lab, central, host, kvm, ports, quickstart
from deploy.lab.errors import LabError
from deploy.lab.layout import CHECKOUT, Layout, write
from vcstack.pki.authority import CertificateAuthority, load_certificate, subject_alternative_names
from vcstack.pki.installation import ETCD_CLIENT, ensure_installation


def test_labs_in_different_folders_share_no_name(tmp_path: Path) -> None:
    one, two = Layout.of(tmp_path / "one"), Layout.of(tmp_path / "two")
    assert one.netns("h1") != two.netns("h1")
    assert one.short != two.short
    assert re.fullmatch(r"vc-[0-9a-f]{6}-h1", one.netns("h1"))


def test_certificates_of_before_etcd_asked_for_a_name_are_made_anew(tmp_path: Path) -> None:
    lab = Layout.of(tmp_path / "state")
    files = ensure_installation(lab.state)
    assert central.ETCD_CLIENT == ETCD_CLIENT
    authority = CertificateAuthority.load(files.ca_cert, files.ca_key)
    issued = authority.issue_client("system:management", hours=48)
    files.management.key.write_bytes(issued.key)
    for former in (issued.cert, b"damaged"):
        files.management.cert.write_bytes(former)
        quickstart.ensure_certificates(lab)
        found = load_certificate(files.management.cert.read_bytes())
        assert subject_alternative_names(found) == [ETCD_CLIENT]


@pytest.mark.parametrize("folder", ["/run/lab", "/var/lib/libvirt/lab", "/etc/libvirt"])
def test_a_state_folder_that_the_hosts_could_not_see_is_refused(folder: str) -> None:
    with pytest.raises(LabError, match="cannot hold a lab"):
        Layout.of(Path(folder))


def test_socket_paths_stay_below_the_limit_however_long_the_state_folder(tmp_path: Path) -> None:
    lab = Lab(tmp_path / ("x" * 200))
    for path in (lab.libvirt_uri("h1"), lab.ovs_socket("h1"), lab.ovn_socket("nb")):
        assert len(path.split("=")[-1].removeprefix("unix:")) < 107


@pytest.mark.parametrize("hosts", [-1, 51])
def test_an_absurd_number_of_hosts_is_refused(tmp_path: Path, hosts: int) -> None:
    with pytest.raises(LabError, match="HOSTS must be between"):
        Lab(tmp_path, hosts)


def test_no_two_hosts_share_an_address() -> None:
    found = {host.address(f"h{i}") for i in range(1, host.MAX_HOSTS + 1)}
    assert len(found) == host.MAX_HOSTS
    assert all(int(address.rpartition(".")[2]) < 255 for address in found)


def test_a_taken_port_is_passed_over_and_the_choice_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VCSTACK_API_PORT", raising=False)
    first = ports.choose(Layout.of(tmp_path / "absent"))
    with socket.create_server(("127.0.0.1", first)):
        assert first < ports.choose(Layout.of(tmp_path / "absent")) < first + 200
    layout = Layout.of(tmp_path)
    kept = ports.choose(layout)
    assert layout.load()["port"] == kept


def test_a_port_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VCSTACK_API_PORT", "https")
    with pytest.raises(LabError, match="no port number"):
        ports.choose(Layout.of(tmp_path))


def test_an_unknown_host_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="there is no 'h9'; there are central, h1"):
        Lab(tmp_path).enter_argv("h9")


def test_a_secret_file_is_never_readable_by_others(tmp_path: Path) -> None:
    assert write(tmp_path / "token", "secret", mode=0o600)
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert not write(tmp_path / "token", "secret", mode=0o600)


def test_the_probe_runs_a_guest_cpu_and_says_no_where_none_runs() -> None:
    assert kvm.accelerator_works("tcg", timeout=120)
    assert not kvm.accelerator_works("there-is-no-such-accelerator")


def test_the_scripts_are_sound_and_name_no_registry() -> None:
    for script in ("deploy/install.sh", "deploy/guest/build.sh", ".ci/run"):
        subprocess.run(["bash", "-n", CHECKOUT / script], check=True)
    lock = (CHECKOUT / "requirements.lock").read_text()
    assert "://" not in lock
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=[a-z])", lock) if re.match(r"[a-z].*==", entry))


def test_make_alone_lists_its_targets() -> None:
    shown = subprocess.run(["make", "-C", CHECKOUT], capture_output=True, text=True, check=True).stdout
    for target in ("up", "down", "clean", "status", "logs", "exec", "test", "test-fast", "check", "bench"):
        assert f"make {target}" in shown


def test_clean_removes_a_folder_that_holds_only_the_cache(tmp_path: Path) -> None:
    (tmp_path / "state" / "cache").mkdir(parents=True)
    Lab(tmp_path / "state").clean()
    assert not (tmp_path / "state").exists()


def test_settings_that_people_add_are_kept_beside_those_of_the_lab(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    assert central.write_management_config(layout)
    assert not central.write_management_config(layout)
    (tmp_path / "management.extra.yaml").write_text(
        "outbound: {allowed: [{network: 127.0.0.1/32, ports: [9443]}]}\napi: {accessLog: All}\n"
    )
    assert central.write_management_config(layout), "the manager is started anew with them"
    written = yaml.safe_load((tmp_path / "management.yaml").read_text())
    assert written["outbound"] == {"allowed": [{"network": "127.0.0.1/32", "ports": [9443]}]}
    assert written["api"]["accessLog"] == "All"
    assert written["api"]["listen"]
    assert not central.write_management_config(layout)


@pytest.mark.parametrize("text", ["- a list", "outbound: {", "text"])
def test_added_settings_that_are_none_are_told_with_their_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "management.extra.yaml").write_text(text)
    with pytest.raises(LabError, match=r"management\.extra\.yaml"):
        central.write_management_config(Layout.of(tmp_path))


def test_make_exec_hands_a_shell_line_over_as_it_was_given(tmp_path: Path) -> None:
    line = """echo "$(hostname)" `id` '$HOME' # %"""
    argv = ["make", "-s", "-C", str(CHECKOUT), "exec", f"VCSTACK_STATE={tmp_path}", "LAB=printenv CMD #", f"CMD={line}"]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == f"{line}\n"
