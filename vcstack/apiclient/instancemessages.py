"""What is said about a running instance, as it is on the wire: its figures, and tickets for its streams."""

from enum import StrEnum

from pydantic import Field

from vcstack.specs.meta import Time
from vcstack.specs.model import Model


class DiskMetrics(Model):
    """What one disk did since the machine began."""

    device: str
    """What the machine calls it, e.g. vda."""
    read_bytes: int
    """Bytes read."""
    written_bytes: int
    """Bytes written."""
    read_requests: int
    """Requests that read."""
    write_requests: int
    """Requests that wrote."""


class InterfaceMetrics(Model):
    """What one network card did since it was plugged in."""

    mac: str
    """The card's MAC address, as in status.addresses."""
    received_bytes: int
    """Bytes that the guest received."""
    sent_bytes: int
    """Bytes that the guest sent."""
    received_packets: int
    """Packets that it received."""
    sent_packets: int
    """Packets that it sent."""


class InstanceMetrics(Model):
    """What a running machine has used, as its hypervisor says. Counters go on until the machine ends; what happened
    in between is the difference of two observations."""

    observed_at: Time
    """When that was read."""
    machine: str
    """Identifies the run: another one after each start, with counters from the beginning."""
    vcpus: int
    """How many CPUs it has."""
    cpu_nanoseconds: int
    """CPU time that all of them have used."""
    memory_bytes: int
    """Memory that it has."""
    resident_bytes: int
    """Memory that it takes of its host."""
    usable_bytes: int | None = None
    """Memory that the guest could use at once without swapping; not there until its balloon driver tells."""
    disks: list[DiskMetrics] = Field(default_factory=list)
    """Its disks."""
    network_interfaces: list[InterfaceMetrics] = Field(default_factory=list)
    """Its network cards."""


class InstanceStream(StrEnum):
    """What of an instance a page can be connected with."""

    CONSOLE = "Console"
    """Its serial console."""
    VNC = "VNC"
    """Its screen, keyboard and pointer, by the RFB protocol."""

    SHELL = "Shell"
    """A terminal in the guest, by SSH."""

    @property
    def subresource(self) -> str:
        """Return the websocket that it is opened at."""
        return self.value.lower()


class TicketRequest(Model):
    """Which stream a ticket is for."""

    stream: InstanceStream
    """Console, VNC or Shell."""


class Ticket(Model):
    """Opens one websocket, once: ``GET .../instances/NAME/console?ticket=...`` ``.../vnc?ticket=...`` or
    ``.../shell?ticket=...``."""

    ticket: str
    """The ticket; it stands for who asked for it."""
    expires_at: Time
    """When it is good no more."""
