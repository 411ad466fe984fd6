"""Progress on stderr: one line that moves on a terminal or in a notebook, plain lines elsewhere.

Elsewhere, such as in the log of a workflow, a command that says nothing else prints where it is: after five seconds,
and then less often.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from idc_indexer.cli.output import note, size
from idc_indexer.errors import printable
from idc_indexer.progress import span

if TYPE_CHECKING:
    from idc_indexer.progress import BuildStep, Progress

FIRST_WAIT, LONGEST_WAIT = 5.0, 60.0
"""Seconds without a line before a plain one is printed: at first, and at most."""
_LEAST_BAR, _MOST_BAR = 8, 30
"""Columns of a bar; it is left out where there are fewer."""


@dataclass(frozen=True)
class _State:
    """What a command is doing.

    Attributes:
        parts: what to say, the first part first; those that do not fit are left out, the last but one before others.
        share: how much is done, from 0 to 1; None if that is not known.
    """

    parts: Callable[[float], Sequence[str]]
    share: float | None = None


def show_progress() -> PlainProgress:
    """A listener that shows progress. Use it in a `with` block."""
    from importlib.util import find_spec

    from rich.console import Console

    console = Console(stderr=True)
    # In a notebook, rich moves its line with widgets.
    moving = console.is_terminal and not console.is_dumb_terminal
    live = moving or (console.is_jupyter and find_spec("ipywidgets") is not None)
    return LiveProgress(console) if live else PlainProgress()


class PlainProgress:
    """A line for each message, and for each table of a build; where a long step is, from time to time."""

    def __init__(self, first_wait: float = FIRST_WAIT) -> None:
        self._first_wait = first_wait
        self._state: _State | None = None
        self._since = self._spoken = time.monotonic()
        self._step = ""
        self._lock = threading.RLock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> PlainProgress:
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        if self._thread:
            self._thread.join()
        if kind is KeyboardInterrupt and (text := self.text()):
            note(f"interrupted: {text}")

    def building(self, index: str, step: BuildStep, rows: int, number: int, of: int) -> None:
        """Called by a build."""
        name = f"{step} {index}".strip()
        place = f" ({number} of {of})" if number else ""
        if step in ("done", "reused"):
            self._set(None, name)
            self.message(f"{name}: {rows:,} rows{place}")
            return
        counted = [f"{rows:,} rows"] if rows else []
        self._set(_State(lambda seconds: [f"{name}{place}", *counted, span(seconds)]), name)
        if not rows:
            self.began(f"{name}{place}")

    def began(self, line: str) -> None:
        """A step of a build begins."""
        self.message(line)

    def message(self, line: str) -> None:
        """Called by all operations."""
        with self._lock:
            self._spoken = time.monotonic()
            self.say(line)

    def say(self, line: str) -> None:
        """Print a line."""
        note(line)

    def progress(self, progress: Progress) -> None:
        """Called by all operations but a build."""
        share = _share(progress)
        state = None if progress.ended else _State(lambda waited: _parts(progress, share, waited), share)
        self._set(state, f"{progress.what} {progress.seconds}")

    def text(self, width: int = 1 << 16) -> str:
        """What the command is doing now, in at most that many characters; empty if nothing is known."""
        with self._lock:
            state, waited = self._state, time.monotonic() - self._since
        return fitted(list(state.parts(waited)), width) if state else ""

    def _set(self, state: _State | None, step: str) -> None:
        with self._lock:
            if step != self._step:
                self._step, self._since = step, time.monotonic()
            self._state = state

    def _speak(self) -> None:
        """Print where the command is if it has printed nothing for a while."""
        wait = self._first_wait
        while not self._end.wait(max(0.01, wait - (time.monotonic() - self._spoken))):
            if time.monotonic() - self._spoken < wait:
                continue
            if text := self.text():
                self.message(text)
                wait = min(wait * 2, LONGEST_WAIT)
            else:
                self._spoken = time.monotonic()


class LiveProgress(PlainProgress):
    """One line with a spinner and a bar, as wide as the terminal; messages stay above it."""

    def __init__(self, console: Any) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        super().__init__()
        self._console = console
        self._spinner = Spinner("dots")
        self._live = Live(get_renderable=self._line, console=console, transient=True, refresh_per_second=8)

    def __enter__(self) -> PlainProgress:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()
        super().__exit__(kind, error, at)

    def began(self, line: str) -> None:
        pass  # the line that moves says so

    def say(self, line: str) -> None:
        self._console.print(printable(line), highlight=False, markup=False)

    def _line(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        text = self.text(self._console.width - 2)
        line = Table.grid(padding=(0, 1))
        share, room = self._state.share if self._state else None, self._console.width - 3 - len(text)
        if share is None or room < _LEAST_BAR:
            line.add_row(self._spinner, Text(text or "working", no_wrap=True))
        else:
            bar = ProgressBar(total=1.0, completed=share, width=min(room, _MOST_BAR))
            line.add_row(self._spinner, Text(text, no_wrap=True), bar)
        return line


def fitted(parts: list[str], width: int) -> str:
    """The parts in one line: what does not fit is left out, the last part but one first, and the rest cut."""
    while len(line := ", ".join(parts)) > width and len(parts) > 1:
        parts = [*parts[:-2], parts[-1]] if len(parts) > 2 else parts[:1]  # noqa: PLR2004
    line = printable(line, lines=False)
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _parts(progress: Progress, share: float | None, waited: float) -> list[str]:
    """How far a step is, how fast, and how long it will take; `waited` seconds ago it was as far."""
    seconds = progress.seconds + waited
    item = f" {progress.item}" if progress.item and progress.all <= 1 else ""
    parts = [f"{progress.what}{item}"]
    if progress.all > 1:
        parts = [f"{parts[0]}: {progress.done:,} of {progress.all:,} {progress.unit}"]
    if progress.item and not item:
        parts.append(progress.item)
    if progress.bytes or progress.all_bytes:
        whole = f" of {size(progress.all_bytes)}" if progress.all_bytes else ""
        rate = f"{size(int(progress.bytes / max(seconds, 1e-3)))}/s"
        parts[1:] = [f"{size(progress.bytes)}{whole}", *parts[1:], rate]
    return [*parts, f"{span(seconds * (1 - share) / share)} left" if share else span(seconds)]


def _share(progress: Progress) -> float | None:
    """How much is done: by bytes if they are counted, because files differ in size."""
    if progress.all_bytes:
        return min(progress.bytes / progress.all_bytes, 1.0)
    return progress.done / progress.all if progress.all else None
