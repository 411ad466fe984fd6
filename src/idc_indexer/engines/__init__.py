"""Engines: what turns the query of an index into Arrow batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pyarrow as pa

from idc_indexer.catalog import PinnedIndex


class Engine(Protocol):
    """Where queries run. All that differs between engines is behind these methods."""

    def describe(self) -> dict[str, Any]:
        """`engine` and `source` of the manifest, complete after `running` was entered."""

    def fingerprint(self, index: PinnedIndex) -> str:
        """A digest that changes when the input of an index may have changed."""

    def prepare(self, indices: Sequence[PinnedIndex]) -> None:
        """Check that all these indices can be built, before any is.

        Raises:
            IndexerError: with a line for everything that stands in the way.
        """

    def running(self, indices: Sequence[PinnedIndex]) -> AbstractContextManager[None]:
        """What a build does in this block is ask for the rows of these indices, in this order, each once.

        An engine may work ahead. Ctrl-C in the block ends whatever still runs on its behalf. What all the indices that
        were prepared read is fetched on entering, if it has to be.

        Raises:
            IndexerError: together they go beyond a limit, nothing was started; or something cannot be fetched.
        """

    def rows(self, index: PinnedIndex) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
        """Run the query of an index that was prepared; its rows come in the order it asks for.

        Raises:
            IndexerError: on entering or while reading.
        """
