"""How much staging may do at the same time: bytes in memory, and threads that decode."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")

IN_FLIGHT = 256 << 20
"""The most bytes in memory that were fetched and are not written yet."""


class ByteSemaphore:
    """A number of bytes that threads share: each takes some, and waits until so many are free."""

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._changed = threading.Condition()

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Hold `size` bytes, or all of them if `size` is more than there are."""
        size = min(size, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


class StagingLimits:
    """The limits that all tables of one export share."""

    def __init__(self) -> None:
        self.memory = ByteSemaphore(IN_FLIGHT)
        self._decoding = ThreadPoolExecutor(os.cpu_count() or 1)

    def decode(self, function: Callable[[Argument], Result], argument: Argument) -> Result:
        """Call a function in one of as many threads as there are processors, and return its result.

        pyarrow keeps memory for each thread that ever decoded: 1.3 GB in all with 2 threads, 2.3 GB with 32.
        """
        return self._decoding.submit(function, argument).result()


def together(items: Iterable[Argument], size: Callable[[Argument], int], most: int) -> Iterator[list[Argument]]:
    """Groups of items in their order, each of at most that size in all, or of one item that is larger."""
    group: list[Argument] = []
    free = most
    for item in items:
        if group and size(item) > free:
            yield group
            group, free = [], most
        group.append(item)
        free -= size(item)
    if group:
        yield group
