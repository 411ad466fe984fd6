"""The HTTP client: without credentials, with retries, and with a bound on everything a server can prolong.

GDC, published files and the checks of published releases use it. Guarantees:

* Transient failures are retried up to `ATTEMPTS` times with exponential backoff and jitter; `Retry-After` is obeyed.
* A request ends: the number of attempts, the seconds between them, the bytes of a body and the speed at which it must
  arrive are limited.
* A redirect is returned like any other response. If the caller says so, it is followed, at most `MAX_REDIRECTS`
  times, never to another scheme and never from a public address into a private network.
"""

from __future__ import annotations

import io
import ipaddress
import random
import socket
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from pathlib import Path
from ssl import SSLCertVerificationError
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, SSLError
from urllib3.util.retry import Retry

import idc_indexer
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.files import atomic_file
from idc_indexer.progress import Meter, Retries

RETRIED = frozenset({429, 500, 502, 503, 504})
"""Statuses of servers that are busy, and of the proxies before them."""
USER_AGENT = f"idc-indexer/{idc_indexer.__version__}"
ATTEMPTS = 6
TIMEOUT = 60.0
"""Seconds that a server may stay silent."""
MAX_WAIT = 120.0
"""Seconds of one wait. Backoff stays below 32, so only a server's `Retry-After` can ask for more, which is an error."""
MAX_SECONDS = 600.0
"""Seconds after which no further attempt begins, waits included."""
MAX_REDIRECTS = 5
MAX_BODY = 1 << 30
"""Bytes of a body that is kept in memory, unless the caller says how many it expects."""
MIN_SPEED = 1 << 14
"""Bytes per second on average, after `TIMEOUT`: a server that sends a byte a second would hold a command for days."""

_BLOCK = 1 << 20
_MAX_DIGITS = 20
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Response:
    """One response of a server. `body` is empty unless the status is 2xx."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def problem(self) -> str:
        """Why a file could not be read; empty when it could."""
        if self.status == HTTPStatus.OK:
            return ""
        # Private files may lead to a page to sign in.
        if self.status in (401, 403, *_REDIRECTS):
            return f"is not public: HTTP {self.status}"
        return f"is missing: HTTP {self.status}" if self.status in (404, 410) else f"HTTP {self.status}"

    @property
    def media_type(self) -> str:
        """The media type without its parameters, in lower case; empty when there is none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def is_address(url: str) -> bool:
    """Whether it is an HTTP address."""
    return url.startswith(("https://", "http://"))


def folder_url(url: str) -> str:
    """The address of a folder, with a slash at its end.

    Raises:
        UsageError: not an HTTP address.
    """
    if not is_address(url):
        raise UsageError(f"{url!r} is not an address of published files", "Give https://....")
    return url.rstrip("/") + "/"


def request(
    url: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    *,
    body: bytes | None = None,
    follow: bool = False,
    max_bytes: int = MAX_BODY,
    timeout: float = TIMEOUT,
    sleep: Callable[[float], object] = time.sleep,
    retries: Retries | None = None,
) -> Response:
    """Send a request, and send it again after a transient failure.

    Args:
        body: what a POST sends.
        follow: whether to follow redirects of a GET or HEAD.
        max_bytes: the largest body that is accepted.
        timeout: seconds that the server may stay silent.
        retries: tells of attempts that failed.

    Returns:
        The response, whatever its status is. A redirect is a response too, unless `follow` is set.

    Raises:
        UsageError: not an HTTP address.
        IndexerError: no usable response after all attempts, a redirect that must not be followed, a body that is too
            large or too slow, a TLS certificate that is not trusted.
    """
    sink = io.BytesIO()
    told = retries or Retries()
    response = _followed(_Request(url, method, headers or {}, body, max_bytes, timeout, sleep, told), follow, sink)
    return Response(response.status, response.headers, sink.getvalue())


