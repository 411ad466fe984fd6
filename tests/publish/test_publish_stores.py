"""Stores that take liberties with metadata, and responses that are damaged: no wrong state, and no traceback."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from idc_indexer import locks
from idc_indexer.errors import IndexerError
from idc_indexer.publish import promote as promote_room
from idc_indexer.publish import publish as publish_room
from idc_indexer.publish import records
from idc_indexer.publish.records import CURRENT, PROMOTION
from idc_indexer.publish.status import status
from idc_indexer.publish.stores import ABSENT, ConflictError, Headers, open_store
from idc_indexer.publish.stores.local import LocalStore
from idc_indexer.release.manifest import MANIFEST, FileEntry, IndexEntry, Release, folder, sidecar
from tests.conftest import Run, contents, refused
from tests.emulators.gcs import DAMAGED, Gcs
from tests.emulators.places import PREFIX, BucketPlace, FolderPlace, Place
from tests.publish.test_publish import Releases, below, promote, publish
from tests.publish.test_publish_crashes import attempt

ARTIFACTS = folder(CURRENT)


@pytest.fixture
def bucket(gcs_service: Gcs, monkeypatch: pytest.MonkeyPatch) -> BucketPlace:
    return BucketPlace(gcs_service, monkeypatch)


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests verify the releases."""
    monkeypatch.setattr(publish_room, "open_valid", lambda path, _: Release.open(path))


# --- Metadata of others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("merges", [False, True], ids=["adds", "adds and merges"])
def test_metadata_of_others_is_no_difference(
    run: Run, bucket: BucketPlace, small_releases: Releases, merges: bool
) -> None:
    """As in Google's storage testbench: every upload gets keys, and a rewrite keeps those of its source."""
    bucket.gcs.adds, bucket.gcs.merges = {"x_emulator_upload": "multipart", "x_emulator_no_md5": "true"}, merges
    for version in ("25.0.0", "25.0.1"):
        result = run("publish", small_releases[version], "--to", bucket.uri, "--promote")
        assert result.exit_code == 0, result.output
        assert below(bucket.look(), ARTIFACTS) == contents(small_releases[version])
    metadata = bucket.gcs.objects()[f"{PREFIX}/{ARTIFACTS}manifest.json"]["metadata"]
    assert metadata["x_emulator_upload"] == "multipart"
    assert ("release_version" in metadata) == merges
    assert run("status", "--to", bucket.uri).stdout == "25.0.0: valid\n25.0.1: valid\ncurrent: 25.0.1, OK\n"
    before = bucket.look()
    for command in (("publish", small_releases["25.0.1"]), ("promote", "25.0.1")):
        assert run(*command, "--to", bucket.uri).exit_code == 0
    assert bucket.look() == before


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("cacheControl", "private", "has Cache-Control 'private', not '{}'"),
        ("contentType", "binary/octet-stream", "has Content-Type 'binary/octet-stream', not 'text/plain'"),
        ("metadata", {"sha256": "0"}, "has metadata sha256 '0', not '"),
        ("md5Hash", None, "is composite"),
    ],
)
def test_a_store_that_changes_what_is_written_is_named(
    bucket: BucketPlace, small_releases: Releases, key: str, value: object, shown: str
) -> None:
    """The object, the key and both values; after one more write, not after fifty."""
    publish(bucket, small_releases["25.0.0"])
    bucket.gcs.overrides = {key: value}
    with pytest.raises(IndexerError) as caught:
        promote(bucket, "25.0.0")
    assert caught.value.message.startswith(f"{bucket.uri}/{ARTIFACTS}")
    assert shown.format("no-cache") in caught.value.message
    assert "although it was written 2 times" in caught.value.message
    with pytest.raises(IndexerError) as caught:
        publish(bucket, small_releases["25.0.1"])
    assert caught.value.message.startswith(f"{bucket.uri}/25.0.1/release_artifacts/")
    assert shown.format("public, max-age=31536000, immutable") in caught.value.message
    bucket.gcs.overrides = {}
    promote(bucket, "25.0.0")
    assert not status(bucket.store()).problems


# --- Responses ------------------------------------------------------------------------------------------------


