"""Limits for what a server may do to a listing or a request: seconds, pages, keys, bytes.

obstore follows the pages of a listing by itself, and hides their tokens: a server that repeats a token with empty
pages, or never ends a page, keeps it busy without end, in memory without bound. Such a call runs in a thread that is
left behind when the time or the memory is used up; it ends with the process, which by then reports the error.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from idc_indexer.errors import IndexerError

Result = TypeVar("Result")

LISTING_SECONDS = 25.0
"""For one page of a listing, which has at most a thousand keys and some 300 kB."""
LISTING_MEMORY = 512 << 20
"""Bytes by which the process may grow while it waits for a page."""
MOST_KEYS = 1_000_000
"""Objects in the folder of one table; the largest table of IDC has 5,000."""
_HINT = "Look at --source: what answers there does not behave like an object store."
_CHECK_EVERY = 0.05
_ETAG = re.compile(r'(?:W/)?"?[\x21\x23-\x7e]{1,256}"?')


def supervised(name: str, function: Callable[[], Result]) -> Result:
    """Call a function that may never return.

    Args:
        name: of the folder that is listed, for messages.

    Raises:
        IndexerError: it took too long, or too much memory.
    """
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:  # raised again in the thread of the caller
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True, name=f"listing of {name}")
    before, end = _resident(), time.monotonic() + LISTING_SECONDS
    thread.start()
    while thread.is_alive():
        thread.join(_CHECK_EVERY)
        if _resident() - before > LISTING_MEMORY:
            raise IndexerError(f"{name}: a page of the listing takes more than {LISTING_MEMORY:,} bytes", _HINT)
        if time.monotonic() > end:
            raise IndexerError(f"{name}: no page of the listing within {LISTING_SECONDS:.0f} seconds", _HINT)
    if failure:
        raise failure[0]
    return outcome[0]


def check_page(name: str, prefix: str, last: str, count: int, page: list[tuple[str, str | None]]) -> None:
    """Check a page of a listing.

    Args:
        prefix: what each key has to begin with.
        last: the last key of the pages before it; "" if it is the first.
        count: keys so far, with those of the page.
        page: key and ETag of each object.

    Raises:
        IndexerError: the listing repeats itself, is endless, leaves its folder, or has no usable ETag.
    """
    if count > MOST_KEYS:
        raise IndexerError(f"{name}: the listing has more than {MOST_KEYS:,} objects", _HINT)
    if last and page and page[0][0] <= last:
        raise IndexerError(f"{name}: the listing repeats itself: {page[0][0]} comes after {last}", _HINT)
    for key, etag in page:
        if not key.startswith(prefix):
            raise IndexerError(f"{name}: the listing names {key[:200]}, which does not lie in that folder", _HINT)
        if etag is None or not _ETAG.fullmatch(etag):
            what = "no ETag" if etag is None else f"the ETag {etag[:80]!r}"
            raise IndexerError(
                f"{name}: the listing gives {what} for {key[:200]}: a change of the object could not be seen", _HINT
            )


def _resident() -> int:
    """Bytes of memory that the process has; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    except (OSError, ValueError, IndexError):
        return 0
