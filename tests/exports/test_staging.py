"""An export in a bucket: what is read of it and how often, what becomes of bad retrier, kills, company and change."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idc_indexer import documents
from idc_indexer.cache import Cache
from idc_indexer.catalog import Catalog
from idc_indexer.engines.duckdb import DuckDBEngine
from idc_indexer.exports import export as exports
from idc_indexer.exports import location as places
from idc_indexer.exports import open_export
from idc_indexer.exports import retry as retrier
from idc_indexer.exports.pruning.footer import leaf_paths
from idc_indexer.exports.staging import CONNECTIONS, DAMAGED_TRIES
from idc_indexer.progress import NullListener
from idc_indexer.schema.source_tables import SourceTable
from tests.conftest import (
    FULL_DISK,
    IN_WHEEL,
    INDICES,
    RELEASE,
    Build,
    Run,
    TinyExport,
    around,
    contents,
    once,
    refused,
)
from tests.emulators.loopback import LoopbackServer, QuietHandler
from tests.emulators.s3 import OWNER, S3Server, Seen

BUCKET, PREFIX = "idc-open-metadata", "bigquery_export"
SHARDS, FILLERS = 12, 1_850
DICOM_ALL = f"{BUCKET}/{PREFIX}/idc_v25/dicom_all"
IMAGES = ["seg_index", "sm_index"]
SERIES = ["idc_index", "collections_index"]
ONE_RELEASE = [index for index in INDICES if index != "prior_versions_index"]


def widened(table: pa.Table) -> pa.Table:
    """The table in four blocks of columns, and between them many that nothing reads: most of them empty."""
    chance = np.random.default_rng(0)
    rows, columns, blocks = table.num_rows, table.schema.names, 4
    arrays: dict[str, Any] = {}
    for block in range(blocks):
        of_table, fillers = (
            range(block * all_ // blocks, (block + 1) * all_ // blocks) for all_ in (len(columns), FILLERS)
        )
        arrays |= {columns[number]: table[columns[number]] for number in of_table}
        for number in fillers:
            values = pa.array([[{"Value": str(value)}] for value in chance.integers(0, 99, rows)])
            arrays[f"Filler{number:04}"] = pa.nulls(rows, pa.string()) if number % 5 else values
    return pa.table(arrays)


@pytest.fixture(scope="session")
def wide(shared: Path) -> Path:
    """The sample as a bucket, with a dicom_all of 2,000 leaf columns in 12 shards. Copy it to change it."""

    def make(folder: Path) -> None:
        root = folder / PREFIX
        shutil.copytree(documents.bundled("sample"), root, copy_function=shutil.copyfile)
        shards = root / "idc_v25" / "dicom_all"
        table = pa.concat_tables([pq.read_table(path) for path in sorted(shards.iterdir())])
        for number in range(SHARDS):
            rows = widened(table.take(list(range(number, table.num_rows, SHARDS))))
            path = shards / f"{number:012}.parquet"
            pq.write_table(rows, path, compression="zstd", write_time_adjusted_to_utc=True, write_page_checksum=True)

    return once(shared / "wide", make)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are worth waiting for, in a test."""
    monkeypatch.setattr(retrier, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(places, "SILENCE", timedelta(seconds=0.5))


@pytest.fixture
def s3(wide: Path, environment: dict[str, str]) -> Iterator[S3Server]:
    """The bucket, served; commands find it where they look for the public one."""
    with S3Server({BUCKET: wide}) as server:
        environment.update(server.environment)
        yield server


@pytest.fixture
def stage(run: Run) -> Run:
    def stage(*arguments: object) -> Any:
        return run("stage", "--idc-version", 25, *arguments)

    return stage


def leaves_of(*indices: str) -> set[str]:
    """The leaf columns of dicom_all that these indices read, in lower case."""
    pinned = [index.for_release(25) for index in Catalog().select(indices)]
    return {leaf.path.lower() for index in pinned for leaf in index.statement.leaves if leaf.table.name == "dicom_all"}


def needed(folder: Path, leaves: set[str]) -> dict[str, tuple[int, int]]:
    """Bytes of the footer and of the column chunks of some leaf columns, by shard of dicom_all."""
    found = {}
    for path in sorted((folder / PREFIX / "idc_v25" / "dicom_all").iterdir()):
        metadata = pq.read_metadata(path)
        group = metadata.row_group(0)
        names = leaf_paths(metadata.schema.to_arrow_schema())
        chunks = sum(group.column(place).total_compressed_size for place, name in enumerate(names) if name in leaves)
        with path.open("rb") as file:
            file.seek(-8, 2)
            footer = int.from_bytes(file.read(4), "little") + 8
        found[f"{DICOM_ALL}/{path.name}"] = (footer, chunks)
    return found


def of_dicom_all(seen: Seen) -> dict[str, list[tuple[int, int]]]:
    return {key: ranges for key, ranges in seen.ranges.items() if key.startswith(f"{DICOM_ALL}/")}


def staged(environment: dict[str, str], table: str = "idc_v25.dicom_all") -> list[Path]:
    return sorted(Path(environment["IDC_INDEXER_CACHE_DIR"]).glob(f"staged/*/{table}/[0-9]*.parquet"))


def but_the_manifest(release: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(release).items() if name != "manifest.json"}


# --- What is built, and what is read for it -----------------------------------------------------------------------


def test_a_release_from_the_public_bucket(
    s3: S3Server, run: Run, out: Path, sample_release: Path, environment: dict[str, str]
) -> None:
    """With no option but those required: the same bytes as from a folder, nothing signed, nothing read twice."""
    environment.update(OWNER)
    result = run("build", *RELEASE, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert but_the_manifest(out) == but_the_manifest(sample_release)
    here, there = (json.loads((folder / "manifest.json").read_text()) for folder in (out, sample_release))
    assert here["source"]["kind"] == "s3"
    assert here["source"]["uri"] == f"s3://{BUCKET}/{PREFIX}"
    facts, expected = here["source"]["tables"], there["source"]["tables"]
    assert {table: facts[table]["rows"] for table in facts} == {table: expected[table]["rows"] for table in expected}
    assert facts["idc_v25.dicom_all"]["shards"] == SHARDS
    assert here | {"source": {}} == there | {"source": {}}
    seen = s3.seen()
    assert seen.signed == 0
    assert set(seen.statuses) == {"200", "206"}
    for key, ranges in seen.ranges.items():
        ordered = sorted(ranges)
        assert all(before[1] < after[0] for before, after in pairwise(ordered)), key
    assert run("verify", out).exit_code == 0
    # Past releases are reduced, and what was staged for it is gone.
    cache = Path(environment["IDC_INDEXER_CACHE_DIR"])
    assert len(list((cache / "prior_extracts").glob("*.parquet"))) == 24
    assert {path.parent.name for path in cache.glob("staged/*/*/*.parquet")} == set(facts)
    assert "staged idc_v25, idc_v25_clinical: 20 shards, " in result.stderr
    # Again, and without a network: nothing more is read.
    s3.clear()
    again = run("build", *RELEASE, "--out", out, "--force")
    assert again.exit_code == 0, again.stderr
    assert set(s3.seen().requests) == {"list"}
    s3.clear()
    offline = run("build", *RELEASE, "--out", out.parent / "offline", "--offline")
    assert offline.exit_code == 0, offline.stderr
    assert not s3.seen().requests
    assert contents(out.parent / "offline") == contents(out)


def test_only_what_is_needed_is_read(s3: S3Server, stage: Run, wide: Path, environment: dict[str, str]) -> None:
    result = stage(*ONE_RELEASE)
    assert result.exit_code == 0, result.stderr
    seen = s3.seen()
    leaves = leaves_of(*ONE_RELEASE)
    by_shard = needed(wide, leaves)
    assert len(by_shard) == SHARDS
    for key, (footer, chunks) in by_shard.items():
        assert footer + chunks <= seen.bytes[key] <= 1.15 * (footer + chunks)
        size = (wide / key.removeprefix(f"{BUCKET}/")).stat().st_size
        assert [last for _, last in seen.ranges[key]].count(size - 1) == 1
    requests = sum(map(len, of_dicom_all(seen).values()))
    assert requests <= 6 * SHARDS
    # The listings: one for each table, and the releases.
    tables = [*(wide / PREFIX / "idc_v25").iterdir(), *(wide / PREFIX / "idc_v25_clinical").iterdir()]
    assert seen.requests["list"] == 1 + len(tables)
    assert {frozenset(pq.read_table(path).schema.names) for path in staged(environment)} == {
        frozenset(pq.read_table(staged(environment)[0]).schema.names)
    }
    assert "staged idc_v25, idc_v25_clinical: 20 shards, " in result.stderr
    (said,) = re.findall(r"in ([\d,]+) requests", result.stderr)
    assert 0 < int(said.replace(",", "")) <= seen.requests["get"]


def test_other_indices_take_only_what_is_missing(
    s3: S3Server, stage: Run, run: Run, wide: Path, environment: dict[str, str], out: Path
) -> None:
    assert stage(*IMAGES).exit_code == 0
    s3.clear()
    assert stage(*SERIES).exit_code == 0
    missing = needed(wide, leaves_of(*SERIES) - leaves_of(*IMAGES))
    seen = s3.seen()
    for key, (footer, chunks) in missing.items():
        assert footer + chunks <= seen.bytes[key] <= 1.15 * (footer + chunks)
    s3.clear()
    both = stage(*SERIES, *IMAGES)
    assert (both.exit_code, both.stderr) == (0, "all tables are staged\n")
    assert not s3.seen().ranges
    assert len(staged(environment)) == SHARDS
    built = run("build", *SERIES, *IMAGES, *RELEASE, "--out", out, "--offline")
    assert built.exit_code == 0, built.stderr
    plain = run("build", *SERIES, *IMAGES, *RELEASE, "--out", out.parent / "plain", "--source", "sample")
    assert plain.exit_code == 0, plain.stderr
    assert but_the_manifest(out) == but_the_manifest(out.parent / "plain")


@pytest.mark.usefixtures("s3")
def test_shards_with_more_columns_than_others_do_no_harm(
    stage: Run, run: Run, environment: dict[str, str], out: Path, tmp_path: Path
) -> None:
    """As staging leaves them that was killed while it added some: nested fields in the first shards and the last."""
    assert stage(*IMAGES).exit_code == 0
    more = tmp_path / "more"
    assert stage(*IMAGES, "ann_group_index", "rtstruct_index", "pt_index", "--cache-dir", more).exit_code == 0
    for number in (0, 1, SHARDS - 1):
        for path in more.glob(f"staged/*/idc_v25.dicom_all/{number:012}-*"):  # the shard and its digest
            (target,) = Path(environment["IDC_INDEXER_CACHE_DIR"]).glob(f"staged/*/idc_v25.dicom_all/{path.name}")
            shutil.copy(path, target)
    result = run("build", *IMAGES, *RELEASE, "--out", out, "--offline")
    assert result.exit_code == 0, result.stderr
    plain = run("build", *IMAGES, *RELEASE, "--out", out.parent / "plain", "--source", "sample")
    assert but_the_manifest(out) == but_the_manifest(out.parent / "plain")
    assert plain.exit_code == 0


def test_a_wide_folder_is_staged_and_a_narrow_one_read_in_place(
    wide: Path, build: Build, run: Run, environment: dict[str, str], out: Path
) -> None:
    result = build(wide / PREFIX, "collections_index", "seg_index")
    assert result.exit_code == 0, result.stderr
    assert len(staged(environment)) == SHARDS
    assert {path.parent.name for path in staged(environment, "*")} == {"idc_v25.dicom_all"}
    shown = run("cache").stdout
    assert shown.startswith(f"idc_v25.dicom_all of {wide / PREFIX}: {SHARDS} shards, ")
    before = but_the_manifest(out)
    assert build("sample", "collections_index", "seg_index", "--force").exit_code == 0
    assert but_the_manifest(out) == before
    assert len(list(Path(environment["IDC_INDEXER_CACHE_DIR"]).glob("staged/*"))) == 1
    assert exports.NARROW < FILLERS


def test_progress_on_a_terminal(s3: S3Server, stage: Run, environment: dict[str, str]) -> None:
    environment["FORCE_COLOR"] = "1"
    s3.set(latency=0.05)
    result = stage("seg_index")
    assert result.exit_code == 0, result.output
    assert "staging idc_v25" in result.stderr
    assert re.search(rf"\d of {SHARDS} shards, [\d.]+ MB of [\d.]+ MB, [\d.]+ MB/s, \d+ s left", result.stderr)


# --- Retrier ------------------------------------------------------------------------------------------------------

KINDS = {"slow down": "status 503", "error": "status 500", "reset": "connection lost", "truncated": "connection lost"}
KINDS |= {"stall": "no answer in time", "flipped": "damaged bytes"}


def test_transient_errors_change_nothing(s3: S3Server, run: Run, out: Path) -> None:
    """One request in twenty fails in each of six ways, listings too."""
    s3.set(faults=dict.fromkeys(KINDS, 0.05), page=5)
    result = run("build", *SERIES, *IMAGES, *RELEASE, "--out", out)
    assert result.exit_code == 0, result.stderr
    seen = s3.seen()
    assert seen.faults.keys() == set(KINDS)
    (said,) = re.findall(r"(\d+) were made again \((.*)\)", result.stderr)
    assert set(re.findall(r"([a-z][a-z \d]+): \d+", said[1])) <= set(KINDS.values())
    assert 0 < int(said[0]) <= seen.faults.total()
    s3.set(faults={})
    calm = run("build", *SERIES, *IMAGES, *RELEASE, "--out", out.parent / "calm", "--cache-dir", out.parent / "cache")
    assert calm.exit_code == 0, calm.stderr
    assert contents(out) == contents(out.parent / "calm")


@pytest.mark.parametrize("fault", ["slow down", "flipped"])
def test_errors_that_stay_end_the_command_which_continues_later(
    fault: str, s3: S3Server, stage: Run, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stage("seg_index").exit_code == 0
    monkeypatch.setattr(exports, "ATTEMPTS", 3)
    s3.set(faults={fault: 1 if fault == "flipped" else 0.45}, seed=1)
    failed = stage("seg_index", "idc_index", "sm_index")
    assert failed.exit_code == 1
    assert re.search(r"Error: s3://idc-open-metadata/bigquery_export/\S+", failed.stderr)
    assert "The shards that are staged already stay in the cache" in failed.stderr
    s3.set(faults={})
    assert stage("seg_index", "idc_index", "sm_index").exit_code == 0
    assert len(staged(environment)) == SHARDS


# --- Kills and company --------------------------------------------------------------------------------------------


def process(environment: dict[str, str], *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "idc_indexer", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | environment, **pipes)


def stage_killed(
    s3: S3Server, environment: dict[str, str], times: int, requests: int, *indices: str
) -> tuple[int, int]:
    """Stage, killed again and again at random moments: no shard that is staged is ever fetched again.

    Args:
        requests: that staging takes when nobody kills it.

    Returns:
        How many kills there were, and how many bytes were sent in all.
    """
    chance = random.Random(7)
    kills = sent = 0
    while True:
        s3.clear()
        before = {f"{DICOM_ALL}/{path.name[:12]}.parquet" for path in staged(environment)}
        running = process(environment, "stage", "--idc-version", 25, *indices)
        limit = chance.randrange(max(1, 3 * requests // times))
        while running.poll() is None and (kills >= times or s3.seen().requests.total() < limit):
            time.sleep(0.005)
        done = running.poll() is not None
        if not done:
            running.send_signal(signal.SIGKILL)
            kills += 1
        _, errors = running.communicate()
        seen = s3.seen()
        sent += seen.total
        assert not before & seen.ranges.keys()
        if done:
            assert running.returncode == 0, errors
            return kills, sent


def test_killed_again_and_again(s3: S3Server, stage: Run, run: Run, environment: dict[str, str], out: Path) -> None:
    indices = [*SERIES, *IMAGES]
    alone = ("--cache-dir", out.parent / "cache")
    assert stage(*indices, *alone).exit_code == 0
    undisturbed = s3.seen()
    s3.set(latency=0.03)
    kills, _ = stage_killed(s3, environment, 4, undisturbed.requests.total(), *indices)
    assert kills >= 2
    for options in (("--out", out), ("--out", out.parent / "plain", *alone)):
        built = run("build", *indices, *RELEASE, "--offline", *options)
        assert built.exit_code == 0, built.stderr
    assert contents(out) == contents(out.parent / "plain")


@pytest.mark.slow
def test_killed_twenty_times_among_many_shards(
    wide: Path, stage: Run, environment: dict[str, str], tmp_path: Path, out: Path
) -> None:
    many = shutil.copytree(wide, tmp_path / "many", copy_function=os.link)
    shards = many / PREFIX / "idc_v25" / "dicom_all"
    for number in range(SHARDS, 600):
        os.link(shards / f"{number % SHARDS:012}.parquet", shards / f"{number:012}.parquet")
    with S3Server({BUCKET: many}) as s3:
        environment.update(s3.environment)
        assert stage(*SERIES, *IMAGES, "--cache-dir", out.parent / "cache").exit_code == 0
        undisturbed = s3.seen()
        s3.set(latency=0.03)
        kills, sent = stage_killed(s3, environment, 20, undisturbed.requests.total(), *SERIES, *IMAGES)
        assert kills >= 15
        # A kill loses the shards in flight and nothing else: of the 5,000 shards of a real export, at most 32, 0.6 %.
        shard = max(undisturbed.bytes[key] for key in of_dicom_all(undisturbed))
        assert CONNECTIONS / 5_000 < 0.01
        assert sent - undisturbed.total <= kills * CONNECTIONS * shard


def test_two_processes_share_the_work(s3: S3Server, stage: Run, environment: dict[str, str], out: Path) -> None:
    assert stage(*IMAGES, "--cache-dir", out.parent / "cache").exit_code == 0
    alone = s3.seen().total
    s3.clear()
    s3.set(latency=0.2)
    both = [process(environment, "stage", "--idc-version", 25, *IMAGES) for _ in range(2)]
    said = [running.communicate()[1] for running in both]
    assert [running.returncode for running in both] == [0, 0], said
    assert sum("waiting for another process, which stages idc_v25" in errors for errors in said) == 1
    # Both may have looked at one footer of each table.
    assert s3.seen().total <= 1.1 * alone
    assert len(staged(environment)) == SHARDS


# --- Change -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["another", "gone"])
def test_an_object_that_changes_after_it_was_listed_is_named(
    how: str, wide: Path, stage: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    mine = shutil.copytree(wide, tmp_path / "mine")
    shards = mine / PREFIX / "idc_v25" / "dicom_all"
    with S3Server({BUCKET: mine}) as s3:
        environment.update(s3.environment)
        key = f"{DICOM_ALL}/000000000007.parquet"
        shutil.copy(shards / "000000000003.parquet", tmp_path / "new")
        s3.set(replaced={key: (str(tmp_path / "new"), 1)})
        if how == "gone":
            s3.set(replaced={})
            assert stage("idc_index").exit_code == 0
            listing = next(Path(environment["IDC_INDEXER_CACHE_DIR"]).glob("staged/*/idc_v25.dicom_all/listing.json"))
            assert len(json.loads(listing.read_text())["objects"]) == SHARDS
            s3.set(replaced={key: (str(tmp_path / "new"), 0)})
        result = stage("idc_index", "seg_index")
        refused(result, 1, f"{PREFIX}/idc_v25/dicom_all/000000000007.parquet: changed or removed after it was listed")
        assert "run the same command again" in result.stderr
        assert stage("idc_index", "seg_index").exit_code == 0
    # What was kept of the older one is gone.
    assert len(staged(environment)) == SHARDS


# --- Offline, the cache -------------------------------------------------------------------------------------------


def test_offline_without_having_staged(run: Run, s3: S3Server, stage: Run, out: Path) -> None:
    build = ("build", *RELEASE, "--out", out, "--offline")
    refused(run(*build, "idc_index"), 1, "IDC release 25 is not there", "idc-indexer stage")
    assert stage("seg_index").exit_code == 0
    s3.clear()
    few = run(*build, "seg_index", "idc_index")
    refused(few, 1, f"{SHARDS} of {SHARDS} shards of idc_v25.dicom_all are not staged", "Run `idc-indexer stage`")
    assert "nothing of table idc_v25.auxiliary_metadata is staged" in few.stderr
    assert not s3.seen().requests
    assert around(out) == []


@pytest.mark.usefixtures("s3")
def test_the_cache_is_shown_and_removed(run: Run, stage: Run, environment: dict[str, str]) -> None:
    root = Path(environment["IDC_INDEXER_CACHE_DIR"])
    assert run("cache").output.endswith(f"{root}: 0 bytes\n")
    assert stage("collections_index", "version_metadata_index", "ann_index").exit_code == 0
    shown = run("cache")
    source = f"s3://{BUCKET}/{PREFIX}"
    assert (
        f"idc_v25.dicom_all of {source}: {SHARDS} shards, {len(leaves_of('ann_index'))} leaf columns, " in shown.stdout
    )
    document = json.loads(run("cache", "--json").stdout)
    assert [one["name"] for one in document["kept"]] == [
        "idc_v25.dicom_all", "idc_v25.original_collections_metadata", "idc_v25.version_metadata",
    ]  # fmt: skip
    assert {one["source"] for one in document["kept"]} == {source}
    dicom_all = document["kept"][0]
    assert (dicom_all["shards"], dicom_all["leaves"]) == (SHARDS, len(leaves_of("ann_index")))
    assert dicom_all["bytes"] == sum(path.stat().st_size for path in staged(environment))
    refused(run("cache", "remove"), 2, "nothing to remove is named")
    refused(run("cache", "remove", "idc_v24"), 2, "nothing is kept of idc_v24")
    folder = Cache(root).table(source, SourceTable(25, False, "dicom_all"))
    with folder.used():
        refused(run("cache", "remove", "idc_v25.dicom_all"), 1, "idc_v25.dicom_all: another process uses it")
    with folder.written():
        refused(run("cache", "remove", "idc_v25.dicom_all"), 1, "idc_v25.dicom_all: another process uses it")
    assert len(staged(environment)) == SHARDS
    assert run("cache", "remove", "idc_v25.dicom_all").stdout.startswith("removed idc_v25.dicom_all: ")
    assert staged(environment) == []
    assert len(staged(environment, "*")) == 2
    assert run("cache", "remove", "--all").exit_code == 0
    assert json.loads(run("cache", "--json").stdout)["kept"] == []
    assert stage("collections_index").exit_code == 0


def test_a_cache_is_not_removed_under_a_build(s3: S3Server, stage: Run, run: Run, environment: dict[str, str]) -> None:
    assert stage("idc_index").exit_code == 0
    s3.clear()
    s3.set(latency=0.3)
    running = process(environment, "stage", "--idc-version", 25, "idc_index", "seg_index")
    try:
        while len(of_dicom_all(s3.seen())) < 2:
            time.sleep(0.01)
        refused(run("cache", "remove", "idc_v25.dicom_all"), 1, "idc_v25.dicom_all: another process uses it")
        assert running.communicate()[0] == "idc_index, seg_index of IDC release 25: staged\n"
        assert running.returncode == 0
    finally:
        running.kill()
        running.communicate()
    assert len(staged(environment)) == SHARDS


@pytest.mark.usefixtures("s3")
def test_of_a_past_release_only_what_nobody_else_wants_is_removed(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", environment["AWS_ENDPOINT_URL"])
    (index,) = Catalog().select(["prior_versions_index"])
    leaves = [
        leaf for leaf in index.for_release(25).statement.leaves if leaf.table == SourceTable(24, False, "dicom_all")
    ]
    export = open_export(f"s3://{BUCKET}/{PREFIX}", cache_dir=Path(environment["IDC_INDEXER_CACHE_DIR"]))
    with export.plan(leaves).stage(NullListener()):
        export.discard(leaves)  # it is in use
        assert len(staged(environment, "idc_v24.dicom_all")) == 1
    export.discard(leaves[1:])  # somebody wanted one more
    assert len(staged(environment, "idc_v24.dicom_all")) == 1
    export.discard(leaves)
    assert staged(environment, "idc_v24.dicom_all") == []


@pytest.mark.usefixtures("s3")
def test_past_releases_are_staged_together_as_far_as_there_is_room(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as find room where the largest table does: all beside a large one that is built, else some."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", environment["AWS_ENDPOINT_URL"])
    cache = Cache(Path(environment["IDC_INDEXER_CACHE_DIR"]))
    index = Catalog().indices["prior_versions_index"].for_release(25)

    def past() -> int:
        paths = cache.root.glob("staged/*/*/*.parquet")
        return sum(path.stat().st_size for path in paths if path.parent.name != "idc_v25.dicom_all")

    class Watching(NullListener):
        def __init__(self) -> None:
            self.said: list[str] = []
            self.kept: list[int] = []

        def message(self, line: str) -> None:
            self.said.append(line)
            self.kept.append(past())

    def run_it() -> Watching:
        listener = Watching()
        export = open_export(f"s3://{BUCKET}/{PREFIX}", cache_dir=cache.root)
        engine = DuckDBEngine(export, cache.root / "temporary", listener=listener)
        with engine.plan([index]).running([index]):
            assert past() == 0
        return listener

    first = run_it()
    counts = [int(count) for line in first.said[1:] for count in re.findall(r": (\d+) shards", line)]
    assert sum(counts) == 24 + SHARDS
    assert len(counts) < 24
    assert cache.remove(["prior_extracts"])
    again = run_it()
    together = [
        (kept, int(re.findall(r": (\d+) shards", line)[0]))
        for line, kept in zip(again.said, again.kept, strict=True)
        if kept
    ]
    assert sum(shards for _, shards in together) == 24
    assert len(together) < 24
    largest_alone = max(kept for kept, shards in together if shards == 1)
    assert all(kept <= largest_alone for kept, shards in together if shards > 1)


@pytest.mark.usefixtures("s3")
def test_a_damaged_staged_shard_is_fetched_again_or_named(
    stage: Run, run: Run, out: Path, environment: dict[str, str]
) -> None:
    assert stage("idc_index").exit_code == 0
    first, second, third, *_ = staged(environment)
    first.write_bytes(first.read_bytes()[:-100])
    assert stage("idc_index").exit_code == 0
    assert pq.read_metadata(first).num_rows > 0
    data = third.read_bytes()
    third.write_bytes(data[:4] + b"\xff" * 20_000 + data[20_004:])
    assert stage("idc_index", "seg_index").exit_code == 0
    # One flipped byte of a page decodes, into another value: only the digest shows it.
    before = {path.name: path.read_bytes() for path in staged(environment)}
    flipped = bytearray(second.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    second.write_bytes(flipped)
    offline = run("build", "idc_index", *RELEASE, "--out", out, "--offline")
    refused(offline, 1, f"{second}: damaged", "idc-indexer stage")
    again = run("build", "idc_index", *RELEASE, "--out", out)
    assert again.exit_code == 0, again.stderr
    assert "1 staged shards of idc_v25.dicom_all have changed since they were written: they are staged" in again.stderr
    assert {path.name for path in staged(environment)} == before.keys()


@pytest.mark.usefixtures("s3")
def test_a_damaged_extract_is_made_again(run: Run, out: Path, environment: dict[str, str]) -> None:
    build = ("build", "prior_versions_index", *RELEASE, "--out", out, "--force")
    assert run(*build).exit_code == 0
    before = contents(out)
    path = sorted((Path(environment["IDC_INDEXER_CACHE_DIR"]) / "prior_extracts").glob("*.parquet"))[3]
    data, rows = path.read_bytes(), sorted(map(str, pq.read_table(path).to_pylist()))
    path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    assert run(*build).exit_code == 0
    assert contents(out) == before
    assert sorted(map(str, pq.read_table(path).to_pylist())) == rows  # in any order: DuckDB uses several threads


# --- What cannot be -----------------------------------------------------------------------------------------------


def test_mistakes_are_found_before_the_network(s3: S3Server, run: Run, out: Path) -> None:
    build = ("build", "--out", out, "--idc-version", 25)
    refused(run(*build, "--release-version", "24.0.0"), 2, "release version")
    refused(run(*build, "--release-version", "25.0.0", "no_such_index"), 2, "no index is called no_such_index")
    refused(run(*build, "--release-version", "25.0.0", "--memory-limit", "lots"), 2, "--memory-limit")
    refused(run(*build, "--release-version", "25.0.0", "--source", "s3://"), 2, "s3://: not the address of an export")
    refused(run(*build, "--release-version", "25.0.0", "--source", "https://a.b/c"), 2, "not the address of an export")
    out.mkdir()
    (out / "mine").touch()
    refused(run(*build, "--release-version", "25.0.0"), 2, "is not a release")
    assert not s3.seen().requests


@pytest.mark.usefixtures("s3")
def test_what_is_not_there(run: Run, stage: Run) -> None:
    assert run("releases").stdout.splitlines()[-1] == "25 (newest)"
    refused(stage("--source", "s3://no-such-bucket/x"), 1, "s3://no-such-bucket/x: there is no such bucket")
    refused(stage("--source", f"s3://{BUCKET}/elsewhere"), 1, "IDC release 25 is not there", "no folder named idc_vNN")
    refused(run("stage", "--idc-version", 99), 1, "IDC release 99 is not there", "It has 1, 2, 3, ")
    missing = "idc_v25/dicom_all/000000000099.parquet"
    refused(stage("--exclude-shard", missing), 2, f"--exclude-shard {missing}: s3://{BUCKET}/{PREFIX} has no such file")


def test_no_network(run: Run, stage: Run, environment: dict[str, str], out: Path) -> None:
    environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    for result in (stage("idc_index"), run("build", *RELEASE, "--out", out), run("releases")):
        refused(
            result,
            1,
            f"s3://{BUCKET}/{PREFIX}: no connection (connection refused), {retrier.FIRST_ATTEMPTS} times in a row",
            "--offline",
        )
        assert result.stderr.count("Error: ") == 1
    assert around(out) == []


def test_a_bucket_in_another_region(run: Run, environment: dict[str, str]) -> None:
    class Redirecting(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(301)
            self.send_header("x-amz-bucket-region", "eu-west-1")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with LoopbackServer(Redirecting) as server:
        environment["AWS_ENDPOINT_URL"] = server.url
        result = run("releases", "--source", "s3://mirror/export")
    refused(result, 1, "s3://mirror/export: the bucket is in another region", "Set AWS_REGION")


def test_no_room(s3: S3Server, stage: Run, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1_000))
    result = stage("idc_index")
    refused(result, 1, environment["IDC_INDEXER_CACHE_DIR"], " are needed there, and 1.0 kB are free", "--cache-dir")
    assert max(map(len, of_dicom_all(s3.seen()).values())) <= 2
    assert len(of_dicom_all(s3.seen())) == 1


def test_disk_full(s3: S3Server, environment: dict[str, str]) -> None:
    """The first file that grows beyond what there is room for is named; nothing half-written is taken for a shard."""
    program = f"{FULL_DISK.format(10_000)}\nfrom idc_indexer.cli import main\nmain(prog_name='idc-indexer')"
    command = [sys.executable, "-c", program, "stage", "--idc-version", "25", "idc_index"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stderr
    assert environment["IDC_INDEXER_CACHE_DIR"] in done.stderr
    assert "Traceback" not in done.stderr
    assert staged(environment) == []
    assert s3.seen().requests


def test_cache_that_cannot_be_written(s3: S3Server, stage: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    refused(stage("idc_index", "--cache-dir", file), 1, f"{file}", "--cache-dir")
    # Only what a dry run looks at, too: one footer.
    assert len(of_dicom_all(s3.seen())) == 1


@pytest.mark.usefixtures("s3")
def test_a_dry_run_needs_no_cache_that_can_be_written(stage: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert stage("idc_index", "--dry-run", "--cache-dir", file / "below").exit_code == 0


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_private_and_other_buckets(scheme: str, wide: Path, run: Run, environment: dict[str, str], out: Path) -> None:
    with S3Server({"mirror": wide, "private": wide}, private=["private"]) as s3:
        build = ("build", "collections_index", *RELEASE, "--out", out)
        if scheme == "gs":
            environment["STORAGE_EMULATOR_HOST"] = s3.url
        environment.update(s3.environment)
        public = run(*build, "--source", f"{scheme}://mirror/{PREFIX}/")
        assert public.exit_code == 0, public.stderr
        source = json.loads((out / "manifest.json").read_text())["source"]
        assert (source["kind"], source["uri"]) == (scheme, f"{scheme}://mirror/{PREFIX}")
        assert s3.seen().signed == 0
        private = f"{scheme}://private/{PREFIX}"
        refused(
            run(*build, "--force", "--source", private), 1, f"{private}: access denied (AccessDenied)", "environment"
        )
        if scheme == "s3":
            environment.update(OWNER)
            signed = run(*build, "--force", "--source", private)
            assert signed.exit_code == 0, signed.stderr
            assert "uri" not in json.loads((out / "manifest.json").read_text())["source"]
            assert s3.seen().signed > 0


def test_a_profile_is_read(
    wide: Path, run: Run, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "credentials").write_text(
        f"[idc]\naws_access_key_id = {OWNER['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {OWNER['AWS_SECRET_ACCESS_KEY']}\n"
    )
    environment |= {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "AWS_PROFILE": "idc"}
    with S3Server({"private": wide}, private=["private"]) as s3:
        environment |= s3.environment
        result = run("releases", "--source", f"s3://private/{PREFIX}")
        assert result.exit_code == 0, result.stderr
        environment["AWS_PROFILE"] = "nobody"
        refused(run("releases", "--source", f"s3://private/{PREFIX}"), 1, "no credentials", "nobody")


def test_shards_of_another_schema_are_named_once_they_are_met(
    wide: Path, stage: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    mine = shutil.copytree(wide, tmp_path / "mine")
    path = mine / PREFIX / "idc_v25" / "dicom_all" / "000000000005.parquet"
    whole = pq.read_table(path)
    pq.write_table(whole.drop_columns(["Modality"]), path)
    with S3Server({BUCKET: mine}) as s3:
        environment.update(s3.environment)
        refused(
            stage("idc_index"),
            1,
            "idc_v25.dicom_all: 000000000005.parquet of another schema",
            "modality is string in the first shard and absent in 000000000005.parquet",
            "--exclude-shard",
        )
        left = ("--exclude-shard", "idc_v25/dicom_all/000000000005.parquet")
        assert stage("idc_index", *left).exit_code == 0
        # Columns that nothing reads may differ.
        pq.write_table(whole.drop_columns(["Filler0001"]), path)
        warned = stage("idc_index")
        assert warned.exit_code == 0, warned.stderr
        assert (
            "warning: s3://idc-open-metadata/bigquery_export: idc_v25.dicom_all: 000000000005.parquet" in warned.stderr
        )
        s3.clear()
        shutil.copy(path.with_name("000000000004.parquet"), path)
        assert stage("idc_index").exit_code == 0
        assert set(of_dicom_all(s3.seen())) == {f"{DICOM_ALL}/000000000005.parquet"}


def test_columns_are_checked_before_anything_else_is_read(
    tiny: TinyExport, run: Run, environment: dict[str, str], out: Path
) -> None:
    """All that is wrong with a bucket is named at once, after one footer of each table."""
    tiny.change("dicom_all", lambda table: table.drop_columns(["StudyDate"]))
    tiny.change("version_metadata", lambda table: table.slice(0, 0))
    shutil.rmtree(tiny.folder("auxiliary_metadata"))
    (tiny.folder("dicom_metadata_curated") / "000000000000.parquet").write_text("not Parquet")
    with S3Server({"mine": tiny.root}) as s3:
        environment.update(s3.environment)
        result = run("build", *IN_WHEEL, *RELEASE, "--out", out, "--source", "s3://mine")
        refused(result, 1, "idc_v25.dicom_all has no column StudyDate", "table idc_v25.auxiliary_metadata is not there")
        assert "idc_v25/dicom_metadata_curated/000000000000.parquet: not a complete Parquet file" in result.stderr
        read = {key: len(ranges) for key, ranges in s3.seen().ranges.items()}
        assert read.pop("mine/idc_v25/dicom_metadata_curated/000000000000.parquet") == DAMAGED_TRIES
        assert set(read.values()) == {1}
    assert around(out) == []
