"""`verify` finds every way in which a release can be other than it promises, and names it on one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.conftest import Run, contents, refused
from tests.support.damage import (
    Damage,
    cast,
    change_byte,
    change_pages,
    in_manifest,
    manifest,
    put,
    redescribe,
    rewrite,
    swapped,
    with_first,
    without_descriptions,
)


@pytest.fixture
def release(wheel_release: Path, tmp_path: Path) -> Path:
    """A good release, for the test alone."""
    return without_descriptions(shutil.copytree(wheel_release, tmp_path / "release"))


VERSIONS = "version_metadata_index"
VERSIONS_PARQUET = f"{VERSIONS}.parquet"
VERSIONS_SCHEMA = f"{VERSIONS}_schema.json"


def remove(name: str) -> Damage:
    return lambda release: (release / name).unlink()


def refer(columns: list[str], index: str, to: list[str]) -> Damage:
    return redescribe(VERSIONS, references=[{"columns": columns, "index": index, "to": to}])


def cut_query(release: Path) -> None:
    path = release / "idc_index.sql"
    path.write_bytes(path.read_bytes()[:-1])


def exchange_sidecar(release: Path) -> None:
    put(release, "idc_index.parquet.sha256", (release / "collections_index.parquet.sha256").read_bytes())


def count_rows_of_file(rows: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda entry: entry | {"files": [f | {"rows": rows} if "rows" in f else f for f in entry["files"]]}


def list_twice(release: Path) -> None:
    entries = manifest(release)["indices"]
    manifest(release, indices=[*entries, entries[0]])


def sources(*tables: str) -> Damage:
    """The manifest, with more source tables."""

    def change(release: Path) -> None:
        source = manifest(release)["source"]
        more = {name: {"rows": 1, "bytes": 1} for name in tables}
        manifest(release, source=source | {"tables": source["tables"] | more})

    return change


def test_tables_of_every_prior_release_are_sources_of_a_template(release: Path, run: Run) -> None:
    sources(*(f"idc_v{number}.dicom_all" for number in range(1, 25)))(release)
    assert run("verify", release).exit_code == 0


# Each breaks one promise. What is done, the file that is named, what is said of it.
FILES: list[tuple[str, Damage, str, str]] = [
    ("missing Parquet", remove("idc_index.parquet"), "idc_index.parquet", "is missing"),
    ("missing sidecar", remove("idc_index.parquet.sha256"), "idc_index.parquet.sha256", "is missing"),
    ("missing schema", remove("idc_index_schema.json"), "idc_index_schema.json", "is missing"),
    ("missing query", remove("idc_index.sql"), "idc_index.sql", "is missing"),
    ("byte of Parquet", change_byte("collections_index.parquet"), "collections_index.parquet", "has SHA-256 "),
    ("byte of schema", change_byte("idc_index_schema.json"), "idc_index_schema.json", "has SHA-256 "),
    ("byte of query", change_byte("idc_index.sql"), "idc_index.sql", "has SHA-256 "),
    ("cut short", cut_query, "idc_index.sql", "bytes, in the manifest "),
    ("extra file", lambda release: (release / "x.txt").touch(), "x.txt", "is not in the manifest"),
    ("extra folder", lambda release: (release / "old").mkdir(), "old", "is not in the manifest"),
    ("leftover", lambda release: (release / ".x.7.partial").touch(), ".x.7.partial", "is not in the manifest"),
    ("other sidecar", exchange_sidecar, "idc_index.parquet.sha256", "does not hold the digest"),
    (
        "digest of query",
        in_manifest("idc_index", lambda entry: entry | {"query_sha256": "0" * 64}),
        "manifest.json",
        "the query of idc_index has two digests",
    ),
    (
        "digest of schema",
        in_manifest("idc_index", lambda entry: entry | {"schema_sha256": "0" * 64}),
        "manifest.json",
        "the schema of idc_index has two digests",
    ),
    (
        "count of rows",
        in_manifest("collections_index", lambda entry: entry | {"rows": 180}),
        "collections_index.parquet",
        "179 rows, in the manifest 180",
    ),
    (
        "count of rows of the file",
        in_manifest("collections_index", count_rows_of_file(178)),
        "collections_index.parquet",
        "179 rows, in the manifest 178",
    ),
    ("version of another IDC release", lambda release: manifest(release, idc_version=24), "manifest.json", "25.0.0"),
    (
        "source of another release",
        sources("idc_v24.dicom_all"),
        "manifest.json",
        "another IDC release than 25: idc_v24",
    ),
    (
        "sources of some prior releases",
        sources("idc_v1_clinical.column_metadata", "idc_v24_clinical.column_metadata"),
        "manifest.json",
        "than 25: idc_v1_clinical.column_metadata, idc_v24_clinical.column_metadata",
    ),
    ("source of a later release", sources("idc_v26.dicom_all"), "manifest.json", "idc_v26.dicom_all"),
    ("source of no release", sources("mine.dicom_all"), "manifest.json", "source table mine.dicom_all"),
    ("index twice", list_twice, "manifest.json", "analysis_results_index"),
]


def overwritten_footer(release: Path) -> None:
    """Bytes that cannot be read as a footer, where the digests fit."""
    content = (release / VERSIONS_PARQUET).read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    put(release, VERSIONS_PARQUET, content[: -8 - length] + b"\xff" * 32 + content[-8 - length + 32 :])


SCHEMAS: list[tuple[str, Damage, str, str]] = [
    ("not JSON", lambda release: put(release, VERSIONS_SCHEMA, b'{"columns": ['), VERSIONS_SCHEMA, "not JSON"),
    ("too little", lambda release: put(release, VERSIONS_SCHEMA, b"{}"), VERSIONS_SCHEMA, "is a required property"),
    ("no columns", redescribe(VERSIONS, columns=[]), VERSIONS_SCHEMA, "$.columns"),
    ("unknown key", redescribe(VERSIONS, primary_key=["no_such"]), VERSIONS_SCHEMA, "no_such"),
    ("hostile key", redescribe(VERSIONS, primary_key=['" OR 1=1 --']), VERSIONS_SCHEMA, '" OR 1=1 --'),
    ("unknown order", redescribe(VERSIONS, order=["no_such"]), VERSIONS_SCHEMA, "no_such"),
    ("reference from nowhere", refer(["no_such"], "idc_index", ["PatientID"]), VERSIONS_SCHEMA, "no_such"),
    ("reference to nowhere", refer(["version_timestamp"], "idc_index", ["no_such"]), VERSIONS_SCHEMA, "no_such"),
    ("reference of one to two", refer(["idc_version"], "idc_index", ["PatientID", "x"]), VERSIONS_SCHEMA, "idc_index"),
    ("other version", rewrite(VERSIONS, lambda t: t, "24.0.0"), VERSIONS_PARQUET, "'24.0.0', the release is 25.0.0"),
    ("no version", rewrite(VERSIONS, lambda t: t, None), VERSIONS_PARQUET, "carries version ''"),
    ("type", rewrite(VERSIONS, cast("idc_version", pa.int32())), VERSIONS_PARQUET, "idc_version: int32"),
    (
        "offsets of text",
        rewrite(VERSIONS, cast("version_timestamp", pa.string())),
        VERSIONS_PARQUET,
        "version_timestamp: string",
    ),
    (
        "mode",
        rewrite(VERSIONS, cast("idc_version", pa.int64(), False)),
        VERSIONS_PARQUET,
        "idc_version: int64 not null",
    ),
    (
        "name",
        rewrite(VERSIONS, lambda t: t.rename_columns(["Idc_version", *t.schema.names[1:]])),
        VERSIONS_PARQUET,
        "Idc_version",
    ),
    (
        "too many",
        rewrite(VERSIONS, lambda t: t.append_column("more", t[0])),
        VERSIONS_PARQUET,
        "3 columns instead of 2",
    ),
    ("too few", rewrite(VERSIONS, lambda t: t.select([0])), VERSIONS_PARQUET, "1 columns instead of 2"),
    (
        "order of columns",
        rewrite(VERSIONS, lambda t: t.select([1, 0])),
        VERSIONS_PARQUET,
        "version_timestamp: large_string",
    ),
    ("not Parquet", lambda release: put(release, VERSIONS_PARQUET, b"PAR1..."), VERSIONS_PARQUET, "is not Parquet"),
    ("footer overwritten", overwritten_footer, VERSIONS_PARQUET, "is not Parquet"),
]
ROWS: list[tuple[str, Damage, str, str]] = [
    ("unreadable", change_pages("idc_index"), "idc_index.parquet", "cannot be read"),
    ("none", rewrite(VERSIONS, lambda t: t[:0]), VERSIONS_PARQUET, "is empty"),
    (
        "twice",
        rewrite("idc_index", lambda t: pa.concat_tables([t[:10], t[9:]])),
        "idc_index.parquet",
        "1 keys are there more than once, such as 1.3.6.1.4.1.",
    ),
    (
        "NULL in the key",
        rewrite("idc_index", with_first("SeriesInstanceUID", None)),
        "idc_index.parquet",
        "SeriesInstanceUID is part of the key and is NULL in 1 rows",
    ),
    (
        "order",
        rewrite("prior_versions_index", swapped(20, 90)),
        "prior_versions_index.parquet",
        "is not in the order collection_id, min_idc_version, Modality, PatientID, SeriesInstanceUID, StudyInstanceUID, "
        "gcs_bucket, crdc_series_uuid, series_size_MB: first at row 21, ",
    ),
    ("order at the end", rewrite(VERSIONS, swapped(23, 24)), VERSIONS_PARQUET, "idc_version: first at row 24, 25"),
    (
        "unknown collection",
        rewrite("idc_index", with_first("collection_id", "0_lung")),
        "idc_index.parquet",
        "collection_id of 1 rows is not in collections_index, such as 0_lung",
    ),
    (
        "unknown analysis result",
        rewrite("idc_index", with_first("analysis_result_id", "a_new_one")),
        "idc_index.parquet",
        "analysis_result_id of 1 rows is not in analysis_results_index, such as a_new_one",
    ),
    (
        "unknown release",
        rewrite("idc_index", with_first("series_revised_idc_version", 26)),
        "idc_index.parquet",
        "series_revised_idc_version of 1 rows is not in version_metadata_index, such as 26",
    ),
    (
        "collection gone",
        rewrite("collections_index", lambda t: t[1:]),
        "idc_index.parquet",
        "collection_id of 2 rows is not in collections_index, such as 4d_lung",
    ),
]


DAMAGES: dict[str, tuple[Damage, str, str]] = {
    f"{kind}: {name}": (damage, file, message)
    for kind, cases in (("files", FILES), ("schemas", SCHEMAS), ("rows", ROWS))
    for name, damage, file, message in cases
}


def test_release_of_everything_is_whole(sample_release: Path, run: Run) -> None:
    assert run("verify", sample_release).stdout == f"{sample_release}: OK\n"


def test_good_release_is_whole(release: Path, run: Run) -> None:
    before = contents(release)
    result = run("verify", release)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{release}: OK\n", "")
    assert json.loads(run("verify", release, "--json").stdout) == {"problems": []}
    assert contents(release) == before


@pytest.mark.parametrize(("damage", "file", "message"), DAMAGES.values(), ids=DAMAGES)
def test_finds(damage: Damage, file: str, message: str, release: Path, run: Run) -> None:
    damage(release)
    result = run("verify", release)
    assert (result.exit_code, result.stderr) == (3, "")
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{file}: ")
    assert message in line


def test_reads_the_release_that_it_was_given(release: Path, run: Run) -> None:
    """Not one beside it whose name its own, as a pattern, fits."""
    damaged = shutil.copytree(release, release.with_name("[r]elease"))
    rewrite(VERSIONS, swapped(0, 1))(damaged)
    assert (run("verify", release).exit_code, run("verify", damaged).exit_code) == (0, 3)


def test_finds_all_at_once(release: Path, run: Run) -> None:
    names = ["files: extra file", "files: missing query", "files: byte of Parquet", "files: digest of schema"]
    names += ["schemas: other version", "rows: order", "rows: unknown analysis result"]
    chosen = [DAMAGES[name] for name in names]
    for damage, _, _ in reversed(chosen):
        damage(release)
    result = run("verify", release)
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert len(lines) == len(chosen)
    problems = json.loads(run("verify", release, "--json").stdout)["problems"]
    assert [f"{problem['file']}: {problem['message']}" for problem in problems] == lines
    for _, file, message in chosen:
        assert [line for line in lines if line.startswith(f"{file}: ") and message in line]


def test_finds_the_same_when_rows_do_not_fit_in_memory(
    release: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeated key, a row out of order and rows that refer to nothing, in a table of 300,000 rows."""

    def larger(table: pa.Table) -> pa.Table:
        position = table.column_names.index("SeriesInstanceUID")
        column = table.field(position)
        uids = pa.array([f"{'1.2.840' * 8}.{number % 299_999:06}" for number in range(300_000)])
        return table.take([0] * 300_000).set_column(position, column, uids.cast(column.type))

    rewrite("idc_index", larger)(release)
    rewrite("collections_index", lambda table: table.slice(50))(release)
    expected = run("verify", release).stdout
    assert "1 keys are there more than once" in expected
    assert "collection_id of 300000 rows is not in collections_index" in expected
    monkeypatch.setattr("idc_indexer.duckdb_session._BOUND", "48MB")
    assert run("verify", release).stdout == expected


