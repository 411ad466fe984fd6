"""Requests that fail in passing are made again: after a wait, not for ever, in one place, and counted.

The waits grow exponentially and are drawn at random from nothing to their full length, so that many connections that
were told to slow down do not come back at the same moment.
https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
"""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from obstore import exceptions

from idc_indexer.errors import IndexerError
from idc_indexer.progress import Retries

Item = TypeVar("Item")
Result = TypeVar("Result")

ATTEMPTS = 10
"""With these, the longest waits add up to a minute and a half: what is out of order for longer is so for good."""
FIRST_ATTEMPTS = 4
"""While nothing has ever been answered: then it is the address or the network that is wrong."""
FIRST_WAIT, LONGEST_WAIT = 0.2, 30.0

_STATUS = re.compile(r"status code: ([0-9]{3})")
_KIND = re.compile(r"HttpError \{\s*kind: (\w+)")
_KINDS = {"Connect": "no connection", "Interrupted": "connection lost", "Timeout": "no answer in time"}
_CERTIFICATE = re.compile(r"(?:invalid peer certificate: |InvalidCertificate\(\s*)(\w+)")
_CONNECTION = re.compile(r"(dns error|connection refused|network is unreachable|no route to host)", re.IGNORECASE)
_NO_BUCKET = re.compile(r"NoSuchBucket|bucket does not exist")
_PASSING = {408, 425, 429}
_UNAUTHORIZED = (401, 403)
_CREDENTIALS = "Credentials come from the AWS or Google environment; profiles of AWS need: pip install 'boto3>=1.34'."


class ChangedError(IndexerError):
    """An object is not as it was when it was listed."""


class Stopped(Exception):  # noqa: N818  # no error: somebody else has one
    """Something else went wrong; what is under way ends."""


class Retrier:
    """Makes requests, from any number of threads.

    Attributes:
        requests: how many were made, with those that failed.
        bytes: how many bytes of objects were asked for and came.
        retries: how many were made again, by what was wrong.
        told: tells of them while they happen.
    """

    def __init__(self, attempts: int = ATTEMPTS) -> None:
        """Args:
        attempts: how often a request is made at most; 1 for what has no retrier, such as a folder.
        """
        self._attempts = attempts
        self.requests = 0
        self.bytes = 0
        self.retries: Counter[str] = Counter()
        self.told = Retries()
        self._lock = threading.Lock()
        self._reached = False
        self._stop = threading.Event()

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._stop.set()

    def each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """What a function that makes requests returns of each item, in order; Ctrl-C ends their waits."""
        try:
            with ThreadPoolExecutor() as pool:
                return list(pool.map(function, items))
        except KeyboardInterrupt:
            self.stop()
            raise

    def count_retry(self, reason: str) -> None:
        """Count what is made again for a reason that only its user can see."""
        with self._lock:
            self.retries[reason] += 1

    def call(self, name: str, request: Callable[[], Result], size: int = 0) -> Result:
        """What a request returns, made again while it fails in passing.

        Args:
            name: of what is read, for messages.
            size: the bytes that it returns.

        Raises:
            ChangedError: the object is gone, or another one.
            IndexerError: refused, or failed too often.
            Stopped: `stop` was called.
        """
        attempt = 0
        while True:
            attempt += 1
            if self._stop.is_set():
                raise Stopped
            with self._lock:
                self.requests += 1
            try:
                result = request()
            except (exceptions.BaseError, OSError) as error:
                reason = _passing(error, name)
                self._reached |= _STATUS.search(str(error)) is not None
                if self._attempts == 1:
                    raise IndexerError(f"{name}: {reason}") from error
                most = self._attempts if self._reached else FIRST_ATTEMPTS
                if attempt >= most:
                    raise IndexerError(
                        f"{name}: {reason}, {attempt} times in a row",
                        "The shards that are staged already stay in the cache: run the same command again to continue. "
                        "Without a network, --offline builds from the cache, and --source from a copy.",
                    ) from error
                self.count_retry(reason)
                self.told.tell("/".join(name.split("/")[:3]), reason, f"attempt {attempt} of {most}")
                self._stop.wait(random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)))  # noqa: S311
                continue
            self._reached = True
            with self._lock:
                self.bytes += size
            return result


def _passing(error: Exception, name: str) -> str:
    """What went wrong, in a few words, when it may go well the next time.

    Raises:
        IndexerError: when it will not.
    """
    text = str(error)
    found = _STATUS.search(text)
    status = int(found[1]) if found else 0
    if isinstance(error, (exceptions.PreconditionError, FileNotFoundError)) and "list request" not in text:
        raise ChangedError(
            f"{name}: changed or removed after it was listed: the export is being written anew",
            "Wait until that is finished, and run the same command again.",
        ) from error
    if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError)) or (
        status in _UNAUTHORIZED
    ):
        raise IndexerError(f"{name}: access denied{_said(text)}", _CREDENTIALS) from error
    if "redirect" in text or status in (301, 307):
        raise IndexerError(f"{name}: the bucket is in another region", "Set AWS_REGION to its region.") from error
    if certificate := _CERTIFICATE.search(text):
        raise IndexerError(
            f"{name}: the certificate of the server is not trusted: {certificate[1]}",
            "If a proxy of your network opens TLS, or the server has a CA of its own, give the certificate of that CA "
            "with AWS_CA_BUNDLE or SSL_CERT_FILE.",
        ) from error
    if isinstance(error, OSError):
        raise IndexerError(f"{name}: {error.strerror or text.splitlines()[0]}") from error
    if _NO_BUCKET.search(text):
        raise IndexerError(f"{name}: there is no such bucket", "Check --source.") from error
    if status in range(400, 500) and status not in _PASSING:
        raise IndexerError(f"{name}: refused with status {status}{_said(text)}", "Look at --source.") from error
    if status:
        return f"status {status}"
    if connection := _CONNECTION.search(text):
        return f"no connection ({connection[1].lower()})"
    kind = _KIND.search(text)
    return _KINDS.get(kind[1], "HTTP error") if kind else text.split("\n", 1)[0]


def _said(text: str) -> str:
    """The code of S3's error document."""
    found = re.search(r"<Code>(\w+)</Code>", text)
    return f" ({found[1]})" if found else ""
