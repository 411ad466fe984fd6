"""Where the time of each query goes, by DuckDB's profiler: to read the Parquet, to group, to order, or elsewhere.

    python -m tests.support.reference_export PACKAGE EXPORT --shards 64
    python scripts/profile_queries.py EXPORT [--index ct_index mr_index]

Each query is translated and runs by itself, with no rows of another index and with all threads, which `build` limits
to two where groups are large. Reading includes the filters that DuckDB applies as it reads; what is in no other column
is mostly expressions. prior_versions_index is left out, for it reads past releases. What is printed is a Markdown table
of processor seconds, and of the shares of the parts in the time of all operators, which other work makes longer.
DuckDB 2.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from idc_indexer.catalog import Catalog, PinnedIndex
from idc_indexer.duckdb_session import connect, mistrust_statistics, quote_name, read_parquet
from idc_indexer.schema.source_tables import SourceTable
from idc_indexer.sql import to_duckdb

PARTS = {
    "reading": ("TABLE_SCAN",),
    "grouping": ("HASH_GROUP_BY", "PERFECT_HASH_GROUP_BY", "UNGROUPED_AGGREGATE"),
    "joining": ("HASH_JOIN",),
    "ordering": ("ORDER_BY", "TOP_N"),
}


def tables_of(index: PinnedIndex) -> set[SourceTable]:
    return {leaf.table for leaf in index.statement.leaves}


def profile(index: PinnedIndex, export: Path, options: argparse.Namespace, scratch: Path) -> tuple[float, Counter[str]]:
    """Processor seconds of a query, and those of its operators by type."""
    seconds: Counter[str] = Counter()
    output = scratch / "profile.json"

    def add(operator: dict[str, Any]) -> None:
        seconds[operator.get("type", "")] += operator.get("timing", 0)
        for child in operator.get("children", ()):
            add(child)

    with connect(options.threads, options.memory_limit, scratch) as connection:
        mistrust_statistics(connection, any(leaf.fields[-1].type == "FLOAT" for leaf in index.statement.leaves))
        for table in tables_of(index):
            shards = sorted(map(str, (export / table.dataset / table.name).glob("*.parquet")))
            connection.execute(f"CREATE TEMP VIEW {quote_name(str(table))} AS FROM {read_parquet(shards)}")
        connection.execute("SET enable_profiling = 'json'")
        connection.execute(f"SET profiling_output = '{output}'")
        began = time.process_time()
        for statement in to_duckdb(index.statement, index.query_file).statements:
            rows = connection.sql(statement)
            if rows is not None:
                rows.to_arrow_table()
            for operator in json.loads(output.read_text(encoding="utf-8"))["operator"]:
                add(operator)
        return time.process_time() - began, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Show where the time of each query goes.")
    parser.add_argument("export", type=Path, metavar="EXPORT", help="what reference_export.py wrote")
    parser.add_argument("--index", nargs="+", default=[], help="only these (default: all)")
    parser.add_argument("--idc-version", type=int, default=25, help="(default: 25)")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--memory-limit", default="4GB", help="(default: 4GB)")
    options = parser.parse_args()
    print(f"| index | processor seconds | {' | '.join(PARTS)} |")
    print("|" + "---|" * (len(PARTS) + 2))
    total, of_all = 0.0, Counter[str]()
    for one in Catalog().select(options.index):
        index = one.for_release(options.idc_version)
        if {table.release for table in tables_of(index)} != {options.idc_version}:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            took, seconds = profile(index, options.export, options, Path(scratch))
        print(row(f"`{index.name}`", took, seconds), flush=True)
        total, of_all = total + took, of_all + seconds
    print(row("together", total, of_all))


def row(name: str, took: float, seconds: Counter[str]) -> str:
    """A row of the table."""
    shares = (sum(seconds[operator] for operator in of_part) / seconds.total() for of_part in PARTS.values())
    return f"| {name} | {took:.1f} | {' | '.join(f'{share:.2f}' for share in shares)} |"


if __name__ == "__main__":
    main()
