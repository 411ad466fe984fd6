"""Publish, promote, status: what they do in a folder and in a bucket, and what they refuse."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.publish import promote as promote_room
from idc_indexer.publish import publish as publish_room
from idc_indexer.publish.records import IMMUTABLE, PROMOTION
from idc_indexer.publish.status import status
from idc_indexer.publish.stores import ABSENT, ConflictError, Headers, open_store
from idc_indexer.release.manifest import Release
from tests.conftest import Run, contents, refused
from tests.emulators.gcs import BUCKET, Gcs
from tests.emulators.places import PREFIX, BucketPlace, Place, Seen
from tests.support.damage import change_byte

Releases = dict[str, Path]
CURRENT = "current/release_artifacts/"


def publish(place: Place, release: Path) -> None:
    publish_room.publish(release, place.store(), workers=1)


def promote(place: Place, version: str, rollback: bool = False) -> None:
    promote_room.promote(version, place.store(), rollback=rollback, workers=1)


def below(seen: dict[str, Seen], folder: str) -> dict[str, bytes]:
    """Contents below a folder, by name in it."""
    return {name.removeprefix(folder): found.content for name, found in seen.items() if name.startswith(folder)}


def done(result: Result) -> Any:
    """What a command printed as JSON."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# --- What publishing writes -------------------------------------------------------------------------------------------


def test_a_release_is_published_and_promoted(run: Run, place: Place, small_releases: Releases) -> None:
    release = small_releases["25.0.0"]
    result = run("publish", release, "--to", place.uri)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].startswith("publish 25.0.0: create 14, replace 0, remove 0, keep 0; ")
    assert below(place.look(), "25.0.0/release_artifacts/") == contents(release)
    assert not below(place.look(), "current/")

    waiting = run("status", "--to", place.uri)
    assert (waiting.exit_code, waiting.stdout) == (3, "25.0.0: valid\ncurrent: no version was promoted\n")

    result = run("promote", "25.0.0", "--to", place.uri)
    assert (result.exit_code, result.stderr) == (0, "")
    assert below(place.look(), CURRENT) == contents(release)
    assert not below(place.look(), "current/staged/")
    found = run("status", "--to", place.uri)
    assert (found.exit_code, found.stdout) == (0, "25.0.0: valid\ncurrent: 25.0.0, OK\n")
    assert done(run("status", "--to", place.uri, "--json")) == {
        "ok": True,
        "versions": [{"version": "25.0.0", "state": "valid", "problems": {}, "withdrawn": ""}],
        "current": "25.0.0",
        "recorded": True,
        "promoting": False,
        "problems": {},
        "root_files": {},
    }


