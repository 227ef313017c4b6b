"""What the images consist of, as CycloneDX 1.5: Python and npm packages by their locks, Debian packages by dpkg.

    python -m deploy.containers.sbom --to DIR

Python packages come from requirements.lock (what runs, not what tests), the console's from its package-lock.json.
Debian packages of an image are those that apt would install today into an empty Debian; deploy.containers.rehearse
writes those that it did install. https://cyclonedx.org/docs/1.5/json/
"""

import argparse
import json
import re
import subprocess
import tempfile
import tomllib
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.containers.dockerfile import PARTS, parse, path_of
from deploy.containers.runtime_lock import normalize, read_lock, runtime

ROOT = Path(__file__).parents[2]
Component = dict[str, Any]


def python_components(root: Path = ROOT) -> list[Component]:
    """Return the packages that run, with the hashes of the lock."""
    lock = read_lock((root / "requirements.lock").read_text())
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    direct = {normalize(re.split(r"[<>=!~; ]", each, maxsplit=1)[0]) for each in project["dependencies"]}
    found = []
    for name in runtime(lock, direct):
        text = lock[name][0]
        version = re.split(r"[\s;]", text.partition("==")[2], maxsplit=1)[0]
        purl = f"pkg:pypi/{name}@{version}"
        # One of them is that of the file that was installed; all are files of this version.
        files = re.findall(r"--hash=sha256:([0-9a-f]{64})", text)
        references = [
            {"type": "distribution", "url": f"https://pypi.org/project/{name}/{version}/",
             "hashes": [{"alg": "SHA-256", "content": each}]}
            for each in files
        ]  # fmt: skip
        found.append(_component(name, version, purl) | {"externalReferences": references})
    return found


def npm_components(lock: Path) -> list[Component]:
    """Return what a package-lock.json names and a browser gets: no tools of the build."""
    packages: dict[str, dict[str, Any]] = json.loads(lock.read_text())["packages"]
    found = []
    for place, package in sorted(packages.items()):
        if not place or package.get("dev") or package.get("link"):
            continue
        name = package.get("name") or place.rpartition("node_modules/")[2]
        purl = f"pkg:npm/{quote(name)}@{package['version']}"
        component = _component(name, package["version"], purl)
        if isinstance(package.get("license"), str):
            component["licenses"] = [{"license": {"name": package["license"]}}]
        found.append(component)
    return _once(found)


def debian_components(root: Path) -> list[Component]:
    """Return the Debian packages that are installed in a root."""
    status = (root / "var" / "lib" / "dpkg" / "status").read_text()
    release = dict(re.findall(r'(?m)^(\w+)="?([^"\n]*)"?$', (root / "etc" / "os-release").read_text()))
    found = []
    for part in status.split("\n\n"):
        fields = dict(re.findall(r"(?m)^([A-Za-z-]+): (.*)$", part))
        if "ok installed" not in fields.get("Status", ""):
            continue
        name, version, arch = fields["Package"], fields["Version"], fields["Architecture"]
        found.append(_debian_component(name, version, arch, release))
    return found


def planned_components(part: str) -> list[Component]:
    """Return what apt would install for an image, by this machine's package lists."""
    with tempfile.NamedTemporaryFile() as nothing_installed:
        done = subprocess.run(
            ["apt-get", "--simulate", "--no-install-recommends", "-o", f"Dir::State::status={nothing_installed.name}",
             "-o", "Debug::NoLocking=1", "install", "?essential", "base-files", "apt", *debian_packages(part)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    release = dict(re.findall(r'(?m)^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text()))
    lines = re.findall(r"(?m)^Inst (\S+) \((\S+) .*\[(\w+)\]\)", done.stdout)
    return [_debian_component(name, version, arch, release) for name, version, arch in lines]


def debian_packages(part: str) -> list[str]:
    """Return which packages the Dockerfile installs in its last stage."""
    _, stages = parse(path_of(part).read_text())
    installs = [re.search(r"apt-get install (.*?)(?: &&|$)", each.text) for each in stages[-1].all("RUN")]
    return [word for found in installs if found for word in found[1].split() if not word.startswith("-")]


def write_bom(path: Path, name: str, components: Iterable[Component]) -> None:
    """Write a bill of materials."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    parts = sorted(components, key=lambda each: each["purl"])
    # The same parts have the same number: a bill that is made again does not differ.
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([name, version, [each["purl"] for each in parts]]))
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "application", "bom-ref": name, "name": name, "version": version},
        },
        "components": parts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bom, indent=1) + "\n")


def _debian_component(name: str, version: str, arch: str, release: dict[str, str]) -> Component:
    distro = f"debian-{release['VERSION_ID']}"
    return _component(name, version, f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={arch}&distro={distro}")


def _component(name: str, version: str, purl: str) -> Component:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _once(components: Iterable[Component]) -> list[Component]:
    return list({each["purl"]: each for each in components}.values())


def main() -> None:
    """Write the bills that need no image."""
    parser = argparse.ArgumentParser(prog="deploy.containers.sbom", description="Bills of materials, CycloneDX 1.5.")
    parser.add_argument("--to", type=Path, required=True, help="the folder")
    folder: Path = parser.parse_args().to
    bills = {"python": python_components()}
    console = ROOT / "console" / "package-lock.json"
    if console.exists():
        bills["console"] = npm_components(console)
    for part in PARTS:
        bills[f"{part}-debian"] = planned_components(part)
    for name, components in bills.items():
        write_bom(folder / f"{name}.cdx.json", f"vcstack-{name}", components)
        print(f"{folder / f'{name}.cdx.json'}: {len(components)} components")


if __name__ == "__main__":
    main()