def test_changed_sidecar_is_all_that_is_named(release: Path, run: Run) -> None:
    change_byte("idc_index.parquet.sha256")(release)
    result = run("verify", release)
    assert result.exit_code == 3
    assert {line.split(": ")[0] for line in result.stdout.splitlines()} == {"idc_index.parquet.sha256"}


def test_rewriting_alone_is_no_damage(release: Path, run: Run) -> None:
    """The helpers of these tests break nothing by themselves; the bytes of another writer are a good release too."""
    for path in sorted(release.glob("*.parquet")):
        rewrite(path.stem, lambda table: table)(release)
        redescribe(path.stem)(release)
    assert run("verify", release).stdout == f"{release}: OK\n"


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("nulls_first", [False, True])
def test_order_of_nulls(descending: bool, nulls_first: bool, release: Path, run: Run) -> None:
    """As GoogleSQL has it: NULLs are first when ascending, last when descending."""
    earlier = [{"idc_version": number, "version_timestamp": "2020-01-01"} for number in (1, 3)]
    later = [{"idc_version": 2, "version_timestamp": "2030-01-01"}]
    known = later + earlier if descending else earlier + later
    unknown = [{"idc_version": number, "version_timestamp": None} for number in range(4, 26)]
    placed = [*unknown, *known] if nulls_first else [*known, *unknown]
    rewrite(VERSIONS, lambda table: pa.Table.from_pylist(placed, table.schema))(release)
    redescribe(VERSIONS, order=["version_timestamp DESC" if descending else "version_timestamp", "idc_version"])(
        release
    )
    assert run("verify", release).exit_code == (0 if nulls_first != descending else 3)


