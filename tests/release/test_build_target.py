"""A build that something goes wrong for: killed, out of room, in a place it must not touch."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result

from idc_indexer.documents import bundled
from tests.conftest import (
    FOREGROUND,
    FULL_DISK,
    IN_WHEEL,
    INDICES,
    OF_ONE_RELEASE,
    RELEASE,
    Build,
    Run,
    Start,
    TinyExport,
    add_index,
    around,
    contents,
    once,
    refused,
    rows,
    setting,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")

# --- Interrupted --------------------------------------------------------------------------------------------


def reported(step: str, errors: str) -> list[str]:
    """The indices that a build says it has done or reused."""
    return [line.split()[1].rstrip(":") for line in errors.splitlines() if line.startswith(f"{step} ")]


@pytest.fixture(scope="session")
def seconds(shared: Path) -> tuple[float, float]:
    """How long a build of the sample that nothing disturbs plans, and then builds."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "idc_indexer", "build", *IN_WHEEL, "--source", "sample", *RELEASE]
        options = ["--out", f"{folder}/release", "--cache-dir", f"{folder}/cache"]
        times = [time.monotonic()]
        with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
            until_building(process)
            times.append(time.monotonic())
            process.communicate()
        times.append(time.monotonic())
        assert process.returncode == 0
        (folder / "times").write_text(json.dumps(times))

    began, planned, done = json.loads((once(shared / "undisturbed", make) / "times").read_text())
    return planned - began, done - planned


def until_building(process: subprocess.Popen[str]) -> None:
    """Wait until a build has planned all and says its first index: most of a small one is before that."""
    assert process.stderr is not None
    assert any(line.startswith(("building ", "reused ")) for line in process.stderr)


@pytest.mark.parametrize(
    "moments",
    [(-0.1, 0.1, 0.5, 0.9), pytest.param((-0.1, 0, 0.2, 0.4, 0.6, 0.8, 0.95), marks=pytest.mark.slow)],
    ids=len,
)
@posix
def test_killed_at_any_moment_then_run_again(
    moments: Sequence[float],
    seconds: tuple[float, float],
    wheel_release: Path,
    start: Start,
    build: Build,
    out: Path,
) -> None:
    """Again and again: at a share of the time of planning, which writes next to nothing, then of that of building."""
    planning, building = seconds
    expected = contents(wheel_release)
    for moment in moments:
        process = start("sample", *IN_WHEEL, "--force")
        if moment < 0:
            time.sleep(planning * (1 + moment))
        else:
            until_building(process)
            time.sleep(building * moment)
        process.kill()
        process.communicate()
        if out.exists():
            assert contents(out) == expected
    again = build("sample", *IN_WHEEL, "--force")
    assert again.exit_code == 0, again.stderr
    assert contents(out) == expected
    assert around(out) == ["release"]
    assert not [path.name for path in (out.parents[1] / "cache").rglob("*") if path.suffix == ".partial"]


@posix
def test_stopped_build_goes_on_where_it_was(sample_release: Path, start: Start, build: Build, out: Path) -> None:
    """Three times, each by another signal and further on."""
    done = 0
    # The index after each takes long: no further one is done before the signal arrives.
    for how, last in (("SIGINT", "clinical_index"), ("SIGTERM", "ct_index"), ("SIGKILL", "mr_index")):
        process = start("sample", first=FOREGROUND)
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith(f"done {last}: "):
                process.send_signal(signal.Signals[how])
                break
        _, errors = process.communicate()
        assert process.returncode != 0
        assert "Traceback" not in errors
        assert reported("reused", "".join(said)) == INDICES[:done]
        done = INDICES.index(last) + 1
        assert around(out)[0] == "release.incomplete"
        (out.with_name("release.incomplete") / ".idc_index.parquet.1.partial").write_bytes(b"half of it")
    again = build("sample")
    assert again.exit_code == 0, again.stderr
    assert reported("reused", again.stderr) == INDICES[:done]
    assert reported("done", again.stderr) == [*INDICES[done:], "tcia_idc_subset"]
    assert contents(out) == contents(sample_release)
    assert around(out) == ["release"]


