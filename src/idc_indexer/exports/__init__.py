"""A Parquet export of one or more IDC releases: list, check, stage.

`export` is the way in; `listing` is what a source holds, `places` where objects lie and `weather` what their requests
meet; `footers`, `schema` (encoded as `compact` says), `narrow`, `spool` and `staging` make narrow local shards; `cache`
is the folder in which those are kept; `watch` is how others see it go.
"""

from idc_indexer.exports.cache import Cache
from idc_indexer.exports.export import SAMPLE, Export, TableFacts, open_export
from idc_indexer.exports.listing import BATCH_WINDOW
from idc_indexer.exports.staging import together
from idc_indexer.exports.watch import Progress, Silent, Watch, size

__all__ = [
    "BATCH_WINDOW", "SAMPLE", "Cache", "Export", "Progress", "Silent", "TableFacts", "Watch",
    "open_export", "size", "together",
]  # fmt: skip
