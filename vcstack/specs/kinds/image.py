"""Image: the content that root disks begin from."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from vcstack.specs.errors import Cause
from vcstack.specs.model import Change, Model, Name, Takes, Text
from vcstack.specs.registry import Column, KindDefinition, Reference, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Ref, Resource, Spec, Status

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


class SourceSecret(Model):
    """A Secret with what a source asks for."""

    project: Name | None = None
    """Of a public image: the project that the Secret is in. In a project it is that one."""
    name: Name
    """The Secret: of type BasicAuth with username and password, or one with a value token, which is sent as bearer."""


class ImageSource(Model):
    """Where the content is fetched from."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.\[\]:-]+(/[!-~]*)?$", max_length=2048)]
    """https, and a public address unless whoever runs the cloud allows another. Everybody who sees the image sees it:
    what is secret belongs into the Secret. Up to five redirects are followed."""
    secret: SourceSecret | None = None
    """What is sent to this very origin, and never to where a redirect leads elsewhere. Default nothing."""


class ImageSpec(Spec):
    """What the image is declared to be; the content, uploaded to /content or fetched, is checked against it."""

    format: Annotated[ImageFormat, Takes(Change.IMMUTABLE)]
    """The format of the content; another format than declared is refused."""
    digest: Annotated[Digest | None, Takes(Change.IMMUTABLE)] = None
    """sha256:HEX of the content; given, an upload that differs is refused."""
    size_bytes: Annotated[int | None, Field(ge=1), Takes(Change.IMMUTABLE)] = None
    """Length of the content in bytes; given, an upload that differs is refused."""
    source: Annotated[ImageSource | None, Takes(Change.IMMUTABLE)] = None
    """Where the content is fetched from, once; default nowhere, it is uploaded."""
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


def secret_of(image: Image) -> Ref | None:
    """Return the Secret that the image's source names."""
    secret = image.spec.source.secret if image.spec.source else None
    return Ref("Secret", image.metadata.project or secret.project, secret.name) if secret else None


def _check(new: Image, old: Image | None, referenced: Referenced) -> Sequence[Cause]:
    """Secrets lie where they can be named, and what comes in the clear is known beforehand."""
    source, own = new.spec.source, new.metadata.project
    if source is None:
        return ()
    causes = []
    if source.url.startswith("http:") and new.spec.digest is None:
        message = "is needed for a source without https: anybody on the way could put something else there"
        causes.append(Cause(field="spec.digest", reason="FieldValueRequired", message=message))
    if source.secret is not None and source.url.startswith("http:"):
        message = "is sent over https only"
        causes.append(Cause(field="spec.source.secret", reason="FieldValueForbidden", message=message))
    if source.secret is not None and own is None and source.secret.project is None:
        message = "say in which project the Secret is"
        causes.append(Cause(field="spec.source.secret.project", reason="FieldValueRequired", message=message))
    if source.secret is not None and own is not None and source.secret.project not in (None, own):
        message = "must be left out: it is the image's own project"
        causes.append(Cause(field="spec.source.secret.project", reason="FieldValueForbidden", message=message))
    return causes


def _must_exist(image: Image) -> Sequence[Reference]:
    secret = secret_of(image)
    return (Reference("spec.source.secret.name", secret),) if secret and secret.project else ()


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
        check=_check,
        must_exist=_must_exist,
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