def test_exceptions_from_a_reference(release: Path, run: Run) -> None:
    """Collections that were renamed or withdrawn before this release are named in the schema, one by one."""
    document = json.loads((release / "prior_versions_index_schema.json").read_text())
    strict = [{key: found[key] for key in found if key != "except"} for found in document["references"]]
    assert strict != document["references"]
    redescribe("prior_versions_index", references=strict)(release)
    (line,) = run("verify", release).stdout.splitlines()
    assert line.startswith("prior_versions_index.parquet: collection_id of ")
    assert line.endswith(" rows is not in collections_index, such as apollo")


def test_reference_to_an_index_that_is_not_in_the_release(release: Path, run: Run) -> None:
    """A release may hold some indices only: what it does not hold is no promise."""
    for path in release.iterdir():
        if not path.name.startswith(("idc_index", "manifest")):
            path.unlink()
    manifest(release, indices=[entry for entry in manifest(release)["indices"] if entry["name"] == "idc_index"])
    assert run("verify", release).stdout == f"{release}: OK\n"


def in_first_index(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: document | {"indices": [document["indices"][0] | changes]}


BROKEN_MANIFESTS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda document: document | {"format_version": 2}, "$.format_version"),
    (lambda document: document | {"release_version": "../25"}, "$.release_version"),
    (lambda document: {key: document[key] for key in document if key != "indices"}, "'indices' is a required property"),
    (lambda document: document | {"indices": []}, "$.indices"),
    (in_first_index(name="../x"), "$.indices[0].name"),
    (in_first_index(files=[]), "$.indices[0].files"),
    (
        in_first_index(files=[{"name": "x" * 256, "bytes": 1, "sha256": "0" * 64}]),
        f"{'x' * 60}...' is not a file name that a release can have",
    ),
    (
        in_first_index(files=[{"name": "x.sql\n", "bytes": 1, "sha256": "0" * 64}]),
        "'x.sql\\n' is not a file name that a release can have",
    ),
    (in_first_index(name="x" * 300), "$.indices[0].name"),
    (
        in_first_index(files=[{"name": "../x", "bytes": 1, "sha256": "0" * 64}] * 4),
        "$.indices[0].files[3].name: '../x'",
    ),
    (lambda document: [document], "is not of type 'object'"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN_MANIFESTS)
def test_broken_manifest(change: Callable[[dict[str, Any]], Any], message: str, release: Path, run: Run) -> None:
    """Without it there is nothing to check against."""
    path = release / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    refused(run("verify", release), 1, f"{path}: ", message)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"format_version": 1'])
def test_manifest_that_is_not_json(content: bytes, release: Path, run: Run) -> None:
    (release / "manifest.json").write_bytes(content)
    refused(run("verify", release), 1, f"{release / 'manifest.json'}: not JSON")


def test_empty_folder(tmp_path: Path, run: Run) -> None:
    refused(run("verify", tmp_path), 1, f"{tmp_path}: not a release: it has no manifest.json")


@pytest.mark.parametrize("path", ["nowhere", "file"])
def test_no_folder(path: str, tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("x")
    refused(run("verify", tmp_path / path), 2, str(tmp_path / path))
