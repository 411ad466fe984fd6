"""Plain HTTP, without credentials: what the clients of this project have in common."""

from __future__ import annotations

import urllib.request

import idc_indexer

PASSING = frozenset({429, 500, 502, 503, 504})
"""Answers of servers that are busy, and of the proxies before them: worth asking again."""
USER_AGENT = f"idc-indexer/{idc_indexer.__version__}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects are answers: what is not public may lead to a page to sign in, and a POST would become a GET."""

    def redirect_request(self, *_: object) -> None:
        return None


OPENER = urllib.request.build_opener(_NoRedirects)


def is_address(url: str) -> bool:
    """Whether it is an address of HTTP; urllib would open files, too."""
    return url.startswith(("https://", "http://"))