def download(
    url: str,
    path: Path,
    headers: Mapping[str, str] | None = None,
    *,
    follow: bool = False,
    max_bytes: int = MAX_BODY,
    sleep: Callable[[float], object] = time.sleep,
    retries: Retries | None = None,
) -> None:
    """GET a file into a file, which appears complete or not at all; otherwise as `request`.

    The listener of `retries` also hears how far the download is.

    Raises:
        IndexerError: as `request` does, or the status is not 200, or `path` cannot be written.
    """
    told = retries or Retries()
    meters: list[Meter] = []

    def received(size: int, all_bytes: int) -> None:
        if not meters:
            meters.append(Meter(told.listener, f"downloading {path.name}", "files", 1, all_bytes))
        meters[0].add(done=0, bytes=size)

    asked = _Request(url, "GET", headers or {}, None, max_bytes, TIMEOUT, sleep, told, received)
    with atomic_file(path) as sink:
        response = _followed(asked, follow, sink)
        if response.problem:
            raise IndexerError(f"{url} {response.problem}", "Check the address.")
    for meter in meters:
        meter.add()


@dataclass(frozen=True)
class _Request:
    url: str
    method: str
    headers: Mapping[str, str]
    body: bytes | None
    max_bytes: int
    timeout: float
    sleep: Callable[[float], object]
    retries: Retries
    received: Callable[[int, int], object] = lambda *_: None


class _Backoff(Retry):
    """`Retry`, with a wait before the first repetition too.

    Half of each wait is random, so that clients that failed together do not come back together.
    """

    def get_backoff_time(self) -> float:
        return float(2 ** (len(self.history) - 1) * (1 + random.random()) / 2)  # noqa: S311 -- nothing secret

    def wait(self, retry_after: str | None) -> float:
        """Seconds until the next attempt. A `Retry-After` that is malformed is ignored."""
        try:
            asked = self.parse_retry_after(retry_after or "0")
        except (InvalidHeader, ValueError, OverflowError):
            asked = 0.0
        return max(asked, self.get_backoff_time())


def _followed(asked: _Request, follow: bool, sink: BinaryIO) -> Response:
    """The response after redirects, if they are to be followed."""
    url = asked.url
    for _ in range(MAX_REDIRECTS + 1):
        response = _retried(asked, url, sink)
        location = response.headers.get("Location")
        if not (follow and location and asked.method in ("GET", "HEAD") and response.status in _REDIRECTS):
            return response
        url = _redirect(url, location)
    raise IndexerError(f"{asked.url}: more than {MAX_REDIRECTS} redirects", "Give the address that they lead to.")


def _redirect(url: str, location: str) -> str:
    """The address to which `url` redirects.

    Raises:
        IndexerError: naming both addresses: the scheme changes, or a private network would be entered.
    """
    try:
        target = urljoin(url, location)
        same_scheme = urlsplit(url).scheme == urlsplit(target).scheme
    except ValueError as error:
        raise IndexerError(f"{url}: redirects to {location}, which is not an address") from error
    if not same_scheme:
        raise IndexerError(f"{url}: redirects to {target}, which has another scheme", "Give the address itself.")
    # A host that leads here while its name is resolved, and elsewhere a moment later, is not caught by this.
    loopback = all(address.is_loopback for address in _addresses(url))
    for address in _addresses(target):
        if not (address.is_global or (loopback and address.is_loopback)):
            raise IndexerError(f"{url}: redirects to {target}, which is in a private network ({address})")
    return target


