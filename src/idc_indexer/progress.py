"""Progress: what a long operation tells its caller while it runs. The library never prints.

`Meter` counts what threads have done, `Retries` tells of requests that are sent again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

_MINUTE, _HOUR = 60, 3600
BuildStep = Literal["checking", "building", "reused", "done"]
"""`building` comes again with the rows written so far; `reused` is an index that an interrupted build finished."""


@dataclass(frozen=True)
class Progress:
    """How far a step of an operation is.

    Attributes:
        what: the step, in a few words, such as `uploading`.
        unit: what is counted, such as `files`.
        done, all: counts: so far, and in all; `all` is 0 if it is not known.
        bytes, all_bytes: so far, and in all, which may be an estimate; 0 if bytes are not counted.
        seconds: since the step began.
        item: what is in work, such as the name of a file; empty if that is several.
    """

    what: str
    unit: str
    done: int
    all: int
    bytes: int
    all_bytes: int
    seconds: float
    item: str = ""

    @property
    def ended(self) -> bool:
        """Whether all is done."""
        return self.done >= self.all > 0


class ProgressListener(Protocol):
    """Receives progress. Its methods may be called from any thread."""

    def message(self, line: str) -> None:
        """One line of text for the user."""

    def building(self, index: str, step: BuildStep, rows: int, number: int, of: int) -> None:
        """A step of a build began or ended: that of table `number` of `of`. While all is checked, `index` is empty."""

    def progress(self, progress: Progress) -> None:
        """A step of any other operation began, or is further than before."""


class NullListener:
    """Ignores everything."""

    def message(self, line: str) -> None:
        pass

    def building(self, index: str, step: BuildStep, rows: int, number: int, of: int) -> None:
        pass

    def progress(self, progress: Progress) -> None:
        pass


class Meter:
    """Counts what is done in a step, from any number of threads, and tells a listener."""

    def __init__(self, listener: ProgressListener, what: str, unit: str, all: int, all_bytes: int = 0) -> None:
        self._listener = listener
        self._step = Progress(what, unit, 0, all, 0, all_bytes, 0.0)
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self.add("", done=0)

    def add(self, item: str = "", done: int = 1, bytes: int = 0) -> None:
        """So much more is done; `item` is what was, or is, in work."""
        with self._lock:
            step = self._step
            self._step = Progress(
                step.what,
                step.unit,
                step.done + done,
                step.all,
                step.bytes + bytes,
                max(step.all_bytes, step.bytes + bytes) if step.all_bytes else 0,
                time.monotonic() - self._began,
                item,
            )
            self._listener.progress(self._step)


class Retries:
    """Tells a listener of requests that are sent again: of each host at most once in `PAUSE` seconds.

    Many connections that fail together would otherwise fill the screen.
    """

    PAUSE = 5.0

    def __init__(self, listener: ProgressListener | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.listener: ProgressListener = listener or NullListener()
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def tell(self, host: str, problem: str, attempt: str) -> None:
        """A request failed, and is sent again.

        Args:
            host: that did not answer, or the address of what was asked for.
            problem: in a few words.
            attempt: which one failed, and how many or how long it may be, such as `attempt 2 of 6`.
        """
        now = self._clock()
        with self._lock:
            last, untold = self._told.get(host, (-self.PAUSE, 0))
            if now - last < self.PAUSE:
                self._told[host] = last, untold + 1
                return
            self._told[host] = now, 0
        more = f"; {untold} more since the last line" if untold else ""
        self.listener.message(f"{host}: {problem} ({attempt}); trying again{more}")


def span(seconds: float) -> str:
    """A time in words, such as `1 h 5 min`."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _MINUTE)
    return f"{minutes} min" if seconds < _HOUR else f"{minutes // 60} h {minutes % 60} min"
