"""Who wants to know how staging goes, and what they are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class StagingProgress:
    """How far staging is.

    Attributes:
        what: the tables, in a few words.
        shards, all_shards: that are done, and altogether.
        bytes, all_bytes: over the network; those of all are estimated from the first shards.
        seconds: since it began.
    """

    what: str
    shards: int
    all_shards: int
    bytes: int
    all_bytes: int
    seconds: float


class ProgressListener(Protocol):
    """Who wants to know how staging goes."""

    def message(self, line: str) -> None:
        """Something happened."""

    def staging(self, progress: StagingProgress) -> None:
        """A shard is done."""


class NullListener:
    """Nobody watches."""

    def message(self, line: str) -> None:
        pass

    def staging(self, progress: StagingProgress) -> None:
        pass


def size(count: int) -> str:
    """A number of bytes, as people read it."""
    gigabytes = count / 1e9
    return f"{gigabytes:,.1f} GB" if gigabytes >= 1 else f"{count / 1e6:,.1f} MB"
