"""Damaged footers: an error, never a traceback, and never the end of the process."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idc_indexer import parquet_footer
from idc_indexer.documents import bundled
from idc_indexer.errors import IndexerError

PROGRAM = """
import random, sys
from pathlib import Path
from idc_indexer import parquet_footer
from idc_indexer.errors import IndexerError
data, path = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
length = int.from_bytes(data[-8:-4], "little")
refused = 0
for seed in range(int(sys.argv[3]), int(sys.argv[3]) + 400):
    chance, damaged = random.Random(seed), bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        place = chance.randrange(len(data) - 8 - length, len(data) - 8)
        damaged[place] = chance.choice((255, chance.randrange(256), damaged[place] ^ 1 << chance.randrange(8)))
    path.write_bytes(damaged)
    print(seed, flush=True)
    try:
        metadata = parquet_footer.read(path)
    except IndexerError as error:
        assert str(path) in str(error)
        refused += 1
        continue
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            chunk.compression, chunk.encodings, chunk.physical_type
assert refused > 100, refused
"""


@pytest.mark.parametrize("seed", [0, 400, 2_800])
@pytest.mark.parametrize("table", ["analysis_results_metadata", "auxiliary_metadata"])
def test_a_damaged_footer_is_an_error(table: str, seed: int, tmp_path: Path) -> None:
    """In a process of its own: without the check, seeds of all of these ranges end it with signal 6."""
    shard = bundled("sample") / "idc_v25" / table / "000000000000.parquet"
    command = [sys.executable, "-c", PROGRAM, str(shard), str(tmp_path / "damaged.parquet"), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout.split()[-1:], done.stderr)


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    """`list` stands between a column and its elements, and is not in the Arrow schema."""
    path = tmp_path / "it.parquet"
    pq.write_table(pa.table({"k": [["a"]]}), path)
    data = path.read_bytes()
    assert data.count(b"list") > 1
    path.write_bytes(data.replace(b"list", b"\xc3ist"))
    with pytest.raises(IndexerError, match=r"it\.parquet: not a complete Parquet file: 'utf-8' codec"):
        parquet_footer.read(path)


def test_a_file_that_is_no_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(IndexerError, match=r"x\.parquet: no such file"):
        parquet_footer.read(path)
    for size in (0, 3, 12, 4_000):
        path.write_bytes(random.Random(size).randbytes(size))
        with pytest.raises(IndexerError, match=r"x\.parquet: not a complete Parquet file"):
            parquet_footer.read(path)