def commands(place: Place, release: Path) -> None:
    publish(place, release)
    promote(place, "25.0.1")
    assert status(place.store()).ok


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_response_is_a_message(
    bucket: BucketPlace, small_releases: Releases, damage: str, every: int
) -> None:
    """At each request, or every seventeenth. Running the same commands again completes both."""
    publish(bucket, small_releases["25.0.0"])
    promote(bucket, "25.0.0")
    restore = bucket.save()
    number, said, ended = DAMAGED.index(damage), 0, False
    while not ended:
        restore()
        bucket.fail(number, damage)
        message = attempt(lambda: commands(bucket, small_releases["25.0.1"]))
        said += bool(message)
        assert message.startswith(bucket.uri if message else "")
        ended = bucket.count <= number
        bucket.without_faults()
        commands(bucket, small_releases["25.0.1"])
        assert below(bucket.look(), ARTIFACTS) == contents(small_releases["25.0.1"])
        number += every
    print(f"{damage}: {said} messages of {number // every} damaged responses")
    assert said > 0


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize(("fault", "answer"), [("gone", "HTTP 404"), ("conflict", "HTTP 412"), ("empty", "damaged")])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_service_that_always_says_so(
    bucket: BucketPlace, small_releases: Releases, fault: str, answer: str, method: str
) -> None:
    """The message names the request and the response, and no other program that would be at fault."""
    publish(bucket, small_releases["25.0.0"])
    bucket.gcs.fault = lambda number: fault if bucket.gcs.requests[number].startswith(method) else ""
    for message in (
        attempt(lambda: publish(bucket, small_releases["25.0.1"])),
        attempt(lambda: promote(bucket, "25.0.0")),
    ):
        assert bucket.uri in message
        assert answer in message
        assert "could not" in message or "no such bucket" in message


def test_a_missing_bucket_and_refused_credentials(run: Run, bucket: BucketPlace, small_releases: Releases) -> None:
    release = small_releases["25.0.0"]
    for command in (("publish", release), ("promote", "25.0.0"), ("status",)):
        refused(run(*command, "--to", "gs://my-bucket/x"), 1, "gs://my-bucket/x: there is no such bucket", "--to")
        bucket.gcs.fault = lambda _: "forbidden"
        refused(run(*command, "--to", bucket.uri), 1, bucket.uri, "not allowed: HTTP 403", "roles")
        bucket.without_faults()


def test_an_object_that_went_away_is_not_a_missing_bucket(bucket: BucketPlace) -> None:
    """The service names the bucket in this message, and this bucket may be called bucket."""
    store, headers = bucket.store(), Headers("text/plain", "no-cache", {})
    made = store.put("bucket", b"1", headers, ABSENT)
    store.delete(made)
    requests: list[Callable[[], object]] = [
        lambda: store.read(made),
        lambda: store.copy(made, "a", headers, ABSENT),
        lambda: store.delete(made),
    ]
    for request in requests:
        with pytest.raises(ConflictError, match=r"(bucket|a): could not"):
            request()


# --- Names ----------------------------------------------------------------------------------------------------

HOSTILE = [
    "25.0.0/../../../x", "25.0.0//abs/path", "25.0.0/release_artifacts/../../../x", "../x", "/abs",
    "25.0.0/release_artifacts/a\\..\\b", "25.0.0/release_artifacts/\x1b[31mred", "25.0.0/release_artifacts/a\nb",
    "current/release_artifacts/" + "x" * 300, "current/staged/../../x", "9" * 5000 + ".0.0/x",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_in_a_listing_is_data(
    run: Run, bucket: BucketPlace, small_releases: Releases, name: str
) -> None:
    run("publish", small_releases["25.0.0"], "--to", bucket.uri, "--promote")
    bucket.gcs.put(f"{PREFIX}/{name}", b"planted")
    stray = name.startswith(("25.0.0/release_artifacts/", "current/release_artifacts/"))
    found = run("status", "--to", bucket.uri)
    assert found.exit_code == (3 if stray else 0)
    assert found.exception is None or isinstance(found.exception, SystemExit)
    problems = status(bucket.store())
    assert stray == any(name in said for said in (problems.problems, *(one.problems for one in problems.versions)))


@pytest.mark.parametrize(
    "name", ["../x", "/abs", "a/../../x", "a//x", "a/..", "a/x\\..\\y", "a/\x1b", "a/" + "x" * 300, ""]
)
def test_nothing_is_written_outside_of_a_folder(tmp_path: Path, name: str) -> None:
    store, headers = open_store(str(tmp_path / "store"), new=True), Headers("text/plain", "no-cache", {})
    made = store.put("a/b", b"1", headers, ABSENT)
    with pytest.raises(IndexerError):
        store.put(name, b"2", headers, ABSENT)
    with pytest.raises(IndexerError):
        store.copy(made, name, headers, ABSENT)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name != ".lock") == ["a", "b", "store"]


