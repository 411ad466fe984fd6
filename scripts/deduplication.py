"""What a deduplicating store keeps of idc_index.parquet from one release to the next, by how the file is written.

    pip install fastcdc
    python scripts/deduplication.py OLD NEW

OLD and NEW are published idc_index.parquet files. Such a store cuts files where their content says so, into chunks of
64 KiB on average, and keeps each chunk once.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from fastcdc import fastcdc

from idc_indexer.catalog import Catalog
from idc_indexer.release.parquet import ROW_GROUP_ROWS, layout
from idc_indexer.schema.arrow import arrow_schema

COLUMNS = Catalog().indices["idc_index"].schema.columns


def chunks(path: Path) -> dict[str, int]:
    """Sizes of the chunks of a file, by digest."""
    found = fastcdc(str(path), min_size=1 << 14, avg_size=1 << 16, max_size=1 << 18, hf=hashlib.sha256)
    return {chunk.hash: chunk.length for chunk in found}


def rewritten(published: Path, path: Path, chunked: bool) -> Path:
    """The rows of a published file, as we write them."""
    schema = arrow_schema(COLUMNS)
    table = pq.read_table(published, columns=schema.names).select(schema.names).cast(schema)
    options = layout(COLUMNS)
    pq.write_table(table, path, row_group_size=ROW_GROUP_ROWS, use_content_defined_chunking=chunked, **options)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare what a deduplicating store keeps of two releases.")
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    options = parser.parse_args()
    print("| written | size of the new, MB | of it in the old, MB | share |\n|---|---|---|---|")
    for name, chunked in {"as published": None, "by us": False, "by us, chunked by content": True}.items():
        with tempfile.TemporaryDirectory() as folder:
            files = [options.old, options.new]
            if chunked is not None:
                files = [
                    rewritten(path, Path(folder, f"{number}.parquet"), chunked) for number, path in enumerate(files)
                ]
            old, new = map(chunks, files)
            size = files[1].stat().st_size
        kept = sum(length for digest, length in new.items() if digest in old)
        print(f"| {name} | {size / 1e6:.1f} | {kept / 1e6:.1f} | {kept / size:.2f} |")


if __name__ == "__main__":
    main()
