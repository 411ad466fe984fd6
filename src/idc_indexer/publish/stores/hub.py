"""A dataset on the Hugging Face Hub, through the Hub's own client.

A dataset is a git repository with a branch `main`, whose files change in one commit or not at all. A commit names its
parent and fails with `ConflictError` if `main` has another one. Large files are stored by their SHA-256, and uploaded
only if the Hub does not have them.

The client finds the token: of a trusted publisher if HF_OIDC_RESOURCE is set, else in HF_TOKEN, else that of
`hf auth login`. This module makes it silent in this process, because its messages may hold the address of an upload,
with which anyone may write; and it bounds how long the client waits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha1, sha256
from http import HTTPStatus
from pathlib import Path

import idc_indexer
from idc_indexer import files
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.http import MAX_WAIT, RETRIED, TIMEOUT
from idc_indexer.publish.stores import HUB, ConflictError

try:
    import httpx2
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_url, set_client_factory
    from huggingface_hub.errors import HfHubHTTPError, OIDCError
    from huggingface_hub.hf_api import RepoFile
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars, http_backoff, logging
except ImportError as error:
    raise IndexerError(
        f"hf:// needs the client of the Hugging Face Hub: {error}",
        "Install it into the environment of idc-indexer: pip install 'huggingface_hub>=2' 'httpx2>=2'.",
    ) from error

BRANCH = "main"
_ADDRESS = re.compile(rf"{HUB}datasets/([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)", re.ASCII)
_QUERY = re.compile(r"(?<=\S)\?\S+")
"""The part of an address that holds a signature."""
_TIMEOUT = 5 * TIMEOUT
"""Seconds that the Hub may stay silent: it answers a commit when all of its files are in place."""
_AGAIN = "Run the same command again; it continues where it stopped."
_INVALID = (ArithmeticError, AttributeError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)
"""What the client raises if a response is damaged, empty or of another form."""


class BusyError(IndexerError):
    """A request failed, and may succeed later.

    Attributes:
        wait: seconds that the Hub asks to wait; 0 if it does not say.
    """

    wait = 0.0


@dataclass(frozen=True)
class HubFile:
    """A file of a commit, with its digest in one of the two forms of `digests`."""

    name: str
    bytes: int
    digest: str


def digests(data: Path | bytes) -> frozenset[str]:
    """The two digests that the Hub may have of a file: its SHA-256, or that of git if it is small and text.

    https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    """
    if isinstance(data, Path):
        with files.os_errors_for(data):
            data = data.read_bytes()
    blob = sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    return frozenset({f"sha256:{sha256(data).hexdigest()}", f"git:{blob.hexdigest()}"})


def _asked_wait(response: httpx2.Response) -> float:
    """Seconds that the Hub asks to wait; 0 if it does not say."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if re.fullmatch(r"\d{1,6}", asked, re.ASCII) else 0.0


def _refuse_to_wait(response: httpx2.Response) -> None:
    """Raise what the client does not repeat, if it would have to wait for long."""
    if response.status_code in RETRIED and _asked_wait(response) > MAX_WAIT:
        raise httpx2.HTTPStatusError("", request=response.request, response=response)


def _client() -> httpx2.Client:
    """What the client sends requests with; its own waits for ever."""
    return httpx2.Client(event_hooks={"response": [_refuse_to_wait]}, follow_redirects=True, timeout=_TIMEOUT)


set_client_factory(_client)
disable_progress_bars()
logging.set_verbosity_error()


