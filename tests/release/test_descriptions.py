"""The files that describe a release to others: what they say, and that `verify` finds what is wrong with them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from idc_indexer.release.descriptions import SUMS, describe, duckdb_file, write_descriptions
from idc_indexer.release.descriptions.description import Description, LicenseShare
from idc_indexer.release.manifest import CROISSANT, DICTIONARY, DUCKDB_FILE, PUBLISHED, Release
from tests.conftest import Run, contents
from tests.support.damage import manifest

pytestmark = pytest.mark.duckdb


@pytest.fixture(scope="module")
def description(sample_release: Path) -> Description:
    return describe(Release.open(sample_release), PUBLISHED)


@pytest.fixture
def release(small_releases: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(small_releases["25.1.0"], tmp_path / "release")


# --- What they say ------------------------------------------------------------------------------------------------


def test_a_view_of_each_table_reads_the_versioned_address(sample_release: Path, description: Description) -> None:
    with duckdb.connect(str(sample_release / DUCKDB_FILE), read_only=True) as connection:
        views = dict(connection.execute("SELECT view_name, sql FROM duckdb_views() WHERE NOT internal").fetchall())
        comments = connection.execute(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
        tables = dict(connection.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall())
    del views["release"]
    assert len(views) == 18
    for name, sql in views.items():
        assert f"'{PUBLISHED}/25.0.0/release_artifacts/{name}.parquet'" in sql
        assert "current" not in sql
    described = {(name, column): comment for name, column, comment in comments if name != "release"}
    expected = {(t.name, c.name): c.description for t in description.tables for c in t.schema.columns}
    assert described == expected
    assert {name: tables[name] for name in views} == {t.name: t.schema.description for t in description.tables}
    assert (sample_release / DUCKDB_FILE).stat().st_size < 500_000


def test_the_view_release_has_the_facts_of_the_manifest(sample_release: Path) -> None:
    with duckdb.connect(str(sample_release / DUCKDB_FILE), read_only=True) as connection:
        rows = connection.execute("SELECT file, rows, bytes, sha256 FROM release").fetchall()
        about = connection.execute(
            "SELECT DISTINCT release_version, idc_version, CAST(idc_release_date AS VARCHAR) FROM release"
        ).fetchall()
    files = [file for entry in manifest(sample_release)["indices"] for file in entry["files"]]
    files += [file for entry in manifest(sample_release)["supplements"] for file in entry["files"]]
    assert rows == [(file["name"], file.get("rows"), file["bytes"], file["sha256"]) for file in files]
    assert about == [("25.0.0", 25, "2026-09-26")]


def test_sha256sum_checks_the_release(sample_release: Path) -> None:
    lines = (sample_release / SUMS).read_text().splitlines()
    listed = {line[66:]: line[:64] for line in lines}
    files = contents(sample_release)
    assert set(files) - set(listed) == {SUMS, "manifest.json"}
    assert listed == {name: hashlib.sha256(files[name]).hexdigest() for name in listed}
    if tool := shutil.which("sha256sum"):
        subprocess.run([tool, "--check", "--strict", "--quiet", SUMS], cwd=sample_release, check=True)


def test_the_dictionary_has_every_column(sample_release: Path, description: Description) -> None:
    text = (sample_release / DICTIONARY).read_text(encoding="utf-8")
    for table in description.tables:
        section = text.partition(f"\n## {table.name}\n")[2].partition("\n## ")[0]
        assert table.schema.description in section
        names = re.findall(r"^\| (\w+) \| ", section, re.MULTILINE)
        assert names[1:] == [column.name for column in table.schema.columns]
    assert "| sources.source_id | STRING |" in text


def test_croissant_describes_what_can_be_loaded(sample_release: Path, description: Description) -> None:
    document = json.loads((sample_release / CROISSANT).read_bytes())
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    fields = {one["name"]: [field["name"] for field in one["field"]] for one in document["recordSet"]}
    assert fields == {
        table.name: [column.name for column in table.schema.columns if not column.fields]
        for table in description.tables
    }
    digests = {one["name"]: one["sha256"] for one in document["distribution"]}
    assert digests == {table.parquet.name: table.parquet.sha256 for table in description.tables}
    (collections,) = (one for one in document["recordSet"] if one["name"] == "collections_index")
    assert "Column sources holds records, which cannot be loaded" in collections["description"]
    assert document["license"] == [one.name for one in description.licenses]


def test_shares_of_licenses_add_up(description: Description) -> None:
    assert sum(one.series for one in description.licenses) == 546
    assert [one.series for one in description.licenses] == sorted(one.series for one in description.licenses)[::-1]


def test_only_licences_of_creative_commons_have_an_address() -> None:
    addresses = {
        "CC BY 4.0": "licenses/by/4.0/",
        "CC BY-NC-SA 3.0": "licenses/by-nc-sa/3.0/",
        "CC0 1.0": "publicdomain/zero/1.0/",
        "CC BY 9.0": "",
        "TCIA Restricted": "",
    }
    for name, address in addresses.items():
        assert LicenseShare(name, 1, 0.0).url == (address and f"https://creativecommons.org/{address}")


def test_the_address_is_the_one_that_is_given(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "release"
    arguments = ["build", "version_metadata_index", "--source", "sample", "--release-version", "25.2.0", "--out", out]
    assert run(*arguments, "--published-at", "gs://mine/idc").exit_code == 0
    document = json.loads((out / CROISSANT).read_bytes())
    address = "https://storage.googleapis.com/mine/idc/25.2.0/release_artifacts/version_metadata_index.parquet"
    assert document["distribution"][0]["contentUrl"] == address
    assert "license" not in document  # nothing in this release says it
    assert manifest(out)["published_at"] == "gs://mine/idc"
    assert manifest(out)["idc_release_date"] == "2026-09-26"
    assert run("verify", out).exit_code == 0


def test_the_same_bytes_again(sample_release: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sample_release, tmp_path / "elsewhere")
    names = [file["name"] for file in manifest(copy)["descriptions"]]
    for name in names:
        (copy / name).unlink()
    made = write_descriptions(replace(Release.open(copy), descriptions=()), PUBLISHED)
    assert made == Release.open(copy)
    assert contents(copy) == contents(sample_release)


# --- What verify finds --------------------------------------------------------------------------------------------


def again(release: Path, change: Callable[[Description], Description]) -> None:
    """Write idc.duckdb of another description, with fitting digests everywhere."""
    opened = replace(Release.open(release), descriptions=())
    with duckdb.connect() as connection:
        (release / DUCKDB_FILE).write_bytes(duckdb_file.content(change(describe(opened, PUBLISHED)), connection))
    relist(release)


def relist(release: Path) -> None:
    """Make SHA256SUMS and the manifest fit idc.duckdb."""
    content = (release / DUCKDB_FILE).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    sums = re.sub(rf"\w+  {DUCKDB_FILE}", f"{digest}  {DUCKDB_FILE}", (release / SUMS).read_text())
    (release / SUMS).write_text(sums)
    listed: list[dict[str, Any]] = manifest(release)["descriptions"]
    for file in listed:
        content = (release / file["name"]).read_bytes()
        file |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest(release, descriptions=listed)


def problems(run: Run, release: Path) -> list[str]:
    return run("verify", release).output.splitlines()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: replace(d, tables=d.tables[1:]),
            "idc.duckdb: has other views than the release has tables: analysis_results_index",
        ),
        (
            lambda d: replace(
                d, tables=(replace(d.tables[0], url=d.tables[0].url.replace("25.1.0", "current")), *d.tables[1:])
            ),
            f"idc.duckdb: its view analysis_results_index does not read {PUBLISHED}/25.1.0/release_artifacts/",
        ),
        (
            lambda d: replace(d, dates={25: "2001-01-01"}),
            "idc.duckdb: its view release does not hold what the manifest has",
        ),
    ],
)
def test_another_idc_duckdb_is_found(
    change: Callable[[Description], Description], message: str, release: Path, run: Run
) -> None:
    again(release, change)
    assert [line for line in problems(run, release) if line.startswith(message)]


def test_a_view_of_columns_that_the_table_has_no_longer(release: Path, run: Run) -> None:
    with duckdb.connect() as connection:
        path = release / DUCKDB_FILE
        connection.execute(f"ATTACH '{path}' AS made")
        url = f"{PUBLISHED}/25.1.0/release_artifacts/collections_index.parquet"
        (sql,) = connection.execute(
            "SELECT sql FROM duckdb_views() WHERE view_name = 'collections_index' AND NOT internal"
        ).fetchone() or ("",)
        assert url in sql
        connection.execute("DROP VIEW made.collections_index")
        connection.execute(f"CREATE VIEW made.collections_index AS SELECT 1 AS k, '{url}' AS url")
        connection.execute("DETACH made")
    relist(release)
    assert "idc.duckdb: its view collections_index has other columns than the table" in problems(run, release)


def test_a_damaged_idc_duckdb_is_found(release: Path, run: Run) -> None:
    (release / DUCKDB_FILE).write_bytes(b"DUCK" * 1000)
    relist(release)
    assert [line for line in problems(run, release) if line.startswith("idc.duckdb: ") and "cannot be read" in line]


def test_other_sums_are_found(release: Path, run: Run) -> None:
    path = release / SUMS
    path.write_text(path.read_text().replace("a", "b", 1))
    relist(release)
    assert f"{SUMS}: does not hold the digests that the manifest has" in problems(run, release)
