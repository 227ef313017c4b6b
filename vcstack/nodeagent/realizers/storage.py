"""An instance's disks on its host: the root disk, an overlay of the image, and the NoCloud drive."""

import asyncio
import shutil
from enum import StrEnum
from pathlib import Path

from vcstack.nodeagent.backends.disks import GIB, Disks
from vcstack.nodeagent.backends.files import write_file
from vcstack.nodeagent.backends.hypervisor import Domain
from vcstack.nodeagent.backends.images import Images
from vcstack.nodeagent.backends.seed import SeedCard, SeedWanted, build_seed
from vcstack.nodeagent.fields import digest_fields
from vcstack.nodeagent.layout import InstanceFiles, Layout
from vcstack.nodeagent.realizers.guest_network import build_card
from vcstack.nodeagent.realizers.interfaces import Network, Plug
from vcstack.nodeagent.realizers.report import Report
from vcstack.nodeagent.realizers.together import together
from vcstack.nodeagent.record import Making, Record, read_record, write_record
from vcstack.nodeagent.references import References
from vcstack.runtime.errors import ReconcileError, TerminalError
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.kinds.image import Image
from vcstack.specs.kinds.instance import DISKS_READY, IMAGE_READY, Instance
from vcstack.specs.model import Change

DISK_LOST = "DiskLost"


class DiskState(StrEnum):
    """What is there of an instance's root disk."""

    TO_MAKE = "ToMake"
    READY = "Ready"
    LOST = "Lost"


def judge_disk(record: Record | None, present: bool, domain: Domain | None, instance: Instance) -> DiskState:
    """Return whether the root disk is to be made, is there, or was there once and is lost; pure.

    A domain is defined, and a start is reported, only after the disk was made: either proves that it was.
    """
    if record is not None and record.state is Making.MAKING:
        return DiskState.TO_MAKE
    was_made = record is not None or domain is not None or instance.status.started_at is not None
    if present and was_made:
        return DiskState.READY
    return DiskState.LOST if was_made else DiskState.TO_MAKE


