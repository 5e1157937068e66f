"""What libraries load at their import, and our services never use, is left out of memory."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def without_certificates() -> Iterator[None]:
    """Let OpenSSL find no certificates meanwhile.

    aiohttp makes two TLS contexts when it is imported and reads all of the system's certificates into both: 2 MB and
    120 ms for defaults that a server never needs; our client of registries has contexts of its own.
    """
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before
