"""What a registry refuses, in the words of the OCI distribution spec 1.1, "Error Codes"."""

import enum
from collections.abc import Mapping

from sampan.errors import SampanError
from sampan.oci.digest import Digest


class Code(enum.Enum):
    """The spec's codes, and those that every registry in the field has beside them."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    NOT_FOUND = "NOT_FOUND"
    PAGINATION_NUMBER_INVALID = "PAGINATION_NUMBER_INVALID"
    RANGE_INVALID = "RANGE_INVALID"
    SIZE_INVALID = "SIZE_INVALID"
    TAG_INVALID = "TAG_INVALID"
    UNAUTHORIZED = "UNAUTHORIZED"
    UNSUPPORTED = "UNSUPPORTED"


class RefusedError(SampanError):
    """A request that the registry will not carry out; nothing has changed."""

    def __init__(self, code: Code, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.headers = dict(headers or {})


def blob_unknown(digest: Digest, repository: str) -> RefusedError:
    """Return the refusal for a blob that a repository does not hold."""
    return RefusedError(Code.BLOB_UNKNOWN, f"blob {digest} is not in repository {repository}")


def manifest_unknown(reference: str, repository: str) -> RefusedError:
    """Return the refusal for a tag or a digest that a repository does not hold."""
    return RefusedError(Code.MANIFEST_UNKNOWN, f"manifest {reference} is not in repository {repository}")
