"""`versions.json` and `llms.txt`: what they say, who renews them, and who finds that they are wrong."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from idc_indexer import documents
from idc_indexer.publish import publish as publish_room
from idc_indexer.publish.public_check import check
from idc_indexer.publish.root_files import write_root_files
from idc_indexer.publish.withdraw import withdraw
from idc_indexer.release.manifest import PUBLISHED, Release
from tests.conftest import Run, refused
from tests.emulators.gcs import BUCKET, Gcs
from tests.emulators.places import PREFIX, BucketPlace, FolderPlace, Place
from tests.publish.test_existing_bucket import fill
from tests.publish.test_publish import Releases, promote, publish
from tests.publish.test_publish_crashes import attempt
from tests.support.root_files import LLMS, ROOT, VERSIONS, tells_the_truth

pytestmark = pytest.mark.usefixtures("unverified")


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests verify the releases."""
    monkeypatch.setattr(publish_room, "open_valid", lambda path, _: Release.open(path))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderPlace:
    monkeypatch.setattr("os.fsync", lambda _: None)
    return FolderPlace(tmp_path / "published")


@pytest.fixture
def bucket(run: Run, gcs_service: Gcs, monkeypatch: pytest.MonkeyPatch) -> BucketPlace:
    """A public bucket."""
    place = BucketPlace(gcs_service, monkeypatch)
    assert run("bucket", "setup", "--to", f"gs://{BUCKET}", "--apply").exit_code == 0
    return place


def told(place: Place) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(place.look()[VERSIONS].content)
    return document


def address(bucket: BucketPlace, where: str) -> str:
    return f"{bucket.gcs.url}/{BUCKET}/{PREFIX}/{where}/release_artifacts/"


# --- What they say --------------------------------------------------------------------------------------------------


def test_what_a_store_holds(run: Run, folder: FolderPlace, small_releases: Releases) -> None:
    fill(folder, small_releases)
    assert run("status", "--to", folder.uri).stdout.startswith("25.0.0: unrecorded\n")
    assert run("adopt", "25.0.1", "--to", folder.uri).exit_code == 0
    adopted = {"release_version": "25.0.1", "idc_version": 25}
    assert told(folder) == {"format_version": 1, "current": "25.0.1", "versions": [adopted]}
    publish(folder, small_releases["25.1.0"])
    assert run("withdraw", "25.1.0", "--to", folder.uri, "--reason", "half of nlst is missing").exit_code == 0
    release = Release.open(small_releases["25.1.0"])
    entry = {
        "release_version": "25.1.0",
        "idc_version": 25,
        "idc_release_date": release.idc_release_date,
        "manifest_sha256": release.manifest_sha256,
        "withdrawn": "half of nlst is missing",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", release.idc_release_date)
    assert told(folder) == {"format_version": 1, "current": "25.0.1", "versions": [adopted, entry]}
    text = folder.look()[LLMS].content.decode()
    assert "## current, which is 25.0.1: IDC release 25\n" in text
    assert "25.1.0" not in text
    tells_the_truth(folder.look())


def test_the_links_of_llms_txt_lead_to_objects_and_its_statements_run(
    folder: FolderPlace, small_releases: Releases
) -> None:
    """Its form is that of https://llmstxt.org: a title, a quotation, text, and sections of links."""
    for version in ("25.0.0", "25.0.1", "25.1.0"):
        publish(folder, small_releases[version])
    promote(folder, "25.0.1")
    seen = folder.look()
    text = seen[LLMS].content.decode()
    assert re.match(r"# .+\n\n> .+\n\n", text)
    heads = [line for line in text.splitlines() if line.startswith("#")]
    date = Release.open(small_releases["25.1.0"]).idc_release_date
    assert heads[1:] == [
        f"## current, which is 25.0.1: IDC release 25 of {date}",
        f"## 25.1.0: IDC release 25 of {date}",
    ]
    links = re.findall(r"\[(.+?)\]\((.+?)\)", text)
    assert len(links) == 1 + 2 * 4
    for name, link in links:
        assert link.startswith(f"{PUBLISHED}/")
        assert link.endswith(f"/{name}")
        assert link.removeprefix(f"{PUBLISHED}/") in seen
    (statements,) = re.findall(r"```sql\n(.+?)```", text, re.DOTALL)
    (tables,) = re.findall(r"The tables: (.+)", text)
    with duckdb.connect() as connection:
        views = connection.execute(statements.replace(PUBLISHED, folder.uri)).fetchall()
    assert {name for name, _ in views} - {"release"} == set(tables.split(", "))
    (pattern,) = re.findall(r"`(\S+TABLE\.parquet)`", text)
    for table in tables.split(", "):
        assert pattern.replace("TABLE", table).removeprefix(f"{PUBLISHED}/") in seen


def test_without_an_address_in_a_manifest_it_is_that_of_the_bucket(
    run: Run, bucket: BucketPlace, small_releases: Releases
) -> None:
    fill(bucket, small_releases)
    assert run("adopt", "25.0.0", "--to", bucket.uri).exit_code == 0
    text = bucket.look()[LLMS].content.decode()
    assert f"(https://storage.googleapis.com/{BUCKET}/{PREFIX}/versions.json)" in text
    assert "## 25.0.0: IDC release 25\n" in text


def test_the_example_of_the_docs_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "publishing.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.+?)```", page, re.DOTALL)
    documents.parse(example.encode(), "versions", "the example")
    assert documents.dump(json.loads(example), "versions").decode() == example


