"""The HTTP client against real servers on loopback: it gets an answer or one error, and it ends."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from idc_indexer import http
from idc_indexer.errors import IndexerError, UsageError
from tests.emulators.loopback import LoopbackServer, QuietHandler

Answer = tuple[int, Mapping[str, str], bytes]


class Server(LoopbackServer):
    """Answers paths by functions, and remembers what it was asked."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.paths: dict[str, Callable[[], Answer]] = {}
        self.requests: list[str] = []
        self.drip: float | None = None
        outer = self

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append(f"{self.command} {self.path}")
                status, headers, body = outer.paths[self.path]()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.send_body(body)

            do_HEAD = do_POST = do_GET

            def send_body(self, body: bytes) -> None:
                if outer.drip is None:
                    self.wfile.write(body)
                    return
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(outer.drip)

        super().__init__(Handler, context)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def answers(*given: Answer) -> Callable[[], Answer]:
    """One answer after the other, the last one forever."""
    waiting = list(given)
    return lambda: waiting.pop(0) if len(waiting) > 1 else waiting[0]


OK: Answer = (200, {"Content-Type": "Text/Plain; charset=utf-8"}, b"data")


def moved(to: str, status: int = 302) -> Answer:
    return (status, {"Location": to}, b"")


def test_a_response(server: Server) -> None:
    server.paths["/x"] = answers(OK)
    response = http.request(f"{server.url}/x")
    assert (response.status, response.body, response.problem, response.media_type) == (200, b"data", "", "text/plain")
    head = http.request(f"{server.url}/x", "HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", "4")


@pytest.mark.parametrize(
    ("status", "problem"), [(403, "is not public: HTTP 403"), (404, "is missing: HTTP 404"), (418, "HTTP 418")]
)
def test_statuses_that_stay_are_not_retried(server: Server, status: int, problem: str) -> None:
    server.paths["/x"] = answers((status, {}, b"no"))
    assert http.request(f"{server.url}/x").problem == problem
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", sorted(http.RETRIED))
def test_transient_statuses_are_retried(server: Server, status: int) -> None:
    waits: list[float] = []
    server.paths["/x"] = answers((status, {}, b""), (status, {"Retry-After": "17"}, b""), OK)
    assert http.request(f"{server.url}/x", sleep=waits.append).body == b"data"
    assert len(waits) == 2
    assert 0.5 <= waits[0] <= 1
    assert waits[1] == 17


@pytest.mark.parametrize("retry_after", ["soon", "-1", "9" * 5000, "Fri, 99 Foo 0000"])
def test_a_malformed_retry_after_is_ignored(server: Server, retry_after: str) -> None:
    server.paths["/x"] = answers((503, {"Retry-After": retry_after}, b""), OK)
    waits: list[float] = []
    assert http.request(f"{server.url}/x", sleep=waits.append).body == b"data"
    assert waits[0] <= 1


@pytest.mark.parametrize("retry_after", ["3600", "9" * 40, "Mon, 01 Jan 2990 00:00:00 GMT"])
def test_a_server_that_wants_to_be_left_alone(server: Server, retry_after: str) -> None:
    server.paths["/x"] = answers((503, {"Retry-After": retry_after}, b""))
    with pytest.raises(IndexerError, match="/x: HTTP 503 Service Unavailable, asks to wait"):
        http.request(f"{server.url}/x")
    assert len(server.requests) == 1


def test_attempts_end(server: Server) -> None:
    server.paths["/x"] = answers((503, {}, b""))
    waits: list[float] = []
    with pytest.raises(IndexerError, match="/x: HTTP 503 Service Unavailable, 6 times"):
        http.request(f"{server.url}/x", sleep=waits.append)
    assert len(server.requests) == http.ATTEMPTS == len(waits) + 1
    assert sorted(waits) == waits


def test_time_is_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_SECONDS", 0.0)
    server.paths["/x"] = answers((503, {}, b""))
    with pytest.raises(IndexerError, match="/x: HTTP 503 Service Unavailable, asks to wait"):
        http.request(f"{server.url}/x")
    assert len(server.requests) == 1


