"""A store in Google Cloud Storage, through Google's own client.

Application default credentials; an emulator when STORAGE_EMULATOR_HOST is set, which the client itself obeys. Every
write has a generation precondition, so that the client may repeat it when an answer is lost. What comes of the
repetition, «precondition failed» although the first attempt had done it, is a `ConflictError` like any other: those who
write look again.

What the client says is not passed on as it is, nor chained to our errors: it may hold the address of an upload session.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from idc_indexer import files
from idc_indexer.errors import IndexerError
from idc_indexer.publish.stores import ConflictError, Headers, StoredObject

try:
    import google_crc32c
    import requests
    from google.api_core import exceptions
    from google.auth import exceptions as auth
    from google.cloud import storage  # type: ignore[attr-defined]  # a namespace of several packages
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
    from google.cloud.storage.retry import DEFAULT_RETRY
except ImportError as error:
    raise IndexerError(
        f"gs:// needs the client of Google Cloud Storage: {error}", "Install it: pip install 'idc-indexer[gcs]'."
    ) from error

_CHUNK = 8 << 20
"""Bytes that are sent again at most when a connection breaks; the client sends up to 8 MiB in one request anyway."""
_FAILURES = (
    exceptions.GoogleAPIError,
    auth.GoogleAuthError,
    InvalidResponse,
    DataCorruption,
    requests.RequestException,
)
_FIELDS = "name,size,crc32c,md5Hash,generation,contentType,cacheControl,metadata"


class GcsStore:
    """A store in a bucket, under a prefix."""

    def __init__(self, bucket: str, prefix: str = "", first_wait: float = 1.0, patience: float = 120.0) -> None:
        """Args:
        first_wait: seconds before what failed in passing is tried again; the waits double.
        patience: seconds after which an operation is given up.

        Raises:
            IndexerError: no credentials.
        """
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"gs://{bucket}/{self._prefix}".rstrip("/")
        self.retry = DEFAULT_RETRY.with_delay(initial=first_wait).with_timeout(patience)
        with self.asking("credentials"):
            # No project: none of what is asked for belongs to one.
            self._client = storage.Client(project=None)
        self.bucket: Any = self._client.bucket(bucket)

    def checksum(self, data: Path | bytes) -> str:
        """The CRC32C, in the service's own writing."""
        digest = google_crc32c.Checksum()
        if isinstance(data, bytes):
            digest.update(data)
        else:
            with files.os_errors_for(data), data.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return _crc32c(base64.b64encode(digest.digest()).decode())

    def list(self, prefix: str) -> dict[str, StoredObject]:
        """All objects whose names begin with `prefix`, by name."""
        with self.asking(prefix or "the listing"):
            blobs = self._client.list_blobs(
                self.bucket,
                prefix=self._prefix + prefix,
                fields=f"items({_FIELDS}),nextPageToken",
                retry=self.retry,
            )
            return {made.name: made for made in map(self._object, blobs)}

    def read(self, source: StoredObject) -> bytes:
        """The bytes of that generation of an object."""
        with self.asking(source.name):
            data: bytes = self._blob(source.name).download_as_bytes(
                if_generation_match=source.generation, checksum="crc32c", retry=self.retry
            )
            return data

    def put(self, name: str, data: Path | bytes, headers: Headers, generation: int) -> StoredObject:
        """Upload an object: a small one in one request, a large one in a session that survives broken connections."""
        blob = self._blob(name, headers)
        with self.asking(name), io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as stream:
            blob.upload_from_file(
                stream,
                size=len(data) if isinstance(data, bytes) else data.stat().st_size,
                content_type=headers.content_type,
                if_generation_match=generation,
                checksum="crc32c",
                retry=self.retry,
            )
            return self._object(blob)

    def copy(self, source: StoredObject, name: str, headers: Headers, generation: int) -> StoredObject:
        """Copy within the bucket; large objects take several requests, of which the last makes the object appear."""
        blob, token = self._blob(name, headers), None
        with self.asking(name):
            while True:
                token, _, _ = blob.rewrite(
                    self._blob(source.name),
                    token=token,
                    if_generation_match=generation,
                    if_source_generation_match=source.generation,
                    retry=self.retry,
                )
                if token is None:
                    return self._object(blob)

    def delete(self, target: StoredObject) -> None:
        """Remove that generation of an object."""
        with self.asking(target.name):
            self._blob(target.name).delete(if_generation_match=target.generation, retry=self.retry)

    def _blob(self, name: str, headers: Headers | None = None) -> Any:
        blob = self.bucket.blob(self._prefix + name, chunk_size=_CHUNK if headers else None)
        if headers:
            blob.content_type = headers.content_type
            blob.cache_control = headers.cache_control
            blob.metadata = dict(headers.metadata)
        return blob

    def _object(self, blob: Any) -> StoredObject:
        return StoredObject(
            blob.name.removeprefix(self._prefix),
            blob.size,
            _crc32c(blob.crc32c),
            blob.generation,
            Headers(blob.content_type or "", blob.cache_control or "", blob.metadata or {}),
            composite=blob.md5_hash is None,
        )

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Turn what the client raises into the library's errors, which name the object and hold nothing secret."""
        where = f"{self.uri}/{what}"
        try:
            yield
        except exceptions.PreconditionFailed:
            raise ConflictError(f"{where}: someone else has changed it") from None
        except exceptions.NotFound as error:
            if "bucket" in (said := _said(error)).lower():
                raise IndexerError(f"{self.uri}: {said}") from None
            raise ConflictError(f"{where}: someone else has removed it") from None
        except (exceptions.Forbidden, exceptions.Unauthorized) as error:
            raise IndexerError(
                f"{where}: not allowed: {_said(error)}", "See which account the credentials are of, and its roles."
            ) from None
        except auth.DefaultCredentialsError:
            raise IndexerError(
                f"{self.uri}: no application default credentials",
                "Run `gcloud auth application-default login`, or let the workflow authenticate.",
            ) from None
        except (*_FAILURES, OSError) as error:
            raise IndexerError(f"{where}: {_said(error)}", "Run the command again: what is done is kept.") from None


def _said(error: BaseException) -> str:
    """What went wrong, without the address that was asked: that of an upload session lets anyone go on with it."""
    error = getattr(error, "cause", None) or error
    response = getattr(error, "response", None)
    if response is not None:
        try:
            return f"HTTP {response.status_code}: {response.json()['error']['message']}"
        except (ValueError, KeyError, TypeError):
            return f"HTTP {response.status_code} {response.reason}"
    return f"{type(error).__name__} {getattr(error, 'strerror', None) or ''}".rstrip()


def _crc32c(value: str) -> str:
    return f"crc32c:{value}"