# --- Who renews them ------------------------------------------------------------------------------------------------

SPOIL: list[tuple[str, Callable[[Place, str], None]]] = [
    ("is missing", lambda place, name: place.remove(name)),
    ("is out of date", lambda place, name: place.write(name, b'{"format_version": 1, "versions": []}\n')),
]


def test_every_command_makes_a_lost_or_damaged_one_again(run: Run, place: Place, small_releases: Releases) -> None:
    """Also if it finds everything else up to date; and a dry run makes none."""
    run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote")
    run("withdraw", "25.0.0", "--to", place.uri, "--reason", "wrong")
    run("publish", small_releases["25.0.1"], "--to", place.uri, "--promote")
    right = place.look()
    tells_the_truth(right)
    commands = [
        ("publish", small_releases["25.0.0"]),
        ("promote", "25.0.1"),
        ("adopt", "25.0.0"),
        ("withdraw", "25.0.0", "--reason", "wrong"),
    ]
    for command, ((said, spoil), name) in zip(commands, itertools.product(SPOIL, sorted(ROOT)), strict=True):
        spoil(place, name)
        found = run("status", "--to", place.uri)
        assert (found.exit_code, found.stdout.splitlines()[-1]) == (
            3,
            f"{name} {said}: each `publish`, `promote`, `adopt` or `withdraw` renews it",
        )
        spoilt = place.look()
        if command[0] != "withdraw":
            assert run(*command, "--to", place.uri, "--dry-run").exit_code == 0
        assert place.look() == spoilt
        assert run(*command, "--to", place.uri).exit_code == 0
        assert {n: seen.content for n, seen in place.look().items()} == {n: s.content for n, s in right.items()}
    assert run("status", "--to", place.uri).exit_code == 0


def test_other_headers_are_replaced(run: Run, bucket: BucketPlace, small_releases: Releases) -> None:
    """A cache would serve an old file for an hour."""
    run("publish", small_releases["25.0.0"], "--to", bucket.uri, "--promote")
    resource = bucket.gcs.objects()[f"{PREFIX}/{VERSIONS}"]
    assert (resource["contentType"], resource["cacheControl"]) == ("application/json", "no-cache")
    assert bucket.gcs.objects()[f"{PREFIX}/{LLMS}"]["contentType"] == "text/plain"
    bucket.write(VERSIONS, bucket.look()[VERSIONS].content)
    assert "versions.json has Content-Type 'text/plain'" in run("status", "--to", bucket.uri).stdout
    assert run("promote", "25.0.0", "--to", bucket.uri).exit_code == 0
    assert run("status", "--to", bucket.uri).exit_code == 0
    bucket.gcs.overrides = {"cacheControl": "private"}
    bucket.remove(VERSIONS)
    said = attempt(lambda: write_root_files(bucket.store()))
    assert "versions.json has Cache-Control 'private', not 'no-cache', although it was written" in said


def test_two_commands_at_once_end_with_the_truth(folder: FolderPlace, small_releases: Releases) -> None:
    """At each request with which one renews the root files, the other does all that it wants to."""
    publish(folder, small_releases["25.0.0"])
    promote(folder, "25.0.0")
    withdraw("25.0.0", "half of nlst is missing", folder.store())
    folder.without_faults()
    publish(folder, small_releases["25.0.0"])
    renewing, restore = folder.count, folder.save()
    others: list[Callable[[], object]] = [
        lambda: publish(folder, small_releases["25.1.0"]),
        lambda: withdraw("25.0.0", "all of nlst is missing", folder.store()),
    ]
    for other in others:
        restore()
        publish(folder, small_releases["25.0.1"])
        last = folder.count
        for number in range(last - renewing - 6, last):
            restore()
            done: list[object] = []
            folder.between(number, lambda done=done, other=other: done.append(other()))  # type: ignore[misc]
            publish(folder, small_releases["25.0.1"])
            assert done
            tells_the_truth(folder.look())


