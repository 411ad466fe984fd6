"""GoogleSQL: pinned to a release, asked what it reads, translated for DuckDB.

    text --pin--> text of one release --analyze--> Statement (what it reads and returns) --to_duckdb--> Translation

Nothing here touches data, and nothing passes through that is not proven: a construct outside the
subset in `supported.SUPPORTED` stops with its name and line.
"""

from idc_indexer.sql.analyze import Leaf, Statement, analyze
from idc_indexer.sql.pin import pin
from idc_indexer.sql.translate import to_duckdb

__all__ = ["Leaf", "Statement", "analyze", "pin", "to_duckdb"]
