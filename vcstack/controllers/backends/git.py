"""Git: fetches one commit of a repository that a tenant names, by the git program in processes with limits.

Nothing is ever checked out: what is in the repository is read as Git's objects, so neither symlinks nor names of files
reach this machine's file system, and no filter, hook or submodule runs. The guard of ``outbound`` judges the host's
addresses, and git and ssh are told to connect to one of those by its number; redirects are not followed. What is
tenants' goes to git as arguments behind ``--``, by its configuration in the environment, or in files of mode 0600.
"""

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import ssl
import sys
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

import vcstack
from vcstack.controllers.backends import gitreader
from vcstack.outbound.addresses import Address
from vcstack.outbound.client import OutboundClient
from vcstack.outbound.errors import BadUrl, NotReachable
from vcstack.outbound.urls import SSH_PORT, parse_ssh_url, parse_url

MIB: Final = 1024 * 1024
DEPTH: Final = 50
"""Commits of history that are fetched: as far back it can be told whether history was rewritten."""
MOST_PACKS: Final = 100
"""Of one repository: each fetch of something new makes one, and none is ever packed with another."""
HTTPS_PORTS: Final = frozenset({443, 8443})
SSH_PORTS: Final = frozenset({SSH_PORT, 443})
TIMED_OUT: Final = "TimedOut"
"""The reason of what may go better when it is tried again."""
ROOT: Final = str(Path(vcstack.__file__).resolve().parents[1])
"""Where the reader's process finds our code."""
ANSWER_LIMIT: Final = 64 * MIB
PIPE_BYTES: Final = MIB
"""What a program may write to one of its pipes; a server can have git say anything for ever."""
_SAID: Final = 4000
"""Characters of what git says that are looked at."""

log = structlog.get_logger(__name__)


