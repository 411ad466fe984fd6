"""A pruned footer says of its column chunks what the whole one says, or there is none."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer.exports.pruning.footer import DamagedError, parse
from idc_indexer.exports.pruning.pruned_footer import pruned_footer
from idc_indexer.exports.pruning.schema import ShardSchema

LOOKS_LIKE_A_CHUNK = "&\x00\x1c\x15\x0c\x19\x15\x00\x19\x18\x01a"


def footer_of(path: Path) -> tuple[bytes, ShardSchema]:
    data = path.read_bytes()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
    return footer, ShardSchema(footer, parse(str(path), footer))


def write(path: Path, text: str = "\x80x") -> None:
    """Three row groups with all that a footer can have between the column chunks."""
    rows: dict[str, Any] = {f"c{number}": [f"{text}{number}", None, "y"] for number in range(20)}
    rows |= {"record": [{"a": [{"b": 1, "c": "z"}], "d": None}] * 3, "n": [1.5, None, 2.5]}
    bloom: dict[str, Any] = {"bloom_filter_options": {"n": True}}
    sorting = [pq.SortingColumn(20)]
    table = pa.table(rows)
    pq.write_table(table, path, write_page_index=True, row_group_size=1, sorting_columns=sorting, **bloom)


def about(group: pq.RowGroupMetaData, column: int) -> dict[str, Any]:
    """All but the statistics, which mean nothing without the order of values, and are not copied."""
    return {key: value for key, value in group.column(column).to_dict().items() if key != "statistics"}


def test_it_says_the_same(tmp_path: Path) -> None:
    write(tmp_path / "arrow.parquet")
    duckdb.read_parquet(str(tmp_path / "arrow.parquet")).write_parquet(str(tmp_path / "duckdb.parquet"))
    for path in tmp_path.iterdir():
        footer, schema = footer_of(path)
        whole = pq.read_metadata(path)
        for leaves in ([0], [3, 4, 21], [23], list(range(24))):
            encoded = pruned_footer(footer, schema, leaves)
            assert encoded
            pruned = parse("it", encoded)
            assert (pruned.num_rows, pruned.created_by) == (whole.num_rows, whole.created_by)
            assert pruned.num_row_groups == whole.num_row_groups
            for group in range(whole.num_row_groups):
                found, expected = pruned.row_group(group), whole.row_group(group)
                assert found.num_rows == expected.num_rows
                assert [about(found, column) for column in range(found.num_columns)] == [
                    about(expected, leaf) for leaf in leaves
                ]


def test_a_text_that_looks_like_a_column_chunk(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", LOOKS_LIKE_A_CHUNK)
    footer, schema = footer_of(tmp_path / "x.parquet")
    assert pruned_footer(footer, schema, [1]) is None


def test_no_leaf_column(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet")
    footer, schema = footer_of(tmp_path / "x.parquet")
    assert pruned_footer(footer, schema, []) is None


def test_damage(tmp_path: Path) -> None:
    """Whatever the bytes are, there is a footer, or none, or an error that staging knows."""
    write(tmp_path / "x.parquet")
    footer, schema = footer_of(tmp_path / "x.parquet")
    chance = random.Random(1)
    cut = none = errors = 0
    for _ in range(2000):
        damaged = bytearray(footer)
        damaged[chance.randrange(len(schema.encoded), len(footer))] = chance.randrange(256)
        if (encoded := pruned_footer(bytes(damaged), schema, [2, 22])) is None:
            none += 1
            continue
        cut += 1
        try:
            parse("it", encoded)
        except DamagedError:
            errors += 1
    assert min(cut, none, errors) > 0