def test_a_content_that_comes_back_misleads_nobody(folder: FolderPlace, small_releases: Releases) -> None:
    """A promotion was killed before it renewed the root files, and another command is about to do that. Meanwhile
    `current` goes back to the version that they name, so that nothing is to be written.
    """
    for version in ("25.0.0", "25.0.1"):
        publish(folder, small_releases[version])
    promote(folder, "25.0.0")
    old = {name: folder.look()[name].content for name in ROOT}
    promote(folder, "25.0.1")
    for name, content in old.items():
        folder.write(name, content)
    restore, number, acted = folder.save(), 0, [True]

    def go_back() -> None:
        acted.append(True)
        promote(folder, "25.0.0", rollback=True)

    while acted:
        restore()
        acted.clear()
        folder.between(number, go_back)
        publish(folder, small_releases["25.0.1"])
        tells_the_truth(folder.look())
        number += 1
    assert number > 10


def test_how_many_requests_it_takes(bucket: BucketPlace, small_releases: Releases) -> None:
    """As the docs say: a list, the record of `current`, two for each version; two writes and a list if it changes."""
    for version in ("25.0.0", "25.0.1", "25.1.0"):
        publish(bucket, small_releases[version])
    promote(bucket, "25.0.0")
    bucket.without_faults()
    write_root_files(bucket.store())
    assert bucket.count == 1 + 1 + 2 * 3
    for name in ROOT:
        bucket.remove(name)
    bucket.without_faults()
    write_root_files(bucket.store())
    assert bucket.count == 1 + 1 + 2 * 3 + 2 + 1


def test_an_account_that_may_write_versions_only(run: Run, bucket: BucketPlace, small_releases: Releases) -> None:
    bucket.gcs.writable = lambda name: name.startswith(f"{PREFIX}/25.")
    result = run("publish", small_releases["25.0.0"], "--to", bucket.uri)
    refused(
        result, 1, f"{bucket.uri}/llms.txt: could not write it: not allowed: HTTP 403", "all else is done, but", "roles"
    )
    assert run("status", "--to", bucket.uri).stdout.startswith("25.0.0: valid\n")
    bucket.gcs.writable = lambda _: True
    assert run("publish", small_releases["25.0.0"], "--to", bucket.uri).exit_code == 0
    tells_the_truth(bucket.look())


@pytest.mark.parametrize("reason", ["\\ud800", "\\u001b[31m", "x\\u2028y"])
def test_a_hostile_reason_is_data(folder: FolderPlace, small_releases: Releases, reason: str) -> None:
    publish(folder, small_releases["25.0.0"])
    record = f'{{"format_version": 1, "release_version": "25.0.0", "reason": "{reason}"}}'
    folder.write("25.0.0/withdrawal.json", record.encode())
    publish(folder, small_releases["25.0.0"])
    tells_the_truth(folder.look())


# --- Check ----------------------------------------------------------------------------------------------------------


def test_check_compares_versions_json(run: Run, bucket: BucketPlace, small_releases: Releases) -> None:
    run("publish", small_releases["25.0.0"], "--to", bucket.uri, "--promote")
    run("publish", small_releases["25.0.1"], "--to", bucket.uri)
    run("withdraw", "25.0.1", "--to", bucket.uri, "--reason", "wrong")
    right = told(bucket)
    first, second = right["versions"]
    digest = first["manifest_sha256"]
    cases: list[tuple[str, object, str]] = [
        ("current", {**right, "versions": [second]}, "is out of date: it lacks 25.0.0"),
        ("25.0.0", {**right, "versions": [first | {"manifest_sha256": "0" * 64}]}, f"has another digest of {digest}"),
        ("25.0.1", {**right, "versions": [second | {"withdrawn": "other"}]}, "whether 25.0.1 is withdrawn"),
        ("current", {**right, "current": "25.0.1"}, "is out of date: current is 25.0.0, and it says 25.0.1"),
        ("current", {**right, "format_version": 2}, "is damaged: $.format_version"),
        ("25.0.0", "[", "is damaged: not JSON"),
    ]
    for where in ("current", "25.0.0"):
        assert check(address(bucket, where)) == []
    for where, content, said in cases:
        bucket.write(VERSIONS, (content if isinstance(content, str) else json.dumps(content)).encode())
        (problem,) = [one for one in check(address(bucket, where)) if one.file == VERSIONS]
        assert said.partition(" of ")[0] in problem.message
    bucket.remove(VERSIONS)
    assert [str(one) for one in check(address(bucket, "current"))] == ["versions.json: is missing: HTTP 404"]
