"""What Google's libraries raise, as one message for the user: what is wrong, and the next step.

No token passes: the text of errors about credentials is never quoted, and what looks like a token is cut out of
any other text, and of the traceback that `-v` shows.
"""

from __future__ import annotations

import concurrent.futures
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound, RetryError, ServerError, Unauthorized
from google.auth.exceptions import GoogleAuthError

from idc_indexer.errors import IndexerError
from idc_indexer.google_errors import credentials_problem

FAILURES = (GoogleAPICallError, RetryError, GoogleAuthError, requests.RequestException, concurrent.futures.TimeoutError)
"""All that Google's libraries raise for what is not a defect of the caller."""

_SECRET = re.compile(
    r"ya29\.[\w.~+/-]+|1//[\w-]{20,}|eyJ[\w-]+\.[\w-]+\.[\w-]*"  # access token, refresh token, signed token
    r"|(?<=bearer )[\w.~+/=-]+|(?<=_token=)[^\s&]+|(?<=_token\": \")[^\"]+|(?<=_token': ')[^']+",
    re.IGNORECASE,
)
_REQUEST = re.compile(r"^(?:[A-Z]+ https?://\S+: )+")
_AGAIN = "Run the same command again: jobs that are finished or running are found, and not paid for twice."
_QUOTA = {"quotaExceeded", "rateLimitExceeded", "jobRateLimitExceeded", "RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"}
_DISABLED = {"accessNotConfigured", "SERVICE_DISABLED"}


def without_secrets(text: str) -> str:
    """The text with `[secret]` for whatever looks like a token."""
    return _SECRET.sub("[secret]", text)


def reason(error: BaseException) -> str:
    """BigQuery's word for what went wrong, such as `quotaExceeded`; "" when it gives none.

    https://cloud.google.com/bigquery/docs/error-messages
    """
    first = _first(error)
    return str(first.get("reason") or getattr(error, "reason", None) or "")


def of_its_own(error: GoogleAPICallError) -> bool:
    """Whether an error is of one table or one query; any other is of the project, or of the service."""
    return reason(error) in ("notFound", "invalidQuery") and not _text(error).startswith("Not found: Project")


@contextmanager
def explaining(project: str, where: str = "BigQuery") -> Iterator[None]:
    """Turn what Google's libraries raise into an IndexerError.

    Args:
        project: the one that pays, for the hints.
        where: the index, or whatever the message is to begin with.
    """
    try:
        yield
    except FAILURES as error:
        shown = "".join(traceback.format_exception(error))
        raise explained(error, project, where) from (error if without_secrets(shown) == shown else None)


def explained(error: BaseException, project: str, where: str) -> IndexerError:
    """The message for an error, and the next step."""
    message, hint = _message(error, project)
    return IndexerError(f"{where}: {without_secrets(message)}", hint)


def _message(error: BaseException, project: str) -> tuple[str, str]:
    if isinstance(error, RetryError):
        cause = error.cause or error
        return (
            f"gave up after many attempts: {_text(cause)}",
            f"{_AGAIN} Outages: https://status.cloud.google.com.",
        )
    if isinstance(error, (GoogleAuthError, Unauthorized)):
        return credentials_problem(error)
    if isinstance(error, GoogleAPICallError):
        return _answer(error, project)
    if isinstance(error, (requests.Timeout, concurrent.futures.TimeoutError)):
        return "no answer within the time allowed", _AGAIN
    return f"no connection: {type(error).__name__}", f"Check the network and the proxy. {_AGAIN}"


def _answer(error: GoogleAPICallError, project: str) -> tuple[str, str]:
    """The message for what the service itself says."""
    why, text = reason(error), _text(error)
    said: tuple[str, str]
    if why in _DISABLED:
        enable = f"gcloud services enable bigquery.googleapis.com bigquerystorage.googleapis.com --project {project}"
        said = f"the API is not enabled in project {project}", f"Enable it: `{enable}`."
    elif why == "billingNotEnabled":
        said = f"project {project} has no billing account", "Link one, or give another project with --project."
    elif why == "bytesBilledLimitExceeded":
        said = text, "The job is not billed. The tables have grown since the dry run: run the same command again."
    elif why in _QUOTA:
        quotas = f"https://console.cloud.google.com/iam-admin/quotas?project={project}"
        said = f"a quota of project {project} is used up: {text}", f"Wait, or have it raised: {quotas}. {_AGAIN}"
    elif why == "stopped":
        said = "the job was cancelled by someone", _AGAIN
    elif why == "timeout" or "timed out" in text.lower():
        said = f"the job took longer than BigQuery allows: {text}", _AGAIN
    elif isinstance(error, NotFound):
        said = text, _not_found(text, project)
    elif "project" in text.lower() and why in ("invalid", "badRequest", "accessDenied", "forbidden"):
        role = "have the role BigQuery Job User (roles/bigquery.jobUser) in it"
        said = text, f"Give your own project with --project (`gcloud projects list` shows them), and {role}."
    elif isinstance(error, Forbidden):
        said = text, "IDC's own tables are public to every Google account; others need the role BigQuery Data Viewer."
    else:
        said = text, _AGAIN if isinstance(error, ServerError) else ""
    return said


def _not_found(text: str, project: str) -> str:
    if text.startswith("Not found: Project"):
        return "Give your own project with --project: `gcloud projects list` shows them."
    if text.startswith("Not found: Job"):
        return _AGAIN
    return (
        f"The release may not be public yet: `idc-indexer releases --engine bigquery --project {project}` lists those "
        "that are. IDC's tables are in --location US."
    )


def _first(error: BaseException) -> dict[str, Any]:
    errors = getattr(error, "errors", None) or [{}]
    return errors[0] if isinstance(errors[0], dict) else {}


def _text(error: BaseException) -> str:
    """What an error says, without the request and without what the client library adds below."""
    text = str(_first(error).get("message") or getattr(error, "message", "") or type(error).__name__)
    return _REQUEST.sub("", text).split("\n", 1)[0]