class GitError(Exception):
    """The repository could not be read: a reason for a condition, and a sentence for people."""

    def __init__(self, reason: str, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.final = final
        """Whether trying again changes nothing until somebody does something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitLimits:
    """What one repository may take."""

    pack_bytes: int = 128 * MIB
    """What is fetched, packed."""
    memory_bytes: int = 1024 * MIB
    """Of addresses, for each process."""
    cpu_seconds: int = 60
    seconds: float = 90.0
    """For one fetch, all in all."""
    read_seconds: float = 120.0
    """For reading a commit's manifests, which has a limit of CPU time besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """What is fetched, and how the server is asked."""

    url: str
    ref: str
    """refs/heads/..., refs/tags/... or a commit."""
    username: str = ""
    password: str = ""
    private_key: str = ""
    known_hosts: str = ""
    ca_certificates: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """Whose signature a commit must have."""

    open_pgp_keys: Sequence[str] = ()
    ssh_keys: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that was fetched."""

    name: str
    """Its hash."""
    time: int
    """When it was made, as it says, in seconds since 1970."""
    subject: str
    """The first line of its message."""


@dataclass(frozen=True, slots=True)
class _Ended:
    code: int
    out: bytes
    said: str


@dataclass(slots=True)
class _Reach:
    """How git is told to reach a server."""

    url: str
    config: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)


class GitRepositories:
    """The repositories that this process has fetched, each in a folder of its own, gone with the process.

    What was fetched stays until something newer was fetched whole. On the disk a repository takes twice what one fetch
    may, and while it is fetched anew once more.
    """

    def __init__(self, folder: Path, outbound: OutboundClient, limits: GitLimits | None = None) -> None:
        self._base = folder
        self._outbound = outbound
        self.limits = limits or GitLimits()
        self._folder: Path | None = None

    def close(self) -> None:
        """Remove everything."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def remove(self, uid: str) -> None:
        """Remove one repository. Absent is success."""
        if self._folder is not None:
            shutil.rmtree(self._folder / uid, ignore_errors=True)
            shutil.rmtree(self._fetched(uid), ignore_errors=True)

    def path(self, uid: str) -> Path:
        """Return where a repository is."""
        return self._own() / uid

    async def fetch(self, uid: str, remote: Remote) -> Commit:
        """Return the commit that the reference stands for now; it and what it has are here then.

        Raises:
            GitError: it could not be fetched; what was here before is here still.
        """
        folder, fetched = self.path(uid), self._fetched(uid)
        with contextlib.ExitStack() as undo, tempfile.TemporaryDirectory(prefix="fetch-", dir=self._own()) as scratch:
            # Ended in between, git leaves what it has of a pack, and the next time as much again.
            undo.callback(shutil.rmtree, fetched, ignore_errors=True)
            self._begin(folder, fetched)
            try:
                async with asyncio.timeout(self.limits.seconds):
                    reach = await self._reach(remote, Path(scratch))
                    await self._ensure_repository(fetched)
                    ended = await self._fetch(fetched, remote, reach)
                    if ended.code != 0 and _is_own_fault(ended.said):
                        # What is here is what is wrong: begin anew.
                        shutil.rmtree(fetched, ignore_errors=True)
                        await self._ensure_repository(fetched)
                        ended = await self._fetch(fetched, remote, reach)
            except TimeoutError as error:
                seconds = int(self.limits.seconds)
                raise GitError(TIMED_OUT, f"the repository could not be fetched within {seconds} s") from error
            if ended.code != 0:
                raise _explain(ended, remote, self.limits)
            commit = await self._describe(fetched)
            shutil.rmtree(folder, ignore_errors=True)
            fetched.rename(folder)
        return commit

    async def has(self, uid: str, commit: str) -> bool:
        """Return whether a commit is here with its files: the newest one, and those before it that were fetched."""
        ended = await self._git(self.path(uid), "cat-file", "-e", f"{commit}^{{tree}}")
        return ended.code == 0

    async def is_ancestor(self, uid: str, old: str, new: str) -> bool:
        """Return whether one commit led to the other, as far back as was fetched."""
        ended = await self._git(self.path(uid), "merge-base", "--is-ancestor", old, new)
        return ended.code == 0

    async def verify(self, uid: str, commit: str, signers: Signers) -> str:
        """Return who signed the commit.

        Raises:
            GitError: nobody did whose key is given.
        """
        with tempfile.TemporaryDirectory(prefix="verify-", dir=self._own()) as scratch:
            home = Path(scratch)
            config = {"gpg.minTrustLevel": "undefined"}
            if signers.ssh_keys:
                allowed = home / "allowed_signers"
                allowed.write_text("".join(f'* namespaces="git" {_two_words(key)}\n' for key in signers.ssh_keys))
                config["gpg.ssh.allowedSignersFile"] = str(allowed)
            ring = b"".join([await self._dearmor(home, n, key) for n, key in enumerate(signers.open_pgp_keys)])
            # gpg takes a file of this name for its keys as they are: nothing is imported, no agent is started.
            (home / "pubring.gpg").write_bytes(ring)
            environ = {"GNUPGHOME": str(home)}
            try:
                async with asyncio.timeout(self.limits.seconds):
                    ended = await self._git(
                        self.path(uid), "verify-commit", "--raw", commit, config=config, environ=environ, limited=False
                    )
            except TimeoutError as error:
                seconds = int(self.limits.seconds)
                raise GitError(TIMED_OUT, f"the signature could not be looked at within {seconds} s") from error
        if ended.code == 0:
            return _signer(ended.said)
        raw = await self._git(self.path(uid), "cat-file", "commit", commit)
        if not re.search(rb"^gpgsig(-sha256)? ", raw.out.partition(b"\n\n")[0], re.MULTILINE):
            raise GitError("NotSigned", f"the commit {commit[:10]} is not signed", final=True)
        raise GitError(
            "NotVerified", f"the commit {commit[:10]} is signed, but not well by any of the given keys", final=True
        )

    async def read(
        self, uid: str, commit: str, folders: Sequence[str], identities: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return what ``gitreader`` answers: the manifests of the folders, or why they cannot be read."""
        asked = {"gitDir": str(self.path(uid)), "commit": commit, "folders": folders, "identities": identities}
        return await _ask_reader(asked, self.limits.read_seconds)

    # Processes.

    def _own(self) -> Path:
        """Return this process's folder; those of processes that are no more are removed."""
        if self._folder is None:
            self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
            for other in self._base.iterdir():
                pid = other.name.partition("-")[0]
                if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
                    shutil.rmtree(other, ignore_errors=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self._base))
        return self._folder

    def _fetched(self, uid: str) -> Path:
        """Return where a repository is while it is fetched."""
        return self._own() / f"{uid}.fetched"

    def _begin(self, folder: Path, fetched: Path) -> None:
        """Begin with what is here of a repository. Git never writes into its files: the same ones may be in both."""
        shutil.rmtree(fetched, ignore_errors=True)
        if (folder / "HEAD").exists() and not self._is_overgrown(folder):
            shutil.copytree(folder, fetched, copy_function=os.link)

    def _is_overgrown(self, folder: Path) -> bool:
        """Return whether what was fetched over time is more than one fetch may be. Git keeps what was pushed away."""
        packs = [file.stat().st_size for file in folder.glob("objects/pack/*.pack")]
        return len(packs) > MOST_PACKS or sum(packs) > self.limits.pack_bytes

    async def _ensure_repository(self, folder: Path) -> None:
        if not (folder / "HEAD").exists():
            shutil.rmtree(folder, ignore_errors=True)
            ended = await self._git(None, "init", "--quiet", "--bare", "--template=", "--", str(folder))
            if ended.code != 0:
                raise GitError("GitFailed", "git cannot make a repository here; the server's log says why")

    async def _fetch(self, folder: Path, remote: Remote, reach: _Reach) -> _Ended:
        return await self._git(
            folder,
            *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-auto-gc", "--no-write-fetch-head"),
            *("--force", "--update-shallow", f"--depth={DEPTH}", "--", reach.url, f"+{remote.ref}:refs/vcstack/wanted"),
            config=reach.config,
            environ=reach.environ,
        )

    async def _describe(self, folder: Path) -> Commit:
        ended = await self._git(
            folder, "log", "-1", "--no-show-signature", "--format=%H%x00%ct%x00%s", "refs/vcstack/wanted"
        )
        parts = ended.out.decode("utf-8", "replace").rstrip("\n").split("\0")
        if ended.code != 0 or len(parts) != 3 or not parts[1].isdecimal():
            raise GitError("RefNotFound", "what the reference stands for is no commit", final=True)
        subject = "".join(c if c.isprintable() else " " for c in parts[2])[:200]
        return Commit(parts[0], min(int(parts[1]), 2**33), subject)

    async def _dearmor(self, home: Path, number: int, key: str) -> bytes:
        """Return the key in OpenPGP's own bytes."""
        file = home / f"key-{number}.asc"
        file.write_text(key)
        command = ("gpg", "--homedir", str(home), "--batch", "--no-autostart", "--quiet", "--dearmor", "--output", "-")
        ended = await self._run((*command, str(file)), {"GNUPGHOME": str(home)}, limited=True)
        if ended.code != 0 or not ended.out:
            log.info("a public key cannot be read", said=ended.said)
            raise GitError("BadKey", f"spec.verify.openPgpKeys[{number}] is no public key that can be read", final=True)
        return ended.out

    async def _git(
        self,
        folder: Path | None,
        *words: str,
        config: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        limited: bool = True,
    ) -> _Ended:
        settings = {**_CONFIG, **(config or {})}
        counted = {"GIT_CONFIG_COUNT": str(len(settings))}
        for n, (name, value) in enumerate(settings.items()):
            counted |= {f"GIT_CONFIG_KEY_{n}": name, f"GIT_CONFIG_VALUE_{n}": value}
        where = ("--git-dir", str(folder)) if folder is not None else ()
        return await self._run(("git", *where, *words), {**_ENVIRON, **counted, **(environ or {})}, limited=limited)

    async def _run(self, words: Sequence[str], environ: Mapping[str, str], *, limited: bool) -> _Ended:
        """Run a program to its end; cancelled, it is killed with all that it started."""
        limits = self.limits
        bounds = (
            *("prlimit", f"--cpu={limits.cpu_seconds}", f"--fsize={limits.pack_bytes}", "--core=0"),
            *((f"--as={limits.memory_bytes}",) if limited else ()),
            "--",
        )
        path = os.environ.get("PATH", "/usr/bin:/bin")
        process = await asyncio.create_subprocess_exec(
            *bounds, *words,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={"PATH": path, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **environ}, cwd="/", start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            out, said = await asyncio.gather(_read_all(process.stdout), _read_all(process.stderr))
            await process.wait()
        finally:
            await _end(process)
        assert process.returncode is not None
        return _Ended(process.returncode, out, said[-_SAID:].decode("utf-8", "replace"))

    # Reaching servers.

    async def _reach(self, remote: Remote, scratch: Path) -> _Reach:
        try:
            if remote.url.startswith("ssh://"):
                return await self._reach_by_ssh(remote, scratch)
            return await self._reach_by_http(remote, scratch)
        except BadUrl as error:
            raise GitError("BadUrl", f"spec.url: {error}", final=True) from error
        except NotReachable as error:
            log.info("git server refused or not found", url=remote.url, detail=error.detail)
            raise GitError("Unreachable", str(error)) from error

    async def _reach_by_http(self, remote: Remote, scratch: Path) -> _Reach:
        target = parse_url(remote.url)
        encrypted = target.scheme == "https"
        found = await self._outbound.find_addresses(target.host, target.port, ports=HTTPS_PORTS, encrypted=encrypted)
        config = {
            "http.followRedirects": "false",
            "http.proxy": "",
            "http.emptyAuth": "false",
            "http.lowSpeedLimit": "100",
            "http.lowSpeedTime": "20",
            "http.sslVersion": "tlsv1.2",
        }
        # Connected to is what was judged: curl asks no resolver for a name that it is told the address of. What is an
        # IPv6 address itself has none, and no place among those names.
        if ":" not in target.host:
            pinned = ",".join(f"[{a}]" if a.version == 6 else str(a) for a in found)
            config["http.curloptResolve"] = f"{target.host}:{target.port}:{pinned}"
        if remote.password or remote.username:
            given = b64encode(f"{remote.username}:{remote.password}".encode()).decode()
            config["http.extraHeader"] = f"Authorization: Basic {given}"
        if encrypted:
            config["http.sslCAInfo"] = str(self._write_authorities(remote, scratch))
        return _Reach(target.url, config, {"GIT_ALLOW_PROTOCOL": target.scheme})

    def _write_authorities(self, remote: Remote, scratch: Path) -> Path:
        """Write whom to trust: those that are given, else the machine's and what the operator added to them."""
        texts = [remote.ca_certificates]
        if not remote.ca_certificates.strip():
            paths = ssl.get_default_verify_paths()
            candidates = (paths.cafile, "/etc/ssl/certs/ca-certificates.crt", self._outbound.settings.ca_file)
            texts = [Path(p).read_text() for p in dict.fromkeys(candidates) if p is not None and Path(p).is_file()]
        file = scratch / "authorities.pem"
        file.write_text("\n".join(texts))
        return file

    async def _reach_by_ssh(self, remote: Remote, scratch: Path) -> _Reach:
        target = parse_ssh_url(remote.url)
        found = await self._outbound.find_addresses(target.host, target.port, ports=SSH_PORTS, encrypted=True)
        address: Address = found[0]
        for name, text in (("key", remote.private_key), ("hosts", remote.known_hosts)):
            file = scratch / name
            file.touch(mode=0o600)
            file.write_text(text.strip() + "\n")
        alias = target.host if target.port == SSH_PORT else f"[{target.host}]:{target.port}"
        # The host's own name is only what its key is looked up by.
        options = {
            "HostName": str(address), "Port": str(target.port), "User": target.user, "HostKeyAlias": alias,
            "UserKnownHostsFile": str(scratch / "hosts"), "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes", "UpdateHostKeys": "no", "VerifyHostKeyDNS": "no",
            "IdentityFile": str(scratch / "key"), "IdentitiesOnly": "yes", "IdentityAgent": "none",
            "PreferredAuthentications": "publickey", "BatchMode": "yes", "ConnectTimeout": "10",
            "ServerAliveInterval": "10", "ForwardAgent": "no", "ForwardX11": "no", "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no", "ProxyCommand": "none", "ControlMaster": "no", "ControlPath": "none",
            "RequestTTY": "no", "LogLevel": "ERROR",
        }  # fmt: skip
        file = scratch / "ssh_config"
        file.write_text("Host *\n" + "".join(f"  {name} {value}\n" for name, value in options.items()))
        host = f"[{target.host}]" if ":" in target.host else target.host
        return _Reach(
            f"ssh://{target.user}@{host}:{target.port}{target.path}",
            {},
            {
                "GIT_ALLOW_PROTOCOL": "ssh",
                "GIT_SSH_COMMAND": f"ssh -F {shlex.quote(str(file))}",
                "GIT_SSH_VARIANT": "ssh",
            },
        )


_ENVIRON: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "SSH_ASKPASS": "/bin/false",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}
_CONFIG: Final = {
    "transfer.fsckObjects": "true",
    "fetch.fsck.missingSpaceBeforeDate": "ignore",
    "fetch.fsck.zeroPaddedFilemode": "ignore",
    # One pack, whose size the limit of a file bounds, instead of any number of files.
    "fetch.unpackLimit": "1",
    "transfer.unpackLimit": "1",
    "core.hooksPath": "/dev/null",
    "credential.helper": "",
    "core.askPass": "/bin/false",
    # Who signs by X.509 names the server that gpgsm has dirmngr ask for revocations, past the guard.
    "gpg.x509.program": "/bin/false",
    "protocol.version": "2",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "core.bigFileThreshold": "1m",
    "submodule.recurse": "false",
}


async def _ask_reader(asked: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return the reader's answer; one that was ended by its limits has none.

    Its limit of CPU time tells what is too large; the clock on the wall tells of a machine that is too busy.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-s", "-P", "-m", gitreader.__name__,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={"PYTHONPATH": ROOT, "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8",
             "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ALLOW_PROTOCOL": "none"},
        cwd="/", limit=ANSWER_LIMIT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            out, _ = await process.communicate(orjson.dumps(asked) + b"\n")
    except TimeoutError:
        return {"reason": TIMED_OUT, "message": f"the manifests could not be read within {seconds:g} s"}
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
        _close(process)
    if process.returncode != 0 or not out:
        return {"reason": "TooLarge", "message": "reading the manifests took too much time or memory"}
    found: dict[str, Any] = orjson.loads(out)
    return found


async def _read_all(stream: asyncio.StreamReader) -> bytes:
    """Return what is written to a pipe until its end. Raises GitError when that is too much."""
    read = bytearray()
    while piece := await stream.read(65536):
        read += piece
        if len(read) > PIPE_BYTES:
            raise GitError("TooLarge", f"git says more than {PIPE_BYTES // MIB} MiB of the repository", final=True)
    return bytes(read)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    # Before waiting, which would wait for pipes too that nobody reads any more.
    _close(process)
    await asyncio.shield(process.wait())


def _close(process: asyncio.subprocess.Process) -> None:
    transport = getattr(process, "_transport", None)  # else its pipes are closed by the garbage collector
    if transport is not None:
        transport.close()


def _two_words(key: str) -> str:
    return " ".join(key.split()[:2])


def _signer(said: str) -> str:
    found = re.search(r"VALIDSIG ([0-9A-F]{40})", said) or re.search(r"key (SHA256:[A-Za-z0-9+/]+)", said)
    return found[1] if found else "one of the keys"


def _is_own_fault(said: str) -> bool:
    """Return whether the local copy is what is wrong."""
    words = (".lock': File exists", "shallow file has changed", "bad object", "not a git repository", "loose object")
    return any(word in said for word in words)


_EXPLAINED: Final = (
    ("Host key verification failed", "HostKeyUnknown", "the server's key is none of spec.knownHosts", True),
    ("No .* host key is known", "HostKeyUnknown", "the server's key is none of spec.knownHosts", True),
    ("Permission denied", "AuthenticationFailed", "the server does not take the credentials", True),
    ("Authentication failed", "AuthenticationFailed", "the server does not take the credentials", True),
    ("could not read Username", "AuthenticationFailed", "the server asks for credentials; see spec.credentials", True),
    ("returned error: 40[13]", "AuthenticationFailed", "the server does not take the credentials", True),
    ("invalid format|error in libcrypto", "AuthenticationFailed", "the private key cannot be read", True),
    ("couldn't find remote ref", "RefNotFound", "the repository has no {ref}", True),
    ("not our ref|unadvertised object", "RefNotFound", "the server does not give the commit {ref}", True),
    ("returned error: 404|not found|does not appear to be", "RepositoryNotFound", "there is no such repository", True),
    ("returned error: 30[12378]|unable to update url base", "Redirected", "the server redirects elsewhere, which is "
     "not followed; write the address that it redirects to", True),
    ("certificate|SSL", "CertificateNotTrusted", "the server's certificate is not trusted; see spec.caCertificates",
     True),
    ("File too large|signal 25", "TooLarge", "the repository is larger than {mib} MiB (its last commits)",
     True),
    ("out of memory|malloc failed|cannot allocate", "TooLarge", "the repository takes too much memory", True),
    ("signal 24|CPU time", "TooLarge", "the repository takes too much processor time", True),
    ("fsck error|did not receive expected|bad pack", "BadRepository", "what the server sends is no sound repository",
     True),
    ("invalid index-pack output|index-pack failed", "TooLarge", "the repository is larger than {mib} MiB, or takes too "
     "much memory or time", True),
)  # fmt: skip


def _explain(ended: _Ended, remote: Remote, limits: GitLimits) -> GitError:
    said = ended.said
    log.info("git fetch failed", url=remote.url, code=ended.code, said=said[-500:])
    for pattern, reason, text, final in _EXPLAINED:
        if re.search(pattern, said, re.IGNORECASE):
            named = text.format(ref=remote.ref, mib=limits.pack_bytes // MIB)
            return GitError(reason, named, final=final)
    return GitError("Unreachable", "the server does not answer as a Git server does, or not at all")


@contextlib.asynccontextmanager
async def opened(folder: Path, outbound: OutboundClient) -> AsyncIterator[GitRepositories]:
    """Give repositories that are removed at the end."""
    repositories = GitRepositories(folder, outbound)
    try:
        yield repositories
    finally:
        repositories.close()