@pytest.mark.duckdb
@posix
def test_ctrl_c_in_the_middle_of_a_query(start: Start, tiny: TinyExport, out: Path, tmp_path: Path) -> None:
    """It does not wait for the end of the query, here 25^8 rows away, and nobody sees DuckDB's own exception."""
    numbers = " + ".join(f"{table}.idc_version" for table in "abcdefgh")
    joined = " CROSS JOIN ".join(f"`bigquery-public-data.idc_current.version_metadata` AS {t}" for t in "abcdefgh")
    add_index(tmp_path, "slow", f"SELECT MAX({numbers}) AS most FROM {joined} ORDER BY most", most="INTEGER")
    mine = ("--queries", tmp_path / "queries", "--schemas", tmp_path / "schemas")
    process = start(tiny, "slow", *mine, first=FOREGROUND)
    try:
        assert process.stderr is not None
        assert "building slow (1 of 1)\n" in process.stderr
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, output) == (130, "")
    assert "Interrupted. " in errors
    assert "Traceback" not in errors
    assert not out.exists()


@pytest.fixture
def interrupted(tiny: TinyExport, build: Build, out: Path) -> TinyExport:
    """An export whose first build ended, after two indices, over a mistake in the data that is gone now."""
    path = tiny.shard("dicom_all")
    good, modified = path.read_bytes(), path.stat().st_mtime_ns
    tiny.write(setting("SOPClassUID", ["1.2.3"])(pq.read_table(path)), "dicom_all")
    refused(build(tiny, *OF_ONE_RELEASE), 1, "1.2.3")
    assert around(out) == ["release.incomplete"]
    path.write_bytes(good)
    os.utime(path, ns=(modified, modified))
    return tiny


def goes_on(result: Result, run: Run, out: Path, *, keeping: list[str]) -> None:
    """The build was finished, and of what the first one had done it reused just that."""
    assert result.exit_code == 0, result.stderr
    assert reported("reused", result.stderr) == keeping
    assert around(out) == ["release"]
    assert run("verify", out).exit_code == 0


def test_unchanged_indices_are_reused(interrupted: TinyExport, build: Build, run: Run, out: Path) -> None:
    goes_on(build(interrupted, *OF_ONE_RELEASE), run, out, keeping=IN_WHEEL[:2])


def test_other_release_version_keeps_nothing(interrupted: TinyExport, build: Build, run: Run, out: Path) -> None:
    goes_on(build(interrupted, *OF_ONE_RELEASE, "--release-version", "25.0.1"), run, out, keeping=[])
    metadata = pq.read_metadata(out / "collections_index.parquet").metadata
    assert metadata is not None
    assert metadata[b"idc_index_data_version"] == b"25.0.1"


def own(folder: Path, change: Callable[[str, str], str]) -> tuple[object, ...]:
    """Options for an analysis_results_index of one's own: the bundled one, its query and its schema changed."""
    for kind in ("queries", "schemas"):
        (folder / kind).mkdir()
        for path in bundled(kind).glob("analysis_results_index.*"):
            (folder / kind / path.name).write_text(change(kind, path.read_text()))
    return ("--queries", folder / "queries", "--schemas", folder / "schemas")


def test_other_layout_is_written(interrupted: TinyExport, build: Build, run: Run, out: Path, tmp_path: Path) -> None:
    """The published schema does not tell of it, and yet the file depends on it."""

    def without_dictionary(kind: str, text: str) -> str:
        if kind == "queries":
            return text
        document = json.loads(text)
        document["columns"][0]["encoding"] = "PLAIN"
        return json.dumps(document)

    mine = own(tmp_path, without_dictionary)
    goes_on(build(interrupted, *OF_ONE_RELEASE, *mine), run, out, keeping=["collections_index"])
    column = pq.read_metadata(out / "analysis_results_index.parquet").row_group(0).column(0)
    assert not column.has_dictionary_page


