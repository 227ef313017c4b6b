"""Runs the steps of our Dockerfiles in a chroot, where no builder for containers is to be had. Root only.

    python -m deploy.containers.rehearse --cache DIR [--bind PATH]... [--sbom DIR] [PART...]

The base is a debootstrap of the same Debian from the machine's own mirror, kept in the cache. Of an image everything
is really done but its layers: packages are installed, files copied, users made; then its program is started as its
user, on a root that is read-only, as in the chart's pods. What is made is removed again.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deploy.containers.dockerfile import PARTS, Instruction, Stage, environment, parse, path_of
from deploy.containers.sbom import debian_components, write_bom

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STARTS: dict[str, list[list[str]]] = {
    "management": [
        ["vc-management", "--help"],
        ["python", "-m", "vcstack.programs.kubernetes", "--help"],
        ["qemu-img", "--version"],
        ["git", "--version"],
        ["gpg", "--version"],
        ["ssh", "-V"],
        ["prlimit", "--version"],
    ],
    "compute": [["vc-compute", "--help"], ["python", "-m", "vcstack.programs.kubernetes", "--help"]],
    "operator": [["vc-operator", "--help"]],
    "etcd": [["etcd", "--version"], ["etcdctl", "version"]],
    "postgresql": [["postgres", "--version"], ["initdb", "--pgdata=/tmp/data", "--no-sync"]],
    "ovn": [
        ["ovn-northd", "--version"],
        ["ovsdb-tool", "create", "/tmp/nb.db", "/usr/share/ovn/ovn-nb.ovsschema"],
        ["ovsdb-tool", "create", "/tmp/sb.db", "/usr/share/ovn/ovn-sb.ovsschema"],
        ["ovn-nbctl", "--version"],
        ["ovs-appctl", "--version"],
    ],
}
"""What has to work in each image, as its user."""
MACHINE_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf")
"""How this machine reaches its registries; bound while a step runs, in no image."""
AUTHORITIES, TRUSTED = "/etc/ssl/certs/ca-certificates.crt", "/run/machine.crt"
"""Whom this machine trusts, and where a step sees that: a package writes the image's own."""


class Rehearsal:
    """One Dockerfile's steps."""

    def __init__(self, work: Path, base: Path, binds: list[Path]) -> None:
        self._work, self._base, self._binds = work, base, binds
        self._roots: dict[str, Path] = {}

    def build(self, part: str) -> tuple[Path, Stage]:
        """Return the root of the last stage, and that stage."""
        _, stages = parse(path_of(part).read_text())
        for number, stage in enumerate(stages):
            root = self._work / f"{part}-{number}"
            subprocess.run(["cp", "-a", "--reflink=auto", str(self._base), str(root)], check=True)
            self._roots[stage.name or str(number)] = root
            where, shell = Path("/"), ["/bin/sh", "-c"]
            for each in stage.instructions:
                if each.name == "RUN":
                    self.run(root, [*shell, each.text], where, environment(stage), network=True)
                elif each.name == "COPY":
                    self._copy(root, each, where)
                elif each.name == "WORKDIR":
                    where = Path(each.text)
                    (root / where.relative_to("/")).mkdir(parents=True, exist_ok=True)
                elif each.name == "SHELL":
                    shell = each.words()
        return root, stage

    def run(
        self, root: Path, command: list[str], where: Path, env: dict[str, str], *, network: bool, user: str = "0:0"
    ) -> None:
        """Run a command in a root, in namespaces of its own; without network the root is read-only, but /tmp."""
        uid, _, gid = user.partition(":")
        lines = [f"mount --bind {root} {root}", f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
        if network:
            seen = {Path(name): root / name.lstrip("/") for name in (*MACHINE_FILES, *map(str, self._binds))}
            for each, target in {**seen, Path(AUTHORITIES): root / TRUSTED.lstrip("/")}.items():
                if each.exists():
                    make = "-d" if each.is_dir() else "-D -m 644 /dev/null"
                    lines.append(f"[ -e {target} ] || install {make} {target}; mount --bind {each} {target}")
        else:
            lines += [f"mount -o remount,bind,ro {root}", f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp"]
        inside = ["chroot", f"--userspec={uid}:{gid or uid}", str(root), "/usr/bin/env", "-C", str(where), *command]
        lines.append("exec " + shlex.join(inside))
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *([] if network else ["--net"])]
        machine = {k: v for k, v in os.environ.items() if network and k.startswith(("PIP_", "http", "HTTP"))}
        if network and Path(AUTHORITIES).exists():
            machine |= {"PIP_CERT": TRUSTED, "SSL_CERT_FILE": TRUSTED}
        done = subprocess.run(
            [*namespaces, "/bin/sh", "-ec", "\n".join(lines)],
            env={"PATH": PATH, "HOME": "/tmp", "DEBIAN_FRONTEND": "noninteractive", **machine, **env},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{shlex.join(command)[:300]}\n{done.stdout[-4000:]}\nended with {done.returncode}")

    def _copy(self, root: Path, instruction: Instruction, where: Path) -> None:
        words = instruction.words()
        options = dict(w.removeprefix("--").split("=", 1) for w in words if w.startswith("--"))
        *sources, target = [w for w in words if not w.startswith("--")]
        origin = self._roots[options["from"]] if "from" in options else ROOT
        goal = root / (where / target).relative_to("/")
        for each in sources:
            source = origin / each.removeprefix("/")
            if source.is_dir():
                shutil.copytree(source, goal, symlinks=True, dirs_exist_ok=True)
                continue
            file = goal / source.name if target.endswith("/") else goal
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, file)
            if "chmod" in options:
                file.chmod(int(options["chmod"], 8))


def ensure_base(cache: Path) -> Path:
    """Return a fresh Debian, made once."""
    base = cache / f"base-{SUITE}"
    if base.exists():
        return base
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"],
        capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    mirror = next(line.split()[0] for line in listed if line.split()[1:] == [SUITE, "main", "Debian"])
    new = cache / f"base-{SUITE}.{os.getpid()}"
    # As the official image is made: priorities required, nothing recommended.
    subprocess.run(["debootstrap", "--variant=minbase", SUITE, str(new), mirror], check=True, stdout=subprocess.DEVNULL)
    new.rename(base)
    return base


def main() -> None:
    """Rehearse the images named, or all."""
    parser = argparse.ArgumentParser(prog="deploy.containers.rehearse", description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="where the base is kept")
    parser.add_argument("--bind", type=Path, action="append", default=[], help="a folder of this machine for the steps")
    parser.add_argument("--sbom", type=Path, help="write each image's Debian packages there, as CycloneDX")
    parser.add_argument("parts", nargs="*", default=[], metavar="PART", help=f"{', '.join(PARTS)}; default all")
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    base = ensure_base(asked.cache)
    for part in asked.parts or PARTS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=asked.cache, prefix=f"{part}.") as work:
            rehearsal = Rehearsal(Path(work), base, asked.bind)
            root, stage = rehearsal.build(part)
            user = stage.all("USER")[-1].text
            for command in STARTS[part]:
                rehearsal.run(root, command, Path("/"), environment(stage), network=False, user=user)
            if asked.sbom:
                write_bom(asked.sbom / f"{part}-debian.cdx.json", f"vcstack-{part}", debian_components(root))
            size = subprocess.run(["du", "-sm", str(root)], capture_output=True, text=True, check=True).stdout.split()[
                0
            ]
            print(f"{part}: {len(STARTS[part])} programs start as {user}, {size} MB, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