@pytest.mark.parametrize("version", ["../..", "/", "25.0", "x", "25.0.0/../..", "9" * 5000 + ".0.0", ""])
def test_a_version_is_a_version(run: Run, place: Place, small_releases: Releases, version: str) -> None:
    run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote")
    result = run("promote", "--to", place.uri, "--", version)
    assert result.exit_code == 2, result.output
    assert len(result.stderr) < 400


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["files"].pop(),
        lambda record: record["files"].append(record["files"][0]),
        lambda record: record["files"][0].update(name="a\\..\\b"),
        lambda record: record["files"][0].update(name="x\n"),
        lambda record: record["files"][0].update(name="x" * 300),
        lambda record: record.update(release_version="25.0.0abc"),
        lambda record: record.update(release_version="9" * 5000 + ".0.0"),
    ],
)
def test_a_hostile_record_is_invalid(
    run: Run, place: Place, small_releases: Releases, change: Callable[[dict[str, object]], object]
) -> None:
    run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote")
    name = "25.0.0/publication.json"
    record = json.loads(place.look()[name].content)
    change(record)
    place.write(name, json.dumps(record).encode())
    found = run("status", "--to", place.uri)
    assert (found.exit_code, "25.0.0: damaged" in found.stdout) == (3, True)
    for command in (("promote", "25.0.0"), ("publish", small_releases["25.0.0"])):
        refused(run(*command, "--to", place.uri), 1, "publication.json")


def test_a_hostile_promotion_record_is_replaced(run: Run, place: Place, small_releases: Releases) -> None:
    run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote")
    record = place.look()[PROMOTION].content
    for version in (b"25.0.0abc", b"9" * 5000 + b".0.0"):
        place.write(PROMOTION, record.replace(b"25.0.0", version))
        assert run("status", "--to", place.uri).exit_code == 3
        assert run("promote", "25.0.0", "--to", place.uri).exit_code == 0
        assert run("status", "--to", place.uri).exit_code == 0


# --- Folders --------------------------------------------------------------------------------------------------


