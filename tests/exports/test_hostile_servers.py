"""Servers that answer what no object store answers: a clear error in less than half a minute, whatever they do."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.exports import bounded, open_export, retry
from idc_indexer.exports import location as locations
from idc_indexer.schema.source_tables import SourceTable
from tests.emulators.loopback import LoopbackServer, QuietHandler
from tests.support import memory

TABLE = SourceTable(25, False, "dicom_all")
ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>{etag}<Size>{size}</Size>"
    "</Contents>"
)
STOP = threading.Event()
"""Ends answers that have no end, so that they do not disturb other tests."""
ETAG = "<ETag>&quot;abc&quot;</ETag>"


def entry(number: int, etag: str = ETAG, folder: str = "x/idc_v25/dicom_all") -> str:
    return ENTRY.format(key=f"{folder}/{number:012}.parquet", etag=etag, size=1000)


def page(entries: str, token: str = "") -> bytes:
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
        f"<Prefix></Prefix>{more}{entries}</ListBucketResult>"
    ).encode()


@contextmanager
def server(answer: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Answers each GET with `answer(path, write)`."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            answer(self.path, self.wfile.write)

    with LoopbackServer(Handler) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        STOP.clear()
        yield
        STOP.set()


def refused(expected: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(IndexerError, match=expected):
        open_export("s3://mirror/x", cache_dir=tmp_path).shards(TABLE)
    assert time.monotonic() - began < 30


def same_page(_: str, write: Any) -> None:
    write(page("".join(map(entry, range(10))), "again"))


def empty_pages(_: str, write: Any) -> None:
    write(page("", "again"))


def endless(_: str, write: Any) -> None:
    write(page("".join(map(entry, range(2)))).removesuffix(b"</ListBucketResult>"))
    while not STOP.is_set():
        write(b" " * (1 << 20))


def dripping(_: str, write: Any) -> None:
    while not STOP.is_set():
        write(b" ")
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (same_page, "the listing repeats itself"),
        (empty_pages, "no page of the listing within 2 seconds"),
        (dripping, "no page of the listing within 2 seconds"),
        (lambda _, write: write(page(entry(0, folder="y/z"))), "mirror/x/idc_v25/dicom_all: "),
        (lambda _, write: write(page(entry(0, etag=""))), "the listing gives no ETag for"),
        (lambda _, write: write(page(entry(0, etag="<ETag>a&#10;b</ETag>"))), "the listing gives the ETag"),
        (lambda _, write: write(b"<html>"), "mirror/x/idc_v25/dicom_all: "),
        (lambda _, write: write(b"\xff\xfe\x00"), "mirror/x/idc_v25/dicom_all: "),
    ],
    ids=["same page", "empty pages", "dripping", "outside", "no etag", "odd etag", "html", "bytes"],
)
def test_a_listing_is_bounded(answer: Any, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "LISTING_SECONDS", 2.0)
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.001)
    with server(answer, monkeypatch):
        refused(expected, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory a process has now")
def test_an_endless_page_of_a_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with server(endless, monkeypatch):
        done, peak = memory.run("-m", "idc_indexer", "releases", "--source", "s3://mirror/x")
    assert time.monotonic() - began < 40  # and Python has to start
    assert done.returncode == 1, done.stderr
    assert re.search("a page of the listing takes more than|no page of the listing within", done.stderr)
    assert "Traceback" not in done.stderr
    assert peak < 2e9


def test_too_many_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page has other keys, without end."""
    monkeypatch.setattr(bounded, "MOST_KEYS", 5_000)
    count = iter(range(1_000_000))

    def answer(_: str, write: Any) -> None:
        first = next(count) * 1000
        write(page("".join(map(entry, range(first, first + 1000))), f"t{first}"))

    with server(answer, monkeypatch):
        refused("the listing has more than 5,000 objects", tmp_path)


def test_a_release_of_5000_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefixes = "".join(f"<CommonPrefixes><Prefix>x/idc_v{n}/</Prefix></CommonPrefixes>" for n in ("9" * 5_000, "25"))
    with server(lambda _, write: write(page(prefixes)), monkeypatch):
        assert open_export("s3://mirror/x", cache_dir=tmp_path).releases() == [25]


@pytest.mark.parametrize("kind", ["endless", "dripping"])
def test_the_body_of_an_object_is_bounded(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(locations, "SILENCE", timedelta(seconds=1))
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    from idc_indexer.exports import export

    monkeypatch.setattr(export, "ATTEMPTS", 2)

    def answer(path: str, write: Any) -> None:
        if "list-type" in path:
            write(page(entry(0)))
        elif kind == "endless":
            endless(path, write)
        else:
            dripping(path, write)

    began = time.monotonic()
    with server(answer, monkeypatch):
        opened = open_export("s3://mirror/x", cache_dir=tmp_path)
        (shard,) = opened.shards(TABLE)
        with pytest.raises(IndexerError, match=r"000000000000\.parquet"):
            opened.location.read(shard, 0, 1000)
    assert time.monotonic() - began < 30


def test_a_certificate_that_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named at once, not after many attempts; AWS_CA_BUNDLE mends it."""
    openssl = (
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=CA && "
        "openssl req -newkey rsa:2048 -nodes -keyout key -out csr -subj /CN=127.0.0.1 && "
        "echo subjectAltName=IP:127.0.0.1 > ext && "
        "openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -out crt -days 2 -extfile ext"
    )
    subprocess.run(["sh", "-c", openssl], cwd=tmp_path, check=True, capture_output=True)

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            body = page("<CommonPrefixes><Prefix>x/idc_v25/</Prefix></CommonPrefixes>")
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    with LoopbackServer(Handler, context) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        opened = open_export("s3://mirror/x", cache_dir=tmp_path)
        with pytest.raises(IndexerError, match="the certificate of the server is not trusted: UnknownIssuer") as error:
            opened.releases()
        assert "AWS_CA_BUNDLE" in error.value.hint
        assert opened.location.retrier.requests == 1
        monkeypatch.setenv("SSL_CERT_FILE", ssl.get_default_verify_paths().openssl_cafile)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        assert open_export("s3://mirror/x", cache_dir=tmp_path).releases() == [25]
        for name, why in (("none.pem", "No such file or directory"), ("key", "holds no certificates")):
            monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / name))
            with pytest.raises(UsageError, match=rf"AWS_CA_BUNDLE=.*{name}: {why}"):
                open_export("s3://mirror/x", cache_dir=tmp_path)
        monkeypatch.delenv("AWS_CA_BUNDLE")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://no-such-host.invalid")
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.001)
    with pytest.raises(IndexerError, match=r"no connection \(dns error\)"):
        open_export("s3://mirror/x", cache_dir=tmp_path).releases()
