"""Image: the content that root disks begin from."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from vcstack.specs.model import Change, Takes, Text
from vcstack.specs.registry import Column, KindDefinition, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/image-content"
UPLOADED = "Uploaded"
"""True when the whole content is there with the right digest."""
ACCEPTED = "Accepted"
"""True when the content was inspected and is harmless."""

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class ImageFormat(StrEnum):
    """The format of the content."""

    QCOW2 = "QCOW2"
    RAW = "Raw"


class ImageSpec(Spec):
    """What the image is declared to be; the content is uploaded to /content and checked against it."""

    format: Annotated[ImageFormat, Takes(Change.IMMUTABLE)]
    """The format of the content; another format than declared is refused."""
    digest: Annotated[Digest | None, Takes(Change.IMMUTABLE)] = None
    """sha256:HEX of the content; given, an upload that differs is refused."""
    size_bytes: Annotated[int | None, Field(ge=1), Takes(Change.IMMUTABLE)] = None
    """Length of the content in bytes; given, an upload that differs is refused."""
    min_memory_mib: Annotated[int, Field(ge=0, alias="minMemoryMiB")] = 0
    """The least memory that an instance of it needs, in MiB."""
    description: Text = ""
    """What it is."""


class ImageStatus(Status):
    """What was observed of the content."""

    digest: str | None = None
    """sha256:HEX of the accepted content."""
    size_bytes: int | None = None
    """Length of the accepted content in bytes."""
    virtual_size_bytes: int | None = None
    """Size of the disk that it describes, in bytes."""
    received_bytes: int | None = None
    """How much of an upload has come so far."""


class Image(Resource[ImageSpec, ImageStatus]):
    """The content that root disks begin from: global ones are public, others belong to a project."""

    KIND = "Image"
    status: ImageStatus = Field(default_factory=ImageStatus)


register(
    KindDefinition(
        model=Image,
        plural="images",
        uid_prefix="im",
        scope=Scope.GLOBAL_OR_PROJECT,
        columns=(
            Column("FORMAT", "spec.format"),
            Column("SIZE", "status.sizeBytes", format="bytes"),
            Column("VIRTUAL_SIZE", "status.virtualSizeBytes", format="bytes"),
            Column("DIGEST", "status.digest", wide=True),
        ),
        view=(
            ViewColumn("format", "spec.format"),
            ViewColumn("digest", "status.digest"),
            ViewColumn("size_bytes", "status.sizeBytes", "bigint"),
            ViewColumn("virtual_size_bytes", "status.virtualSizeBytes", "bigint"),
        ),
        ready_when=(UPLOADED, ACCEPTED),
        finalizers=(FINALIZER, "vcstack.io/in-use"),
        shared=True,
        apply_order=10,
        category="compute",
        example={
            "metadata": {"name": "tiny"},
            "spec": {"format": "QCOW2"},
            "status": {"sizeBytes": 2097152, "virtualSizeBytes": 16777216},
        },
    )
)
