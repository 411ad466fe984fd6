"""GoogleSQL: pin a query to a release, find what it reads and returns, translate it for DuckDB.

    text --pin--> text of one release --analyze--> Statement (what it reads and returns) --to_duckdb--> Translation

This room reads no data. It translates only the constructs in `supported.SUPPORTED`; any other stops with an
error that names the construct and its line.
"""

from idc_indexer.sql.analyze import Leaf, Statement, analyze
from idc_indexer.sql.pin import pin
from idc_indexer.sql.translate import PRIOR_ROWS, PriorExtract, Split, Translation, split, to_duckdb

__all__ = [
    "PRIOR_ROWS",
    "Leaf",
    "PriorExtract",
    "Split",
    "Statement",
    "Translation",
    "analyze",
    "pin",
    "split",
    "to_duckdb",
]
