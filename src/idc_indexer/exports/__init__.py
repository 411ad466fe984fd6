"""A Parquet export of one or more IDC releases: list, check, stage.

`export` is the way in; `places` is where objects lie and `weather` what their requests meet; `footers`, `narrow` and
`staging` make narrow local shards; `cache` is the folder in which those are kept.
"""

from idc_indexer.exports.cache import Cache
from idc_indexer.exports.export import (
    BATCH_WINDOW,
    PUBLIC_EXPORT,
    SAMPLE,
    Export,
    Progress,
    Silent,
    TableFacts,
    Watch,
    open_export,
    size,
)

__all__ = [
    "BATCH_WINDOW", "PUBLIC_EXPORT", "SAMPLE", "Cache", "Export", "Progress", "Silent", "TableFacts", "Watch",
    "open_export", "size",
]  # fmt: skip
