"""Memory that was used and is not any more goes back to the kernel."""

from sampan.sys.libc import LIBC


def give_back() -> None:
    """malloc_trim(3): the pieces of a large pull are freed and yet stay with the process, in every thread's arena."""
    trim = getattr(LIBC, "malloc_trim", None)  # musl has none, and needs none
    if trim is not None:
        trim(0)
