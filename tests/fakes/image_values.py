"""Images as values, made up."""

from typing import Any, Final

from sampan.oci.descriptor import OCI_MANIFEST, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import RunConfig
from sampan.resource.image import ImageDetails

MANIFEST: Final = Descriptor(OCI_MANIFEST, Digest.of(b"manifest"), 500)


def image_value(id: str = Digest.of(b"config"), **config: Any) -> ImageDetails:
    """An image whose config has these fields."""
    return ImageDetails(Digest(id), MANIFEST, MANIFEST, config=RunConfig(**config))
