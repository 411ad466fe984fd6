"""What two clients see of the S3 server of the tests is what they would see of S3."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
import pytest
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError
from obstore.store import S3Store
from pyarrow import fs

from tests.emulators.s3 import FAULTS, OWNER, REGION, ROOT, S3Server

if TYPE_CHECKING:
    from obstore.store import RetryConfig

KEYS = ["a/b&c d.bin", "a/nested/one", "a/nested/two", "a/zero", "a/ü+%20.bin", "b"]
CONTENT = random.Random(7).randbytes(700_001)
ONE_TRY: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=5)}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bucket")
    for key in KEYS:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if key == "a/zero" else CONTENT)
    return folder


@pytest.fixture
def s3(bucket: Path) -> Iterator[S3Server]:
    with S3Server({"public": bucket, "private": bucket}, private=["private"], page=2) as server:
        yield server


def store(s3: S3Server, name: str = "public", signed: bool = False, timeout: str = "5s", **changes: Any) -> S3Store:
    """A client that tries once."""
    keys: Any = {"skip_signature": True, "aws_region": REGION}
    if signed:
        keys = {name.lower(): value for name, value in OWNER.items()}
    return S3Store(
        name,
        endpoint=s3.url,
        client_options={"allow_http": True, "timeout": timeout},
        retry_config=ONE_TRY,
        **(keys | changes),
    )


def arrow(s3: S3Server) -> fs.S3FileSystem:
    return fs.S3FileSystem(anonymous=True, scheme="http", endpoint_override=s3.url.removeprefix("http://"))


def read(client: S3Store, key: str, if_match: str | None = None) -> bytes:
    return bytes(obstore.get(client, key, options={"if_match": if_match} if if_match else {}).bytes())


def test_all_pages_of_a_listing(s3: S3Server) -> None:
    listed = [entry for page in store(s3).list("a") for entry in page]
    assert [entry["path"] for entry in listed] == KEYS[:-1]
    assert {entry["size"] for entry in listed} == {0, len(CONTENT)}
    assert s3.seen().requests == {"list": 3}
    found = obstore.list_with_delimiter(store(s3), "a")
    assert found["common_prefixes"] == ["a/nested"]
    assert [entry["path"] for entry in found["objects"]] == [key for key in KEYS if key.count("/") == 1]
    selected = arrow(s3).get_file_info(fs.FileSelector("public/a", recursive=True))
    assert {info.path for info in selected if info.is_file} == {f"public/{key}" for key in KEYS[:-1]}


def test_etag_and_time_are_the_same_everywhere(s3: S3Server, bucket: Path) -> None:
    client = store(s3)
    listed = obstore.list_with_delimiter(client)["objects"][0]
    head, got = obstore.head(client, "b"), obstore.get(client, "b").meta
    assert listed["e_tag"] == head["e_tag"] == got["e_tag"]
    assert int(listed["last_modified"].timestamp()) == int((bucket / "b").stat().st_mtime)
    assert head["last_modified"] == got["last_modified"] == listed["last_modified"].replace(microsecond=0)


@pytest.mark.parametrize("key", KEYS)
def test_whole_objects(key: str, s3: S3Server, bucket: Path) -> None:
    expected = (bucket / key).read_bytes()
    assert read(store(s3), key) == expected
    with arrow(s3).open_input_stream(f"public/{key}") as stream:
        assert stream.read() == expected
    assert s3.seen().bytes.total() == 2 * len(expected)


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("0-0", slice(0, 1)),
        ("5-699999", slice(5, 700_000)),
        ("262143-262144", slice(262_143, 262_145)),
        ("699999-", slice(699_999, None)),
        ("-7", slice(-7, None)),
        ("-9999999", slice(None)),
        ("700000-9999999", slice(700_000, None)),
    ],
)
def test_ranges(asked: str, part: slice, s3: S3Server) -> None:
    request = urllib.request.Request(f"{s3.url}/public/b", headers={"Range": f"bytes={asked}"})  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        first, last, _ = part.indices(len(CONTENT))
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes {first}-{last - 1}/{len(CONTENT)}"
        assert answer.headers["x-amz-bucket-region"] == REGION
        assert answer.read() == CONTENT[part]
    assert s3.seen().ranges == {"public/b": [(first, last - 1)]}


@pytest.mark.parametrize(
    ("method", "path", "headers", "code"),
    [
        ("GET", "public/nowhere", {}, (404, "NoSuchKey")),
        ("GET", "public/a", {}, (404, "NoSuchKey")),
        ("GET", "public/../bucket/b", {}, (404, "NoSuchKey")),
        ("GET", "nowhere/b", {}, (404, "NoSuchBucket")),
        ("GET", "nowhere?list-type=2", {}, (404, "NoSuchBucket")),
        ("GET", "private/b", {}, (403, "AccessDenied")),
        ("GET", "private?list-type=2", {}, (403, "AccessDenied")),
        ("GET", "public/b", {"If-Match": '"another"'}, (412, "PreconditionFailed")),
        ("GET", "public/b", {"Range": "bytes=700001-"}, (416, "InvalidRange")),
        ("PUT", "public/b", {}, (405, "MethodNotAllowed")),
        ("GET", "public?list-type=2&continuation-token=!", {}, (400, "InvalidArgument")),
    ],
)
def test_refusals(method: str, path: str, headers: dict[str, str], code: tuple[int, str], s3: S3Server) -> None:
    request = urllib.request.Request(f"{s3.url}/{path}", headers=headers, method=method)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)  # noqa: S310
    with refused.value as answer:
        assert (answer.code, f"<Code>{code[1]}</Code>" in answer.read().decode()) == (code[0], True)


def test_clients_understand_refusals(s3: S3Server) -> None:
    with pytest.raises(FileNotFoundError):
        read(store(s3), "nowhere")
    with pytest.raises(BaseError, match="NoSuchBucket"):
        list(store(s3, "nowhere").list())
    with pytest.raises(PermissionDeniedError):
        read(store(s3, "private"), "b")
    with pytest.raises(PreconditionError):
        read(store(s3), "b", if_match='"another"')
    assert arrow(s3).get_file_info("public/nowhere").type == fs.FileType.NotFound
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        arrow(s3).open_input_file("private/b")
    assert s3.seen().signed == 0


def test_signatures(s3: S3Server) -> None:
    assert read(store(s3, "private", signed=True), "b") == CONTENT
    assert s3.seen().signed == 1
    with pytest.raises(PermissionDeniedError, match="InvalidAccessKeyId"):
        read(store(s3, "private", signed=True, aws_access_key_id="AKIANOBODY"), "b")
    with pytest.raises(BaseError, match="AuthorizationHeaderMalformed"):
        read(store(s3, "private", signed=True, aws_region="eu-west-1"), "b")


def test_replaced_between_listing_and_reading(s3: S3Server, bucket: Path, tmp_path: Path) -> None:
    (bucket / "changing").write_bytes(CONTENT)
    (tmp_path / "new").write_bytes(CONTENT[::-1])
    listed = obstore.list_with_delimiter(store(s3))["objects"][-1]
    s3.set(replaced={"public/changing": (str(tmp_path / "new"), 1)})
    assert read(store(s3), "changing", if_match=listed["e_tag"]) == CONTENT
    with pytest.raises(PreconditionError):
        read(store(s3), "changing", if_match=listed["e_tag"])
    assert read(store(s3), "changing") == CONTENT[::-1]
    (bucket / "changing").unlink()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_reaches_the_client(fault: str, s3: S3Server) -> None:
    s3.set(faults={fault: 1})
    client = store(s3, timeout="0.5s")
    if fault == "flipped":
        wrong = [place for place, (a, b) in enumerate(zip(read(client, "b"), CONTENT, strict=True)) if a != b]
        assert len(wrong) == 1
        start = max(wrong[0] - 300_000, 0)
        part = bytes(obstore.get_range(client, "b", start=start, length=300_001))
        assert sum(a != b for a, b in zip(part, CONTENT[start:], strict=False)) == 1
    else:
        with pytest.raises((BaseError, OSError)):
            read(client, "b")
    seen = s3.seen()
    assert seen.faults == {fault: seen.requests["get"]}
    half = {"slow down": 0, "error": 0, "flipped": len(CONTENT) + 300_001}.get(fault, len(CONTENT) // 2)
    assert seen.total == half
    s3.set(faults={})
    assert read(client, "b") == CONTENT


def test_a_request_has_the_same_fate_in_any_order_and_another_the_next_time(s3: S3Server) -> None:
    s3.set(faults={"slow down": 0.1, "error": 0.1}, seed=3)
    client = store(s3)

    def fates(places: Iterable[int]) -> dict[int, str]:
        found = {}
        for place in places:
            try:
                obstore.get_range(client, "b", start=place, end=place + 1)
                found[place] = ""
            except BaseError as error:
                found[place] = "slow down" if "status code: 503" in str(error) else "error"
        return found

    forwards = fates(range(200))
    for fault in ("slow down", "error"):
        assert 8 <= list(forwards.values()).count(fault) <= 35
    assert fates(range(200)) != forwards
    s3.clear()
    assert fates(reversed(range(200))) == forwards
    s3.clear()
    s3.set(seed=4)
    assert fates(range(200)) != forwards


def test_latency_and_bandwidth_take_their_time(s3: S3Server) -> None:
    s3.set(latency=0.05, bandwidth=7_000_000)
    start = time.monotonic()
    read(store(s3), "b")
    assert time.monotonic() - start >= 0.05 + len(CONTENT) / 7_000_000


def test_counts_start_anew(s3: S3Server) -> None:
    read(store(s3), "b")
    s3.clear()
    seen = s3.seen()
    assert (seen.requests, seen.total, seen.ranges) == ({}, 0, {})


def test_unknown_faults_are_refused(s3: S3Server) -> None:
    for faults in ({"rain": 0.1}, {"reset": 0.6, "stall": 0.6}):
        with pytest.raises(ValueError, match="fault"):
            s3.set(faults=faults)


def test_it_ends_with_the_process_that_started_it(bucket: Path) -> None:
    program = "import sys, time; from tests.emulators.s3 import S3Server\n"
    program += "with S3Server({'b': sys.argv[1]}) as s3: print(s3.url, flush=True); time.sleep(60)"
    command = [sys.executable, "-c", program, str(bucket)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/b/b") as answer:  # noqa: S310
            assert answer.status == 200
        process.kill()
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{url}/b/b").close()  # noqa: S310
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail("the server is still there")
