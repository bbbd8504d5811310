"""Of the C library's allocator, on the CPU."""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Activations freed by one step serve the next one; glibc would return them to the kernel, which clears each page again.

    Does nothing with another C library.
    """
    if not sys.platform.startswith("linux") or not hasattr(libc := ctypes.CDLL(None), "gnu_get_libc_version"):
        return
    libc.mallopt(MMAP_MAX, 0)  # large blocks come from the heap too
    libc.mallopt(TRIM_THRESHOLD, -1)  # which never shrinks
    libc.mallopt(TOP_PAD, 64 * 2**20)  # and grows by so many bytes more than asked for
