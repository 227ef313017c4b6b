"""deploy/containers: the Dockerfiles as an auditor reads them, and the bills of materials.

`python -m deploy.containers.rehearse` runs their steps; that takes minutes and is done by hand and by CI's own job.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.containers import runtime_lock, sbom
from deploy.containers.dockerfile import FOLDER, PARTS, environment, parse, path_of
from tests.fixtures.helm import CHART

ROOT = FOLDER.parents[1]
DIGEST = "debian:bookworm-slim@sha256:" + "0" * 64


@pytest.mark.parametrize("part", PARTS)
def test_a_linter_of_dockerfiles_finds_nothing(part: str) -> None:
    # DL3008: packages are not pinned, for Debian's security updates shall come in; bills and the base say what is in.
    done = subprocess.run(
        [str(Path(sys.executable).with_name("hadolint")), "--ignore=DL3008", str(path_of(part))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("part", PARTS)
def test_an_image_runs_one_program_as_nobody_of_the_node(part: str) -> None:
    before, stages = parse(path_of(part).read_text())
    assert [each.text for each in before] == ["BASE=docker.io/library/debian:bookworm-slim"]
    last = stages[-1]
    assert {stage.base for stage in stages} == {"${BASE}"}, "one base, given by digest when it is built"
    [user], [entry] = last.all("USER"), last.all("ENTRYPOINT")
    assert user.text == ("0:0" if part == "compute" else "10001:10001")
    assert entry.words()[:3] == ["/usr/bin/tini", "-s", "--"], "children are reaped, signals arrive"
    assert "tini" in sbom.debian_packages(part)
    assert last.all("STOPSIGNAL")
    assert [each for each in last.all("HEALTHCHECK") if "CMD [" in each.text], "without a shell"
    assert {each.text.split("=")[0] for each in last.all("LABEL")} == {"org.opencontainers.image.title"}


@pytest.mark.parametrize("part", PARTS)
def test_an_image_holds_no_secret_and_nothing_of_its_making(part: str) -> None:
    _, stages = parse(path_of(part).read_text())
    for stage in stages:
        for each in stage.instructions:
            assert each.name not in ("ADD", "ONBUILD", "ARG"), "files come by COPY, and a build knows no secrets"
            if each.name == "RUN" and "apt-get install" in each.text:
                assert "--no-install-recommends" in each.text
                assert "rm -rf /var/lib/apt/lists/*" in each.text
            if each.name == "RUN" and "pip install" in each.text:
                for line in re.findall(r"pip install [^&]*", each.text):
                    assert "--require-hashes" in line or "--no-deps" in line
            if each.name == "COPY" and "--from" not in each.text:
                *sources, _ = [word for word in each.words() if not word.startswith("--")]
                assert "." not in sources, "only what is named"
        names = " ".join(environment(stage))
        assert not re.search("TOKEN|PASSWORD|SECRET|KEY", names)
    assert not {"gcc", "python3-dev", "git-all", "curl"} & set(sbom.debian_packages(part))


def test_the_chart_and_the_images_agree_on_the_user_and_the_parts() -> None:
    values = (CHART / "values.yaml").read_text()
    assert "runAsUser: 10001" in values
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]["image"]["properties"]["digests"]["properties"]) == set(PARTS)


def test_what_is_installed_is_what_runs_with_all_that_it_needs() -> None:
    lock = runtime_lock.read_lock((ROOT / "requirements.lock").read_text())
    names = {each["name"] for each in sbom.python_components()}
    assert {"pydantic", "pydantic-core", "starlette", "uvicorn", "grpcio", "anyio"} <= names
    assert not {"pytest", "mypy", "ruff", "hypothesis", "schemathesis", "import-linter"} & names
    assert len(names) < len(lock)
    chosen = subprocess.run(
        [sys.executable, str(FOLDER / "runtime_lock.py")], capture_output=True, text=True, check=True
    ).stdout
    assert set(runtime_lock.read_lock(chosen)) == names
    assert chosen.count("--hash=sha256:") > len(names)
    unknown = subprocess.run(
        [sys.executable, str(FOLDER / "runtime_lock.py"), "nosuch"], capture_output=True, text=True, check=False
    )
    assert unknown.returncode != 0
    assert "nosuch" in unknown.stderr


def test_a_bill_of_materials_names_each_part_once_with_version_and_address(tmp_path: Path) -> None:
    sbom.write_bom(tmp_path / "a.json", "vcstack-python", sbom.python_components())
    sbom.write_bom(tmp_path / "b.json", "vcstack-python", sbom.python_components())
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert first["serialNumber"] == second["serialNumber"], "of the same parts"
    assert (first["bomFormat"], first["specVersion"]) == ("CycloneDX", "1.5")
    purls = [each["purl"] for each in first["components"]]
    assert len(purls) == len(set(purls))
    assert all(re.fullmatch(r"pkg:pypi/[a-z0-9-]+@\S+", each) for each in purls)


def test_debian_packages_of_a_root_are_those_that_are_installed(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    (tmp_path / "var/lib/dpkg/status").write_text(
        "Package: tini\nStatus: install ok installed\nVersion: 0.19.0-1\nArchitecture: amd64\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1:2+3\nArchitecture: all\n\n"
        "Package: git\nStatus: install ok installed\nVersion: 1:2.39.5-0+deb12u2\nArchitecture: amd64\n"
    )
    assert [each["purl"] for each in sbom.debian_components(tmp_path)] == [
        "pkg:deb/debian/tini@0.19.0-1?arch=amd64&distro=debian-12",
        "pkg:deb/debian/git@1%3A2.39.5-0%2Bdeb12u2?arch=amd64&distro=debian-12",
    ]


def test_packages_of_the_console_are_those_that_a_browser_gets(tmp_path: Path) -> None:
    lock = tmp_path / "package-lock.json"
    packages = {
        "": {"name": "console"},
        "node_modules/react": {"version": "18.3.1", "license": "MIT"},
        "node_modules/@radix-ui/react-dialog": {"version": "1.1.0"},
        "node_modules/a/node_modules/react": {"version": "18.3.1"},
        "node_modules/vitest": {"version": "4.0.0", "dev": True},
    }
    lock.write_text(json.dumps({"packages": packages}))
    found = [each["purl"] for each in sbom.npm_components(lock)]
    assert found == ["pkg:npm/%40radix-ui/react-dialog@1.1.0", "pkg:npm/react@18.3.1"]


@pytest.mark.parametrize("base", ["", "debian:bookworm-slim", "debian@sha256:12"])
def test_nothing_is_built_on_a_base_without_a_digest(base: str) -> None:
    script = FOLDER / "build.sh"
    done = subprocess.run(
        [str(script), "registry.example", "1.0"],
        env={"PATH": os.environ["PATH"], "BASE": base}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "by digest" in done.stderr