class HubDataset:
    """A dataset on the Hub. Every method raises IndexerError if the Hub refuses a request or does not answer."""

    def __init__(self, uri: str, anonymous: bool = False) -> None:
        """Args:
        anonymous: send no token, like a reader without an account.

        Raises:
            UsageError: not `hf://datasets/OWNER/NAME`.
        """
        if not (address := _ADDRESS.fullmatch(uri.rstrip("/"))):
            raise UsageError(f"{uri!r} is not a dataset on the Hugging Face Hub", "Give hf://datasets/OWNER/NAME.")
        self.name = address[1]
        self.uri = f"{HUB}datasets/{self.name}"
        self._token = False if anonymous else None
        self._library = {"library_name": "idc-indexer", "library_version": idc_indexer.__version__}
        self._api = HfApi(token=self._token, **self._library)

    def check_write(self) -> None:
        """Raise IndexerError unless the token may write to the dataset. Nothing is written."""
        with self._requesting("ask for the right to write to"):
            self._api.auth_check(self.name, repo_type="dataset", write=True)

    def refs(self) -> tuple[str, dict[str, str]]:
        """The commit of `main`, and those of all tags by name."""
        with self._requesting("list the tags of"):
            refs = self._api.list_repo_refs(self.name, repo_type="dataset")
            (head,) = (ref.target_commit for ref in refs.branches if ref.name == BRANCH)
            return head, {ref.name: ref.target_commit for ref in refs.tags}

    def files(self, commit: str) -> dict[str, HubFile]:
        """All files of a commit, by name."""
        with self._requesting("list the files of"):
            tree = self._api.list_repo_tree(self.name, recursive=True, revision=commit, repo_type="dataset")
            found = (entry for entry in tree if isinstance(entry, RepoFile))
            return {
                entry.path: HubFile(
                    entry.path, entry.size, f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}"
                )
                for entry in found
            }

    def read(self, commit: str, file: HubFile) -> bytes:
        """The bytes of a file of a commit."""
        with self._requesting(f"read {file.name} of"):
            address = hf_hub_url(
                self.name, file.name, repo_type="dataset", revision=commit, endpoint=self._api.endpoint
            )
            response = http_backoff("GET", address, headers=build_hf_headers(token=self._token, **self._library))
            response.raise_for_status()
            if file.digest not in digests(response.content):
                raise ValueError
            return bytes(response.content)

    def commit(self, parent: str, message: str, written: Mapping[str, Path | bytes], removed: Iterable[str]) -> str:
        """Write and remove files of `main` in one commit; ConflictError unless `main` is at the parent.

        Returns:
            The new commit.
        """
        with self._requesting("commit to"):
            added = [CommitOperationAdd(name, data) for name, data in written.items()]
            gone = [CommitOperationDelete(name, is_folder=False) for name in removed]
            made = self._api.create_commit(
                self.name,
                [*added, *gone],
                commit_message=message,
                repo_type="dataset",
                revision=BRANCH,
                parent_commit=parent,
            )
            return str(made.oid)

    def tag(self, name: str, commit: str) -> None:
        """Create a tag; ConflictError if there is one of this name."""
        with self._requesting(f"create the tag {name} of"):
            self._api.create_tag(self.name, tag=name, revision=commit, repo_type="dataset")

    @contextmanager
    def _requesting(self, what: str) -> Iterator[None]:
        try:
            yield
        except (*_INVALID, OIDCError, OSError, httpx2.HTTPError) as error:
            raise self._failure(f"{self.uri}: could not {what} it", error) from None

    def _failure(self, request: str, error: BaseException) -> IndexerError:
        """What users see of an error of the client."""
        if isinstance(error, (httpx2.HTTPStatusError, HfHubHTTPError)):
            return self._refusal(request, error.response, str(getattr(error, "server_message", None) or ""))
        if isinstance(error, OIDCError):
            return IndexerError(
                f"{request}: trusted publishing failed: {error}",
                "Check HF_OIDC_RESOURCE, and that the job has `id-token: write`.",
            )
        if isinstance(error, _INVALID) and isinstance(error.__cause__, (httpx2.HTTPError, OSError)):
            return self._failure(request, error.__cause__)
        if isinstance(error, httpx2.TransportError):
            return BusyError(f"{request}: {type(error).__name__}", _AGAIN)
        if isinstance(error, OSError):
            message = error.strerror or _QUERY.sub("", str(error))
            return IndexerError(f"{request}: {message}", _AGAIN)
        return IndexerError(
            f"{request}: the response is damaged, or not one of the Hub ({type(error).__name__})",
            f"Check the network and its proxies. {_AGAIN}",
        )

    def _refusal(self, request: str, response: httpx2.Response, message: str) -> IndexerError:
        """What users see of a response; `message` is that of the Hub, or a document of the storage behind it."""
        first = "" if message.startswith("<") else message.partition("\n")[0]
        said = f"{request}: HTTP {response.status_code}{first and f': {first}'}"
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        if status in RETRIED:
            busy = BusyError(said, _AGAIN)
            if wait := _asked_wait(response):
                busy.wait = wait
                busy.hint = f"The Hub asks to wait {wait:.0f} seconds. {_AGAIN}"
            return busy
        if status in (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED):
            return ConflictError(
                f"{said}; another program changed the dataset at the same time",
                "Nothing is half done. Run the same command again; it compares with what is there then.",
            )
        if code == "RepoNotFound" or (status == HTTPStatus.NOT_FOUND and not code):
            return IndexerError(
                f"{self.uri}: there is no such dataset, or this account may not see it: HTTP {status}",
                "Check the name and the account (`hf auth whoami`). A new dataset is made at "
                "https://huggingface.co/new-dataset.",
            )
        hints = {
            HTTPStatus.UNAUTHORIZED: "The token is missing, wrong or expired: set HF_TOKEN, or log in with "
            "`hf auth login`. In a workflow, check the trusted publisher of the dataset.",
            HTTPStatus.FORBIDDEN: "The token, or the trusted publisher, needs the right to write to this dataset.",
        }
        return IndexerError(said, hints.get(HTTPStatus(status), "") if status in hints else "")