def test_publish_can_promote_too(run: Run, place: Place, small_releases: Releases) -> None:
    report = done(run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote", "--json"))
    assert {step["action"] for step in report["publish"] + report["promote"]} == {"create"}
    assert below(place.look(), CURRENT) == contents(small_releases["25.0.0"])


def test_repeated_commands_write_nothing(run: Run, place: Place, small_releases: Releases) -> None:
    for _ in range(2):
        before = place.look()
        report = done(run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote", "--json"))
    assert {step["action"] for step in report["publish"] + report["promote"]} == {"keep"}
    assert place.look() == before


def test_the_next_release_replaces_what_differs_only(run: Run, place: Place, small_releases: Releases) -> None:
    run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote")
    before = place.look()
    run("publish", small_releases["25.0.1"], "--to", place.uri)
    report = done(run("promote", "25.0.1", "--to", place.uri, "--json"))
    after = place.look()
    assert below(after, CURRENT) == contents(small_releases["25.0.1"])
    actions = {step["name"].removeprefix(CURRENT): step["action"] for step in report["promote"]}
    assert actions["version_metadata_index.parquet"] == actions["manifest.json"] == "replace"
    assert actions["version_metadata_index.sql"] == actions["version_metadata_index_schema.json"] == "keep"
    assert actions["analysis_results_index.parquet"] == "create"
    assert actions["collections_index.parquet"] == "remove"
    for name, action in actions.items():
        if action == "keep":
            assert after[CURRENT + name] == before[CURRENT + name]
    assert {name: seen for name, seen in after.items() if name.startswith("25.0.0/")} == {
        name: seen for name, seen in before.items() if name.startswith("25.0.0/")
    }


def test_rollback_is_said_explicitly(run: Run, place: Place, small_releases: Releases) -> None:
    for version in ("25.0.0", "25.1.0"):
        run("publish", small_releases[version], "--to", place.uri, "--promote")
    before = place.look()
    refused(run("promote", "25.0.0", "--to", place.uri), 2, "older than 25.1.0", "--rollback")
    assert place.look() == before
    assert run("promote", "25.0.0", "--to", place.uri, "--rollback").exit_code == 0
    assert below(place.look(), CURRENT) == contents(small_releases["25.0.0"])
    refused(run("publish", small_releases["25.0.0"], "--to", place.uri, "--rollback"), 2, "--promote")


@pytest.mark.parametrize("command", ["publish", "promote"])
def test_a_dry_run_prints_what_is_then_done(run: Run, place: Place, small_releases: Releases, command: str) -> None:
    run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote")
    arguments = ["publish", small_releases["25.0.1"], "--to", place.uri]
    if command == "promote":
        assert run(*arguments).exit_code == 0
        arguments = ["promote", "25.0.1", "--to", place.uri]
    before = place.look()
    shown = run(*arguments, "--dry-run")
    planned = done(run(*arguments, "--dry-run", "--json"))
    assert place.look() == before
    performed = done(run(*arguments, "--json"))
    assert planned[command] == performed[command]
    assert " to create, " in shown.stdout.splitlines()[-1]
    after = place.look()
    for step in performed[command]:
        existed, exists = step["name"] in before, step["name"] in after
        assert (existed, exists) == {
            "create": (False, True),
            "keep": (True, True),
            "replace": (True, True),
            "remove": (True, False),
        }[step["action"]]
        if exists:
            assert len(after[step["name"]].content) == step["bytes"]


# --- Refusals ----------------------------------------------------------------------------------------


def test_a_published_version_never_changes(run: Run, place: Place, small_releases: Releases) -> None:
    run("publish", small_releases["25.0.1"], "--to", place.uri)
    before = place.look()
    theirs = hashlib.sha256((small_releases["25.0.1"] / "manifest.json").read_bytes()).hexdigest()
    result = run("publish", small_releases["other"], "--to", place.uri)
    refused(result, 1, "published as 25.0.1", theirs, "won", "analysis_results_index.parquet", "another version")
    assert place.look() == before


def test_an_object_of_other_content_stops_all(run: Run, place: Place, small_releases: Releases) -> None:
    """Also where no record says who put it there."""
    name = "25.0.0/release_artifacts/collections_index.sql"
    place.write(name, b"SELECT 1")
    before = place.look()
    refused(run("publish", small_releases["25.0.0"], "--to", place.uri), 1, name, "other content", "nothing")
    assert place.look() == before
    place.remove(name)
    place.write("25.0.0/release_artifacts/more.txt", b"")
    refused(run("publish", small_releases["25.0.0"], "--to", place.uri), 1, "more.txt", "not of 25.0.0")


def test_an_invalid_release_is_refused(run: Run, place: Place, small_releases: Releases, tmp_path: Path) -> None:
    release = shutil.copytree(small_releases["25.0.0"], tmp_path / "release")
    change_byte("collections_index.parquet")(release)
    refused(run("publish", release, "--to", place.uri), 1, "collections_index.parquet", "verify")
    assert place.look() == {}


def test_an_incomplete_version_is_not_promoted(run: Run, place: Place, small_releases: Releases) -> None:
    publish(place, small_releases["25.1.0"])
    refused(run("promote", "25.0.0", "--to", place.uri), 1, "25.0.0 was not published", "idc-indexer adopt")
    run("publish", small_releases["25.0.0"], "--to", place.uri)
    place.remove("25.0.0/release_artifacts/manifest.json")
    before = place.look()
    refused(run("promote", "25.0.0", "--to", place.uri), 1, "manifest.json is missing")
    assert place.look() == before


@pytest.mark.parametrize("uri", ["s3://bucket", "gs://", "gs:///x", "gs://Bucket", "https://x/y"])
def test_other_stores_are_refused(run: Run, small_releases: Releases, uri: str) -> None:
    refused(run("publish", small_releases["25.0.0"], "--to", uri), 2, "not a store to publish to", "gs://bucket")


# --- What others do -----------------------------------------------------------------------------------------


def test_what_is_changed_behind_our_back_is_named_and_repaired(
    run: Run, place: Place, small_releases: Releases
) -> None:
    run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote")
    complete = {name: seen.content for name, seen in place.look().items() if name != PROMOTION}

    place.write(f"{CURRENT}collections_index.sql", b"SELECT 1")
    place.remove(f"{CURRENT}manifest.json")
    place.write(f"{CURRENT}more.txt", b"")
    found = run("status", "--to", place.uri)
    assert found.exit_code == 3
    assert "current: 25.0.0, damaged" in found.stdout
    for problem in (
        "collections_index.sql: has other content",
        "manifest.json: is missing",
        "more.txt: is not of 25.0.0",
    ):
        assert f"    {CURRENT}{problem}" in found.stdout
    assert run("promote", "25.0.0", "--to", place.uri).exit_code == 0
    assert {name: seen.content for name, seen in place.look().items() if name != PROMOTION} == complete

    place.write("25.0.0/release_artifacts/collections_index.sql", b"SELECT 1")
    found = run("status", "--to", place.uri)
    assert found.exit_code == 3
    assert "25.0.0: damaged\n    25.0.0/release_artifacts/collections_index.sql: has other content" in found.stdout
    refused(run("promote", "25.0.0", "--to", place.uri), 1, "collections_index.sql has other content")
    place.remove("25.0.0/release_artifacts/collections_index.sql")
    assert run("publish", small_releases["25.0.0"], "--to", place.uri).exit_code == 0
    assert run("status", "--to", place.uri).exit_code == 0
    assert {name: seen.content for name, seen in place.look().items() if name != PROMOTION} == complete


@pytest.mark.parametrize("record", [b"{}", b"nonsense", b'{"format_version": 1, "id": 3}'])
def test_unreadable_records_are_found(run: Run, place: Place, small_releases: Releases, record: bytes) -> None:
    run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote")
    place.write(PROMOTION, record)
    assert run("status", "--to", place.uri).exit_code == 3
    assert run("promote", "25.0.0", "--to", place.uri).exit_code == 0
    assert run("status", "--to", place.uri).exit_code == 0
    place.write("25.0.0/publication.json", record)
    found = run("status", "--to", place.uri)
    assert found.exit_code == 3
    assert "25.0.0: damaged" in found.stdout
    refused(run("promote", "25.0.0", "--to", place.uri), 1, "publication.json")


def test_what_another_tool_published_is_told_apart(run: Run, place: Place, small_releases: Releases) -> None:
    """As it is today: no records, and a `current` that readers may cache."""
    for file in small_releases["25.0.0"].iterdir():
        place.write(f"25.0.0/release_artifacts/{file.name}", file.read_bytes())
        place.write(f"{CURRENT}{file.name}", file.read_bytes())
    place.write(f"{CURRENT}old.parquet", b"")
    found = run("status", "--to", place.uri)
    assert (found.exit_code, found.stdout) == (
        3,
        "25.0.0: unrecorded\ncurrent: damaged\n"
        "    current/release_artifacts/: has 14 files, and no version has the same\n",
    )
    before = place.look()
    refused(run("promote", "25.0.1", "--to", place.uri), 1, "25.0.1 was not published")
    publish(place, small_releases["25.0.1"])
    published = place.look()
    refused(run("promote", "25.0.1", "--to", place.uri), 2, "has 14 files that no record explains", "adopt VERSION")
    refused(run("promote", "25.0.1", "--to", place.uri, "--dry-run"), 2, "no record explains")
    assert place.look() == published
    assert before.items() <= published.items()
    assert run("promote", "25.0.1", "--to", place.uri, "--replace-unrecorded").exit_code == 0
    found = run("status", "--to", place.uri)
    assert (found.exit_code, found.stdout) == (
        0,
        "25.0.0: unrecorded\n25.0.1: valid\ncurrent: 25.0.1, OK\n",
    )


def test_an_unfinished_publication_is_no_damage(run: Run, place: Place, small_releases: Releases) -> None:
    run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote")
    place.without_faults()
    place.cut(8, after=False)
    with pytest.raises(IndexerError):
        publish(place, small_releases["25.0.1"])
    place.without_faults()
    found = run("status", "--to", place.uri)
    assert found.exit_code == 0
    assert "25.0.1: unfinished" in found.stdout
    refused(run("publish", small_releases["other"], "--to", place.uri), 1, "is being published", "remove its folder")


# --- Google Cloud Storage -----------------------------------------------------------------------------------


@pytest.fixture
def bucket(gcs_service: Gcs, monkeypatch: pytest.MonkeyPatch) -> BucketPlace:
    return BucketPlace(gcs_service, monkeypatch)


def test_readers_are_told_what_they_get(run: Run, bucket: BucketPlace, small_releases: Releases) -> None:
    run("publish", small_releases["25.0.0"], "--to", bucket.uri, "--promote")
    objects = bucket.gcs.objects()
    kinds = {
        "collections_index.parquet": "application/vnd.apache.parquet",
        "collections_index.parquet.sha256": "text/plain",
        "collections_index.sql": "application/sql",
        "collections_index_schema.json": "application/json",
        "manifest.json": "application/json",
    }
    for name, kind in kinds.items():
        digest = hashlib.sha256((small_releases["25.0.0"] / name).read_bytes()).hexdigest()
        published = objects[f"{PREFIX}/25.0.0/release_artifacts/{name}"]
        assert (published["contentType"], published["cacheControl"]) == (kind, IMMUTABLE)
        assert published["metadata"] == {"sha256": digest, "release_version": "25.0.0", "idc_version": "25"}
        current = objects[f"{PREFIX}/{CURRENT}{name}"]
        assert (current["contentType"], current["cacheControl"]) == (kind, "no-cache")
        assert current["metadata"] == {"sha256": digest}
        assert current["md5Hash"] == published["md5Hash"]


def test_other_headers_are_found_and_repaired(run: Run, bucket: BucketPlace, small_releases: Releases) -> None:
    run("publish", small_releases["25.0.0"], "--to", bucket.uri, "--promote")
    name = f"{PREFIX}/{CURRENT}collections_index.parquet"
    bucket.gcs.objects()[name]["cacheControl"] = "public, max-age=3600"
    found = run("status", "--to", bucket.uri).stdout
    assert "collections_index.parquet: has Cache-Control 'public, max-age=3600', not 'no-cache'" in found
    assert run("promote", "25.0.0", "--to", bucket.uri).exit_code == 0
    assert run("status", "--to", bucket.uri).exit_code == 0
    bucket.gcs.objects()[name]["md5Hash"] = None
    assert "is composite" in run("status", "--to", bucket.uri).stdout
    assert run("promote", "25.0.0", "--to", bucket.uri).exit_code == 0
    assert bucket.gcs.objects()[name]["md5Hash"]


@pytest.mark.parametrize("fault", ["busy", "throttled", "reset", "truncated", "lost"])
def test_what_fails_in_passing_is_overcome(bucket: BucketPlace, small_releases: Releases, fault: str) -> None:
    """Every second request fails at first."""
    bucket.gcs.fault = lambda number: fault if number % 2 else ""
    publish(bucket, small_releases["25.0.0"])
    promote(bucket, "25.0.0")
    bucket.without_faults()
    assert status(bucket.store()).ok


def test_a_large_file_goes_up_in_parts_and_survives_breaks(bucket: BucketPlace, tmp_path: Path) -> None:
    """And is copied in several requests."""
    large = tmp_path / "large"
    large.write_bytes(hashlib.shake_256(b"").digest((17 << 20) + 3))
    store, headers = bucket.store(), Headers("text/plain", "no-cache", {"a": "b"})
    bucket.gcs.fault = lambda number: {1: "reset", 3: "busy", 5: "lost"}.get(number, "")
    made = store.put("large", large, headers, ABSENT)
    assert (made.bytes, made.checksum) == (large.stat().st_size, store.checksum(large))
    assert sum(request.startswith("PUT") for request in bucket.gcs.requests) > 3
    assert bucket.look()["large"].content == large.read_bytes()
    with pytest.raises(ConflictError):
        store.put("large", large, headers, ABSENT)
    bucket.without_faults()
    bucket.gcs.rewrite_bytes = 1 << 20
    copy = store.copy(made, "copy", headers, ABSENT)
    assert (copy.checksum, copy.headers, len(bucket.gcs.requests)) == (made.checksum, headers, 2)


def test_preconditions_are_the_services(bucket: BucketPlace) -> None:
    store, headers = bucket.store(), Headers("text/plain", "no-cache", {})
    first = store.put("a", b"1", headers, ABSENT)
    second = store.put("a", b"2", headers, first.generation)
    assert store.read(second) == b"2"
    with pytest.raises(ConflictError):
        store.read(first)
    with pytest.raises(ConflictError):
        store.put("a", b"3", headers, first.generation)
    with pytest.raises(ConflictError):
        store.put("b", b"3", headers, first.generation)
    with pytest.raises(ConflictError):
        store.copy(first, "b", headers, ABSENT)
    with pytest.raises(ConflictError):
        store.copy(second, "a", headers, ABSENT)
    with pytest.raises(ConflictError):
        store.delete(first)
    store.delete(second)
    with pytest.raises(ConflictError):
        store.delete(second)
    assert store.list("") == {}


def test_an_unreachable_service_is_named(run: Run, bucket: BucketPlace) -> None:
    bucket.gcs.fault = lambda _: "dead"
    refused(run("status", "--to", bucket.uri), 1, bucket.uri, "HTTP 418")
    bucket.without_faults()
    refused(run("status", "--to", "gs://nowhere"), 1, "nowhere")


def test_the_address_of_an_upload_session_is_not_told(bucket: BucketPlace, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(9 << 20))
    bucket.gcs.fault = lambda number: "dead" if bucket.gcs.requests[number].startswith("PUT") else ""
    with pytest.raises(IndexerError) as caught:
        bucket.store().put("large", large, Headers("text/plain", "no-cache", {}), ABSENT)
    (session,) = bucket.gcs.sessions
    assert session not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_no_credentials_are_asked_for_by_name(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    refused(run("status", "--to", "gs://artifacts"), 1, f"{tmp_path / 'none.json'}: no such file", "unset")


# --- Bucket setup -------------------------------------------------------------------------------------------


def test_a_bucket_is_set_up(run: Run, bucket: BucketPlace) -> None:
    settings = bucket.gcs.storage.buckets[BUCKET]
    other = {"origin": ["https://example.com"], "method": ["PUT"], "responseHeader": [], "maxAgeSeconds": 1}
    settings["cors"] = [other]
    owner = {"role": "roles/storage.admin", "members": ["user:someone@example.com"]}
    bucket.gcs.storage.set_bucket_iam_policy(BUCKET, {"version": 1, "etag": "CAE=", "bindings": [owner]})
    shown = run("bucket", "setup", "--to", f"gs://{BUCKET}")
    assert shown.exit_code == 3
    assert shown.stdout.count("missing: ") == 3
    assert settings["cors"] == [other]
    assert run("bucket", "setup", "--to", f"gs://{BUCKET}", "--apply").exit_code == 0
    settings = bucket.gcs.storage.buckets[BUCKET]
    assert settings["cors"][1:] == [other]
    assert settings["cors"][0]["method"] == ["GET", "HEAD"]
    assert settings["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]
    reader = {"role": "roles/storage.objectViewer", "members": ["allUsers"]}
    assert bucket.gcs.storage.get_bucket_iam_policy(BUCKET)["bindings"] == [owner, reader]
    again = run("bucket", "setup", "--to", f"gs://{BUCKET}")
    assert (again.exit_code, again.stdout.count(": set\n")) == (0, 3)
    assert len(done(run("bucket", "setup", "--to", f"gs://{BUCKET}", "--json"))) == 3


def test_a_bucket_that_forbids_the_public_is_left_alone(run: Run, bucket: BucketPlace) -> None:
    bucket.gcs.storage.buckets[BUCKET]["iamConfiguration"]["publicAccessPrevention"] = "enforced"
    refused(run("bucket", "setup", "--to", f"gs://{BUCKET}", "--apply"), 1, "public access prevention")
    assert "cors" not in bucket.gcs.storage.buckets[BUCKET]
    refused(run("bucket", "setup", "--to", "folder"), 2, "not a bucket")


# --- Stores -------------------------------------------------------------------------------------------------


def test_a_release_that_changes_while_it_is_published_is_not(
    place: Place, small_releases: Releases, tmp_path: Path
) -> None:
    release = shutil.copytree(small_releases["25.0.0"], tmp_path / "release")
    place.between(3, lambda: change_byte("collections_index.sql")(release))
    with pytest.raises(IndexerError, match=r"collections_index\.sql changed"):
        publish(place, release)
    assert "25.0.0/release_artifacts/collections_index.sql" not in place.look()
    assert "25.0.0/release_artifacts/manifest.json" not in place.look()


def test_many_workers_do_the_same(place: Place, small_releases: Releases) -> None:
    for version in ("25.0.0", "25.1.0"):
        publish_room.publish(small_releases[version], place.store())
        promote_room.promote(version, place.store())
        assert status(place.store()).ok
        assert below(place.look(), CURRENT) == contents(small_releases[version])


def test_a_folder_obeys_preconditions(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), new=True)
    headers = Headers("text/plain", "no-cache", {})
    first = store.put("a/b", b"1", headers, ABSENT)
    with pytest.raises(ConflictError):
        store.put("a/b", b"2", headers, ABSENT)
    second = store.put("a/b", b"1", headers, first.generation)
    assert second.generation > first.generation
    with pytest.raises(ConflictError):
        store.copy(first, "c", headers, ABSENT)
    with pytest.raises(ConflictError):
        store.delete(first)
    (tmp_path / "store" / "a" / "b").write_bytes(b"3")
    with pytest.raises(ConflictError):
        store.read(second)
    (found,) = store.list("a/").values()
    assert store.read(found) == b"3"
    assert store.list("b") == {}
    store.delete(found)
    assert store.list("") == {}


def test_an_older_version_is_a_mistake_of_the_request(place: Place, small_releases: Releases) -> None:
    for version in ("25.0.0", "25.0.1"):
        publish(place, small_releases[version])
    promote(place, "25.0.1")
    with pytest.raises(UsageError):
        promote(place, "25.0.0")


def test_files_are_published_as_they_are_listed(place: Place, small_releases: Releases) -> None:
    publish(place, small_releases["25.1.0"])
    listed = {file.name for file in Release.open(small_releases["25.1.0"]).files} | {"manifest.json"}
    assert below(place.look(), "25.1.0/release_artifacts/").keys() == listed