def _addresses(url: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The IP addresses of a URL's host.

    Raises:
        IndexerError: it has none.
    """
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise IndexerError(f"{url}: {_reason(error)}", "Check the address.") from error
    addresses = [ipaddress.ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found]
    return [getattr(address, "ipv4_mapped", None) or address for address in addresses]


def _retried(asked: _Request, url: str, sink: BinaryIO) -> Response:
    """The first response that is not a transient failure."""
    retry = _Backoff(total=ATTEMPTS - 1, status_forcelist=RETRIED, allowed_methods=None)
    end = time.monotonic() + MAX_SECONDS
    while True:
        retry_after = None
        try:
            response = _once(asked, url, sink)
            if not retry.is_retry(asked.method, response.status):
                return response
            problem: str = f"HTTP {response.status} {HTTPStatus(response.status).phrase}"
            retry_after = response.headers.get("Retry-After")
        except ValueError as error:  # urllib3's LocationValueError is one, too
            raise UsageError(f"{url!r} is not an HTTP address: {error}") from error
        except HTTPError as error:
            problem = _reason(error)
        try:
            retry = retry.increment(asked.method, url)
        except MaxRetryError as error:
            raise IndexerError(f"{url}: {problem}, {ATTEMPTS} times", "Try again later.") from error
        wait = retry.wait(retry_after)
        if wait > MAX_WAIT or time.monotonic() + wait > end:
            raise IndexerError(f"{url}: {problem}, asks to wait {wait:.0f} s", "Try again later.")
        asked.retries.tell(urlsplit(url).netloc, problem, f"attempt {len(retry.history)} of {ATTEMPTS}")
        asked.sleep(wait)


def _once(asked: _Request, url: str, sink: BinaryIO) -> Response:
    """One attempt. The body goes to `sink`, which is emptied before.

    Raises:
        HTTPError: a transient failure.
        IndexerError: a failure that stays.
    """
    sink.seek(0)
    sink.truncate()
    try:
        response = _pool(url).request(
            asked.method,
            url,
            body=asked.body,
            headers={"User-Agent": USER_AGENT, **asked.headers},
            timeout=asked.timeout,
            retries=False,
            redirect=False,
            preload_content=False,
        )
    except SSLError as error:
        if not isinstance(cause := _cause(error), SSLCertVerificationError):
            raise
        raise IndexerError(
            f"{url}: its TLS certificate is not trusted: {cause.verify_message}",
            "If a proxy or your own server signs with a private certificate authority, set SSL_CERT_FILE to a file "
            "that holds its certificate.",
        ) from error
    try:
        # Sizes and digests are of the bytes as they are stored, so nothing is decompressed.
        if response.status // 100 == 2:  # noqa: PLR2004
            _copy(response, asked, url, sink)
    finally:
        # A body that was read to its end has given the connection back; any other is not worth reading.
        response.close()
    return Response(response.status, response.headers, b"")


def _copy(response: urllib3.BaseHTTPResponse, asked: _Request, url: str, sink: BinaryIO) -> None:
    start, received = time.monotonic(), 0
    size = response.headers.get("Content-Length", "")
    expected = int(size) if size.isascii() and size.isdecimal() and len(size) < _MAX_DIGITS else 0
    # read1 returns what has arrived; read would wait for a full block, however slowly the bytes come.
    while block := _block(response, asked, received, expected):
        received += len(block)
        if received > asked.max_bytes:
            raise IndexerError(f"{url}: the server sent more than the {asked.max_bytes:,} bytes that were expected")
        if received < (time.monotonic() - start - TIMEOUT) * MIN_SPEED:
            raise IndexerError(f"{url}: the server sends less than {MIN_SPEED:,} bytes a second", "Try again later.")
        sink.write(block)


def _block(response: urllib3.BaseHTTPResponse, asked: _Request, before: int, expected: int) -> bytes:
    """The next bytes of a body, of which so many came before. If there are none, those before do not count."""
    try:
        block = response.read1(_BLOCK, decode_content=False)
    except HTTPError:
        asked.received(-before, expected)
        raise
    asked.received(len(block), expected)
    return block


def _pool(url: str) -> urllib3.PoolManager:
    """The connections to use: those of the proxy that the environment names, if any (`https_proxy`, `no_proxy`)."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    return _manager("" if urllib.request.proxy_bypass(parts.hostname or "") else proxy)


@cache
def _manager(proxy: str) -> urllib3.PoolManager:
    if not proxy:
        return urllib3.PoolManager(maxsize=16)
    auth = urllib3.util.parse_url(proxy if "//" in proxy else f"http://{proxy}").auth
    headers = urllib3.make_headers(proxy_basic_auth=auth) if auth else None
    return urllib3.ProxyManager(proxy if "//" in proxy else f"http://{proxy}", maxsize=16, proxy_headers=headers)


def _cause(error: BaseException) -> BaseException:
    """The exception at the bottom: urllib3 wraps those of sockets several times."""
    while below := error.__cause__ or next((arg for arg in error.args if isinstance(arg, BaseException)), None):
        error = below
    return error


def _reason(error: BaseException) -> str:
    cause = _cause(error)
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
