"""The report is part of the release, says what is in it, and needs nothing but itself."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import platformdirs
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.filesize import decimal

from idc_indexer import documents
from idc_indexer.cli import main
from idc_indexer.diff.render import size_of_tb
from idc_indexer.diff.result import shown
from idc_indexer.release.descriptions import describe
from idc_indexer.release.descriptions.description import percent
from idc_indexer.release.manifest import PUBLISHED, Release
from idc_indexer.report.charts import Bar, columns
from tests.conftest import Run, contents, once, refused
from tests.emulators.places import BucketPlace, Place
from tests.support import damage

BROWSER = Path(__file__).parent / "browser"


class Page(HTMLParser):
    """What the tests look at of a page: its words, identifiers, what it loads, and whether elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in ("meta", "link", "input", "wbr", "br"):
            self._open.append(tag)
        if "id" in given:
            self.ids.append(given["id"] or "")
        if tag == "a":
            self.links.append(given["href"] or "")
        elif address := given.get("src") or given.get("href") or given.get("data") or given.get("action"):
            self.loaded.append(address)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "link", "input", "wbr", "br"):
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def json_ld(release: Path) -> list[dict[str, Any]]:
    """What the page tells search engines."""
    text = (release / "report.html").read_text(encoding="utf-8")
    return [
        json.loads(one) for one in re.findall(r'<script type="application/ld\+json">(.*?)</script>', text, re.DOTALL)
    ]


@pytest.fixture
def release(wheel_release: Path, tmp_path: Path) -> Path:
    return shutil.copytree(wheel_release, tmp_path / "release")


