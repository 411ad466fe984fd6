"""Plain HTTP, as anyone may ask: without credentials, again when the server is busy."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException
from urllib.error import HTTPError

import idc_indexer
from idc_indexer.errors import IndexerError, UsageError

PASSING = frozenset({429, 500, 502, 503, 504})
"""Answers of servers that are busy, and of the proxies before them: worth asking again."""
USER_AGENT = f"idc-indexer/{idc_indexer.__version__}"

_ATTEMPTS = 4
_TIMEOUT = 60.0


@dataclass(frozen=True)
class Answer:
    """What a server says to one request."""

    status: int
    headers: Message
    body: bytes

    @property
    def refused(self) -> str:
        """Why a file cannot be read at all; empty when it can."""
        if self.status == HTTPStatus.OK:
            return ""
        if self.status in (401, 403) or self.status // 100 == 3:  # noqa: PLR2004 -- redirects, to sign in
            return f"is not public: HTTP {self.status}"
        return f"is missing: HTTP {self.status}" if self.status in (404, 410) else f"HTTP {self.status}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects are answers: what is not public may lead to a page to sign in, and a POST would become a GET."""

    def redirect_request(self, *_: object) -> None:
        return None


OPENER = urllib.request.build_opener(_NoRedirects)


def is_address(url: str) -> bool:
    """Whether it is an address of HTTP; urllib would open files, too."""
    return url.startswith(("https://", "http://"))


def folder_url(url: str) -> str:
    """The address of a folder, with a slash at its end.

    Raises:
        UsageError: not an address of HTTP.
    """
    if not is_address(url):
        raise UsageError(f"{url!r} is not an address of published files", "Give https://....")
    return url.rstrip("/") + "/"


def ask(
    url: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> Answer:
    """What the server answers; asked again when it is busy or the connection breaks.

    Raises:
        IndexerError: it was busy, or did not answer, every time.
    """
    request = urllib.request.Request(  # noqa: S310 -- of folder_url, which checks the scheme
        url, headers={"User-Agent": USER_AGENT, **(headers or {})}, method=method
    )
    problem = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            sleep(2.0 ** (attempt - 1))
        try:
            with OPENER.open(request, timeout=_TIMEOUT) as response:
                return Answer(response.status, response.headers, response.read())
        except HTTPError as error:
            with error:
                answer = Answer(error.code, error.headers, b"")
            if error.code not in PASSING:
                return answer
            problem = f"HTTP {error.code}"
        except (OSError, HTTPException) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
    raise IndexerError(f"{url}: {problem}, {_ATTEMPTS} times")
