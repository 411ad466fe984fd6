"""A store in Google Cloud Storage, through Google's own client.

It uses application default credentials, or an emulator if STORAGE_EMULATOR_HOST is set, which the client obeys. Every
write has a generation precondition, so the client may repeat it after a lost response. If the first attempt succeeded,
the repetition fails its precondition: that is a `ConflictError` like any other, and the caller lists again.

Errors of the client are not shown or chained: they may hold the address of an upload session, which is a secret.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from idc_indexer import files
from idc_indexer.errors import IndexerError
from idc_indexer.google_errors import EXPIRED, LOG_IN, check_credentials_file, credentials_problem, telling
from idc_indexer.progress import ProgressListener, Retries
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
        f"gs:// needs the client of Google Cloud Storage: {error}",
        "Install it into the environment of idc-indexer: pip install 'google-cloud-storage>=3'.",
    ) from error

_CHUNK = 8 << 20
"""Bytes that are sent again at most when a connection breaks; the client sends up to 8 MiB in one request anyway."""
_TRANSPORT = (exceptions.GoogleAPIError, InvalidResponse, requests.RequestException, OSError)
_INVALID = (DataCorruption, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the client raises if a response is damaged, empty or of another form."""
_AGAIN = "Run the same command again; it continues where it stopped."
_NEEDED = tuple(f"storage.objects.{verb}" for verb in ("list", "get", "create", "delete"))
"""To replace an object takes the permission to delete."""
_FIELDS = "name,size,crc32c,md5Hash,generation,contentType,cacheControl,metadata"


class GcsStore:
    """A store in a bucket, under a prefix."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        first_wait: float = 1.0,
        patience: float = 120.0,
        listener: ProgressListener | None = None,
    ) -> None:
        """Args:
        first_wait: seconds before the first retry of a transient failure; the waits double.
        patience: seconds after which an operation fails.
        listener: hears of requests that are sent again.

        Raises:
            IndexerError: no credentials.
        """
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"gs://{bucket}/{self._prefix}".rstrip("/")
        self._retry = DEFAULT_RETRY.with_delay(initial=first_wait).with_timeout(patience)
        self._retries = Retries(listener)
        with self.requesting("log in"):
            if not os.environ.get("STORAGE_EMULATOR_HOST"):
                check_credentials_file()
            # No project: no request here belongs to one.
            self._client = storage.Client(project=None)
        self.bucket: Any = self._client.bucket(bucket)

    @property
    def retry(self) -> Any:
        """When one request is sent again, which the listener hears."""
        return telling(self._retry, self._retries, self.uri)

    def checksum(self, data: Path | bytes) -> str:
        """The CRC32C, in base64 as the service writes it."""
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
        with self.requesting("list", prefix):
            blobs = self._client.list_blobs(
                self.bucket,
                prefix=self._prefix + prefix,
                fields=f"items({_FIELDS}),nextPageToken",
                retry=self.retry,
            )
            return {made.name: made for made in map(self._object, blobs)}

    def read(self, source: StoredObject) -> bytes:
        """The bytes of that generation of an object."""
        with self.requesting("read", source.name):
            data: bytes = self._blob(source.name).download_as_bytes(
                if_generation_match=source.generation, checksum="crc32c", retry=self.retry
            )
            if self.checksum(data) != source.checksum:  # an empty response has no checksum for the client to compare
                raise ValueError
            return data

    def put(self, name: str, data: Path | bytes, headers: Headers, generation: int) -> StoredObject:
        """Upload an object: a small one in one request, a large one in a session that survives broken connections."""
        blob = self._blob(name, headers)
        with self.requesting("write", name), io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as stream:
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
        with self.requesting("copy to", name):
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
        with self.requesting("remove", target.name):
            self._blob(target.name).delete(if_generation_match=target.generation, retry=self.retry)

    def missing_permissions(self) -> tuple[str, ...]:
        """What publishing needs and the account may not do."""
        with self.requesting("ask for its permissions"):
            held = self.bucket.test_iam_permissions(_NEEDED, retry=self.retry)
            return tuple(permission for permission in _NEEDED if permission not in held)

    def _blob(self, name: str, headers: Headers | None = None) -> Any:
        blob = self.bucket.blob(self._prefix + name, chunk_size=_CHUNK if headers else None)
        if headers:
            blob.content_type = headers.content_type
            blob.cache_control = headers.cache_control
            blob.metadata = dict(headers.metadata)
        return blob

    def _object(self, blob: Any) -> StoredObject:
        if None in (blob.size, blob.crc32c, blob.generation):
            raise ValueError
        return StoredObject(
            blob.name.removeprefix(self._prefix),
            blob.size,
            _crc32c(blob.crc32c),
            blob.generation,
            Headers(blob.content_type or "", blob.cache_control or "", blob.metadata or {}),
            composite=blob.md5_hash is None,
        )

    @contextmanager
    def requesting(self, verb: str, name: str = "") -> Iterator[None]:
        """Turn everything that the client raises into an IndexerError with the request and the response.

        Args:
            verb: of the request, for the message.
            name: of the object; empty for requests about the bucket.
        """
        request = f"{self.uri}/{name}: could not {verb} it" if name else f"{self.uri}: could not {verb}"
        try:
            yield
        except (exceptions.PreconditionFailed, exceptions.NotFound) as error:
            # The message about an object may hold the word "bucket" in the name of the bucket.
            about_bucket = not name or verb == "list" or "bucket does not exist" in _response(error)
            if isinstance(error, exceptions.NotFound) and about_bucket:
                raise IndexerError(f"{self.uri}: there is no such bucket: {_response(error)}", "Check --to.") from None
            raise ConflictError(f"{request}: {_response(error)}") from None
        except exceptions.Unauthorized:
            raise IndexerError(f"{request}: {EXPIRED}", LOG_IN) from None
        except exceptions.Forbidden as error:
            raise IndexerError(
                f"{request}: not allowed: {_response(error)}",
                "Check which account the credentials belong to, and its roles on the bucket.",
            ) from None
        except auth.GoogleAuthError as error:
            problem, hint = credentials_problem(error)
            raise IndexerError(f"{self.uri}: {problem}", hint) from None
        except _INVALID as error:  # also an undecodable body, which is a RequestException too
            raise IndexerError(
                f"{request}: the response is damaged, or not one of Google Cloud Storage ({type(error).__name__})",
                f"Check the network and its proxies. {_AGAIN}",
            ) from None
        except _TRANSPORT as error:
            raise IndexerError(f"{request}: {_response(error)}", _AGAIN) from None


def _response(error: BaseException) -> str:
    """The response or failure, without the address of the request: with that of an upload session anyone may write."""
    error = getattr(error, "cause", None) or error
    response = getattr(error, "response", None)
    if response is not None:
        try:
            return f"HTTP {response.status_code}: {response.json()['error']['message']}"
        except _INVALID:
            return f"HTTP {response.status_code} {response.reason}"
    return f"{type(error).__name__} {getattr(error, 'strerror', None) or ''}".rstrip()


def _crc32c(value: str) -> str:
    return f"crc32c:{value}"