def test_a_body_is_bounded(server: Server, tmp_path: Path) -> None:
    server.paths["/x"] = answers((200, {}, b"x" * 1001))
    assert len(http.request(f"{server.url}/x", max_bytes=1001).body) == 1001
    with pytest.raises(IndexerError, match=r"/x: the server sent more than the 1,000 bytes that were expected"):
        http.request(f"{server.url}/x", max_bytes=1000)
    with pytest.raises(IndexerError, match=r"more than the 1,000 bytes"):
        http.download(f"{server.url}/x", tmp_path / "x", max_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_dripping_body_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT", 0.5)
    server.drip, server.paths["/x"] = 0.1, answers((200, {}, b"x" * 600))
    start = time.monotonic()
    with pytest.raises(IndexerError, match="/x: the server sends less than 16,384 bytes a second"):
        http.request(f"{server.url}/x")
    assert time.monotonic() - start < 10


def test_download(server: Server, tmp_path: Path) -> None:
    server.paths |= {"/x": answers((503, {}, b""), OK), "/no": answers((404, {}, b"no"))}
    http.download(f"{server.url}/x", tmp_path / "x", sleep=lambda _: None)
    assert (tmp_path / "x").read_bytes() == b"data"
    with pytest.raises(IndexerError, match="/no is missing: HTTP 404"):
        http.download(f"{server.url}/no", tmp_path / "no")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_if_the_caller_says_so(server: Server, status: int) -> None:
    server.paths |= {"/a": answers(moved("/b", status)), "/b": answers(moved(f"{server.url}/x", status))}
    server.paths["/x"] = answers(OK)
    assert http.request(f"{server.url}/a").problem == f"is not public: HTTP {status}"
    assert http.request(f"{server.url}/a", follow=True).body == b"data"
    assert http.request(f"{server.url}/a", "HEAD", follow=True).status == 200
    # a POST would become a GET, or be sent to somebody else
    assert http.request(f"{server.url}/a", "POST", body=b"{}", follow=True).status == status


def test_redirects_end(server: Server) -> None:
    server.paths["/a"] = answers(moved("/a"))
    with pytest.raises(IndexerError, match="/a: more than 5 redirects"):
        http.request(f"{server.url}/a", follow=True)
    assert len(server.requests) == 6


@pytest.mark.parametrize("target", ["https://127.0.0.1:1/", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_keep_the_scheme(server: Server, target: str) -> None:
    server.paths["/a"] = answers(moved(target))
    with pytest.raises(IndexerError, match=r"redirects to .*, which has another scheme"):
        http.request(f"{server.url}/a", follow=True)


@pytest.mark.parametrize(
    "target", ["http://10.0.0.1/", "http://169.254.169.254/latest/", "http://[fd00::1]/", "http://0.0.0.0:1/"]
)
def test_redirects_stay_out_of_private_networks(server: Server, target: str) -> None:
    server.paths["/a"] = answers(moved(target))
    with pytest.raises(IndexerError, match="which is in a private network"):
        http.request(f"{server.url}/a", follow=True)


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/"])
def test_a_public_address_may_not_lead_to_this_machine(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    found = http._addresses

    def addresses(url: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
        return [ipaddress.ip_address("8.8.8.8")] if "example.org" in url else found(url)

    monkeypatch.setattr(http, "_addresses", addresses)  # the tests have no network
    with pytest.raises(IndexerError, match="which is in a private network"):
        http._redirect("http://example.org/", target)


@pytest.mark.parametrize("url", ["http://[bad/", "http://x:99999999/", f"http://{'a' * 70}.org/"])
def test_malformed_addresses(url: str) -> None:
    with pytest.raises(IndexerError):
        http.request(url, sleep=lambda _: None)


def test_folder_url() -> None:
    assert http.folder_url("https://example.org/a") == "https://example.org/a/"
    with pytest.raises(UsageError, match="is not an address"):
        http.folder_url("ftp://example.org")


def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    waits: list[float] = []
    with (
        Server(context) as server,
        pytest.raises(IndexerError, match=r"TLS certificate is not trusted: self.signed certificate\n.*SSL_CERT_FILE"),
    ):
        http.request(f"{server.url}/x", sleep=waits.append)
    assert waits == []


def test_the_proxy_of_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.paths["http://data.example.org/x"] = answers(OK)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "localhost")
    assert http.request("http://data.example.org/x").body == b"data"
    assert server.requests == ["GET http://data.example.org/x"]
