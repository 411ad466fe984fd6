"""The report is part of the release, says what is in it, and needs nothing but itself."""

from __future__ import annotations

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

import duckdb
import platformdirs
import pyarrow.parquet as pq
import pytest
from rich.filesize import decimal

from idc_indexer import documents
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


@pytest.fixture
def release(wheel_release: Path, tmp_path: Path) -> Path:
    return shutil.copytree(wheel_release, tmp_path / "release")


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


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_command_that_was_killed_is_run_again(
    release: Path, old: Path, run: Run, tmp_path: Path, number: int, done: bool
) -> None:
    accept = ["verify", str(release), "--against", str(old), "--accept", f"collection:{HOSTILE}=why"]
    report = ["report", str(release)]
    expected = shutil.copytree(release, tmp_path / "expected")
    for command in (accept, report):
        run(command[0], expected, *command[2:])
    for command in (accept, report):
        die = f"""
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
        killed = subprocess.run([sys.executable, "-c", die], capture_output=True, text=True, check=False)
        assert killed.returncode == (9 if number == 1 or command is report else 0), killed.stderr
        assert run(*command).exit_code == 0
    assert contents(release) == contents(expected)


def test_only_a_valid_release_gets_a_report(release: Path, run: Run) -> None:
    damage.change_byte("idc_index.sql")(release)
    before = contents(release)
    refused(run("report", release), 1, "idc_index.sql")
    assert contents(release) == before


@pytest.mark.duckdb
def test_the_report_says_what_is_in_the_release(sample_release: Path, tmp_path: Path, run: Run) -> None:
    release = shutil.copytree(sample_release, tmp_path / "release")
    run("report", release)
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
    base = "https://storage.googleapis.com/idc-index-data-artifacts/25.0.0/release_artifacts/"
    for command in ("curl -fO {}", "SELECT * FROM '{}'", 'pandas.read_parquet("{}")'):
        assert command.format(f"{base}ct_index.parquet") in found.text
    index = str(release / "idc_index.parquet")
    rows = table_rows((release / "report.html").read_text(encoding="utf-8"))
    for column in ("collection_id", "Modality"):
        for group in duckdb.execute(
            f"""SELECT {column}, count(*), count(DISTINCT collection_id || ' ' || PatientID),
                sum(series_size_MB::DECIMAL(18, 6)) / 1e6 FROM '{index}' GROUP BY 1"""
        ).fetchall():
            assert [group[0], f"{group[1]:,}", f"{group[2]:,}", decimal(round(group[3] * 1e12))] in rows
    grown = duckdb.execute(
        f"""SELECT series_init_idc_version AS v, count(*), sum(count(*)) OVER (ORDER BY v)
        FROM '{index}' GROUP BY v"""
    ).fetchall()
    assert grown
    for version, series, so_far in grown:
        assert [(row[2], row[4]) for row in rows if row[0] == f"v{version}"] == [(f"{series:,}", f"{so_far:,}")]


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
        assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
        assert len(found.ids) == len(set(found.ids))
        for link in found.links:
            assert link.startswith("https://") or link[1:] in found.ids
    assert str(tmp_path) not in (release / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def old(wheel_release: Path, tmp_path: Path) -> Path:
    """A release before, with a collection that is gone, whose name is no markup."""
    folder = shutil.copytree(wheel_release, tmp_path / "old")
    damage.rewrite("idc_index", damage.with_first("collection_id", HOSTILE))(folder)
    return folder


HOSTILE = "</script><script>alert(1)</script>{{ 7 * 7 }}&amp;"


def test_what_changed_and_what_was_accepted_is_in_the_report(release: Path, old: Path, run: Run) -> None:
    accept = f"collection:{HOSTILE}={HOSTILE}"
    assert run("verify", release, "--against", old, "--accept", accept).exit_code == 0
    assert run("report", release, "--against", old).exit_code == 0
    text = (release / "report.html").read_text(encoding="utf-8")
    found = page(release)
    assert "What changed since 25.0.0" in found.text
    assert f"removed collections: {HOSTILE}" in found.text
    assert "the collection was removed, with 1 series" in found.text
    assert text.count("<script>") == 1
    assert HOSTILE not in text
    count = f"{pq.read_metadata(release / 'idc_index.parquet').num_rows:,}"
    assert ["idc_index", "changed", count, count, "0", "0", "1"] in table_rows(text)
    # what is published in a folder has no address for others
    run("report", release, "--published-at", release.parent)
    assert str(release.parent) not in page(release).text
    run("report", release, "--published-at", "gs://bucket/prefix")
    assert "curl -fO https://storage.googleapis.com/bucket/prefix/25.0.0/release_artifacts/idc_" in page(release).text
    # without --against, the report says nothing of changes
    run("report", release)
    assert "What changed since" not in page(release).text


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
    assert search["names"] == [f"SliceThickness {index}" for index in ("ct_index", "mr_index", "pt_index")]
    assert search["status"] == f"3 of {search['all']} columns"
    assert search["afterEscape"] == search["all"] > 200
    assert (release / "report.html").stat().st_size < 2_000_000


@pytest.mark.slow
def test_in_a_browser_a_difference_is_accessible(
    wheel_release: Path, old: Path, tmp_path: Path, run: Run, chromium: str
) -> None:
    run("diff", old, wheel_release, "--html", tmp_path / "diff.html")
    found = look(tmp_path / "diff.html", chromium)
    assert found["console"] == []
    assert found["violations"] == []
