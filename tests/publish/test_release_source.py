"""A release is read the same way wherever it is, and what is wrong with it is an error that names it."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.publish.release_source import open_source, read_release
from tests.conftest import Run, contents, refused
from tests.emulators.loopback import LoopbackServer, QuietHandler
from tests.emulators.places import Place
from tests.support import damage

Releases = dict[str, Path]


class Files(QuietHandler, SimpleHTTPRequestHandler):
    pass


class Redirects(Files):
    """Answers as GitHub does for the assets of a release: all files are somewhere else."""

    target = "/assets/"

    def send_head(self) -> Any:
        if self.path.startswith("/assets/"):
            self.path = self.path.removeprefix("/assets")
            return super().send_head()
        self.send_response(302)
        self.send_header("Location", self.target + self.path.rpartition("/")[2])
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None


class Elsewhere(Redirects):
    target = "ftp://127.0.0.1/"


def test_redirects_are_followed(small_releases: Releases, run: Run) -> None:
    release = small_releases["25.0.0"]
    with LoopbackServer(partial(Redirects, directory=str(release))) as server:
        assert read_release(f"{server.url}/download/25.0.0/").release_version == "25.0.0"
        result = run("diff", f"{server.url}/download/25.0.0", small_releases["25.1.0"])
        assert result.exit_code == 3
        assert "only in" in result.stdout
        # of what is checked there, nothing is missing: only headers are not as they should be
        problems = json.loads(run("check", f"{server.url}/download/25.0.0", "--json").stdout)["problems"]
        assert not [one for one in problems if "missing" in one["message"] or "not public" in one["message"]]


def test_a_redirect_to_another_scheme_is_refused(small_releases: Releases, run: Run) -> None:
    release = small_releases["25.0.0"]
    with LoopbackServer(partial(Elsewhere, directory=str(release))) as server:
        refused(run("diff", f"{server.url}/x", release), 1, "redirects to ftp://127.0.0.1/")


@pytest.mark.parametrize("place", ["folder", "bucket"], indirect=True)
def test_each_form_has_the_same_tables(place: Place, small_releases: Releases, tmp_path: Path, run: Run) -> None:
    release = small_releases["25.0.0"]
    assert run("publish", release, "--to", place.uri, "--promote").exit_code == 0
    run("wheel", release, "--out", tmp_path, "--partial")
    (wheel,) = tmp_path.glob("*.whl")
    with LoopbackServer(partial(Files, directory=str(release))) as server:
        expected = contents(release)
        for given in (str(release), str(wheel), server.url, "25.0.0", "current", f"{place.uri}/25.0.0", place.uri):
            with open_source(given, place.uri) as source:
                assert source.version == "25.0.0"
                assert source.release().idc_version == 25
                assert set(source.tables) == {"collections_index", "version_metadata_index"}
                for table in source.tables:
                    assert source.fetch(table).read_bytes() == expected[f"{table}.parquet"]
                    assert source.schema(table) == json.loads(expected[f"{table}_schema.json"])
                    assert expected[f"{table}.parquet.sha256"].decode().startswith(source.sha256(table) or "?")


def test_a_single_file_is_no_release(small_releases: Releases, tmp_path: Path) -> None:
    file = small_releases["25.0.0"] / "collections_index.parquet"
    with pytest.raises(IndexerError, match=r"not a release, but a single Parquet file"):
        read_release(str(file))
    with pytest.raises(IndexerError, match=r"not a release: .*manifest\.json: no such file"):
        read_release(str(tmp_path))
    with pytest.raises(UsageError, match="no such folder, and not a version"):
        read_release(str(tmp_path / "nothing"))
    with open_source(str(file)) as source:
        assert (source.tables, source.version) == (("collections_index",), "25.0.0")


@pytest.mark.parametrize("member", ["../../planted.parquet", "/tmp/planted.parquet", "a/..\\planted.parquet"])  # noqa: S108
def test_a_name_in_a_wheel_reaches_nothing_outside_the_scratch_folder(
    small_releases: Releases, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    scratch = tmp_path / "a" / "b"
    scratch.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    wheel = tmp_path / "idc_index_data-25.0.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(small_releases["25.0.0"] / "collections_index.parquet", member)
    before = sorted(tmp_path.rglob("*"))
    assert run("diff", wheel, small_releases["25.0.0"]).exit_code in (1, 3)
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/tmp/planted.parquet").exists()  # noqa: S108


# --- Damaged Parquet ---------------------------------------------------------------------------------------------


def not_utf8(content: bytes) -> bytes:
    """A column whose name in the footer has a byte that UTF-8 never has."""
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert b"collection_id" in content[footer:]
    return content[:footer] + content[footer:].replace(b"collection_id", b"\xffollection_id")


def without_pages(content: bytes) -> bytes:
    """A footer that is complete, over pages that are not."""
    length = int.from_bytes(content[-8:-4], "little") + 8
    return content[:4] + b"\xff" * (len(content) - length - 4) + content[-length:]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("how", [not_utf8, without_pages, cut])
def test_damaged_parquet_is_an_error_that_names_the_file(
    small_releases: Releases, tmp_path: Path, run: Run, how: Callable[[bytes], bytes]
) -> None:
    release = shutil.copytree(small_releases["25.0.0"], tmp_path / "release")
    name = "collections_index.parquet"
    damage.put(release, name, how((release / name).read_bytes()))
    result = run("verify", release)
    assert result.exit_code == 3
    assert result.stdout.startswith(f"{name}: ")
    for arguments in (
        ("report", release),
        ("diff", release, small_releases["25.0.0"]),
        ("diff", release / name, small_releases["25.0.0"] / name),
    ):
        refused(run(*arguments), 1, name)


def test_damage_that_verify_does_not_see_is_an_error_of_report(wheel_release: Path, tmp_path: Path, run: Run) -> None:
    """`verify` reads keys, order and references; `report` reads every column."""
    release = damage.without_descriptions(shutil.copytree(wheel_release, tmp_path / "release"))
    name = "collections_index.parquet"
    content = (release / name).read_bytes()
    import pyarrow.parquet as pq

    group = pq.read_metadata(release / name).row_group(0)
    chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema.startswith("description"))
    start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    end = start + chunk.total_compressed_size
    damage.put(release, name, content[:start] + b"\xff" * (end - start) + content[end:])
    assert run("verify", release).exit_code == 0
    before = contents(release)
    refused(run("report", release), 1, f"{name}: cannot be read")
    assert contents(release) == before