def test_reading_a_folder_needs_no_lock_and_writes_nothing(
    run: Run, tmp_path: Path, small_releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may be mounted read-only; root, as which tests may run, writes past permissions."""
    place = FolderPlace(tmp_path / "published")
    run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote")
    (tmp_path / "published" / ".lock").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    real = locks.exclusive

    def elsewhere(path: Path, *arguments: object) -> object:
        assert not path.is_relative_to(tmp_path), path
        return real(path, *arguments)  # type: ignore[arg-type]  # as they are given

    monkeypatch.setattr(locks, "exclusive", elsewhere)
    assert run("status", "--to", place.uri).exit_code == 0
    for command in (("publish", small_releases["25.0.1"]), ("promote", "25.0.0")):
        assert run(*command, "--to", place.uri, "--dry-run").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_what_is_no_file_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "folder" / "pipe")
    (tmp_path / "folder" / "file").write_bytes(b"1")
    assert list(LocalStore(tmp_path).list("")) == ["folder/file"]


def test_what_cannot_be_listed_is_an_error(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    refused(run("status", "--to", tmp_path / "file"), 1, "file", "Not a directory")
    scandir = os.scandir

    def deny(path: str) -> object:
        if str(path).endswith("25.0.0"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    (tmp_path / "store" / "25.0.0").mkdir(parents=True)
    monkeypatch.setattr(os, "scandir", deny)
    refused(run("status", "--to", tmp_path / "store"), 1, "store", "Permission denied")


# --- Imports --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("promote", ["sqlglot", "obstore", "duckdb", "pyarrow", "google.cloud.storage"]),
        ("status", ["sqlglot", "obstore", "duckdb", "pyarrow", "google.cloud.storage"]),
        ("stores.local", ["sqlglot", "obstore", "duckdb", "pyarrow", "google.cloud.storage"]),
        ("publish", ["sqlglot", "obstore", "google.cloud.storage"]),
        ("public_check", ["sqlglot", "obstore", "google.cloud.storage"]),
        ("bucket", ["sqlglot", "obstore", "duckdb", "pyarrow"]),
    ],
)
def test_a_module_loads_what_it_needs(module: str, unused: list[str]) -> None:
    program = f"import sys, idc_indexer.publish.{module}; print(*sys.modules.keys() & set({unused}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- What readers see meanwhile -------------------------------------------------------------------------------


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize(("workers", "most"), [(1, 0.2), (8, 0.75)])
def test_a_parquet_is_followed_by_its_sidecar(
    bucket: BucketPlace,
    small_releases: Releases,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    most: float,
) -> None:
    """Readers that compare the two, at random moments of a promotion of 16 tables.

    Eight workers have eight tables under way. Measured: 4 % of the reads with one worker and 25 % with eight; with
    all Parquet first, 49 % with both.

    The order that promotions had once, all Parquet and then all sidecars, is measured beside it.
    """
    like = Release.open(small_releases["25.0.0"])
    for version in ("25.0.0", "25.0.1"):
        publish_room.publish(many_tables(like, tmp_path, version), bucket.store())
    promote(bucket, "25.0.0")
    restore = bucket.save()
    shares = {}
    for order, key in {"now": records.upload_order, "once": all_parquet_first}.items():
        monkeypatch.setattr(records, "upload_order", key)
        restore()
        reads, mismatches = read_meanwhile(
            bucket, lambda: promote_room.promote("25.0.1", bucket.store(), workers=workers)
        )
        print(f"{order}: {mismatches} of {reads} reads found a Parquet and a sidecar that do not fit")
        assert reads > 100
        shares[order] = mismatches / reads
    assert shares["now"] < most * shares["once"]


def all_parquet_first(name: str) -> tuple[int, str, int]:
    phases = {".parquet": 0, ".sha256": 1}
    return (3 if name.endswith("manifest.json") else phases.get(Path(name).suffix, 2)), name, 0


def many_tables(release: Release, folder: Path, version: str) -> Path:
    """A release of 16 tables, of which publishing looks at names, sizes and digests only."""
    path = folder / version
    path.mkdir()

    def entry(name: str, content: bytes) -> FileEntry:
        (path / name).write_bytes(content)
        return FileEntry(name, len(content), hashlib.sha256(content).hexdigest())

    entries = []
    for table in range(16):
        data = entry(f"t{table}.parquet", f"{version} {table}".encode() * 1000)
        others = (
            entry(f"t{table}.parquet.sha256", sidecar(data.sha256, data.name)),
            entry(f"t{table}_schema.json", b"{}"),
            entry(f"t{table}.sql", b"SELECT 1"),
        )
        digests = others[2].sha256, others[1].sha256
        entries.append(IndexEntry(f"t{table}", 1, *digests, (replace(data, rows=1), *others)))
    made = replace(release, path=path, release_version=version, indices=tuple(entries), derived=(), descriptions=())
    (path / MANIFEST).write_bytes(made.manifest())
    return path


def read_meanwhile(bucket: BucketPlace, act: Callable[[], object]) -> tuple[int, int]:
    """Reads of random tables while `act` writes, and those of them that found a sidecar that does not fit.

    A reader comes whenever the service gets a request, between the first copy and the manifest.
    """
    chance, gcs = random.Random(0), bucket.gcs
    name = f"{PREFIX}/{ARTIFACTS}"
    found: list[bool] = []
    writing = threading.Event()

    def read(number: int) -> str:
        target = unquote(gcs.requests[number]).partition("/rewriteTo/")[2]
        if name in target:
            writing.clear() if target.endswith(MANIFEST) else writing.set()
        time.sleep(0.002)  # so that the copies of all workers are under way together
        with gcs.lock:
            for table in chance.sample(range(16), 8) if writing.is_set() else ():
                data, digest = gcs.content(f"{name}t{table}.parquet"), gcs.content(f"{name}t{table}.parquet.sha256")
                found.append(hashlib.sha256(data).hexdigest() != digest.decode()[:64])
        return ""

    gcs.fault = read
    act()
    bucket.without_faults()
    return len(found), sum(found)
