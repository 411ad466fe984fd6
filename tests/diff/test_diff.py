"""What is different between two releases: every difference is found, and counted right."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from idc_indexer.diff import diff, open_inputs
from idc_indexer.diff.render import markdown
from idc_indexer.diff.result import Difference, TableDifference, shown
from idc_indexer.release.descriptions import describe, duckdb_file, write_descriptions
from idc_indexer.release.descriptions.description import Description
from idc_indexer.release.manifest import DUCKDB_FILE, PUBLISHED, Release, file_entry
from tests.conftest import FOREGROUND, Run, contents, refused
from tests.emulators.gcs import Gcs
from tests.emulators.places import BucketPlace, Place
from tests.emulators.s3 import S3Server, Seen
from tests.support import damage, memory

Packages = Callable[[str], Path]
TOP = Path(__file__).parents[2]


def compared(old: object, new: object, *names: str, key: tuple[str, ...] = ()) -> Difference:
    with open_inputs(str(old), str(new)) as inputs:
        found = diff(*inputs, names, key)
    found.dump()  # the document is of its kind
    return found


def table(found: Difference, name: str) -> TableDifference:
    (one,) = (one for one in found.tables if one.name == name)
    return one


def cells(one: TableDifference) -> dict[str, int]:
    return {column.name: column.cells for column in one.columns if column.cells}


def damaged(release: Path, folder: Path, *damages: damage.Damage) -> Path:
    copy = folder / "damaged"
    shutil.copytree(release, copy)
    for how in damages:
        how(copy)
    return copy


def document(result: Result) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


# --- Published releases, against SQL that knows nothing of the toolkit -------------------------------------------


def some_series(package: Path, folder: Path, one_in: int) -> Path:
    """A published package with one in so many of its series, the same ones of each."""
    folder.mkdir()
    with duckdb.connect(config={"threads": 2}) as sql:
        sql.execute(
            f"COPY (FROM '{package / 'idc_index.parquet'}' WHERE md5_number_upper(SeriesInstanceUID) % {one_in} = 0) "
            f"TO '{folder / 'idc_index.parquet'}'"
        )
    return folder


# One in ten has all columns and every kind of change, in half of the time.
@pytest.mark.parametrize(
    ("before", "after", "one_in"),
    [
        pytest.param("23.10.1", "24.2.2", 1, marks=pytest.mark.slow),
        pytest.param("24.2.2", "25.0.5", 1, marks=pytest.mark.slow),
        ("24.2.2", "25.0.5", 10),
    ],
)
def test_counts_of_published_releases_are_those_of_plain_sql(
    packages: Packages, tmp_path: Path, before: str, after: str, one_in: int
) -> None:
    folders = [packages(version) for version in (before, after)]
    if one_in > 1:
        folders = [some_series(folder, tmp_path / str(place), one_in) for place, folder in enumerate(folders)]
    found = compared(folders[0], folders[1], "idc_index")
    old, new = (str(folder / "idc_index.parquet") for folder in folders)
    one, idc = table(found, "idc_index"), found.idc
    assert one.rows is not None
    assert idc is not None
    names = [pq.read_schema(path).names for path in (old, new)]
    shared = [name for name in names[1] if name in names[0] and name != "SeriesInstanceUID"]
    with duckdb.connect(config={"threads": 2}) as sql:
        sql.execute(f"CREATE VIEW old AS FROM '{old}'; CREATE VIEW new AS FROM '{new}'")

        def ask(query: str) -> list[tuple[Any, ...]]:
            return sql.execute(query).fetchall()

        (both,) = ask(
            "SELECT count(*), "
            + ", ".join(f'sum((old."{c}" IS DISTINCT FROM new."{c}")::INT)' for c in shared)
            + ", sum(("
            + " OR ".join(f'old."{c}" IS DISTINCT FROM new."{c}"' for c in shared)
            + ")::INT) FROM old JOIN new USING (SeriesInstanceUID)"
        )
        assert cells(one) == {c: count for c, count in zip(shared, both[1:-1], strict=True) if count}
        assert one.rows.changed == both[-1]
        only = "SELECT count(*) FROM {} WHERE SeriesInstanceUID NOT IN (SELECT SeriesInstanceUID FROM {})"
        assert [(one.rows.added,), (one.rows.removed,)] == ask(only.format("new", "old")) + ask(
            only.format("old", "new")
        )
        assert {c.name: c.state for c in one.columns if c.state != "shared"} == {
            name: "added" if name in names[1] else "removed" for name in {*names[0]} ^ {*names[1]}
        }
        for column in one.columns:
            for side, view in ((column.old, "old"), (column.new, "new")):
                if side:
                    name = f'"{column.name}"'
                    assert [(side.rows, side.nulls, side.distinct, side.minimum, side.maximum)] == ask(
                        f"SELECT count(*), sum(({name} IS NULL)::INT), count(DISTINCT {name}), "
                        f"left(min({name})::TEXT, 160), left(max({name})::TEXT, 160) FROM {view}"
                    )
        for groups, by in ((idc.collections, "collection_id"), (idc.modalities, "Modality")):
            assert [(g.name, g.added, g.revised, g.removed) for g in groups if g.new or g.removed] == ask(
                f"""SELECT coalesce(n.{by}, o.{by}) AS name,
                    sum((o.SeriesInstanceUID IS NULL)::INT),
                    sum(coalesce(o.crdc_series_uuid <> n.crdc_series_uuid, false)::INT),
                    sum((n.SeriesInstanceUID IS NULL)::INT)
                FROM old AS o FULL JOIN new AS n USING (SeriesInstanceUID) GROUP BY name ORDER BY name"""
            )
            for view, of in (("old", [(g.name, g.old) for g in groups]), ("new", [(g.name, g.new) for g in groups])):
                assert [g for g in of if g[1]] == ask(f"SELECT {by}, count(*) FROM {view} GROUP BY ALL ORDER BY ALL")
        gained = "SELECT DISTINCT {0} FROM new WHERE {0} NOT IN (SELECT {0} FROM old WHERE {0} IS NOT NULL) ORDER BY 1"
        assert [(name,) for name in idc.new_collections] == ask(gained.format("collection_id"))
        assert [(name,) for name in idc.new_analysis_results] == ask(gained.format("analysis_result_id"))
        for view, size in (("old", idc.total.old_tb), ("new", idc.total.new_tb)):
            assert size == pytest.approx(ask(f"SELECT sum(series_size_MB) / 1e6 FROM {view}")[0][0], abs=1e-6)
        for moves, by in ((idc.licenses, "license_short_name"), (idc.buckets, "aws_bucket")):
            assert moves is not None
            assert {(move.old, move.new, move.series) for move in moves} == set(
                ask(
                    f"""SELECT old.{by}, new.{by}, count(*) FROM old JOIN new USING (SeriesInstanceUID)
                    WHERE old.{by} <> new.{by} GROUP BY ALL"""
                )
            )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("23.10.1", "24.2.2", marks=pytest.mark.slow),
        ("24.2.2", "25.0.5"),
        pytest.param("23.10.1", "25.0.5", marks=pytest.mark.slow),
    ],
)
def test_rows_of_the_other_published_tables_are_those_of_plain_sql(packages: Packages, before: str, after: str) -> None:
    names = {path.stem for path in packages(before).glob("*.parquet")} - {"idc_index"}
    found = compared(packages(before), packages(after), *sorted(names))
    for name in names:
        rows = table(found, name).rows
        assert rows is not None
        old, new = (f"'{packages(version) / name}.parquet'" for version in (before, after))
        key = json.loads((TOP / "schemas" / f"{name}.json").read_text(encoding="utf-8"))["primary_key"]
        kinds = [
            dict(duckdb.execute(f"SELECT column_name, column_type FROM (DESCRIBE {side})").fetchall())
            for side in (old, new)
        ]
        same = [column for column in kinds[1] if kinds[0].get(column) == kinds[1][column] and column not in key]
        unlike = " OR ".join(f'a."{column}" IS DISTINCT FROM b."{column}"' for column in same) or "false"
        ((gone, changed),) = duckdb.execute(
            f"SELECT count(*) FILTER (b.{key[0]} IS NULL), count(*) FILTER (b.{key[0]} IS NOT NULL AND ({unlike})) "
            f"FROM {old} AS a LEFT JOIN {new} AS b USING ({', '.join(key)})"
        ).fetchall()
        ((more,),) = duckdb.execute(f"SELECT (SELECT count(*) FROM {new}) - (SELECT count(*) FROM {old})").fetchall()
        assert (rows.removed, rows.added) == (gone, gone + more), name
        if not any(column.type and column.state == "shared" for column in table(found, name).columns):
            assert rows.changed == changed, name


def test_a_published_release_equals_itself_also_when_its_files_are_laid_out_otherwise(
    packages: Packages, tmp_path: Path, run: Run
) -> None:
    package = packages("24.2.2")
    result = run("diff", package, package)
    assert result.exit_code == 0
    assert " equals " in result.stdout.splitlines()[0]
    assert "5 tables with the same bytes" in result.stdout
    for name in ("collections_index", "prior_versions_index", "analysis_results_index"):
        rows = pq.read_table(package / f"{name}.parquet")
        pq.write_table(rows.select(rows.column_names[::-1]), tmp_path / f"{name}.parquet", compression="snappy")
    result = run("diff", package, tmp_path, *(o for n in tmp_path.glob("*.parquet") for o in ("--index", n.stem)))
    assert result.exit_code == 0, result.stdout
    assert "3 tables with the same rows and columns" in result.stdout
    assert "codecs" in result.stdout
    assert "order of columns" in result.stdout


@pytest.mark.slow
def test_a_million_rows_are_compared_in_less_than_a_gigabyte(packages: Packages) -> None:
    old, new = (packages(version) / "idc_index.parquet" for version in ("24.2.2", "25.0.5"))
    done, peak = memory.run("-m", "idc_indexer", "diff", old, new)
    assert done.returncode == 3, done.stderr
    assert peak < 1e9


def test_ctrl_c_ends_a_diff_and_leaves_nothing(packages: Packages, tmp_path: Path) -> None:
    old, new = (packages(version) / "idc_index.parquet" for version in ("24.2.2", "25.0.5"))
    program = f"{FOREGROUND}\nfrom idc_indexer.cli import main; main(prog_name='idc-indexer')"
    command = [sys.executable, "-c", program, "diff", str(old), str(new)]
    process = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE, text=True)
    while len(list(tmp_path.iterdir())) < 3:  # those of the inputs, and that of the comparison
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted. " in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


# --- One thing is different --------------------------------------------------------------------------------------

ONE_THING: list[tuple[damage.Damage, int, str]] = [
    (damage.rewrite("idc_index", damage.with_first("Manufacturer", "nobody")), 3, "Manufacturer: 1 cell changed"),
    (damage.rewrite("idc_index", damage.swapped(3, 4)), 0, "2 in another position"),
    (damage.rewrite("idc_index", lambda rows: rows.drop_columns(["PatientSex"])), 3, "PatientSex: removed, VARCHAR"),
    (
        damage.rewrite("idc_index", damage.cast("instanceCount", pa.string())),
        3,
        "instanceCount: type BIGINT -> VARCHAR",
    ),
    (damage.rewrite("idc_index", lambda rows: rows[1:]), 3, "1 removed"),
    (
        damage.rewrite("idc_index", lambda rows: rows.rename_columns({"Modality": "MODALITY"})),
        3,
        "MODALITY: added, VARCHAR",
    ),
    (damage.rewrite("collections_index", damage.with_first("sources", [])), 3, "sources: 1 cell changed"),
    (damage.rewrite("collections_index", damage.with_first("sources", None)), 3, "sources: 1 cell changed"),
    (damage.redescribe("idc_index", table_description="Other words."), 0, "same rows and columns"),
    (damage.redescribe("idc_index", primary_key=["SeriesInstanceUID", "PatientID"]), 0, "same rows and columns"),
]  # fmt: skip


@pytest.mark.duckdb
@pytest.mark.parametrize(("how", "code", "said"), ONE_THING, ids=range(len(ONE_THING)))
def test_one_difference_is_found(
    wheel_release: Path, tmp_path: Path, run: Run, how: damage.Damage, code: int, said: str
) -> None:
    other = damaged(wheel_release, tmp_path, how)
    result = run("diff", wheel_release, other)
    assert result.exit_code == code, result.stdout
    if said != "same rows and columns":
        assert said in result.stdout
    assert (" equals " in result.stdout.splitlines()[0]) == (code == 0)
    found = document(run("diff", wheel_release, other, "--json"))
    assert found["equal"] == (code == 0)
    touched = [name for name, one in found["tables"].items() if one["state"] != "identical"]
    described = [n for n, one in found["tables"].items() if one["description"] or one["key_change"]]
    assert len(touched + described) == 1


# --- idc.duckdb --------------------------------------------------------------------------------------------------


def redescribed(release: Path, folder: Path, published: str, change: Callable[[Description], Description]) -> Path:
    """The release with other views in idc.duckdb, which its manifest lists."""
    copy = shutil.copytree(release, folder)
    made = write_descriptions(replace(Release.open(copy), descriptions=()), published)
    with duckdb.connect() as connection:
        content = duckdb_file.content(change(describe(made, published)), connection)
    (copy / DUCKDB_FILE).write_bytes(content)
    entries = tuple(file_entry(file.name, content) if file.name == DUCKDB_FILE else file for file in made.descriptions)
    (copy / "manifest.json").write_bytes(replace(made, descriptions=entries).manifest())
    return copy


def with_comment(description: Description) -> Description:
    """The description with other words for the first column of the first table."""
    table = description.tables[0]
    column = replace(table.schema.columns[0], description="Other words.")
    schema = replace(table.schema, columns=(column, *table.schema.columns[1:]))
    return replace(description, tables=(replace(table, schema=schema), *description.tables[1:]))


@pytest.mark.duckdb
def test_what_differs_in_idc_duckdb_alone(small_releases: dict[str, Path], tmp_path: Path, run: Run) -> None:
    release = small_releases["25.1.0"]
    other = redescribed(release, tmp_path / "other", "gs://mine", with_comment)
    found = compared(release, other)
    assert found.equal
    assert [*found.views] == ["address", "comment of analysis_results_index.analysis_result_id"]
    address = found.views["address"]
    assert (address.old, address.new) == (PUBLISHED, "https://storage.googleapis.com/mine")
    text = run("diff", release, other, "--html", tmp_path / "diff.html").stdout
    assert f"idc.duckdb: address: {PUBLISHED} -> https://storage.googleapis.com/mine" in text
    assert "Other words." in (tmp_path / "diff.html").read_text(encoding="utf-8")
    assert "| `address` | " in run("diff", release, other, "--markdown").stdout
    assert not compared(release, other, "collections_index").views


@pytest.mark.duckdb
def test_what_the_tables_tell_is_not_told_of_idc_duckdb_again(small_releases: dict[str, Path], tmp_path: Path) -> None:
    added = compared(small_releases["25.0.0"], small_releases["25.1.0"])
    assert {one.name: one.state for one in added.tables}["analysis_results_index"] == "added"
    assert not added.views
    release = shutil.copytree(small_releases["25.1.0"], tmp_path / "release")
    schema = json.loads((release / "analysis_results_index_schema.json").read_text())
    schema["columns"][0]["description"] = "Other words."
    (release / "analysis_results_index_schema.json").write_text(json.dumps(schema))
    found = compared(small_releases["25.1.0"], redescribed(release, tmp_path / "other", PUBLISHED, lambda one: one))
    assert table(found, "analysis_results_index").columns[0].description
    assert not found.views


def test_a_damaged_idc_duckdb_is_an_error(small_releases: dict[str, Path], tmp_path: Path, run: Run) -> None:
    other = shutil.copytree(small_releases["25.1.0"], tmp_path / "other")
    (other / DUCKDB_FILE).write_bytes(b"DUCK" * 1000)
    damage.manifest(other, descriptions=[{"name": DUCKDB_FILE, "bytes": 1, "sha256": "0" * 64}])
    refused(run("diff", small_releases["25.0.0"], other), 1, DUCKDB_FILE)


VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), st.none() | st.sampled_from(["", "a", "NULL", "é\n|"])),
    "number": (pa.int64(), st.none() | st.integers(-2, 2)),
    "real": (pa.float64(), st.none() | st.sampled_from([0.0, -0.0, math.nan, 1.5, math.inf])),
    "listed": (
        pa.list_(pa.struct([("a", pa.string()), ("b", pa.float64())])),
        st.none()
        | st.lists(
            st.none()
            | st.fixed_dictionaries(
                {
                    "a": st.none() | st.sampled_from(["", "x"]),
                    "b": st.none() | st.sampled_from([0.0, -0.0, math.nan, 1.0]),
                }
            ),
            max_size=2,
        ),
    ),
}
TABLES = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.integers(0, 2)), st.fixed_dictionaries({n: v for n, (_, v) in VALUES.items()})
)


@pytest.mark.duckdb
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=TABLES, new=TABLES, data=st.data())
def test_cells_are_counted_as_one_by_one(tmp_path: Path, old: Any, new: Any, data: st.DataObject) -> None:
    for key in data.draw(st.sets(st.sampled_from(sorted(old)))) if old else ():
        new[key] = old[key]
    kinds: dict[str, pa.DataType] = {
        "k1": pa.string(),
        "k2": pa.int64(),
        **{n: kind for n, (kind, _) in VALUES.items()},
    }
    schema = pa.schema(kinds)
    orders = []
    for name, side in (("old", old), ("new", new)):
        order = data.draw(st.permutations(sorted(side)))
        rows = [{"k1": key[0], "k2": key[1], **side[key]} for key in order]
        pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / f"{name}.parquet", row_group_size=2)
        orders.append(order)
    one = table(compared(tmp_path / "old.parquet", tmp_path / "new.parquet", key=("k1", "k2")), "new")
    shared = old.keys() & new.keys()
    wrong = {n: {k for k in shared if repr(old[k][n]) != repr(new[k][n])} for n in VALUES}
    kept = [[key for key in order if key in shared] for order in orders]
    if one.state == "identical":
        assert old.keys() == new.keys()
        assert not any(wrong.values())
        return
    assert one.rows is not None
    assert (one.rows.added, one.rows.removed) == (len(new.keys() - old.keys()), len(old.keys() - new.keys()))
    assert cells(one) == {name: len(keys) for name, keys in wrong.items() if keys}
    assert one.rows.changed == len(set().union(*wrong.values()))
    assert one.rows.moved == sum(a != b for a, b in zip(*kept, strict=True))
    for column in one.columns:
        for example in column.examples:
            assert (example.key[0], int(example.key[1] or "")) in wrong[column.name]
    for column in one.columns:
        values = [row[column.name] for row in new.values()] if column.name in VALUES else []
        if values and column.new:
            assert column.new.nulls == sum(value is None for value in values)


def test_nan_beyond_the_statistics_of_a_file_is_seen(tmp_path: Path) -> None:
    for name, last in (("old", 2.0), ("new", math.nan)):
        pq.write_table(pa.table({"k": [1, 2], "v": [1.0, last]}), tmp_path / f"{name}.parquet")
    one = table(compared(tmp_path / "old.parquet", tmp_path / "new.parquet", key=("k",)), "new")
    (column,) = one.columns
    assert (column.cells, column.new and column.new.maximum) == (1, "nan")


def test_names_that_differ_in_case_are_two_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"k": [1], "a": [1], "A": [2], 'quo"te': [3]}), tmp_path / "old.parquet")
    pq.write_table(pa.table({"k": [1], "a": [1], "A": [5], 'quo"te': [3]}), tmp_path / "new.parquet")
    one = table(compared(tmp_path / "old.parquet", tmp_path / "new.parquet", key=("k",)), "new")
    assert cells(one) == {"A": 1}


def test_tables_without_rows_are_compared(wheel_release: Path, tmp_path: Path, run: Run) -> None:
    rows = pq.read_table(wheel_release / "idc_index.parquet")
    for side, dictionary in (("old", True), ("new", False)):
        (tmp_path / side).mkdir()
        path = tmp_path / side / "idc_index.parquet"
        pq.write_table(rows[:0].replace_schema_metadata({"by": side}), path, use_dictionary=dictionary)
    empty = run("diff", tmp_path / "old", tmp_path / "new")
    assert empty.exit_code == 0, empty.stdout
    found = document(run("diff", tmp_path / "old", wheel_release, "--index", "idc_index", "--json"))
    assert found["idc"]["total"]["added"] == rows.num_rows


def test_two_columns_of_one_name_are_refused(tmp_path: Path, run: Run) -> None:
    pq.write_table(pa.table({"k": [1], "v": [1]}), tmp_path / "old.parquet")
    pq.write_table(pa.table([[1], [1], [2]], ["k", "v", "v"]), tmp_path / "new.parquet")
    refused(run("diff", tmp_path / "old.parquet", tmp_path / "new.parquet", "--key", "k"), 1, "two columns v")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"k": [1, 1], "v": [1, 2]}, "NEW repeats 1 value of the key k, such as 1"),
        ({"k": [0.0, -0.0], "v": [1, 2]}, "NEW repeats 1 value of the key k, such as 0.0"),
        ({"k": [1, None], "v": [1, 2]}, "the key k is NULL in 1 row of NEW"),
        ({"v": [1, 2]}, "NEW lacks the key column k"),
    ],
)
def test_rows_are_not_matched_by_what_is_no_key(tmp_path: Path, run: Run, rows: Any, said: str) -> None:
    pq.write_table(pa.table({"k": [1, 2], "v": [1, 2]}), tmp_path / "old.parquet")
    pq.write_table(pa.table(rows), tmp_path / "new.parquet")
    result = run("diff", tmp_path / "old.parquet", tmp_path / "new.parquet", "--key", "k")
    assert result.exit_code == 3
    assert said in result.stdout
    assert " differs from " in result.stdout.splitlines()[0]


# --- What can be compared ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def data_wheel(wheel_release: Path, shared: Path) -> Path:
    from idc_indexer.publish.wheel import build_wheel

    folder = shared / "diff_wheel"
    return next(folder.glob("*.whl"), None) or build_wheel(wheel_release, folder)


def test_a_wheel_is_an_input(wheel_release: Path, data_wheel: Path, run: Run) -> None:
    result = run("diff", data_wheel, wheel_release)
    assert result.exit_code == 0, result.stdout
    assert "tables with the same bytes" in result.stdout


def test_a_wheel_without_the_large_indices_says_so(sample_release: Path, tmp_path: Path, run: Run) -> None:
    run("wheel", sample_release, "--out", tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    other = damaged(sample_release, tmp_path, damage.rewrite("ct_index", lambda rows: rows[1:]))
    found = document(run("diff", wheel, other, "--json"))
    assert found["tables"]["ct_index"]["state"] == "unavailable"
    assert found["tables"]["ct_index"]["problem"] == "OLD does not have its rows"
    # whose digest the manifest in the wheel has
    assert found["tables"]["mr_index"]["state"] == "identical"


@pytest.mark.parametrize("place", ["folder", "bucket"], indirect=True)
def test_published_versions_are_inputs(place: Place, small_releases: dict[str, Path], run: Run) -> None:
    for version in ("25.0.0", "25.1.0"):
        assert run("publish", small_releases[version], "--to", place.uri).exit_code == 0
    assert run("promote", "25.1.0", "--to", place.uri).exit_code == 0
    same = run("diff", "25.0.0", small_releases["25.0.0"], "--published-at", place.uri)
    assert same.exit_code == 0, same.stderr
    assert same.stdout == f"{small_releases['25.0.0']} equals 25.0.0: 2 tables with the same bytes\n"
    assert run("diff", "current", f"{place.uri}/25.1.0", "--published-at", place.uri).exit_code == 0
    assert run("diff", place.uri, f"{place.uri}/25.1.0/release_artifacts").exit_code == 0
    other = run("diff", "25.0.0", "25.1.0", "--published-at", place.uri)
    assert other.exit_code == 3
    assert "only in 25.1.0: analysis_results_index" in other.stdout
    refused(run("diff", "24.0.0", "25.0.0", "--published-at", place.uri), 1, "24.0.0")


@pytest.mark.parametrize(
    "name", ["../../../planted.parquet", "{outside}/planted.parquet", "a/b.parquet", "..\\\\x.parquet"]
)
def test_a_name_in_a_bucket_reaches_nothing_outside_the_scratch_folder(
    gcs_service: Gcs,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    small_releases: dict[str, Path],
    run: Run,
    name: str,
) -> None:
    bucket = BucketPlace(gcs_service, monkeypatch)
    scratch, outside = tmp_path / "a" / "b" / "scratch", tmp_path / "outside"
    for folder in (scratch, outside):
        folder.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    content = (small_releases["25.0.0"] / "collections_index.parquet").read_bytes()
    bucket.write(f"25.0.5/{name.format(outside=outside)}", content)
    before = sorted(tmp_path.rglob("*"))
    for extra in (False, True):
        if extra:
            bucket.write("25.0.5/collections_index.parquet", content)
        result = run("diff", f"{bucket.uri}/25.0.5", small_releases["25.0.0"])
        assert result.exit_code in (1, 3), result.stdout
        assert sorted(tmp_path.rglob("*")) == before


def downloaded(seen: Seen) -> set[str]:
    """The Parquet files of which bytes were sent."""
    return {Path(key).name for key, sent in seen.bytes.items() if sent and key.endswith(".parquet")}


def test_a_url_is_an_input_and_only_what_differs_is_downloaded(wheel_release: Path, tmp_path: Path, run: Run) -> None:
    other = damaged(wheel_release, tmp_path, damage.rewrite("collections_index", damage.swapped(0, 1)))
    with S3Server({"release": wheel_release}) as served:
        result = run("diff", f"{served.url}/release", other)
        assert result.exit_code == 0, result.stdout
        assert downloaded(served.seen()) == {"collections_index.parquet"}
        single = run("diff", f"{served.url}/release/version_metadata_index.parquet", wheel_release)
        assert single.exit_code == 0, single.stdout
        assert " 1 table with the same bytes" in single.stdout


def test_a_published_folder_without_a_manifest_has_what_can_be_found(
    wheel_release: Path, tmp_path: Path, run: Run
) -> None:
    copy = damaged(wheel_release, tmp_path)
    for name in ("manifest.json", "idc_index.parquet.sha256", "prior_versions_index_schema.json"):
        (copy / name).unlink()
    version = tmp_path / "published" / "25.0.0"
    version.mkdir(parents=True)
    copy.rename(version / "release_artifacts")
    with S3Server({"published": tmp_path / "published"}) as served:
        published = ("--published-at", f"{served.url}/published")
        result = run("diff", "25.0.0", wheel_release, *published)
        assert result.exit_code == 0, result.stdout
        assert " 5 tables " in result.stdout
        assert downloaded(served.seen()) == {"idc_index.parquet"}
        refused(run("diff", "24.0.0", wheel_release, *published), 1, "24.0.0: has no index")


def test_a_single_file_is_compared_with_the_table_of_its_name(wheel_release: Path, tmp_path: Path, run: Run) -> None:
    alone = tmp_path / "collections_index.parquet"
    shutil.copy(wheel_release / alone.name, alone)
    assert run("diff", wheel_release, alone).exit_code == 0
    other = tmp_path / "mine.parquet"
    pq.write_table(pq.read_table(alone).slice(1), other)
    result = run("diff", alone, other)
    assert result.exit_code == 3
    assert "mine: changed" in result.stdout
    assert "1 removed" in result.stdout
    refused(run("diff", wheel_release, other), 2, "no table mine")


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("nothing", 2, "nothing: no such folder, and not a version"),
        ("nothing.whl", 2, "nothing.whl: no such file"),
        ("nothing.parquet", 2, "nothing.parquet: no such file"),
        ("text.txt", 2, "text.txt: not a release"),
        ("broken-1.0-py3-none-any.whl", 1, "is not a wheel"),
        ("broken.parquet", 1, "broken.parquet: not a complete Parquet file"),
        ("empty", 1, "empty: has no index"),
        ("damaged", 1, "manifest.json"),
    ],
)
def test_what_cannot_be_compared_is_said(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, given: str, code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.txt", "broken-1.0-py3-none-any.whl", "broken.parquet"):
        Path(name).write_text("not what it seems")
    Path("empty").mkdir()
    Path("damaged").mkdir()
    Path("damaged", "manifest.json").write_text("{}")
    good = tmp_path / "broken.parquet.parquet"
    pq.write_table(pa.table({"k": [1]}), good)
    refused(run("diff", given, good), code, said)


def test_a_wheel_whose_members_are_damaged_is_named(
    data_wheel: Path, wheel_release: Path, tmp_path: Path, run: Run
) -> None:
    broken = tmp_path / data_wheel.name
    content = bytearray(data_wheel.read_bytes())
    with zipfile.ZipFile(data_wheel) as archive:
        member = archive.getinfo("idc_index_data/idc_index.parquet")
    place = member.header_offset + 200
    content[place : place + 100] = bytes(100)
    broken.write_bytes(content)
    refused(run("diff", broken, wheel_release), 1, f"{broken}: idc_index.parquet is damaged")


# --- Its text ----------------------------------------------------------------------------------------------


HOSTILE = [
    "<b>|`*_[x](y)\n@someone",
    "\n\n# Approved\n\n[log in](https://evil.example/) ![x](https://evil.example/b.png) @octocat #1\n\n",
    "</code></summary></details>\n\n<img src=x>\n\n- [ ] a",
    "```\n\n## b\n\n| a | b |\n|---|---|\n",
    "\\| a | b |\r\n\r\n> www.evil.example mail@evil.example &lt;b&gt; $x$ :+1:",
    "x" * 5_000,
]


class Rendered(HTMLParser):
    """Markdown as a page: its elements, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_no_value_is_markup_and_each_is_cut(wheel_release: Path, tmp_path: Path, run: Run, value: str) -> None:
    own = {"p", "strong", "code", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"}
    other = damaged(wheel_release, tmp_path, damage.rewrite("idc_index", damage.with_first("SeriesDescription", value)))
    damage.rewrite("idc_index", damage.with_first("collection_id", value))(other)
    damage.rewrite("collections_index", lambda rows: rows.rename_columns({"status": value}))(other)
    keyed = {name: tmp_path / f"{name}.parquet" for name in ("old", "new")}
    pq.write_table(pa.table({"k": [value, value], "v": [1, 2]}), keyed["old"])
    pq.write_table(pa.table({"k": ["a", "b"], "v": [1, 2]}), keyed["new"])
    for arguments in ((wheel_release, other), (*keyed.values(), "--key", "k")):
        result = run("diff", *arguments, "--markdown")
        assert result.exit_code == 3
        page = Rendered(result.stdout)
        assert page.tags <= own
        # GitHub makes links of such texts, but not in code
        assert not re.search(r"@|://|www\.|#\d(?!\d*;)", re.sub("`[^`]*`", "", result.stdout))
        assert shown(value)[:60] in page.text
        assert max(map(len, page.text.splitlines())) < 12_000
    terminal = run("diff", *arguments)
    assert all(line.isprintable() and len(line) < 1_000 for line in terminal.stdout.splitlines())


def test_markdown_fits(wheel_release: Path, tmp_path: Path, run: Run) -> None:
    other = damaged(wheel_release, tmp_path, damage.rewrite("idc_index", damage.with_first("Modality", "x")))
    damage.rewrite("analysis_results_index", lambda rows: pa.concat_tables([rows, rows[:1]]))(other)
    found = compared(wheel_release, other)
    assert run("diff", wheel_release, other, "--markdown").stdout == markdown(found)
    short = markdown(found, 1_200)
    assert len(short) <= 1_200
    assert "did not fit" in short
    refused(run("diff", wheel_release, other, "--markdown", "--json"), 2, "--json and --markdown")


def test_the_same_inputs_give_the_same_document(wheel_release: Path, tmp_path: Path, run: Run) -> None:
    other = damaged(wheel_release, tmp_path, damage.rewrite("idc_index", lambda rows: rows[5:]))
    before = contents(other)
    first, second = (run("diff", wheel_release, other, "--json").stdout for _ in range(2))
    assert first == second
    assert contents(other) == before


def test_an_index_that_neither_input_has_is_named(wheel_release: Path, run: Run) -> None:
    refused(run("diff", wheel_release, wheel_release, "--index", "nodules"), 2, "neither input has a table nodules")
