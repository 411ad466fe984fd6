"""A build whose key repeats, is NULL, or is out of order stops, whatever engine computed the rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idc_indexer.duckdb_session import connect
from idc_indexer.errors import IndexerError
from idc_indexer.release import parquet
from idc_indexer.release.keys import KeyCheck, hold
from idc_indexer.release.parquet import write_parquet
from idc_indexer.schema.arrow import arrow_schema
from idc_indexer.schema.column import Column
from idc_indexer.schema.table import Schema
from tests.conftest import RELEASE, Run, add_index, refused
from tests.emulators.bigquery import BigQueryServer
from tests.engines.test_bigquery import facts, of_sample

Row = dict[str, Any]
COLUMNS = (Column("kind", "STRING"), Column("size", "FLOAT"), Column("id", "INTEGER"), Column("part", "STRING"))
SCHEMA = Schema("Mine.", "mine", COLUMNS, ("id", "part"), ("kind", "size DESC", "id", "part"), (), False)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from([None, "", "a", "é", "\U0001f600"]),
            "size": st.sampled_from([None, math.nan, -math.inf, -1.0, 0.0, 2.5]),
            "id": st.integers(0, 2),
            "part": st.sampled_from(["x", "y"]),
        }
    ),
    max_size=12,
)


def place(row: Row) -> tuple[Any, ...]:
    """As GoogleSQL sorts by the order of SCHEMA: NULL, NaN, numbers; the other way round when descending."""
    size = row["size"]
    number = (0, 0.0) if size is None else (1, 0.0) if math.isnan(size) else (2, size)
    kind = row["kind"]
    return (kind is not None, (kind or "").encode(), (-number[0], -number[1]), row["id"], row["part"])


def write(rows: list[Row], folder: Path, schema: Schema = SCHEMA) -> None:
    table = pa.Table.from_pylist(rows, arrow_schema(schema.columns))
    write_parquet(table.to_batches(max_chunksize=3), schema, folder / "x.parquet", version="25.0.0", context="mine")


def holds(rows: list[Row], folder: Path) -> bool:
    """What `hold` says of a file with these rows, which `verify` reads without knowing how it was written."""
    path = folder / "any.parquet"
    pq.write_table(pa.Table.from_pylist(rows, arrow_schema(SCHEMA.columns)), path, row_group_size=4)
    with connect() as connection:
        found = hold(connection, path, SCHEMA)
    path.unlink()
    return found


@settings(deadline=None, max_examples=60)
@given(ROWS, st.booleans())
def test_only_rows_in_order_with_unique_keys_are_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], in_order: bool
) -> None:
    if in_order:
        rows = sorted(rows, key=place)
    keys = [(row["id"], row["part"]) for row in rows]
    fits = [place(row) for row in rows] == sorted(map(place, rows)) and len(set(keys)) == len(keys)
    folder = tmp_path_factory.mktemp("keys")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_ROWS", 4)  # neighbours are compared across row groups, too
        assert holds(rows, folder) == fits
        if fits:
            write(rows, folder)
            return
        with pytest.raises(IndexerError, match=r"^mine: "):
            write(rows, folder)
        assert list(folder.iterdir()) == []


def row(identifier: int | None, part: str = "x", kind: str = "a") -> Row:
    return {"kind": kind, "size": 1.0, "id": identifier, "part": part}


WRONG: dict[str, tuple[list[Row], str]] = {
    "twice": ([row(1), row(1)], "mine: the key id, part is not unique: 1, x is there twice"),
    "twice, far apart": ([row(1), row(2), row(1, kind="b")], "mine: the key id, part is not unique: 1, x is there twi"),
    "out of order": ([row(2), row(1)], "mine: row 2 is not in the order kind, size DESC, id, part: a, 1.0, 1, x comes"),
    "NULL": ([row(None), row(1)], "mine: id is part of the key and is NULL in 1 rows"),
}


@pytest.mark.parametrize(("rows", "message"), WRONG.values(), ids=WRONG)
def test_messages_name_index_key_and_values(tmp_path: Path, rows: list[Row], message: str) -> None:
    with pytest.raises(IndexerError) as error:
        write(rows, tmp_path)
    assert error.value.message.startswith(message)
    assert "Fix the query" in error.value.hint
    assert list(tmp_path.iterdir()) == []
    assert not holds(rows, tmp_path)


def test_a_hash_that_two_keys_share_is_no_repeated_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count of hashes only says that it is worth looking."""
    write([row(1), row(2)], tmp_path)
    check = KeyCheck(SCHEMA, "mine")
    monkeypatch.setattr("idc_indexer.release.keys.HASH", "length(concat({}))")
    check.finish(tmp_path / "x.parquet")


@pytest.fixture(params=["duckdb", "bigquery"])
def engine(request: pytest.FixtureRequest, environment: dict[str, str]) -> Any:
    if request.param == "duckdb":
        yield ("--source", "sample")
        return
    with BigQueryServer(facts(), of_sample) as server:
        environment.update(server.environment)
        yield ("--engine", "bigquery", "--project", "my-project")


Change = Callable[[str], str]
VERSIONS = "SELECT {} AS n FROM `bigquery-public-data.idc_current.version_metadata` ORDER BY n"


@pytest.mark.parametrize(
    ("expression", "required", "message"),
    [
        ("IF(idc_version = 2, 1, idc_version)", False, "mine: the key n is not unique: 1 is there twice"),
        ("NULLIF(idc_version, 7)", False, "mine: n is part of the key and is NULL in 1 rows"),
        ("NULLIF(idc_version, 7)", True, "mine: column n is REQUIRED and has 1 NULLs"),
    ],
)
def test_builds_on_both_engines(
    run: Run, tmp_path: Path, out: Path, engine: tuple[str, ...], expression: str, required: bool, message: str
) -> None:
    add_index(tmp_path, "mine", VERSIONS.format(expression), n="INTEGER")
    if required:
        path = tmp_path / "schemas" / "mine.json"
        path.write_text(path.read_text().replace("NULLABLE", "REQUIRED"))
    mine = ("--queries", tmp_path / "queries", "--schemas", tmp_path / "schemas")
    refused(run("build", "mine", *engine, *RELEASE, "--out", out, *mine), 1, message)
    assert not out.exists()
