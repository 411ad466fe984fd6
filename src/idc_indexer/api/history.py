"""The option `history`, which several functions share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from idc_indexer.api.options import AnyPath
from idc_indexer.errors import UsageError
from idc_indexer.progress import ProgressListener

if TYPE_CHECKING:
    from idc_indexer.catalog import Catalog, PinnedIndex
    from idc_indexer.engines.history import History

NONE = "none"
"""In place of a release: read all prior releases."""


def find_history_for(
    indices: Sequence[PinnedIndex],
    given: AnyPath | None,
    published_at: str | None,
    catalog: Catalog,
    path: Path,
    listener: ProgressListener,
    sample: bool | None = None,
) -> History | None:
    """The history for indices, if one is given and an index reads prior releases.

    Args:
        path: where its file will be while a build runs.
        listener: told which prior releases are read all the same.
        sample: whether the source of the build is the bundled sample; None if that is not known.

    Raises:
        UsageError, IndexerError: as `publish.history.find_history` does.
    """
    if given is None or given == NONE:
        return None
    own = {index.release for index in indices}
    if own == {0}:
        raise UsageError("a history is for one IDC release", "Give --idc-version too.")
    if {leaf.table.release for index in indices for leaf in index.statement.leaves} <= own:
        listener.message("no index of this build reads prior releases: the history is not used")
        return None
    from idc_indexer.publish.history import find_history
    from idc_indexer.release.manifest import PUBLISHED

    (idc_version,) = own
    found = find_history(os.fspath(given), idc_version, published_at or PUBLISHED, catalog, path, sample)
    first, last = found.idc_version + 1, idc_version - 1
    others = "no prior release is read" if first > last else f"of the prior releases, {first} to {last} are read"
    listener.message(
        f"IDC releases 1 to {found.idc_version} come from the history of {found.release_version}: {others}"
    )
    return found
