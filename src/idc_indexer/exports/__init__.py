"""A Parquet export of one or more IDC releases: list, check, stage.

`export` is the way in. `listing` finds shards, `location` reads objects, `retry` repeats requests, `staging` makes
pruned local shards with `pruning`, and `staged` is the cache folder that holds them.
"""

from idc_indexer.cache import Cache
from idc_indexer.exports.export import SAMPLE, Export, ExportTableFacts, open_export
from idc_indexer.exports.listing import BATCH_WINDOW
from idc_indexer.exports.staging import together

__all__ = [
    "BATCH_WINDOW",
    "SAMPLE",
    "Cache",
    "Export",
    "ExportTableFacts",
    "open_export",
    "together",
]  # fmt: skip
