"""An image as clients see it: what is recorded of it, and what its config says."""

from imaged.images.index import Member, Tree
from imaged.images.model import Created, Image
from sampan.resource.image import AnnotatedDescriptor, ImageDetails, ImageManifest, ManifestKind, NamedImage


def details(image: Image, tree: Tree | None = None) -> ImageDetails:
    """Return everything; with what its index leads to if that is given."""
    record, config = image.record, image.config
    return ImageDetails(
        id=record.id,
        target=record.target,
        manifest=record.manifest,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        created_ns=config.created_ns,
        last_tagged_ns=record.tagged_ns,
        platform=config.platform,
        os_version=config.os_version,
        author=config.author,
        comment=config.comment,
        config=config.run,
        layers=record.layers,
        history=config.history,
        content_bytes=record.content_bytes,
        parent=record.parent or "",
        docker_version=config.docker_version,
        manifests=tuple(map(manifest, tree.members)) if tree else (),
        deferred=record.deferred,
    )


def brief(image: Image) -> ImageDetails:
    """Return what is known without the longer parts of its config."""
    record, config = image.record, image.config
    return ImageDetails(
        id=record.id,
        target=record.target,
        manifest=record.manifest,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        created_ns=config.created_ns,
        last_tagged_ns=record.tagged_ns,
        platform=config.platform,
        layers=record.layers,
        content_bytes=record.content_bytes,
        parent=record.parent or "",
        deferred=record.deferred,
    )


def named(created: Created) -> NamedImage:
    """Return what naming an image came to."""
    return NamedImage(details(created.image), created.moved, created.existed)


def manifest(member: Member) -> ImageManifest:
    """Return what an index lists."""
    listed = member.descriptor
    kind = ManifestKind.ATTESTATION if member.is_attestation else ManifestKind.IMAGE
    return ImageManifest(
        AnnotatedDescriptor(listed.media_type, listed.digest, listed.size, member.annotations),
        kind if member.is_attestation or member.is_image else ManifestKind.UNKNOWN,
        member.available,
        member.here_bytes,
        member.platform,
        member.references[0].digest if member.references and member.is_image else "",
        member.attested,
    )
