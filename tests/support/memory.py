"""How much memory something takes at its peak: that of Python, and that of the library that reads data files."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

#: A pool must outlive what was allocated from it.
_POOLS: list[pa.MemoryPool] = []


@contextmanager
def peak() -> Iterator[Callable[[], int]]:
    """Gives a function that tells the peak so far, in bytes."""
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    _POOLS.append(pool)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)
