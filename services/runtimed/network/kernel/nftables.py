"""Apply nftables rules through libnftables, the library that the ``nft`` command is made of.

In this process a transaction takes 0.2 to 0.8 ms, where spawning ``nft`` takes 20 ms.
"""

import ctypes
import ctypes.util
import threading
from typing import Final

from sampan.errors import StartError, UnimplementedError

_LIBRARY: Final = "libnftables.so.1"


class Nftables:
    """A libnftables context. It talks to the network namespace of the thread that made it. Safe to share."""

    def __init__(self) -> None:
        """Load the library.

        Raises:
            UnimplementedError: it is not installed.
        """
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise UnimplementedError(f"{_LIBRARY} cannot be loaded: install the package nftables ({error})") from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = (ctypes.c_uint32,)
        library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        for name in ("nft_ctx_free", "nft_ctx_buffer_error", "nft_ctx_buffer_output", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = (ctypes.c_void_p,)
        library.nft_run_cmd_from_buffer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
        self._library = library
        self._lock = threading.Lock()
        self._context: int | None = library.nft_ctx_new(0)
        library.nft_ctx_buffer_error(self._context)  # or it writes to our stderr
        library.nft_ctx_buffer_output(self._context)

    def apply(self, commands: str) -> None:
        """Run ``commands`` as one transaction: all of them or none.

        Raises:
            StartError: the kernel or the parser refused; the message is nft's.
        """
        with self._lock:
            if self._library.nft_run_cmd_from_buffer(self._context, commands.encode()) == 0:
                return
            raw: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
        raise StartError(f"nftables refused the rules: {raw.decode(errors='replace').strip()}")

    def close(self) -> None:
        """Free the context; rules stay."""
        with self._lock:
            if self._context is not None:
                self._library.nft_ctx_free(self._context)
                self._context = None