@pytest.mark.parametrize("changed", ["queries", "schemas"])
def test_other_query_or_schema_is_published(
    changed: str, interrupted: TinyExport, build: Build, run: Run, out: Path, tmp_path: Path
) -> None:
    """Even one that gives the same rows."""

    def mine_of(kind: str, text: str) -> str:
        said = text.replace("One row for each analysis result", "Mine: each analysis result")
        return said.replace("-- One row", "-- Mine: one row") if kind == changed else text

    mine = own(tmp_path, mine_of)
    goes_on(build(interrupted, *OF_ONE_RELEASE, *mine), run, out, keeping=["collections_index"])
    names = {"queries": "analysis_results_index.sql", "schemas": "analysis_results_index_schema.json"}
    assert {kind: "Mine" in (out / name).read_text() for kind, name in names.items()} == {
        kind: kind == changed for kind in names
    }


def test_other_source_is_read(interrupted: TinyExport, build: Build, run: Run, out: Path) -> None:
    interrupted.change("original_collections_metadata", setting("species", ["Canine"]))
    goes_on(build(interrupted, *OF_ONE_RELEASE), run, out, keeping=["analysis_results_index"])
    assert {row["species"] for row in rows(out, "collections_index")} == {"Canine"}


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_damaged_leftover_is_built_again(
    damage: str, interrupted: TinyExport, build: Build, run: Run, out: Path
) -> None:
    leftover = out.with_name("release.incomplete") / "collections_index.parquet"
    if damage == "changed":
        leftover.write_bytes(leftover.read_bytes()[:-100] + bytes(100))
    else:
        leftover.unlink()
    goes_on(build(interrupted, *OF_ONE_RELEASE), run, out, keeping=["analysis_results_index"])


STATES = ["", "[]", '{"collections_index": 1}', '{"collections_index": {"key": "KEY", "entry": {"name": "x"}}}']


@pytest.mark.parametrize("state", STATES)
def test_damaged_state_keeps_nothing(state: str, interrupted: TinyExport, build: Build, run: Run, out: Path) -> None:
    path = out.with_name("release.incomplete") / "build_state.json"
    key = json.loads(path.read_text())["collections_index"]["key"]
    path.write_text(state.replace("KEY", key))
    goes_on(build(interrupted, *OF_ONE_RELEASE), run, out, keeping=[])


# --- The target ---------------------------------------------------------------------------------------------


def test_release_is_not_overwritten(tiny: TinyExport, build: Build, out: Path) -> None:
    assert build(tiny, *OF_ONE_RELEASE).exit_code == 0
    before = contents(out)
    refused(
        build(tiny, *OF_ONE_RELEASE, "--release-version", "25.0.1"), 2, f"{out}: holds a release already", "--force"
    )
    assert contents(out) == before
    assert around(out) == ["release"]


def test_the_same_build_again_is_up_to_date(tiny: TinyExport, build: Build, run: Run, out: Path) -> None:
    names = ["collections_index", "idc_index", "tcia_idc_subset", "--csv"]
    first = build(tiny, *names)
    before = contents(out)
    again = build(tiny, *names)
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert (
        again.stderr.splitlines()
        == [
            "checking",
            f"{out} is up to date: the inputs are those that it was built from",
            "without gdc_idc_mapping: to build it, give --gdc-url https://api.gdc.cancer.gov",
        ][:2]
    )
    # what a person adds does not make another release of it
    assert run("report", out).exit_code == 0
    assert build(tiny, *names).exit_code == 0
    assert build(tiny, *names, "--dry-run").exit_code == 0
    (out / "report.html").unlink()
    for index in ("collections_index", "idc_index"):
        assert (out / f"{index}.parquet").read_bytes() == before[f"{index}.parquet"]
    # other tables, a damaged file, another source
    refused(build(tiny, *names[1:]), 2, f"{out}: holds a release already")
    content = (out / "idc_index.sql").read_bytes()
    (out / "idc_index.sql").write_bytes(b"")
    refused(build(tiny, *names), 2, f"{out}: holds a release already")
    (out / "idc_index.sql").write_bytes(content)
    assert build(tiny, *names).exit_code == 0
    tiny.change("original_collections_metadata", setting("subjects", [7]))
    refused(build(tiny, *names), 2, f"{out}: holds a release already")
    assert build(tiny, *names, "--force").exit_code == 0
    assert build(tiny, *names).exit_code == 0


