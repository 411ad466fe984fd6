"""A Parquet export of one or more IDC releases: list, plan, stage.

`open_export` is the entry. `listing` finds shards, `location` reads objects, `retry` repeats requests, `plan` gives the
order of calls, `staging` makes pruned local shards with `pruning`, and `staged` is the cache folder that holds them.
"""

from idc_indexer.cache import Cache
from idc_indexer.exports.export import SAMPLE, Export, open_export
from idc_indexer.exports.limits import together
from idc_indexer.exports.listing import BATCH_WINDOW
from idc_indexer.exports.plan import ExportTableFacts, StagedExport, StagingPlan
from idc_indexer.exports.staging import StagingEstimate

__all__ = [
    "BATCH_WINDOW",
    "SAMPLE",
    "Cache",
    "Export",
    "ExportTableFacts",
    "StagedExport",
    "StagingEstimate",
    "StagingPlan",
    "open_export",
    "together",
]
