"""The data wheel: what is in it, what it offers next to the published package, and what stops it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.version import Version

from idc_indexer.catalog import Catalog
from idc_indexer.publish import wheel as room
from tests.conftest import INDICES, RELEASE, Run, once, refused
from tests.support.damage import rewrite

CARRIED = [name for name, index in Catalog().indices.items() if index.schema.in_wheel]
NAME = "idc_index_data-25.0.0-py3-none-any.whl"


@pytest.fixture(scope="session")
def wheel(sample_release: Path, shared: Path) -> Path:
    def make(folder: Path) -> None:
        room.build_wheel(sample_release, folder)

    return once(shared / "wheel", make) / NAME


@pytest.fixture(scope="session")
def unpacked(wheel: Path, shared: Path) -> Path:
    """What pip puts into site-packages."""

    def unpack(folder: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)

    return once(shared / "wheel_unpacked", unpack)


@pytest.fixture
def imported(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The package, imported from wherever a test says: a folder or the wheel itself."""
    place = request.getfixturevalue(request.param)
    before = sys.path[:]
    sys.path.insert(0, str(place.parent if request.param == "published" else place))
    importlib.invalidate_caches()
    try:
        yield importlib.import_module("idc_index_data")
    finally:
        sys.path[:] = before
        for name in [name for name in sys.modules if name.split(".")[0] == "idc_index_data"]:
            del sys.modules[name]


everywhere = pytest.mark.parametrize("imported", ["unpacked", "wheel"], indirect=True)
like_the_published = pytest.mark.parametrize("imported", ["unpacked", "wheel", "published"], indirect=True)


def test_it_holds_the_files_of_the_release(wheel: Path, sample_release: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name.removeprefix("idc_index_data/"): archive.read(name) for name in archive.namelist()}
    own = {"__init__.py", "_version.py", "py.typed"}
    names = {"manifest.json", *(f"{name}.parquet" for name in CARRIED)}
    names |= {f"{name}{end}" for name in INDICES for end in ("_schema.json", ".sql")}
    assert {name for name in files if "dist-info" not in name} == own | names
    assert all(files[name] == (sample_release / name).read_bytes() for name in names)


def test_its_metadata_describe_the_release(wheel: Path, sample_release: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read("idc_index_data-25.0.0.dist-info/METADATA")
        licence = archive.read("idc_index_data-25.0.0.dist-info/licenses/LICENSE")
    metadata = BytesParser().parsebytes(text)
    assert (metadata["Name"], metadata["Version"], metadata["License-Expression"]) == (
        "idc-index-data",
        "25.0.0",
        "MIT",
    )
    assert metadata["Requires-Dist"] is None
    assert licence == Path(__file__).parents[2].joinpath("LICENSE").read_bytes()
    readme = metadata.get_payload(decode=True).decode()  # type: ignore[union-attr]  # not of several parts
    table = {line.split("`")[1]: line for line in readme.splitlines() if line.startswith("| `")}
    entries = json.loads((sample_release / "manifest.json").read_text())["indices"]
    assert table.keys() == {entry["name"] for entry in entries}
    for entry in entries:
        noun = Catalog().indices[entry["name"]].schema.row
        assert table[entry["name"]].startswith(f"| `{entry['name']}` | {noun} | {entry['rows']:,} |")
        assert ("| here |" in table[entry["name"]]) == (entry["name"] in CARRIED)


def test_same_release_same_bytes(wheel: Path, sample_release: Path, tmp_path: Path, run: Run) -> None:
    elsewhere = shutil.copytree(sample_release, tmp_path / "elsewhere")
    for path in elsewhere.iterdir():
        os.utime(path, (0, 0))
        path.chmod(0o600)
    result = run("wheel", elsewhere, "--out", tmp_path / "dist")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'dist' / NAME}\n"
    assert (tmp_path / "dist" / NAME).read_bytes() == wheel.read_bytes()
    assert [path.name for path in (tmp_path / "dist").iterdir()] == [NAME]