def test_a_dry_run_says_what_is_fetched(
    tiny: TinyExport, build: Build, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder whose tables have few columns, nothing is; where they are staged, each table says what."""
    result = build(tiny, "collections_index", "--dry-run")
    assert result.stdout == "idc_v25.original_collections_metadata: nothing to fetch\ntotal: nothing to fetch\n"
    monkeypatch.setattr("idc_indexer.exports.export.NARROW", 0)
    result = build(tiny, "collections_index", "--dry-run")
    assert "$" not in result.stdout
    assert re.fullmatch(r"(.*: 1 shard to fetch, about [\d.]+ kB; [\d.]+ kB on disk\n){2}", result.stdout), (
        result.stdout
    )
    found = json.loads(build(tiny, "collections_index", "--dry-run", "--json").stdout)
    assert found["tables"]["idc_v25.original_collections_metadata"] == found["total"]
    assert found["total"]["shards"] == 1
    assert not out.exists()


def test_release_is_replaced_on_request(tiny: TinyExport, build: Build, run: Run, out: Path) -> None:
    assert build(tiny, *OF_ONE_RELEASE).exit_code == 0
    result = build(tiny, "version_metadata_index", "--release-version", "25.0.1", "--force")
    assert result.exit_code == 0, result.stderr
    names = ("version_metadata_index.parquet", "version_metadata_index.parquet.sha256", "version_metadata_index.sql")
    descriptions = {"SHA256SUMS", "croissant.json", "data-dictionary.md", "idc.duckdb"}
    assert set(contents(out)) == {"manifest.json", "version_metadata_index_schema.json", *names, *descriptions}
    assert json.loads((out / "manifest.json").read_text())["release_version"] == "25.0.1"
    assert around(out) == ["release"]
    assert run("verify", out).exit_code == 0


@pytest.mark.parametrize("when", ["checked", "built"])
def test_release_stays_when_its_replacement_fails(when: str, tiny: TinyExport, build: Build, out: Path) -> None:
    assert build(tiny, *OF_ONE_RELEASE).exit_code == 0
    before = contents(out)
    if when == "checked":
        shutil.rmtree(tiny.folder("version_metadata"))
    else:
        tiny.change("version_metadata", setting("version_timestamp", [None]))
        tiny.change("dicom_all", setting("SOPClassUID", ["1.2.3"]))
    refused(build(tiny, *OF_ONE_RELEASE, "--force", "--release-version", "25.0.1"), 1)
    assert contents(out) == before
    assert "release.replaced" not in around(out)


@pytest.mark.parametrize("content", ["folder", "file", "link to nowhere", "link to a folder"])
def test_target_that_is_no_release_is_left_alone(
    content: str, tiny: TinyExport, build: Build, out: Path, tmp_path: Path
) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "thesis.txt").write_text("three years")
    if content == "folder":
        thesis.rename(out)
    elif content == "file":
        out.write_text("three years")
    else:
        out.symlink_to(thesis if content == "link to a folder" else tmp_path / "nowhere")
    everything = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    for options in ((), ("--force",)):
        refused(build(tiny, "version_metadata_index", *options), 2, f"{out}: exists and is not a")
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == everything


def test_empty_folder_may_be_the_target(tiny: TinyExport, build: Build, run: Run, out: Path) -> None:
    out.mkdir()
    assert build(tiny, "version_metadata_index").exit_code == 0
    assert around(out) == ["release"]
    assert run("verify", out).exit_code == 0


def test_a_link_to_an_empty_folder_is_filled(
    tiny: TinyExport, build: Build, run: Run, out: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    out.symlink_to(disk)
    assert build(tiny, "version_metadata_index").exit_code == 0
    assert out.is_symlink()
    assert around(out) == ["release"]
    assert run("verify", disk).stdout == f"{disk}: OK\n"
    assert "is up to date" in build(tiny, "version_metadata_index").stderr
    refused(
        build(tiny, "version_metadata_index", "--force"), 2, f"{out}: holds a release and cannot be replaced in one"
    )
    assert run("verify", out).exit_code == 0


def test_the_working_directory_is_filled(
    tiny: TinyExport, build: Build, run: Run, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaced by a rename, it would leave the shell in a folder that is gone."""
    out.mkdir()
    before = out.stat().st_ino
    monkeypatch.chdir(out)
    assert build(tiny, "version_metadata_index", "--out", ".").exit_code == 0
    assert out.stat().st_ino == before == Path.cwd().stat().st_ino
    assert run("verify", out).exit_code == 0
    assert around(out) == ["release"]


def test_a_folder_that_is_filled_in_place_is_finished_by_the_next_build(
    tiny: TinyExport, build: Build, run: Run, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two of the moves at the end: no manifest says that it is a release."""
    (disk := out.with_name("disk")).mkdir()
    out.symlink_to(disk)
    moves: list[Path] = []
    replace = Path.replace

    def die(path: Path, target: Path) -> Path:
        if path.parent.name == ".incomplete" and target.parent == out:
            moves.append(target)
            if len(moves) == 3:
                raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", die)
    build(tiny, *OF_ONE_RELEASE)
    monkeypatch.undo()
    left = {path.name for path in disk.iterdir()}
    assert ".incomplete" in left
    assert len(left) == 3
    assert "manifest.json" not in left
    result = build(tiny, *OF_ONE_RELEASE)
    assert result.exit_code == 0, result.stderr
    assert run("verify", disk).stdout == f"{disk}: OK\n"


MOUNTED = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
assert libc.mount(b"tmpfs", {0!r}, b"tmpfs", 0, None) == 0
import atexit, shutil
atexit.register(lambda: shutil.copytree({0!r}.decode(), {1!r}))
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file system")
def test_a_mount_point_is_filled(start: Start, run: Run, out: Path, tmp_path: Path) -> None:
    """As the volume of a container: whatever lies beside it goes with the container."""
    out.mkdir()
    process = start("sample", "version_metadata_index", first=MOUNTED.format(bytes(out), str(tmp_path / "volume")))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert around(out) == ["release"]
    assert list(out.iterdir()) == []  # only the mounted file system was written
    shutil.rmtree(out)
    assert run("verify", tmp_path / "volume").exit_code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities of Linux")
def test_an_empty_folder_in_one_that_cannot_be_written_is_filled(start: Start, run: Run, out: Path) -> None:
    out.mkdir()
    out.parent.chmod(0o555)
    process = start("sample", "version_metadata_index", first=ORDINARY_USER)
    _, errors = process.communicate()
    out.parent.chmod(0o755)
    assert process.returncode == 0, errors
    assert run("verify", out).exit_code == 0


def test_the_root_is_no_target(tiny: TinyExport, build: Build) -> None:
    refused(build(tiny, "version_metadata_index", "--out", Path("/")), 2, "/: exists and is not a release")


def test_folders_on_the_way_are_made(tiny: TinyExport, build: Build, run: Run, out: Path) -> None:
    target = out / "2026" / "it's ready"
    assert build(tiny, "version_metadata_index", "--out", target).exit_code == 0
    assert run("verify", target).exit_code == 0


# Root may read and write everything; without these two capabilities, the bits of a file hold for it too.
ORDINARY_USER = """
import ctypes, os
if os.geteuid() == 0:
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None)
    assert libc.capget(header, sets) == 0
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities of Linux")
@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read only", "not even to look at"])
def test_folder_that_cannot_be_written(mode: int, start: Start, out: Path) -> None:
    out.parent.chmod(mode)
    process = start("sample", "version_metadata_index", first=ORDINARY_USER)
    output, errors = process.communicate()
    out.parent.chmod(0o755)
    assert (process.returncode, output) == (1, ""), errors
    assert errors.startswith(f"Error: {out}: Permission denied\n")
    assert around(out) == []


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities of Linux")
@pytest.mark.parametrize("what", ["folder", "shard"])
def test_source_that_cannot_be_read(what: str, start: Start, tiny: TinyExport, out: Path) -> None:
    path = tiny.folder("version_metadata") if what == "folder" else tiny.shard("version_metadata")
    path.chmod(0)
    process = start(tiny, "version_metadata_index", first=ORDINARY_USER)
    output, errors = process.communicate()
    path.chmod(0o755)
    assert (process.returncode, output) == (1, ""), errors
    assert f"Error: {path}" in errors
    assert "Traceback" not in errors
    assert around(out) == []


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities of Linux")
def test_cache_that_cannot_be_written(start: Start, tiny: TinyExport, out: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o555)
    process = start(tiny, "prior_versions_index", first=ORDINARY_USER)
    output, errors = process.communicate()
    assert (process.returncode, output) == (1, ""), errors
    assert f"Error: {cache}" in errors
    assert "Traceback" not in errors
    assert around(out) == []


@posix
def test_full_disk(start: Start, build: Build, out: Path, wheel_release: Path) -> None:
    """Writing fails half-way."""
    process = start("sample", *IN_WHEEL, first=FULL_DISK.format(50_000))
    output, errors = process.communicate()
    assert (process.returncode, output) == (1, ""), errors
    assert "Traceback" not in errors
    assert "collections_index.parquet: File too large" in errors
    assert not out.exists()
    unfinished = contents(out.with_name("release.incomplete"))
    assert not [name for name in unfinished if name.endswith(".partial")]
    assert "collections_index.parquet" not in unfinished
    again = build("sample", *IN_WHEEL)
    assert again.exit_code == 0, again.stderr
    assert reported("reused", again.stderr) == IN_WHEEL[: IN_WHEEL.index("collections_index")]
    assert contents(out) == contents(wheel_release)


@posix
def test_full_disk_under_the_cache(start: Start, out: Path, environment: dict[str, str]) -> None:
    process = start("sample", "prior_versions_index", first=FULL_DISK.format(100))
    output, errors = process.communicate()
    assert (process.returncode, output) == (1, ""), errors
    assert "Traceback" not in errors
    assert environment["IDC_INDEXER_CACHE_DIR"] in errors
    assert around(out) == []
    assert not list(Path(environment["IDC_INDEXER_CACHE_DIR"]).rglob("*.p*"))


@posix
def test_second_build_to_one_target_is_refused(start: Start, build: Build, out: Path, wheel_release: Path) -> None:
    first = start("sample", *IN_WHEEL)
    assert first.stderr is not None
    for line in first.stderr:
        if line.startswith("building idc_index "):
            break
    first.send_signal(signal.SIGSTOP)
    before = around(out)
    refused(build("sample", *IN_WHEEL), 1, f"{out}: another command is writing there")
    refused(build("sample", *IN_WHEEL, "--force"), 1, f"{out}: another command is writing there")
    assert around(out) == before
    first.send_signal(signal.SIGCONT)
    _, errors = first.communicate()
    assert first.returncode == 0, errors
    assert contents(out) == contents(wheel_release)
    assert around(out) == ["release"]