@pytest.fixture(scope="session")
def reported_sample(sample_release: Path, shared: Path) -> Path:
    """The sample release with its report. Do not change it."""

    def make(folder: Path) -> None:
        release = shutil.copytree(sample_release, folder / "release")
        result = CliRunner().invoke(main, ["report", str(release)], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr

    return once(shared / "reported_sample", make) / "release"


def page(release: Path) -> Page:
    return Page((release / "report.html").read_text(encoding="utf-8"))


def test_the_report_is_part_of_the_release(release: Path, tmp_path: Path, run: Run) -> None:
    before = contents(release)
    result = run("report", release)
    assert result.exit_code == 0, result.stderr
    after = contents(release)
    assert {name for name in after if after[name] != before.get(name)} == {"report.html", "manifest.json"}
    listed = documents.load(release / "manifest.json", "manifest")["report"]
    assert f"{decimal(listed['bytes'])}, sha256 {listed['sha256']}" in result.stdout
    assert run("verify", release).stdout == f"{release}: OK\n"
    assert json.loads(run("report", release, "--json").stdout) == listed
    assert contents(release) == after  # the same release, the same bytes
    moved = release.rename(tmp_path / "elsewhere")
    run("report", moved)
    assert contents(moved) == after
    run("wheel", moved, "--out", tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "idc_index_data/manifest.json" in archive.namelist()
        assert "idc_index_data/report.html" not in archive.namelist()


def test_the_report_is_published_as_a_page(release: Path, run: Run, place: Place) -> None:
    run("report", release)
    assert run("publish", release, "--to", place.uri, "--promote").exit_code == 0
    content = (release / "report.html").read_bytes()
    assert place.look()["current/release_artifacts/report.html"].content == content
    if isinstance(place, BucketPlace):
        headers = place.store().list("25.0.0/")["25.0.0/release_artifacts/report.html"].headers
        assert headers is not None
        assert headers.content_type == "text/html"
    assert run("status", "--to", place.uri).exit_code == 0


def test_a_report_that_was_changed_or_left_behind_is_a_problem_that_report_mends(release: Path, run: Run) -> None:
    whole = contents(release)
    run("report", release)
    reported = contents(release)
    for manifest in (whole["manifest.json"], reported["manifest.json"]):
        # as it is when the command is killed between the two files
        (release / "manifest.json").write_bytes(manifest)
        (release / "report.html").write_text("another")
        result = run("verify", release)
        assert result.exit_code == 3
        assert result.stdout.startswith("report.html: ")
        assert run("report", release).exit_code == 0
        assert contents(release) == reported
    (release / "report.html").unlink()
    assert run("verify", release).stdout == "report.html: is missing\n"


# After one file is as before the next, but for a part of the next.
@pytest.mark.parametrize("done", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["before", "after"])
def test_a_command_that_was_killed_is_run_again(release: Path, old: Path, run: Run, tmp_path: Path, done: bool) -> None:
    """Before and after each of the files that it writes, one or two."""
    accept = ["verify", str(release), "--against", str(old), "--accept", f"collection:{HOSTILE}=why"]
    report = ["report", str(release)]
    before = shutil.copytree(release, tmp_path / "before")
    expected = shutil.copytree(release, tmp_path / "expected")
    for command in (accept, report):
        run(command[0], expected, *command[2:])
    for number in (1, 2):
        shutil.rmtree(release)
        shutil.copytree(before, release)
        for command in (accept, report):
            killed = subprocess.run(
                [sys.executable, "-c", dying(command, number, done)], capture_output=True, text=True, check=False
            )
            assert killed.returncode == (9 if number == 1 or command is report else 0), killed.stderr
            assert run(*command).exit_code == 0
        assert contents(release) == contents(expected)


def dying(command: list[str], number: int, done: bool) -> str:
    """A program that runs a command and dies at the file of this number, before it is there or after."""
    return f"""
import os, pathlib
from idc_indexer.cli import main
replace, calls = pathlib.Path.replace, []
def dying(self, target):
    calls.append(self)
    if len(calls) == {number} and not {done}:
        os._exit(9)
    replace(self, target)
    if len(calls) == {number}:
        os._exit(9)
pathlib.Path.replace = dying
main({command!r})"""


def test_only_a_valid_release_gets_a_report(release: Path, run: Run) -> None:
    damage.change_byte("idc_index.sql")(release)
    before = contents(release)
    refused(run("report", release), 1, "idc_index.sql")
    assert contents(release) == before


@pytest.mark.duckdb
def test_the_report_says_what_is_in_the_release(reported_sample: Path) -> None:
    release = reported_sample
    found = page(release)
    manifest = documents.load(release / "manifest.json", "manifest")
    for entry in manifest["indices"] + manifest["supplements"]:
        schema = json.loads((release / f"{entry['name']}_schema.json").read_text(encoding="utf-8"))
        assert schema["table_description"] in found.text
        for column in schema["columns"]:
            assert f"{entry['name']}.{column['name']}" in found.ids
            assert column["description"] in found.text
        for file in entry["files"]:
            assert file["sha256"] in found.text or file["name"].endswith(".sha256")
        if "query_sha256" in entry:
            assert (release / f"{entry['name']}.sql").read_text(encoding="utf-8").strip() in found.text
    for command in ("sha256sum -c {}.sha256", "SELECT * FROM '{}'", 'pandas.read_parquet("{}")'):
        assert command.format("ct_index.parquet") in found.text
    index = str(release / "idc_index.parquet")
    text = (release / "report.html").read_text(encoding="utf-8")
    rows = table_rows(re.sub(r'<table class="rows">.*?</table>', "", text, flags=re.DOTALL))
    for column in ("collection_id", "Modality"):
        for group in duckdb.execute(
            f"""SELECT {column}, count(*), count(DISTINCT collection_id || ' ' || PatientID),
                sum(series_size_MB::DECIMAL(18, 6)) / 1e6 FROM '{index}' GROUP BY 1"""
        ).fetchall():
            cells = [f"{group[1]:,}", f"{group[2]:,}", decimal(round(group[3] * 1e12))]
            assert [row[1:4] for row in rows if row and row[0].split(" ")[0] == group[0]] == [cells]
    grown = duckdb.execute(
        f"""SELECT series_init_idc_version AS v, count(*), sum(count(*)) OVER (ORDER BY v)
        FROM '{index}' GROUP BY v"""
    ).fetchall()
    assert len(grown) < 25
    added, until = {version: series for version, series, _ in grown}, 0
    for version in range(1, 26):  # also those that added nothing that is left
        until += added.get(version, 0)
        found_cells = [(row[2], row[4]) for row in rows if row and row[0] == f"v{version}"]
        assert found_cells == [(f"{added.get(version, 0):,}", f"{until:,}")]
    assert until == grown[-1][2]


@pytest.mark.duckdb
def test_the_report_shows_the_first_rows_of_each_table(reported_sample: Path) -> None:
    text = (reported_sample / "report.html").read_text(encoding="utf-8")
    shown_tables = re.findall(r'<details id="table-(\w+)">.*?(<table class="rows">.*?</table>)', text, re.DOTALL)
    assert sorted(name for name, _ in shown_tables) == sorted(path.stem for path in reported_sample.glob("*.parquet"))
    for name, table in shown_tables:
        expected = pq.read_table(reported_sample / f"{name}.parquet").slice(0, 5)
        names, *rows = table_rows(table)
        assert names == expected.column_names
        assert len(rows) == len(expected)
        for cells, row in zip(rows, expected.to_pylist(), strict=True):
            assert all(map(is_cell_of, cells, row.values())), (name, cells, row)
    assert 'title="[{' in text  # of a nested value that is cut


def is_cell_of(cell: str, value: Any) -> bool:
    if value is None or isinstance(value, str):
        return cell == shown(value, 64)
    if isinstance(value, (list, dict)):
        return cell.endswith("…") or json.loads(cell) == value
    return cell == str(value) or json.loads(cell) == pytest.approx(value)


@pytest.mark.duckdb
def test_the_report_has_the_licences_of_the_description(reported_sample: Path) -> None:
    description = describe(Release.open(reported_sample), PUBLISHED)
    rows = table_rows((reported_sample / "report.html").read_text(encoding="utf-8"))
    series, size = (sum(getattr(one, name) for one in description.licenses) for name in ("series", "tb"))
    for one in description.licenses:
        shares = [f"{one.series:,}", percent(one.series, series), size_of_tb(one.tb), percent(one.tb, size)]
        assert [one.name, *shares] in rows
    assert "https://creativecommons.org/licenses/by-nc/3.0/" in page(reported_sample).links


def test_search_engines_read_the_facts_of_croissant(reported_sample: Path) -> None:
    (found,) = json_ld(reported_sample)
    croissant = json.loads((reported_sample / "croissant.json").read_bytes())
    shared = {"name", "alternateName", "description", "version", "url", "identifier", "keywords", "creator"}
    for key in {*shared, "publisher", "datePublished"}:
        assert found[key] == croissant[key], key
    assert found["citation"] == croissant["citeAs"]
    assert [one["name"] for one in found["license"]] == croissant["license"]
    for one, other in zip(found["distribution"], croissant["distribution"], strict=True):
        assert {**one, "@type": ""} == {key: value for key, value in other.items() if key != "@id"} | {"@type": ""}
    columns = {field["name"] for one in croissant["recordSet"] for field in one["field"]}
    assert columns < set(found["variableMeasured"])


def test_search_engines_find_what_they_ask_for(reported_sample: Path) -> None:
    """Google requires name and description of a dataset and recommends the others.

    https://developers.google.com/search/docs/appearance/structured-data/dataset
    """
    (found,) = json_ld(reported_sample)
    assert (found["@context"], found["@type"]) == ("https://schema.org/", "Dataset")
    assert found["name"]
    assert 50 <= len(found["description"]) <= 5000
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["datePublished"])
    assert found["isAccessibleForFree"] is True
    assert all(found[role]["@type"] == "Organization" and found[role]["name"] for role in ("creator", "publisher"))
    for license in found["license"]:
        assert license["@type"] == "CreativeWork"
        assert license["name"]
        assert license["name"].startswith("CC") == license.get("url", "").startswith("https://creativecommons.org/")
    for one in found["distribution"]:
        assert one["@type"] == "DataDownload"
        assert one["encodingFormat"]
        assert one["contentUrl"].startswith("https://")
        content = (reported_sample / one["contentUrl"].rpartition("/")[2]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"]


def test_data_cannot_end_a_script(release: Path, run: Run) -> None:
    damage.rewrite("idc_index", damage.with_first("license_short_name", HOSTILE))(release)
    assert run("report", release, "--published-at", "gs://bucket").exit_code == 0
    (found,) = json_ld(release)
    assert HOSTILE in [one["name"] for one in found["license"]]
    text = (release / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert text.count("<script>") == 1
    assert [HOSTILE, "1"] in [row[:2] for row in table_rows(text)]


def test_how_to_query_depends_on_where_the_release_is(release: Path, run: Run) -> None:
    run("report", release)
    found = page(release)
    assert "ATTACH 'idc.duckdb' AS idc;" in found.text
    assert f"The views read the files under {PUBLISHED}/25.0.0/release_artifacts/, so they work once" in found.text
    assert {"idc.duckdb", "data-dictionary.md"} <= set(found.links)
    run("report", release, "--published-at", "gs://bucket/prefix")
    base = "https://storage.googleapis.com/bucket/prefix/25.0.0/release_artifacts/"
    assert f"ATTACH '{base}idc.duckdb' AS idc;" in page(release).text
    assert f"{base}data-dictionary.md" in page(release).links
    (dataset,) = json_ld(release)
    assert dataset["identifier"] == base


def test_a_report_of_a_release_without_descriptions(release: Path, run: Run) -> None:
    damage.without_descriptions(release)
    assert run("report", release).exit_code == 0
    assert "attach" not in page(release).ids
    assert "data-dictionary.md" not in page(release).links
    assert "licences" in page(release).ids
    assert json_ld(release) == []  # nobody knows where it is
    assert run("report", release, "--published-at", "gs://bucket").exit_code == 0
    assert "attach" not in page(release).ids
    (dataset,) = json_ld(release)
    assert dataset["url"]


def test_a_report_of_a_release_without_idc_index(small_releases: dict[str, Path], run: Run, tmp_path: Path) -> None:
    release = shutil.copytree(small_releases["25.1.0"], tmp_path / "release")
    assert run("report", release).exit_code == 0
    assert "SELECT * FROM idc.analysis_results_index LIMIT 10;" in page(release).text
    assert not {"licences", "growth", "modalities"} & set(page(release).ids)
    assert "license" not in json_ld(release)[0]


def test_the_growth_chart_has_axes_and_no_gaps(reported_sample: Path) -> None:
    text = (reported_sample / "report.html").read_text(encoding="utf-8")
    (chart,) = re.findall(r'<svg class="chart"[^>]*growth-chart.*?</svg>', text, re.DOTALL)
    assert re.findall(r'<text class="tick"[^>]*>([^<]*)<', chart) == [*(f"v{n}" for n in range(1, 26)), "IDC release"]
    assert re.findall(r'<text class="axis"[^>]*>([^<]*)<', chart) == ["Size of all series, GB"]
    labels = re.findall(r'<text class="label"[^>]*>([^<]*)<', chart)
    assert labels == ["0", "10", "20", "30", "40"]
    assert chart.count('class="grid"') == len(labels)


@given(st.lists(st.just(0.0) | st.floats(1e-9, 1e7), min_size=1, max_size=80))
def test_an_axis_has_few_round_numbers(values: list[float]) -> None:
    bars = [Bar(f"v{number}", value, "", value / 7) for number, value in enumerate(values)]
    chart = columns("name", "title", "text", bars, ("along", "up"))
    highest = max(bar.value + bar.upper for bar in bars) or 1
    labels = [float(label) for label in re.findall(r'<text class="label"[^>]*>([^<]*)<', chart)]
    assert 2 < len(labels) < 8
    assert labels[0] == 0
    assert 0.5 < labels[-1] / highest < 1.001
    assert 1 <= len(re.findall('class="tick"', chart)) <= 33


def test_collections_have_licence_doi_and_viewer(sample_release: Path, tmp_path: Path, run: Run) -> None:
    release = shutil.copytree(sample_release, tmp_path / "release")
    damage.rewrite("idc_index", damage.with_first("source_DOI", f"10.1/{HOSTILE}"))(release)
    run("report", release)
    found, index = page(release), str(release / "idc_index.parquet")
    rows = {
        row[0].split(" ")[0]: row for row in table_rows((release / "report.html").read_text(encoding="utf-8")) if row
    }
    for column, at in (("license_short_name", 4), ("source_DOI", 5)):
        for collection, value in duckdb.execute(
            f"SELECT DISTINCT collection_id, {column} FROM '{index}' WHERE analysis_result_id IS NULL"
        ).fetchall():
            assert value in rows[collection][at]
            assert column != "source_DOI" or f"https://doi.org/{quote(value)}" in found.links
    for study, slides in duckdb.execute(
        f"""SELECT StudyInstanceUID, bool_or(Modality = 'SM') FROM '{index}' WHERE (collection_id, StudyInstanceUID) IN
            (SELECT (collection_id, min(StudyInstanceUID)) FROM '{index}' GROUP BY collection_id) GROUP BY 1"""
    ).fetchall():
        path = f"slim/studies/{study}" if slides else f"v3/viewer/?StudyInstanceUIDs={study}"
        assert f"https://viewer.imaging.datacommons.cancer.gov/{path}" in found.links
    assert "tcga_luad TCGA-LUAD: Lung Adenocarcinoma; Chest" in rows["tcga_luad"][0]


def test_a_report_says_what_its_build_is_not(reported_sample: Path, release: Path, run: Run) -> None:
    assert "Sample build: " in page(reported_sample).text
    assert "Partial build: " not in page(reported_sample).text
    run("report", release)
    assert "Partial build: it has 5 of 17 indices. It lacks ann_group_index, " in page(release).text
    path = release / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["source"] |= {"kind": "s3", "uri": "s3://bucket/export"}
    document["source"]["tables"]["idc_v25.dicom_all"]["left_out"] = ["idc_v25/dicom_all/000000000007.parquet"]
    document["source"]["row_count_mismatches"] = [{"rows": {"idc_v25.dicom_all": 1}, "accepted": True}]
    document["indices"][0]["overrides_built_in"] = True
    path.write_bytes(documents.dump(document, "manifest"))
    assert run("report", release).exit_code == 0
    text = page(release).text
    assert "Sample build" not in text
    assert "Excluded data: 1 shards of idc_v25.dicom_all were not read" in text
    assert "Accepted mismatch: " in text
    assert f"Replaced definitions: {document['indices'][0]['name']} come from" in text
    assert "The source is a Parquet export of IDC release 25, at s3://bucket/export." in text


def test_the_room_in_the_data_wheel(release: Path, small_releases: dict[str, Path], run: Run, tmp_path: Path) -> None:
    run("report", release)
    run("wheel", release, "--out", tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    (most, left) = re.findall(
        r"The data wheel has at most ([\d.]+) kB\. PyPI accepts 100\.0 MB: at least ([\d.]+) MB are left",
        page(release).text,
    )[0]
    with zipfile.ZipFile(wheel) as archive:
        unpacked = sum(
            one.file_size for one in archive.infolist() if one.filename.endswith((".parquet", "_schema.json", ".sql"))
        )
    assert wheel.stat().st_size < unpacked
    assert (most, left) == (f"{unpacked / 1e3:.1f}", f"{(100e6 - unpacked) / 1e6:.1f}")
    without = shutil.copytree(small_releases["25.0.0"], tmp_path / "without")
    run("report", without)
    assert (
        "no data wheel for the idc-index client, which needs idc_index and prior_versions_index too"
        in page(without).text
    )


def table_rows(text: str) -> list[list[str]]:
    """The rows of all tables of a page, as text."""
    cells = [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", text, re.DOTALL)
    ]
    return [[html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in row] for row in cells]


def test_the_page_needs_nothing_but_itself(release: Path, old: Path, tmp_path: Path, run: Run) -> None:
    assert run("report", release, "--against", old).exit_code == 0
    run("diff", old, release, "--html", tmp_path / "diff.html")
    for path in (release / "report.html", tmp_path / "diff.html"):
        text = path.read_text(encoding="utf-8")
        found = Page(text)
        assert found.loaded == ["data:,"]
        assert "<wbr>" not in text
        assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
        assert len(found.ids) == len(set(found.ids))
        for link in found.links:
            assert link.startswith("https://") or link[1:] in found.ids or (release / link).is_file()
    assert str(tmp_path) not in (release / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def old(wheel_release: Path, tmp_path: Path) -> Path:
    """A release before, with a collection that is gone, whose name is no markup."""
    folder = shutil.copytree(wheel_release, tmp_path / "old")
    damage.rewrite("idc_index", damage.with_first("collection_id", HOSTILE))(folder)
    return folder


HOSTILE = "</script><script>alert(1)</script>{{ 7 * 7 }}&amp;"


def test_what_changed_and_what_was_accepted_is_in_the_report(release: Path, old: Path, run: Run) -> None:
    assert run("report", release, "--against", old).exit_code == 0
    assert [f"collection:{HOSTILE}", "the collection was removed, with 1 series", "not accepted"] in table_rows(
        (release / "report.html").read_text(encoding="utf-8")
    )
    accept = f"collection:{HOSTILE}={HOSTILE}"
    assert run("verify", release, "--against", old, "--accept", accept).exit_code == 0
    assert run("report", release, "--against", old).exit_code == 0
    text = (release / "report.html").read_text(encoding="utf-8")
    found = page(release)
    assert "What changed since 25.0.0" in found.text
    assert f"removed collections: {HOSTILE}" in found.text
    row = [f"collection:{HOSTILE}", "the collection was removed, with 1 series", HOSTILE]
    assert row in table_rows(text)
    assert "1 change exceeds the limits; 1 was accepted." in found.text
    assert text.count("<script>") == 1
    assert HOSTILE not in text
    count = f"{pq.read_metadata(release / 'idc_index.parquet').num_rows:,}"
    assert ["idc_index", "changed", count, count, "0", "0", "1"] in table_rows(text)
    # what is published in a folder has no address for others
    run("report", release, "--published-at", release.parent)
    assert str(release.parent) not in page(release).text
    assert "curl" not in page(release).text
    run("report", release, "--published-at", "gs://bucket/prefix")
    assert "curl -fO https://storage.googleapis.com/bucket/prefix/25.0.0/release_artifacts/idc_" in page(release).text
    # without --against, the report says nothing of changes, and still what was accepted
    run("report", release)
    assert "What changed since" not in page(release).text
    assert "This report was written without a comparison" in page(release).text
    row = [f"collection:{HOSTILE}", "25.0.0", "the collection was removed, with 1 series", HOSTILE]
    assert row in table_rows((release / "report.html").read_text(encoding="utf-8"))
    run("report", release, "--against", release)
    assert "No change since 25.0.0 exceeds the limits." in page(release).text


def test_a_report_has_the_limits_that_it_is_given(small_releases: dict[str, Path], run: Run, tmp_path: Path) -> None:
    release = shutil.copytree(small_releases["25.0.0"], tmp_path / "release")
    damage.rewrite("version_metadata_index", lambda table: table[:-1])(release)
    limits = json.loads(documents.bundled("limits.json").read_text(encoding="utf-8"))
    arguments = ("report", release, "--against", small_releases["25.0.0"], "--limits", tmp_path / "limits.json")
    for limit, found in ((0, True), (50, False)):
        limits |= {"rows_drop_percent": limit, "rows_gone_percent": limit, "indices": {}}
        (tmp_path / "limits.json").write_text(json.dumps(limits))
        assert run(*arguments).exit_code == 0
        assert ("rows:version_metadata_index" in page(release).text) is found
    refused(run(*arguments[:-1], release / "manifest.json"), 1, "manifest.json: $")


# --- In a browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not (found and shutil.which("npm")):
        pytest.skip("chromium or npm is not installed")
    return found


def look(page: Path, chromium: str, word: str = "") -> dict[str, Any]:
    """What Chromium and axe find wrong with a page, light and dark; and how it is searched."""
    cache = Path(os.environ.get("IDC_INDEXER_TEST_CACHE") or platformdirs.user_cache_path("idc-indexer") / "tests")

    def make(folder: Path) -> None:
        for path in BROWSER.iterdir():
            shutil.copy(path, folder)
        subprocess.run(["npm", "install", "--silent", "--prefix", str(folder)], check=True, capture_output=True)

    folder = once(cache / "browser", make)
    # the program as it is now, with the packages that were installed
    shutil.copy(BROWSER / "look.mjs", folder)
    command = [
        "node",
        str(folder / "look.mjs"),
        str(page),
        chromium,
        os.environ.get("IDC_INDEXER_SCREENSHOTS", ""),
        word,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_in_a_browser_the_report_is_accessible_and_can_be_searched(
    sample_release: Path, tmp_path: Path, run: Run, chromium: str
) -> None:
    release = shutil.copytree(sample_release, tmp_path / "release")
    before = shutil.copytree(sample_release, tmp_path / "before")
    damage.rewrite("idc_index", damage.with_first("collection_id", "vanished"))(before)
    assert run("verify", release, "--against", before, "--accept", "collection:vanished=why").exit_code == 0
    assert run("report", release, "--against", before).exit_code == 0
    found = look(release / "report.html", chromium, "slice thickness")
    assert found["console"] == []
    assert set(found["requests"]) == {(release / "report.html").as_uri()}
    assert found["violations"] == []
    assert found["pages"] > 3
    search = found["search"]
    assert search["first"] == "Skip to the content"
    named = [f"SliceThickness {index}" for index in ("ct_index", "mr_index", "pt_index")]
    assert search["names"] == [*named, "slice_spacing_mm volume_geometry_index"]
    assert search["status"] == f"4 of {search['all']} columns"
    assert search["afterEscape"] == search["all"] > 200
    assert (release / "report.html").stat().st_size < 2_000_000
    assert 1 < len(found["collections"]) < 60
    assert all(word in row.lower() for row in found["collections"] for word in ("lung", "cc", "by", "3.0"))
    assert found["current"] == ["Growth", "Data dictionary"]
    assert found["copied"]["label"] == "Copy SQL for all tables"
    assert found["copied"]["text"].startswith("ATTACH 'idc.duckdb' AS idc;\nSELECT Modality, ")


@pytest.mark.slow
def test_in_a_browser_a_difference_is_accessible(
    wheel_release: Path, old: Path, tmp_path: Path, run: Run, chromium: str
) -> None:
    run("diff", old, wheel_release, "--html", tmp_path / "diff.html")
    found = look(tmp_path / "diff.html", chromium)
    assert found["console"] == []
    assert found["violations"] == []