class Storage:
    """Makes, grows and removes the disks of instances."""

    def __init__(self, layout: Layout, disks: Disks, images: Images, references: References) -> None:
        self._layout = layout
        self._disks = disks
        self._images = images
        self._references = references

    def files(self, instance: Instance) -> InstanceFiles:
        """Return where the instance's files are."""
        return self._layout.of_instance(instance.uid)

    def get_record(self, instance: Instance) -> Record | None:
        """Return what the disks were made from, None when they were never made."""
        return read_record(self.files(instance).record)

    async def ensure(
        self, instance: Instance, domain: Domain | None, flavor: Flavor, network: Network, report: Report
    ) -> bool:
        """Have root disk and seed; return whether they are there. Conditions say what is wrong."""
        files, record = self.files(instance), self.get_record(instance)
        state = judge_disk(record, files.root_disk.exists(), domain, instance)
        if state is DiskState.LOST:
            _report_lost(instance.metadata.name, files, report)
            return False
        if state is DiskState.TO_MAKE:
            return await self._make(instance, record, domain, flavor, network, report)
        await self._ensure_image(instance, record, report)
        with report.blame(DISKS_READY):
            if not files.seed.exists():
                await self._make_seed(instance, network)
            await self._grow(instance, record, domain, flavor)
        return _report_present(files, report)

    def find_files(self, instance: Instance) -> frozenset[Path]:
        """Return which of the instance's disks and what they lie on are there. Blocks."""
        files, record = self.files(instance), self.get_record(instance)
        base = self._images.find(record.image_digest) if record is not None and record.image_digest else None
        return frozenset(p for p in (files.root_disk, files.seed, base) if p is not None and p.exists())

    async def request_rebuild(self, instance: Instance, token: str) -> None:
        """Note that the disks are to be made anew; what is on them is given up. Idempotent by token."""
        record = self.get_record(instance)
        if record is None or record.token != token:
            wanted = Record(state=Making.MAKING, token=token)
            await asyncio.to_thread(write_record, self.files(instance).record, wanted)

    async def delete(self, uid: str) -> None:
        """Remove all files of an instance. Absent is success."""
        folder = self._layout.of_instance(uid).folder
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if folder.exists():
            raise TerminalError("FilesRemain", f"{folder} cannot be removed; look at its permissions")

    def list_uids(self) -> list[str]:
        """Return the uids of all instances that have files here."""
        return sorted(p.name for p in self._layout.instances.iterdir() if p.is_dir())

    async def _make(
        self,
        instance: Instance,
        record: Record | None,
        domain: Domain | None,
        flavor: Flavor,
        network: Network,
        report: Report,
    ) -> bool:
        with report.blame(IMAGE_READY):
            image = await self._references.get_image(instance)
            _check_fits(image, flavor)
            base = await self._images.ensure(image)
        report.set(IMAGE_READY, True, "ImageCached")
        files, token = self.files(instance), record.token if record else ""
        with report.blame(DISKS_READY):
            if domain is not None and domain.active:
                raise ReconcileError("DiskInUse", "the domain has to be off while its disk is made anew")
            await asyncio.to_thread(write_record, files.record, Record(state=Making.MAKING, token=token))
            size = flavor.spec.root_disk_gib
            files.seed.unlink(missing_ok=True)
            await together(
                self._make_seed(instance, network),
                self._disks.make_overlay(files.root_disk, base=base, base_format=image.spec.format, size_gib=size),
            )
            made = Record(
                state=Making.MADE,
                token=token,
                image_digest=image.status.digest or "",
                size_gib=size,
                fields=digest_fields(instance.spec, Change.RECREATE),
            )
            await asyncio.to_thread(write_record, files.record, made)
        return _report_present(files, report)

    async def _make_seed(self, instance: Instance, network: Network) -> None:
        """Write the NoCloud drive, once all ports are there: a guest reads of its network at its first boot only."""
        if network.missing or (network.leaving and instance.status.started_at is None):
            return
        keys = await self._references.get_keys(instance)
        authority = await self._references.get_ssh_authority(instance)
        record = self.get_record(instance)
        wanted = SeedWanted(
            # cloud-init runs everything anew on a new instance-id: a recreated disk is a new machine.
            instance_id=f"{instance.uid}{'-' + record.token if record and record.token else ''}",
            host_name=instance.metadata.name,
            ssh_keys=[*(k.spec.public_key for k in keys), f"cert-authority {authority}"],
            user_data=await self._references.get_user_data(instance),
            cards=[await self._build_card(plug) for plug in network.plugs],
        )
        files = self.files(instance)
        await asyncio.to_thread(lambda: write_file(files.seed, build_seed(wanted)))

    async def _build_card(self, plug: Plug) -> SeedCard:
        held, project = plug.port.status.addresses or [], plug.port.metadata.project
        subnets = [await self._references.get_subnet(project, address.subnet) for address in held]
        return build_card(plug.card.mac, plug.card.mtu, zip(held, subnets, strict=True))

    async def _ensure_image(self, instance: Instance, record: Record | None, report: Report) -> None:
        """Have the content that the root disk is an overlay of."""
        digest = record.image_digest if record else ""
        if not digest or self._images.find(digest) is not None:
            report.set(IMAGE_READY, True, "ImageCached")
            return
        # Without it the disk is of no use: a machine that runs has it open still, but cannot be started again.
        with report.blame(DISKS_READY), report.blame(IMAGE_READY):
            image = await self._references.get_image(instance)
            if image.status.digest != digest:
                message = f"the content {digest} that the root disk lies on is neither in the cache nor in image "
                raise ReconcileError(
                    "ImageLost", f"{message}{instance.spec.image}; restore it or recreate the instance"
                )
            await self._images.ensure(image)
        report.set(IMAGE_READY, True, "ImageCached")

    async def _grow(self, instance: Instance, record: Record | None, domain: Domain | None, flavor: Flavor) -> None:
        """Give a stopped machine's root disk the size of its flavor; it never shrinks."""
        size = flavor.spec.root_disk_gib
        if instance.status.allocated is not None:
            size = min(size, instance.status.allocated.disk_gib)  # no more than the host has room for
        if record is None or not 0 < record.size_gib < size or (domain is not None and domain.active):
            return
        files = self.files(instance)
        await self._disks.grow(files.root_disk, size_gib=size)
        await asyncio.to_thread(write_record, files.record, record.model_copy(update={"size_gib": size}))


def _check_fits(image: Image, flavor: Flavor) -> None:
    size = image.status.virtual_size_bytes or 0
    if size > flavor.spec.root_disk_gib * GIB:
        raise TerminalError(
            "ImageTooLarge",
            f"image {image.metadata.name} needs {-(-size // GIB)} GiB, flavor {flavor.metadata.name} has a root disk "
            f"of {flavor.spec.root_disk_gib} GiB; choose a larger flavor",
        )
    if image.spec.min_memory_mib > flavor.spec.memory_mib:
        raise TerminalError(
            "ImageNeedsMemory",
            f"image {image.metadata.name} needs {image.spec.min_memory_mib} MiB of memory, flavor "
            f"{flavor.metadata.name} has {flavor.spec.memory_mib}; choose a larger flavor",
        )


def _report_present(files: InstanceFiles, report: Report) -> bool:
    present = files.seed.exists()
    if present:
        report.set(DISKS_READY, True, "DisksPresent")
    else:
        message = "The drive for cloud-init is made once all ports hold their addresses."
        report.set(DISKS_READY, False, "PortNotReady", message)
    return present


def _report_lost(name: str, files: InstanceFiles, report: Report) -> None:
    report.set(
        DISKS_READY,
        False,
        DISK_LOST,
        f"the root disk is gone and with it what was on it: have {files.root_disk} restored on the host, or begin "
        f"from the image again (vcctl rebuild {name}), or delete the instance",
    )
