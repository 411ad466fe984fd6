"""An export that is not what it should be stops a build before it writes, with a message that names what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from idc_indexer.errors import IndexerError
from idc_indexer.exports import open_export
from idc_indexer.schema.source_tables import SourceTable
from tests.conftest import (
    IN_WHEEL,
    LICENSE,
    OF_ONE_RELEASE,
    SOURCE,
    Build,
    Run,
    TinyExport,
    add_index,
    contents,
    refused,
)
from tests.emulators.s3 import S3Server

Damage = Callable[[TinyExport], Any]
HOUR = 3600


def without(column: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.drop_columns([column])


def retyped(column: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = pa.array([None] * table.num_rows, kind)
        return table.set_column(table.schema.names.index(column), column, values)

    return change


def renamed(**columns: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.rename_columns([columns.get(name, name) for name in table.schema.names])


def sources_without(field: str) -> Callable[[pa.Table], pa.Table]:
    return retyped("sources", pa.list_(pa.struct([child for child in SOURCE if child.name != field])))


def sources_with_licence_of(kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    fields = [pa.field("license", kind) if child.name == "license" else child for child in SOURCE]
    return retyped("sources", pa.list_(pa.struct(fields)))


def add_shards(export: TinyExport, *numbers: int, table: str = "dicom_all") -> None:
    for number in numbers:
        shutil.copy(export.shard(table), export.shard(table, number))


def age(path: Path, hours: float) -> None:
    modified = time.time() - hours * HOUR
    os.utime(path, (modified, modified))


def cut(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def add_stale_shard(export: TinyExport) -> None:
    add_shards(export, 2)
    age(export.shard("dicom_all", 2), 6.1)


def change_last_shard(how: Callable[[pa.Table], pa.Table]) -> Damage:
    def damage(export: TinyExport) -> None:
        path = export.shard("dicom_all", 1)
        pq.write_table(how(pq.read_table(path)), path)

    return damage


def put_in_first(text: str) -> Damage:
    return lambda export: export.shard("dicom_all").write_text(text)


DAMAGES: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "no table": (
        lambda export: shutil.rmtree(export.folder("auxiliary_metadata")),
        ("table idc_v25.auxiliary_metadata is not there", "no idc_v25/auxiliary_metadata/000000000000.parquet"),
    ),
    "folder of a table without a shard": (
        lambda export: export.shard("version_metadata").unlink(),
        ("table idc_v25.version_metadata is not there", "no idc_v25/version_metadata/000000000000.parquet"),
    ),
    "no past release": (
        lambda export: shutil.rmtree(export.root / "idc_v7"),
        ("table idc_v7.dicom_all is not there", "Copy that folder"),
    ),
    "shards not numbered from 0": (
        lambda export: export.shard("dicom_all").unlink(),
        ("idc_v25/dicom_all lacks 000000000000.parquet", "fetch the missing shards"),
    ),
    "gaps": (
        lambda export: add_shards(export, 3, 5, 6),
        ("idc_v25/dicom_all lacks 000000000002.parquet, 000000000004.parquet",),
    ),
    "large gap": (
        lambda export: add_shards(export, 4999),
        ("lacks 000000000002.parquet, ", " and 4992 more"),
    ),
    "gap in a past release": (
        lambda export: shutil.copy(export.shard("dicom_all", 0, 3), export.shard("dicom_all", 2, 3)),
        ("idc_v3/dicom_all lacks 000000000001.parquet",),
    ),
    "stale shard": (
        add_stale_shard,
        ("idc_v25/dicom_all mixes two exports: 000000000002.parquet is more than 6:00:00 older", "--exclude-shard"),
    ),
    "odd file": (
        lambda export: shutil.copy(export.shard("dicom_all"), export.folder("dicom_all") / "part-0.parquet"),
        ("idc_v25/dicom_all", "part-0.parquet"),
    ),
    "shard with a column less": (
        change_last_shard(without("PatientAge")),
        (
            "idc_v25.dicom_all: 000000000001.parquet of another schema than 000000000000.parquet: ",
            "patientage is string in 000000000000.parquet and absent in 000000000001.parquet",
            "--exclude-shard",
        ),
    ),
    "shard with a column of another type": (
        change_last_shard(retyped("StudyDescription", pa.int64())),
        ("studydescription is string in 000000000000.parquet and int64 in 000000000001.parquet",),
    ),
    "no column": (
        lambda export: export.change("dicom_all", without("StudyDate")),
        ("idc_v25.dicom_all has no column StudyDate",),
    ),
    "no column in a past release": (
        lambda export: export.change("dicom_all", without("gcs_url"), release=2),
        ("idc_v2.dicom_all has no column gcs_url",),
    ),
    "text for a date": (
        lambda export: export.change("dicom_all", retyped("StudyDate", pa.string())),
        ("idc_v25.dicom_all: column StudyDate is string, expected DATE",),
    ),
    "float for an integer": (
        lambda export: export.change("auxiliary_metadata", retyped("series_init_idc_version", pa.float64())),
        ("idc_v25.auxiliary_metadata: column series_init_idc_version is double, expected INTEGER",),
    ),
    "list for a value": (
        lambda export: export.change("dicom_metadata_curated", retyped("BodyPartExamined", pa.list_(pa.string()))),
        ("idc_v25.dicom_metadata_curated: column BodyPartExamined is list<",),
    ),
    "record for a list": (
        lambda export: export.change("original_collections_metadata", retyped("sources", SOURCE)),
        ("idc_v25.original_collections_metadata: column sources is struct<", "expected an array"),
    ),
    "no nested field": (
        lambda export: export.change("original_collections_metadata", sources_without("provenance")),
        ("idc_v25.original_collections_metadata: column sources has no field provenance",),
    ),
    "no field of a record in a record": (
        lambda export: export.change(
            "original_collections_metadata", sources_with_licence_of(pa.struct([LICENSE[0], LICENSE[1]]))
        ),
        ("column sources field license has no field license_short_name",),
    ),
    "nested text for a record": (
        lambda export: export.change("original_collections_metadata", sources_with_licence_of(pa.string())),
        ("column sources field license is string, expected a record",),
    ),
    "shard without its end": (
        lambda export: cut(export.shard("dicom_all", 1), 0.9),
        ("idc_v25/dicom_all/000000000001.parquet: not a complete Parquet file", "Fetch that shard again."),
    ),
    "empty file": (
        put_in_first(""),
        ("idc_v25/dicom_all/000000000000.parquet: not a complete Parquet file",),
    ),
    "page of a proxy": (
        put_in_first("<html>503 Slow Down</html>"),
        ("idc_v25/dicom_all/000000000000.parquet: not a complete Parquet file",),
    ),
    "empty table": (
        lambda export: export.change("analysis_results_metadata", lambda table: table.slice(0, 0)),
        ("table idc_v25.analysis_results_metadata is empty",),
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_refuses(name: str, tiny: TinyExport, build: Build, out: Path) -> None:
    damage, fragments = DAMAGES[name]
    damage(tiny)
    refused(build(tiny, *(IN_WHEEL if "past" in name else OF_ONE_RELEASE)), 1, *fragments)
    assert list(out.parent.iterdir()) == []


def test_names_all_that_is_wrong_at_once(tiny: TinyExport, build: Build, out: Path) -> None:
    """Each problem costs a download: nobody should meet them one by one."""
    for name in ("no table", "no past release", "no column", "no nested field", "empty table"):
        DAMAGES[name][0](tiny)
    result = build(tiny)
    refused(result, 1)
    for name in ("no table", "no past release", "no column", "no nested field", "empty table"):
        assert DAMAGES[name][1][0] in result.stderr
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("table", ["dicom_all", "auxiliary_metadata", "original_collections_metadata"])
def test_damage_inside_a_shard_names_it(table: str, tiny: TinyExport, build: Build, out: Path) -> None:
    """The footer is whole, so that the check lets it pass: reading meets it."""
    path = tiny.shard(table)
    good = path.read_bytes()
    pages = pq.read_metadata(path).row_group(0)
    last = pages.column(pages.num_columns - 1)
    end = (last.dictionary_page_offset or last.data_page_offset) + last.total_compressed_size
    path.write_bytes(good[:4] + b"\xff" * (end - 4) + good[end:])
    refused(build(tiny, *OF_ONE_RELEASE), 1, f"{path} is damaged", "Fetch that shard again.")
    assert not out.exists()
    # Fetched again, it does.
    path.write_bytes(good)
    assert build(tiny, *OF_ONE_RELEASE).exit_code == 0


def test_missing_release_lists_those_there(tiny: TinyExport, build: Build, out: Path) -> None:
    result = build(tiny, "version_metadata_index", "--idc-version", 26, "--release-version", "26.0.0")
    refused(result, 1, f"{tiny}: IDC release 26 is not there", f"It has {', '.join(map(str, range(1, 26)))}.")
    assert list(out.parent.iterdir()) == []


def test_folder_without_releases(tmp_path: Path, build: Build, out: Path) -> None:
    refused(build(tmp_path, "version_metadata_index"), 1, f"{tmp_path}: IDC release 25 is not there", "idc_vNN")
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("place", ["https://a.b/c", "s3://", "s3:///x", "gs://A_B/x", "ftp://bucket/export"])
def test_what_is_no_place_is_refused(place: str, build: Build, out: Path) -> None:
    hint = "s3://bucket/prefix, gs://bucket/prefix or a folder"
    refused(build(place), 2, f"{place}: not the address of an export", hint)
    assert list(out.parent.iterdir()) == []


def test_no_such_folder(build: Build, tmp_path: Path, out: Path) -> None:
    refused(build(tmp_path / "nowhere"), 2, f"{tmp_path / 'nowhere'}: no such folder", "'sample'")
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "rows"),
    [(("--exclude-shard", "idc_v25/dicom_all/000000000002.parquet"), 6), (("--max-shard-age-gap", "6.5"), 9)],
)
def test_stale_shard_can_be_left_out_or_allowed(
    options: tuple[str, ...], rows: int, tiny: TinyExport, run: Run, build: Build, out: Path
) -> None:
    add_stale_shard(tiny)
    allow = () if "--exclude-shard" in options else ("--allow-row-count-mismatch",)
    result = build(tiny, "idc_index", *options, *allow, "--json")
    assert result.exit_code == 0, result.stderr
    assert sum(row["instanceCount"] for row in pq.read_table(out / "idc_index.parquet").to_pylist()) == rows
    facts = json.loads(result.stdout)["source"]["tables"]["idc_v25.dicom_all"]
    left_out = [options[1]] if "--exclude-shard" in options else []
    assert (facts["rows"], facts["shards"], facts["left_out"]) == (rows, 3 - len(left_out), left_out)
    assert run("verify", out).exit_code == 0


@pytest.mark.parametrize("prefix", ["idc_v25/dicom_all/00", "./idc_v25/dicom_all/", "ROOT/idc_v25/dicom_all/", ""])
def test_leaving_out_what_is_not_so_called_is_refused(prefix: str, tiny: TinyExport, build: Build, out: Path) -> None:
    """It would leave the stale shard in, and who typed it would not know."""
    add_stale_shard(tiny)
    wrong = prefix.replace("ROOT", str(tiny.root)) + "000000000002.parquet"
    refused(
        build(tiny, "idc_index", "--exclude-shard", wrong, "--max-shard-age-gap", "7"), 2, f"--exclude-shard {wrong}"
    )
    assert list(out.parent.iterdir()) == []


def test_leaving_out_every_shard_is_refused(tiny: TinyExport, build: Build, out: Path) -> None:
    shard = "idc_v25/version_metadata/000000000000.parquet"
    refused(build(tiny, "--exclude-shard", shard), 1, "every shard of idc_v25/version_metadata is left out")
    assert list(out.parent.iterdir()) == []


def test_batch_window_counts_from_the_newest_shard(tiny: TinyExport) -> None:
    table = SourceTable(25, False, "dicom_all")
    add_shards(tiny, 2, 3)
    for number, hours in enumerate((5.9, 0, 7, 30)):
        age(tiny.shard("dicom_all", number), hours)
    with pytest.raises(IndexerError, match=r"000000000002\.parquet, 000000000003\.parquet are more than 6:00:00 older"):
        open_export(str(tiny)).shards(table)
    with pytest.raises(IndexerError, match=r"exports: 000000000003\.parquet is more than 8:00:00 older"):
        open_export(str(tiny), batch_window=timedelta(hours=8)).shards(table)
    assert len(open_export(str(tiny), batch_window=timedelta(hours=31)).shards(table)) == 4


def test_other_files_do_not_matter(tiny: TinyExport, build: Build) -> None:
    """What copying tools and desktops leave behind."""
    for name in (".DS_Store", "_SUCCESS", "000000000007.parquet.s5cmd-tmp"):
        (tiny.folder("dicom_all") / name).write_text("not Parquet")
    assert build(tiny, "idc_index").exit_code == 0


def replaced_by_a_link(path: Path) -> str:
    path.unlink()
    path.symlink_to("../../.git/annex/objects/xx/y.parquet")
    return "a link to ../../.git/annex/objects/xx/y.parquet, which does not exist"


def replaced_by_a_folder(path: Path) -> str:
    path.unlink()
    path.mkdir()
    return "a folder, not a file"


def replaced_by_a_pipe(path: Path) -> str:
    path.unlink()
    os.mkfifo(path)
    return "not a regular file"


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")
@pytest.mark.parametrize("replace", [replaced_by_a_link, replaced_by_a_folder, replaced_by_a_pipe])
@pytest.mark.parametrize("number", [0, 1])
def test_what_a_listing_leaves_out_is_named(
    number: int, replace: Callable[[Path], str], tiny: TinyExport, build: Build, out: Path
) -> None:
    """Without an error, the last shard would drop out of the release without a word."""
    path = tiny.shard("dicom_all", number)
    reason = replace(path)
    refused(build(tiny, "idc_index"), 1, f"{path}: {reason}", "Fetch that shard again")
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("above", ["", "idc_v25", "idc_v25/dicom_all"])
def test_digests_that_a_folder_brings(above: str, tiny: TinyExport, build: Build) -> None:
    folder = tiny.root / above
    shards = sorted(folder.rglob("*.parquet"))
    lines = [f"{sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}" for path in shards]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    assert build(tiny, "idc_index").exit_code == 0
    path = tiny.shard("dicom_all", 1)
    pq.write_table(pq.read_table(path), path, compression="snappy")
    refused(build(tiny, "idc_index", "--force"), 1, "idc_v25.dicom_all: 000000000001.parquet differ from SHA256SUMS")
    (folder / "SHA256SUMS").write_text("abc\n")
    refused(build(tiny, "idc_index", "--force"), 1, "SHA256SUMS: line 1 is not a SHA-256 and a file name")


# --- Tables with one row per instance ---------------------------------------------------------------------------


@pytest.mark.parametrize("index", ["idc_index", "version_metadata_index"])
def test_a_copy_that_broke_off(index: str, tiny: TinyExport, run: Run, build: Build, out: Path) -> None:
    """Its last shard is missing, so that the numbers have no gap: only the rows of other tables show it."""
    tiny.shard("dicom_all", 1).unlink()
    if index == "version_metadata_index":  # which reads none of the tables
        assert build(tiny, index).exit_code == 0
        return
    counts = "idc_v25.auxiliary_metadata has 6, idc_v25.dicom_all has 3, idc_v25.dicom_metadata_curated has 6"
    refused(build(tiny, index), 1, f"{tiny}: tables with one row per instance", counts, "--allow-row-count-mismatch")
    refused(build(tiny, index, "--dry-run"), 1, counts)
    assert list(out.parent.iterdir()) == []
    accepted = build(tiny, index, "--allow-row-count-mismatch")
    assert accepted.exit_code == 0
    assert f"warning: tables with one row per instance have different numbers of rows: {counts}" in accepted.stderr
    (found,) = json.loads((out / "manifest.json").read_text())["source"]["row_count_mismatches"]
    assert found["accepted"]
    assert found["rows"]["idc_v25.dicom_all"] == 3
    assert run("verify", out).exit_code == 0


def test_a_table_that_no_index_reads_shows_missing_rows(tiny: TinyExport, build: Build, tmp_path: Path) -> None:
    query = (
        "SELECT instance.SOPInstanceUID AS id FROM `bigquery-public-data.idc_current.dicom_all` AS instance ORDER BY id"
    )
    add_index(tmp_path, "mine", query, id="STRING")
    mine = ("mine", "--queries", tmp_path / "queries", "--schemas", tmp_path / "schemas")
    assert build(tiny, *mine).exit_code == 0
    tiny.shard("dicom_all", 1).unlink()
    refused(build(tiny, *mine, "--force"), 1, "idc_v25.dicom_all has 3, idc_v25.dicom_metadata_curated has 6")
    for table in ("auxiliary_metadata", "dicom_metadata_curated"):  # nor does a copy need them
        shutil.rmtree(tiny.folder(table))
    assert build(tiny, *mine, "--force").exit_code == 0


def test_a_mismatch_in_a_bucket_is_a_warning_and_a_finding(
    tiny: TinyExport, run: Run, build: Build, environment: dict[str, str], out: Path
) -> None:
    tiny.shard("dicom_all", 1).unlink()
    with S3Server({"mine": tiny.root}) as s3:
        environment.update(s3.environment)
        built = build("s3://mine", "idc_index")
        assert built.exit_code == 0, built.stderr
        assert "idc_v25.dicom_all has 3, idc_v25.dicom_metadata_curated has 6" in built.stderr
        found = run("verify", out)
        assert found.exit_code == 3
        assert "manifest.json: source tables with one row per instance have different numbers of rows" in found.stdout
        assert build("s3://mine", "idc_index", "--force", "--allow-row-count-mismatch").exit_code == 0
        assert run("verify", out).exit_code == 0


def test_columns_that_no_index_reads_may_differ(tiny: TinyExport, build: Build, out: Path) -> None:
    assert build(tiny, "idc_index").exit_code == 0
    before = (out / "idc_index.parquet").read_bytes()
    change_last_shard(lambda table: table.append_column("Extra", pa.array([1] * table.num_rows)))(tiny)
    change_last_shard(lambda table: table.select([*reversed(table.schema.names)]))(tiny)
    result = build(tiny, "idc_index", "--force")
    assert result.exit_code == 0, result.stderr
    assert "warning: " in result.stderr
    assert "extra is absent in 000000000000.parquet and int64 in 000000000001.parquet" in result.stderr
    assert (out / "idc_index.parquet").read_bytes() == before


def test_spelling_of_columns_does_not_matter(tiny: TinyExport, build: Build, out: Path) -> None:
    assert build(tiny, *IN_WHEEL).exit_code == 0
    before = contents(out)
    shutil.rmtree(out)
    tiny.change("dicom_all", renamed(Source_DOI="source_DOI", PatientID="patientid", Modality="MODALITY"))
    tiny.change("auxiliary_metadata", renamed(SeriesInstanceUID="seriesInstanceUID"))
    tiny.change("dicom_all", renamed(crdc_series_uuid="CRDC_Series_UUID"), release=5)
    result = build(tiny, *IN_WHEEL)
    assert result.exit_code == 0, result.stderr
    after = contents(out)
    assert {name: after[name] for name in after if name != "manifest.json"} == {
        name: before[name] for name in before if name != "manifest.json"
    }


@pytest.mark.parametrize("how", ["spelling", "order"])
def test_spelling_and_order_of_nested_fields_do_not_matter(how: str, tiny: TinyExport, build: Build, out: Path) -> None:
    assert build(tiny, "collections_index").exit_code == 0
    before = (out / "collections_index.parquet").read_bytes()
    shutil.rmtree(out)
    if how == "spelling":
        fields = [pa.field("Source_DOI" if field.name == "source_doi" else field.name, field.type) for field in SOURCE]
    else:
        fields = list(reversed(list(SOURCE)))
    spelt = pa.list_(pa.struct(fields))

    def respell(table: pa.Table) -> pa.Table:
        rows = [
            rows and [{f.name: row[g] for f in fields for g in row if g.lower() == f.name.lower()} for row in rows]
            for rows in table["sources"].to_pylist()
        ]
        return table.set_column(table.schema.names.index("sources"), "sources", pa.array(rows, spelt))

    tiny.change("original_collections_metadata", respell)
    result = build(tiny, "collections_index")
    assert result.exit_code == 0, result.stderr
    assert (out / "collections_index.parquet").read_bytes() == before


@pytest.mark.parametrize("empty", [None, []])
def test_null_and_empty_lists_are_both_empty(
    empty: list[Any] | None, tiny: TinyExport, build: Build, out: Path
) -> None:
    def change(table: pa.Table) -> pa.Table:
        rows = [rows or empty for rows in table["sources"].to_pylist()]
        position = table.schema.names.index("sources")
        return table.set_column(position, "sources", pa.array(rows, pa.list_(SOURCE)))

    tiny.change("original_collections_metadata", change)
    source = pq.read_table(tiny.shard("original_collections_metadata"))["sources"]
    assert source.null_count == (2 if empty is None else 0)
    assert build(tiny, "collections_index").exit_code == 0
    built = pq.read_table(out / "collections_index.parquet")
    assert built["sources"].null_count == 0
    assert pc.list_value_length(built["sources"]).to_pylist() == [0, 0, 1]
