"""What BigQuery and Google Cloud Storage have in common: messages about credentials, and retries that are told.

Google's libraries are not imported here: what they raise is known by its attributes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from idc_indexer.errors import IndexerError
from idc_indexer.progress import Retries

LOG_IN = (
    "Log in with `gcloud auth application-default login`; in GitHub Actions, use google-github-actions/auth "
    "before this step."
)
EXPIRED = "the Google login of this machine has expired, or was revoked"
_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_ENDED = ("expired", "revoked", "reauth")


def check_credentials_file() -> None:
    """Raises IndexerError if the environment names a file with credentials that does not exist."""
    path = os.environ.get(_FILE)
    if path and not Path(path).is_file():
        raise IndexerError(
            f"{_FILE}={path}: no such file", f"Give the path of a file with credentials, or unset {_FILE}."
        )


def credentials_problem(error: BaseException) -> tuple[str, str]:
    """What is wrong with the credentials, and what to do. The text of the error is not shown: it may hold a token."""
    kind = type(error).__name__
    if kind == "DefaultCredentialsError":
        return "there are no Google credentials on this machine, or they cannot be read", LOG_IN
    if kind == "TransportError":
        return (
            f"no connection to {host_of(error) or 'the server that gives tokens'}",
            "Check the network and its proxies.",
        )
    if any(word in str(error).lower() for word in _ENDED):
        return EXPIRED, LOG_IN
    return "Google does not accept the credentials of this machine", LOG_IN


def telling(retry: Any, retries: Retries, host: str) -> Any:
    """A copy of a `Retry` of Google's libraries, for one request, that tells of each failed attempt.

    Args:
        host: what the request is sent to, where the error does not say it.
    """
    attempts = count(1)

    def on_error(error: Exception) -> None:
        told = f"attempt {next(attempts)}, for at most {retry.timeout:.0f} s"
        retries.tell(host_of(error) or host, _failure(error), told)

    return type(retry)(
        predicate=retry._predicate,
        initial=retry._initial,
        maximum=retry._maximum,
        multiplier=retry._multiplier,
        timeout=retry.timeout,
        on_error=on_error,
    )


def host_of(error: BaseException) -> str:
    """The host that an error is about; empty if it does not say."""
    for one in _chain(error):
        for part in (getattr(one, "request", None), getattr(getattr(one, "response", None), "request", None)):
            if isinstance(url := getattr(part, "url", None), str):
                return urlsplit(url).hostname or ""
    return ""


def _failure(error: BaseException) -> str:
    for one in _chain(error):
        code = getattr(one, "code", None) or getattr(getattr(one, "response", None), "status_code", None)
        if isinstance(code, int):
            return f"HTTP {int(code)}"
    *_, last = _chain(error)
    return "no answer in time" if "timeout" in type(last).__name__.lower() else "no connection"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that caused it: Google's libraries wrap those of `requests`."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or next((one for one in found.args if isinstance(one, BaseException)), None)
