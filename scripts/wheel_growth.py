"""When the data wheel outgrows PyPI's limit, and what would make it smaller.

    for version in 20.0.3 21.0.0 22.1.5 23.10.1 24.2.2 25.0.5; do
        pip download --no-deps --dest wheels idc-index-data==$version
    done
    python scripts/wheel_growth.py wheels/*.whl

The wheels are those of consecutive IDC releases, the oldest first. The rows of the newest one are written again as this
toolkit writes them, and with one decision changed at a time; all sizes are those of idc_index.parquet.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer.catalog import Catalog
from idc_indexer.publish.wheel import LIMIT
from idc_indexer.release.parquet import write_parquet
from idc_indexer.schema.table import Schema

INDEX = Catalog().indices["idc_index"].schema
UUIDS = ("crdc_series_uuid", "series_aws_url")


def read(wheel: Path) -> tuple[pa.Table, int]:
    """The published idc_index, and the bytes of all files of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        table = pq.read_table(io.BytesIO(archive.read("idc_index_data/idc_index.parquet")))
        return table, sum(file.compress_size for file in archive.infolist())


def release_of(wheel: Path) -> int:
    return int(wheel.name.split("-")[1].split(".")[0])


def without(*names: str) -> Schema:
    return replace(INDEX, columns=tuple(column for column in INDEX.columns if column.name not in names))


def encoded(encoding: str) -> Schema:
    columns = (replace(one, encoding=encoding) if one.name in UUIDS else one for one in INDEX.columns)
    return replace(INDEX, columns=tuple(columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="+", type=Path)
    series = []
    for wheel in sorted(parser.parse_args().wheels, key=release_of):
        table, size = read(wheel)
        series.append(table.num_rows)
        each = size / table.num_rows
        print(f"release {release_of(wheel)}: {table.num_rows:,} series, {size / 1e6:.1f} MB, {each:.1f} B each")
    grown = [after - before for before, after in pairwise(series)]
    left = LIMIT / each - series[-1]
    for kind, step in (("mean", sum(grown) / len(grown)), ("largest", max(grown))):
        first = release_of(wheel) + math.floor(left / step) + 1
        print(f"{left:,.0f} more series fit; at the {kind} growth of {step:,.0f}, release {first} does not fit")
    with tempfile.TemporaryDirectory() as folder:
        base = 0
        for name, schema in {
            "as written": INDEX,
            "UUIDs as DELTA_LENGTH_BYTE_ARRAY": encoded("DELTA_LENGTH_BYTE_ARRAY"),
            "UUIDs as DELTA_BYTE_ARRAY": encoded("DELTA_BYTE_ARRAY"),
            "without series_aws_url": without("series_aws_url"),
            "without crdc_series_uuid and series_aws_url": without(*UUIDS),
        }.items():
            rows = table.select([column.name for column in schema.columns]).to_batches()
            written = write_parquet(rows, schema, Path(folder, "idc_index.parquet"), version="0", context=name)
            base = base or written.bytes
            print(f"{name}: {written.bytes / 1e6:.1f} MB, {(written.bytes - base) / 1e6:+.1f} MB")


if __name__ == "__main__":
    main()
