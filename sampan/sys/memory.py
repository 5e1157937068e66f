"""Memory that was needed once goes back to the kernel.

Reference: malloc_trim(3), madvise(2), dl_iterate_phdr(3), elf(5).
"""

import ctypes
import mmap
from typing import Final

from sampan.sys.libc import LIBC

_MADV_DONTNEED: Final = 4
_PT_LOAD: Final = 1
_PF_W: Final = 2


class _Segment(ctypes.Structure):  # Elf64_Phdr
    _fields_ = (
        ("p_type", ctypes.c_uint32),
        ("p_flags", ctypes.c_uint32),
        ("p_offset", ctypes.c_uint64),
        ("p_vaddr", ctypes.c_uint64),
        ("p_paddr", ctypes.c_uint64),
        ("p_filesz", ctypes.c_uint64),
        ("p_memsz", ctypes.c_uint64),
        ("p_align", ctypes.c_uint64),
    )


class _Object(ctypes.Structure):  # dl_phdr_info, as far as it is needed
    _fields_ = (
        ("dlpi_addr", ctypes.c_uint64),
        ("dlpi_name", ctypes.c_char_p),
        ("dlpi_phdr", ctypes.POINTER(_Segment)),
        ("dlpi_phnum", ctypes.c_uint16),
    )


_CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Object), ctypes.c_size_t, ctypes.c_void_p)

# Its calls keep the interpreter's lock. The loader has one of its own, and no thread may hold that and wait for ours.
_LIBC: Final = ctypes.PyDLL(None)


def trim() -> None:
    """Give back what was freed: the pieces of a large blob stay with every thread's arena otherwise."""
    give_back = getattr(LIBC, "malloc_trim", None)  # musl has none, and needs none
    if give_back is not None:
        give_back(0)


def drop_clean_pages() -> None:
    """Unmap the program's and its libraries' code and constants: most of it ran at start-up and never again.

    The pages stay in the kernel's cache; one that is needed after all comes back from there within a microsecond.
    Takes a millisecond.
    """
    # All calls in a row: whatever else runs in between brings its own pages back.
    for start, size in [(ctypes.c_void_p(start), ctypes.c_size_t(size)) for start, size in _constant_segments()]:
        _LIBC.madvise(start, size, _MADV_DONTNEED)


def _constant_segments() -> list[tuple[int, int]]:
    """Return address and size of all that is mapped from a program or a library, and is not writable.

    The loader is asked and not /proc/self/maps: what it has is there to stay, whereas an address from that file could
    be somebody's data by the time that it is used. It writes to writable segments alone (code that it would have to
    change is not built any more).
    """
    found: list[tuple[int, int]] = []

    def add(info: "ctypes._Pointer[_Object]", _size: int, _data: int | None) -> int:
        loaded = info.contents
        if not (loaded.dlpi_name or b"").startswith(b"linux-"):  # the kernel's own
            for number in range(loaded.dlpi_phnum):
                segment = loaded.dlpi_phdr[number]
                if segment.p_type == _PT_LOAD and not segment.p_flags & _PF_W:
                    start = loaded.dlpi_addr + segment.p_vaddr
                    first = start & -mmap.PAGESIZE
                    found.append((first, start + segment.p_memsz - first))
        return 0

    if ctypes.sizeof(ctypes.c_void_p) == 8:  # the structures are those of 64 bits
        _LIBC.dl_iterate_phdr(_CALLBACK(add), None)
    return found
