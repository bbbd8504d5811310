"""Settings of the C library's memory allocator on the CPU."""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # from glibc's malloc.h


def keep_freed_memory() -> None:
    """Keeps freed memory in the process, so that one step reuses what the last one freed. By default glibc returns it to the kernel, which
    clears each page again.

    Does nothing with other C libraries.
    """
    if not sys.platform.startswith("linux") or not hasattr(libc := ctypes.CDLL(None), "gnu_get_libc_version"):
        return
    libc.mallopt(MMAP_MAX, 0)  # large blocks come from the heap too
    libc.mallopt(TRIM_THRESHOLD, -1)  # never shrink the heap
    libc.mallopt(TOP_PAD, 64 * 2**20)  # grow the heap by this many more bytes than requested
