"""Progress: what a long operation tells its caller while it runs. The library never prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

BuildStep = Literal["checking", "building", "reused", "done"]
"""`building` comes again with the rows written so far; `reused` is an index that an interrupted build finished."""


@dataclass(frozen=True)
class StagingProgress:
    """How far staging is.

    Attributes:
        what: the tables, in a few words.
        shards, all_shards: counts: staged so far, and in all.
        bytes, all_bytes: bytes received so far, and in all; the latter is estimated from the first shards.
        seconds: since staging began.
    """

    what: str
    shards: int
    all_shards: int
    bytes: int
    all_bytes: int
    seconds: float


class ProgressListener(Protocol):
    """Receives progress. Its methods are called from the thread that runs the operation."""

    def message(self, line: str) -> None:
        """One line of text for the user."""

    def building(self, index: str, step: BuildStep, rows: int) -> None:
        """A step of a build began or ended. `index` is empty while the whole build is checked."""

    def staging(self, progress: StagingProgress) -> None:
        """Another shard is staged."""


class NullListener:
    """Ignores everything."""

    def message(self, line: str) -> None:
        pass

    def building(self, index: str, step: BuildStep, rows: int) -> None:
        pass

    def staging(self, progress: StagingProgress) -> None:
        pass
