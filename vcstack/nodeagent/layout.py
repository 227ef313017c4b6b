"""Where everything lies below the agent's state folder."""

from dataclasses import dataclass
from pathlib import Path

from vcstack.nodeagent.backends.files import remove_temporaries


@dataclass(frozen=True, slots=True)
class InstanceFiles:
    """The files of one instance; the folder goes when the instance goes."""

    folder: Path

    @property
    def root_disk(self) -> Path:
        """Return the qcow2 overlay."""
        return self.folder / "root.qcow2"

    @property
    def seed(self) -> Path:
        """Return the NoCloud drive."""
        return self.folder / "seed.iso"

    @property
    def record(self) -> Path:
        """Return the record of what the disks were made from."""
        return self.folder / "made.json"

    @property
    def serial_log(self) -> Path:
        """Return what the guest wrote to its serial line."""
        return self.folder / "serial.log"


@dataclass(frozen=True, slots=True)
class Layout:
    """The state folder."""

    root: Path

    @property
    def images(self) -> Path:
        """Return the cache of image contents, one file a digest."""
        return self.root / "images"

    @property
    def instances(self) -> Path:
        """Return the folder of the instances' folders."""
        return self.root / "instances"

    @property
    def cache(self) -> Path:
        """Return what was last read from the API."""
        return self.root / "cache"

    @property
    def pki(self) -> Path:
        """Return key and certificates; ovn-controller reads them too."""
        return self.root / "pki"

    @property
    def probes(self) -> Path:
        """Return the answers of probes that need not be repeated."""
        return self.root / "probes"

    def of_instance(self, uid: str) -> InstanceFiles:
        """Return the files of one instance."""
        return InstanceFiles(self.instances / uid)

    def create(self) -> None:
        """Make the folders, at the agent's start; only the agent may look into them."""
        self.root.mkdir(parents=True, exist_ok=True)
        for folder in (self.images, self.instances, self.cache, self.pki, self.probes):
            folder.mkdir(mode=0o700, exist_ok=True)
            remove_temporaries(folder)