def test_its_timestamps_are_source_date_epoch(
    sample_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    with zipfile.ZipFile(room.build_wheel(sample_release, tmp_path)) as archive:
        assert {info.date_time for info in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}


@like_the_published
def test_the_constants(imported: Any) -> None:
    index, prior = imported.IDC_INDEX_PARQUET_FILEPATH, imported.PRIOR_VERSIONS_INDEX_PARQUET_FILEPATH
    assert isinstance(index, Path)
    assert index.read_bytes()[:4] == prior.read_bytes()[:4] == b"PAR1"
    assert index != prior
    assert imported.IDC_INDEX_CSV_ARCHIVE_FILEPATH is None
    assert Version(imported.__version__).major == 25
    assert {
        "IDC_INDEX_CSV_ARCHIVE_FILEPATH",
        "IDC_INDEX_PARQUET_FILEPATH",
        "INDEX_METADATA",
        "PRIOR_VERSIONS_INDEX_PARQUET_FILEPATH",
        "__version__",
    } <= set(imported.__all__)
    with pytest.raises(AttributeError, match="IDC_INDEX"):
        _ = imported.IDC_INDEX


@like_the_published
def test_the_metadata_of_every_index(imported: Any) -> None:
    assert set(imported.INDEX_METADATA) == set(INDICES)
    for name, about in imported.INDEX_METADATA.items():
        assert {"parquet_filepath", "schema_path", "schema", "sql_path", "sql"} <= set(about)
        assert about["schema"] == json.loads(about["schema_path"].read_text(encoding="utf-8"))
        assert about["sql"] == about["sql_path"].read_text(encoding="utf-8")
        assert about["schema"]["table_description"]
        assert {"name", "type", "mode", "description"} <= set(about["schema"]["columns"][0])
        assert (about.get("parquet_filepath") is not None) == (name in CARRIED)
        with pytest.raises(KeyError):
            about["other"]


@everywhere
def test_the_metadata_know_the_release(imported: Any, sample_release: Path) -> None:
    manifest = json.loads((sample_release / "manifest.json").read_text())
    entries = {entry["name"]: entry for entry in manifest["indices"]}
    for name, about in imported.INDEX_METADATA.items():
        parquet = entries[name]["files"][0]
        assert (about["rows"], about["sha256"], about["manifest"]) == (parquet["rows"], parquet["sha256"], manifest)
        assert about["url"].endswith(f"/idc-index-data-artifacts/25.0.0/release_artifacts/{name}.parquet")


@like_the_published
def test_the_metadata_are_plain_dicts(imported: Any) -> None:
    """As the tests of the published package take them."""
    assert isinstance(imported.INDEX_METADATA, dict)
    for name, about in imported.INDEX_METADATA.items():
        assert isinstance(about, dict)
        assert isinstance(about["schema"], dict)
        assert about.copy() == about == {**about}
        assert (about | {"x": 1})["x"] == 1
        assert json.loads(json.dumps(about, default=str))["schema"] == about["schema"]
        assert about.setdefault("sql") == about["sql"]
        about.update(mine=1)
        assert imported.INDEX_METADATA[name].pop("mine") == 1


def test_importing_it_opens_no_file_of_data(unpacked: Path) -> None:
    """What Python opens is seen by an audit hook, which cannot be got around."""
    script = """if True:
        import sys
        opened = []
        sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
        import idc_index_data
        ours = [name for name in opened if "idc_index_data" in name and not name.endswith((".py", ".pyc"))]
        assert not ours, ours
        idc_index_data.INDEX_METADATA["idc_index"]["schema"]
        ours = [name for name in opened if "idc_index_data" in name and not name.endswith((".py", ".pyc"))]
        assert ours and all(name.endswith((".json", ".sql")) for name in ours), ours
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=unpacked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_csv_travels_when_the_release_has_it(run: Run, out: Path, tmp_path: Path) -> None:
    built = run("build", "idc_index", "--csv", "--source", "sample", *RELEASE, "--out", out)
    assert built.exit_code == 0, built.stderr
    refused(
        run("wheel", out, "--out", tmp_path / "dist"),
        1,
        "the wheel would lack prior_versions_index.parquet, which the idc-index client needs\n",
        "--partial",
    )
    wheel = room.build_wheel(out, tmp_path / "dist", partial=True)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("idc_index_data/idc_index.csv.zip") == (out / "idc_index.csv.zip").read_bytes()


def test_an_index_can_be_left_out(run: Run, sample_release: Path, tmp_path: Path) -> None:
    without = ("wheel", sample_release, "--out", tmp_path, "--exclude", "prior_versions_index")
    refused(run(*without), 1, "the wheel would lack prior_versions_index.parquet")
    refused(run(*without, "--exclude", "idc_index"), 1, "lack idc_index.parquet and prior_versions_index.parquet")
    assert not list(tmp_path.iterdir())
    result = run(*without, "--partial")
    assert result.exit_code == 0, result.stderr
    with zipfile.ZipFile(tmp_path / NAME) as archive:
        names = archive.namelist()
    assert "idc_index_data/prior_versions_index.parquet" not in names
    assert "idc_index_data/prior_versions_index_schema.json" in names
    refused(run("wheel", sample_release, "--out", tmp_path, "--exclude", "ct_index"), 2, "ct_index", "idc_index")


def test_too_large_a_wheel_is_refused(
    run: Run, sample_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LIMIT", 100_000)
    refused(run("wheel", sample_release, "--out", tmp_path), 1, NAME, "PyPI", "--exclude")
    assert not list(tmp_path.iterdir())


def test_nearly_too_large_a_wheel_is_told(
    run: Run, sample_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "NEARLY", 100_000)
    result = run("wheel", sample_release, "--out", tmp_path)
    assert result.exit_code == 0
    assert "PyPI takes 100.0 MB" in result.stderr


def test_a_release_that_is_not_whole_is_refused(run: Run, sample_release: Path, tmp_path: Path) -> None:
    release = shutil.copytree(sample_release, tmp_path / "release")
    rewrite("version_metadata_index", lambda table: table.slice(0, 0))(release)
    refused(run("wheel", release, "--out", tmp_path / "dist"), 1, "version_metadata_index.parquet", "verify")
    assert not (tmp_path / "dist").exists()
    refused(run("wheel", tmp_path, "--out", tmp_path / "dist"), 1, str(tmp_path), "not a release")


def test_a_target_that_cannot_be_written_is_named(run: Run, sample_release: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    refused(run("wheel", sample_release, "--out", blocked / "dist"), 1, str(blocked))
