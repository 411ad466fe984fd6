"""Progress on stderr: live on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from idc_indexer.cli.output import note
from idc_indexer.errors import printable

if TYPE_CHECKING:
    from idc_indexer.progress import BuildStep, StagingProgress

STEP, SECONDS = 0.05, 5.0
"""After this share of the shards and this many seconds, another plain line is printed."""


def show_progress() -> PlainProgress:
    """A listener that shows the progress of a build or of staging. Use it in a `with` block."""
    from importlib.util import find_spec

    from rich.console import Console

    console = Console(stderr=True)
    # In a notebook, rich moves its bars with widgets.
    live = console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
    return LiveProgress(console) if live else PlainProgress()


class PlainProgress:
    """One line a step."""

    def __init__(self) -> None:
        self._shown = (0.0, 0.0)

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def building(self, index: str, step: BuildStep, rows: int) -> None:
        """Called by a build."""
        if step != "building" or not rows:
            self.message(_step(index, step, rows))

    def message(self, line: str) -> None:
        """Called by a build and by staging."""
        note(line)

    def staging(self, progress: StagingProgress) -> None:
        """Called by staging, after each shard."""
        part, seconds = self._shown if progress.shards > 1 else (0.0, 0.0)
        now = progress.shards / progress.all_shards
        if part + STEP <= now < 1 and seconds + SECONDS <= progress.seconds:
            self._shown = (now, progress.seconds)
            self.message(f"staging {progress.what}: {staged(progress)}")


class LiveProgress(PlainProgress):
    """A spinner that names the current step, and a bar while shards are staged; finished steps stay above."""

    def __init__(self, console: Any) -> None:
        super().__init__()
        self._console = console
        self._status = console.status("starting")
        self._bar: Any = None

    def __enter__(self) -> PlainProgress:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()
        self._end_bar()

    def building(self, index: str, step: BuildStep, rows: int) -> None:
        if step in ("done", "reused"):
            self.message(_step(index, step, rows))
        else:
            self._status.update(_step(index, step, rows))

    def message(self, line: str) -> None:
        self._console.print(printable(line), highlight=False, markup=False)

    def staging(self, progress: StagingProgress) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        if self._bar is None:
            self._status.stop()
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[how]}"))
            self._bar = Bars(*columns, console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(f"staging {progress.what}", total=progress.all_shards, how="")
        self._bar.update(self._task, completed=progress.shards, how=staged(progress))
        if progress.shards == progress.all_shards:
            self._end_bar()
            self._status.start()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def staged(progress: StagingProgress) -> str:
    """How far staging is, how fast, and how long it will take."""
    from rich.filesize import decimal

    seconds = max(progress.seconds, 1e-3)
    left = seconds * (progress.all_shards - progress.shards) / progress.shards
    return (
        f"{progress.shards:,} of {progress.all_shards:,} shards, "
        f"{decimal(progress.bytes)} of {decimal(progress.all_bytes)}, "
        f"{progress.bytes / seconds / 1e6:,.1f} MB/s, {_span(left)} left"
    )


def _span(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes > 1 else f"{seconds:.0f} s"


def _step(index: str, step: str, rows: int) -> str:
    return f"{step} {index}".strip() + (f": {rows:,} rows" if rows else "")
