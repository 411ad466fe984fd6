"""`check`: what readers may miss is named, on what was really published to a bucket that was really set up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.publish import public_check as room
from idc_indexer.publish.public_check import check
from idc_indexer.publish.records import EXPOSED
from tests.conftest import Run, refused
from tests.emulators.gcs import BUCKET, Gcs
from tests.emulators.places import PREFIX, BucketPlace

Releases = dict[str, Path]
VERSION, CURRENT = "25.0.0/release_artifacts", "current/release_artifacts"
DATA = "collections_index.parquet"
Published = tuple[Gcs, str]


@pytest.fixture
def published(run: Run, gcs_service: Gcs, small_releases: Releases, monkeypatch: pytest.MonkeyPatch) -> Published:
    """A bucket with a release that is current, and its address."""
    place = BucketPlace(gcs_service, monkeypatch)
    monkeypatch.setattr(gcs_service, "answer", lambda _, *answer: answer)
    assert run("bucket", "setup", "--to", f"gs://{BUCKET}", "--apply").exit_code == 0
    assert run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote").exit_code == 0
    return gcs_service, f"{gcs_service.url}/{BUCKET}/{PREFIX}"


def resource(gcs: Gcs, file: str, folder: str = CURRENT) -> dict[str, Any]:
    found: dict[str, Any] = gcs.objects()[f"{PREFIX}/{folder}/{file}"]
    return found


def found(url: str, deep: bool = False) -> dict[str, str]:
    """Problems by file."""
    problems = check(url, deep, sleep=lambda _: None)
    assert len({problem.file for problem in problems}) == len(problems), problems
    return {problem.file: problem.message for problem in problems}


@pytest.mark.parametrize("folder", [VERSION, CURRENT])
@pytest.mark.parametrize("deep", [(), ("--deep",)], ids=["", "deep"])
def test_what_is_published_well(run: Run, published: Published, folder: str, deep: tuple[str, ...]) -> None:
    _, url = published
    result = run("check", f"{url}/{folder}/", *deep)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{url}/{folder}/: OK\n", "")
    assert json.loads(run("check", f"{url}/{folder}", *deep, "--json").stdout) == {"problems": []}


def test_a_report_is_checked_too(run: Run, published: Published, small_releases: Releases, tmp_path: Path) -> None:
    gcs, url = published
    release = shutil.copytree(small_releases["25.1.0"], tmp_path / "release")
    assert run("report", release).exit_code == 0
    assert run("publish", release, "--to", f"gs://{BUCKET}/{PREFIX}").exit_code == 0
    assert found(f"{url}/25.1.0/release_artifacts/", deep=True) == {}
    resource(gcs, "report.html", "25.1.0/release_artifacts")["contentType"] = "text/plain"
    assert found(f"{url}/25.1.0/release_artifacts/") == {"report.html": "has content type text/plain, not text/html"}


def test_private(run: Run, published: Published) -> None:
    gcs, url = published
    gcs.storage.set_bucket_iam_policy(BUCKET, {"bindings": []})
    result = run("check", f"{url}/{CURRENT}")
    assert (result.exit_code, result.stdout) == (3, "manifest.json: is not public: HTTP 403\n")


def test_nothing_there(published: Published) -> None:
    _, url = published
    assert found(f"{url}/24.0.0/release_artifacts") == {"manifest.json": "is missing: HTTP 404"}


RULE: dict[str, Any] = {"origin": ["*"], "method": ["GET", "HEAD"], "responseHeader": list(EXPOSED)}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([], "HEAD has no Access-Control-Allow-Origin"),
        ([RULE | {"origin": ["https://portal.example.com"]}], "HEAD has no Access-Control-Allow-Origin"),
        ([RULE | {"method": ["GET"]}], "HEAD has no Access-Control-Allow-Origin"),
        ([RULE | {"method": ["HEAD"]}], "GET has no Access-Control-Allow-Origin"),
        ([RULE | {"responseHeader": ["Content-Length", "Range"]}], "does not expose Content-Range, Content-Type"),
        ([RULE | {"responseHeader": []}], "preflight (OPTIONS) is refused"),
    ],
)
def test_cross_origin_requests(published: Published, rules: list[dict[str, Any]], message: str) -> None:
    gcs, url = published
    gcs.storage.buckets[BUCKET]["cors"] = rules
    problems = check(f"{url}/{CURRENT}", sleep=lambda _: None)
    named = {problem.file for problem in problems if message in problem.message}
    files = {name.rpartition("/")[2] for name in gcs.objects() if f"/{CURRENT}/" in name}
    assert named == ({DATA} if "preflight" in message else files)


@pytest.mark.parametrize(
    ("folder", "cached"),
    [
        (CURRENT, "public, max-age=3600"),
        (CURRENT, None),
        (CURRENT, "private"),
        (VERSION, "no-cache"),
        (VERSION, "public, max-age=3600"),
        (VERSION, None),
    ],
)
def test_cache_headers(published: Published, folder: str, cached: str | None) -> None:
    gcs, url = published
    resource(gcs, DATA, folder)["cacheControl"] = cached
    (problem,) = found(f"{url}/{folder}").items()
    assert problem[0] == DATA
    assert f"has Cache-Control {cached or 'public, max-age=3600'!r}" in problem[1]


def test_content_type(published: Published) -> None:
    gcs, url = published
    resource(gcs, DATA)["contentType"] = "application/octet-stream"
    expected = "has content type application/octet-stream, not application/vnd.apache.parquet"
    assert found(f"{url}/{CURRENT}") == {DATA: expected}


def test_missing_sidecar(published: Published) -> None:
    gcs, url = published
    gcs.delete(f"{PREFIX}/{CURRENT}/{DATA}.sha256")
    assert found(f"{url}/{CURRENT}") == {f"{DATA}.sha256": "is missing: HTTP 404"}


def spoil(gcs: Gcs, file: str, change: Callable[[bytearray], object]) -> None:
    """Other bytes under the same headers."""
    name = f"{PREFIX}/{CURRENT}/{file}"
    content, about = bytearray(gcs.content(name)), dict(gcs.objects()[name])
    change(content)
    gcs.storage.create_file(BUCKET, name, bytes(content), about)


def flip(content: bytearray) -> None:
    content[len(content) // 2] ^= 1


@pytest.mark.parametrize("file", [DATA, f"{DATA}.sha256", "collections_index.sql"])
def test_corrupted_object(published: Published, file: str) -> None:
    gcs, url = published
    spoil(gcs, file, flip)
    (problem,) = found(f"{url}/{CURRENT}").items()
    assert problem[0] == file
    assert "is corrupted" in problem[1]


def test_a_corrupted_large_object_is_found_by_deep(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    gcs, url = published
    monkeypatch.setattr(room, "SMALL", 1000)
    assert found(f"{url}/{CURRENT}") == {}
    spoil(gcs, DATA, flip)
    assert found(f"{url}/{CURRENT}") == {}
    assert "is corrupted" in found(f"{url}/{CURRENT}", deep=True)[DATA]


def scratch_footer(content: bytearray) -> None:
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[start : start + 32] = b"\xff" * 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop(), "in the manifest"),
        (lambda content: content.__setitem__(slice(-4, None), b"PAR2"), "does not end like Parquet"),
        (scratch_footer, "footer that cannot be read"),
    ],
)
def test_a_large_object_is_read_as_parquet(
    published: Published, monkeypatch: pytest.MonkeyPatch, change: Callable[[bytearray], object], message: str
) -> None:
    gcs, url = published
    monkeypatch.setattr(room, "SMALL", 1000)
    spoil(gcs, DATA, change)
    problems = check(f"{url}/{CURRENT}", sleep=lambda _: None)
    assert {problem.file for problem in problems} == {DATA}
    assert any(message in problem.message for problem in problems)


Headers = dict[str, str]


def shifted(status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
    return status, headers, (b"\0" + body[:-1] if status == 206 else body)


def complete(status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
    return 200 if status == 206 else status, headers, body


def other_range(status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
    return status, headers | ({"Content-Range": "bytes 0-1/2"} if status == 206 else {}), body


def short(status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
    return status, headers, body[:-1] if status == 206 else body


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (shifted, "has other bytes from"),
        (complete, "is not served in parts: HTTP 200"),
        (other_range, "is served in wrong parts"),
        (short, "is served in wrong parts"),
    ],
)
def test_wrong_range_answer(
    published: Published, answer: Callable[[int, Headers, bytes], tuple[int, Headers, bytes]], message: str
) -> None:
    gcs, url = published
    gcs.answer = lambda name, *rest: answer(*rest) if name.endswith(DATA) else rest
    (problem,) = found(f"{url}/{CURRENT}").items()
    assert problem[0] == DATA
    assert message in problem[1]


def test_a_page_to_sign_in_is_not_the_file(published: Published) -> None:
    gcs, url = published
    gcs.put("login", b"<html>Sign in</html>")
    to_login = (302, {"Location": f"{gcs.url}/{BUCKET}/login"}, b"")
    gcs.answer = lambda name, *rest: to_login if name.endswith(DATA) else rest
    problems = check(f"{url}/{CURRENT}")
    assert {problem.file for problem in problems} == {DATA}
    assert any(problem.message.startswith("has content type text/plain, not") for problem in problems)
    assert any(problem.message.startswith("is corrupted: 20 bytes") for problem in problems)


@pytest.mark.parametrize("deep", [False, True])
def test_a_redirect_is_followed(published: Published, deep: bool) -> None:
    """As that of GitHub's release assets: every file is at another address."""
    gcs, url = published
    for name in list(gcs.objects()):
        gcs.storage.create_file(BUCKET, name.replace(CURRENT, "mirror/current"), gcs.content(name), gcs.objects()[name])

    def redirect(name: str, *rest: Any) -> Any:
        elsewhere = name.replace(CURRENT, "mirror/current")
        return (302, {"Location": f"{gcs.url}/{BUCKET}/{elsewhere}"}, b"") if CURRENT in name else rest

    gcs.answer = redirect
    assert set(found(f"{url}/{CURRENT}", deep).values()) <= {
        "may not be read in parts by pages of other sites: the preflight (OPTIONS) is refused"
    }


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://10.0.0.1/x", "private network"),
        ("http://169.254.169.254/computeMetadata/v1/", "private network"),
        ("https://127.0.0.1/x", "another scheme"),
        ("file:///etc/passwd", "another scheme"),
        ("{self}", "more than"),
    ],
)
def test_a_redirect_to_where_it_must_not(run: Run, published: Published, location: str, message: str) -> None:
    gcs, url = published
    address = location.format(self=f"{url}/{CURRENT}/{DATA}")
    gcs.answer = lambda name, *rest: (302, {"Location": address}, b"") if name.endswith(DATA) else rest
    refused(run("check", f"{url}/{CURRENT}"), 1, DATA, message)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\\b", "\ud800", "x\n", "x\x1b[31m", "x" * 300])
def test_a_hostile_name_in_a_manifest(published: Published, name: str) -> None:
    gcs, url = published

    def change(content: bytearray) -> None:
        document = json.loads(content)
        document["indices"][0]["files"][0]["name"] = name
        content[:] = json.dumps(document).encode()

    spoil(gcs, "manifest.json", change)
    assert "is not a manifest" in found(f"{url}/{CURRENT}")["manifest.json"]


def test_a_footer_larger_than_its_file(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    gcs, url = published
    monkeypatch.setattr(room, "SMALL", 1000)
    spoil(gcs, DATA, lambda content: content.__setitem__(slice(-8, -4), b"\xff\xff\xff\x7f"))
    assert found(f"{url}/{CURRENT}") == {DATA: "has a footer that is larger than the file"}


def test_a_cache_header_of_many_digits(published: Published) -> None:
    gcs, url = published
    resource(gcs, DATA, VERSION)["cacheControl"] = "public, max-age=" + "9" * 5000
    assert found(f"{url}/{VERSION}") == {}


def test_a_busy_server_is_asked_again(published: Published) -> None:
    gcs, url = published
    asked: set[str] = set()

    def busy_at_first(name: str, *rest: Any) -> Any:
        answer = rest if name in asked else (503, {}, b"")
        asked.add(name)
        return answer

    gcs.answer = busy_at_first
    assert found(f"{url}/{CURRENT}") == {}


def test_a_release_that_is_replaced_meanwhile(run: Run, published: Published, small_releases: Releases) -> None:
    gcs, url = published
    run("publish", small_releases["25.0.1"], "--to", f"gs://{BUCKET}/{PREFIX}")
    waiting = ["promote"]

    def promote_once(name: str, *rest: Any) -> Any:
        if name.endswith(".sql") and waiting:
            waiting.pop()
            assert run("promote", "25.0.1", "--to", f"gs://{BUCKET}/{PREFIX}").exit_code == 0
        return rest

    gcs.answer = promote_once
    with pytest.raises(IndexerError, match="replaced during the check"):
        check(f"{url}/{CURRENT}")


def test_what_cannot_be_asked(run: Run, published: Published) -> None:
    gcs, _ = published
    with pytest.raises(UsageError):
        check("gs://bucket")
    refused(run("check", "folder"), 2, "not an address")
    gcs.answer = lambda *_: (503, {}, b"")
    with pytest.raises(IndexerError, match="HTTP 503 Service Unavailable, 6 times"):
        check(f"{gcs.url}/{BUCKET}/{PREFIX}/{CURRENT}", sleep=lambda _: None)
    gcs.answer = lambda _, *rest: (rest[0], rest[1], b"{}")
    assert "is not a manifest" in found(f"{gcs.url}/{BUCKET}/{PREFIX}/{CURRENT}")["manifest.json"]
