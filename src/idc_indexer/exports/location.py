"""Where an export lies: a folder, or a bucket of Amazon S3 or Google Cloud Storage. All are read through obstore.

IDC's public bucket is read anonymously: nothing is signed, whatever credentials there are. Any other bucket of S3 is
read with the credentials of the ordinary AWS environment (variables; profiles, single sign-on and roles of machines
with boto3, extra `aws`), any other of Google with application default credentials; without any, anonymously.
`AWS_ENDPOINT_URL` and `STORAGE_EMULATOR_HOST` say where else the service is.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import GenericError
from obstore.store import GCSStore, LocalStore, S3Store

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.exports.bounded import check_page, supervised
from idc_indexer.exports.retry import Retrier
from idc_indexer.files import os_errors_for
from idc_indexer.google_errors import check_credentials_file

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

Result = TypeVar("Result")

PUBLIC_BUCKET, PUBLIC_REGION = "idc-open-metadata", "us-east-1"
SILENCE = timedelta(seconds=20)
"""How long a connection may stay silent before its request is made again."""

SLOWEST = 20_000
"""Bytes a second of one request, which takes one of 32 connections. A request that is slower is made again."""
_REQUEST = timedelta(minutes=10)
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_GOOGLE_CREDENTIALS = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]+")


@dataclass(frozen=True)
class ObjectMeta:
    """An object as it was listed. `key` is relative to the location; `etag` changes whenever its bytes do."""

    key: str
    bytes: int
    etag: str
    modified: datetime

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.key.rpartition("/")[2]


@dataclass(frozen=True)
class Location:
    """Objects under one root, to be listed and read.

    Attributes:
        uri: how messages name it.
        scheme: s3, gs, or folder.
        anonymous: whether it is read without credentials, and so is public.
        folder: where it is on this machine; None of a bucket.
        retrier: what repeats requests that fail in passing, and counts all.
    """

    uri: str
    scheme: str
    store: ObjectStore
    retrier: Retrier
    anonymous: bool = True
    folder: Path | None = None

    @property
    def identity(self) -> str:
        """What tells it from every other location, wherever a command is run."""
        return self.folder.absolute().as_posix() if self.folder else self.uri

    def folders(self) -> list[str]:
        """Names of the folders at the root.

        Raises:
            IndexerError: it cannot be listed.
        """
        found = self.retrier.call(
            self.uri, lambda: self._supervised(self.uri, lambda: obstore.list_with_delimiter(self.store))
        )
        return [PurePosixPath(prefix).name for prefix in found["common_prefixes"]]

    def list(self, folder: str) -> list[ObjectMeta]:
        """The objects that lie directly in a folder; none if there is no such folder.

        A listing that breaks off continues where it was.

        Raises:
            IndexerError: it cannot be listed.
        """
        found: list[ObjectMeta] = []
        pages: Iterator[Any] | None = None

        def following() -> Any:
            nonlocal pages
            try:
                if pages is None:
                    last = found[-1].key if found else None
                    pages = iter(obstore.list(self.store, folder, offset=last, chunk_size=1000))
                return next(pages, None)
            except Exception:
                pages = None
                raise

        name = f"{self.uri}/{folder}"
        while (page := self.retrier.call(name, lambda: self._supervised(name, following))) is not None:
            if not self.folder:
                last = found[-1].key if found else ""
                check_page(name, f"{folder}/", last, len(found) + len(page), [(o["path"], o["e_tag"]) for o in page])
            found += [ObjectMeta(o["path"], o["size"], o["e_tag"] or "", o["last_modified"]) for o in page]
        listed = [entry for entry in found if entry.key.rpartition("/")[0] == folder]
        if self.folder:
            _check_unlisted(self.folder / folder, {entry.name for entry in listed})
        return listed

    def _supervised(self, name: str, request: Callable[[], Result]) -> Result:
        return request() if self.folder else supervised(name, request)

    def read(self, source: ObjectMeta, start: int, end: int) -> memoryview:
        """The bytes of an object from `start` up to, and without, `end`.

        Raises:
            ChangedError: the object is not the one that was listed.
            IndexerError: it cannot be read.
        """
        name = f"{self.uri}/{source.key}"

        def get() -> memoryview:
            options: Any = {"range": (start, end), "if_match": source.etag or None}
            answer = obstore.get(self.store, source.key, options=options)
            data = memoryview(answer.bytes()) if self.folder else _received(answer, end - start)
            if len(data) != end - start:
                raise GenericError("another number of bytes than was asked for")
            return data

        return self.retrier.call(name, get, end - start)


def _received(answer: Any, size: int) -> memoryview:
    """The bytes of an answer, up to the first that was not asked for, and within a time that any usable line keeps."""
    data, end = bytearray(), time.monotonic() + max(SILENCE.total_seconds(), size / SLOWEST)
    for part in answer.stream(min_chunk_size=1):
        data += part
        if len(data) > size:
            break  # the caller sees that it is another number of bytes
        if time.monotonic() > end:
            raise GenericError(f"fewer than {SLOWEST:,} bytes a second")
    return memoryview(data)


def _check_unlisted(folder: Path, listed: set[str]) -> None:
    """Look for Parquet files that the listing of a folder leaves out without a word.

    Raises:
        IndexerError: there is one: a link whose target is gone, a folder, or another thing that is not a file.
    """
    if not folder.is_dir():
        return
    with os_errors_for(folder):
        for path in sorted(folder.glob("*.parquet")):
            if path.name not in listed:
                raise IndexerError(f"{path}: {_what(path)}", "Fetch that shard again, or move it away if it is none.")


def _what(path: Path) -> str:
    """Why a listing leaves out something that has the name of a shard."""
    if path.is_symlink() and not path.exists():
        return f"a link to {path.readlink()}, which does not exist"
    if path.is_dir():
        return "a folder, not a file"
    return "not a regular file" if not path.is_file() else "cannot be listed"


def open_location(source: str, retrier: Retrier) -> Location:
    """The location with that address; nothing is read yet.

    Raises:
        UsageError: it is neither a folder nor `s3://bucket[/prefix]` nor `gs://bucket[/prefix]`.
        IndexerError: credentials are asked for that cannot be had.
    """
    scheme, separator, path = source.partition("://")
    if not separator:
        folder = Path(source)
        if not folder.is_dir():
            raise UsageError(
                f"{source}: no such folder", "Give a folder that holds idc_vNN/<table>/*.parquet, or 'sample'."
            )
        return Location(source, "folder", LocalStore(prefix=folder.absolute()), retrier, folder=folder)
    bucket, _, prefix = path.strip("/").partition("/")
    if scheme not in ("s3", "gs") or not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{source}: not the address of an export", "Give s3://bucket/prefix, gs://bucket/prefix or a folder."
        )
    uri = f"{scheme}://{bucket}/{prefix}".rstrip("/")
    settings = _s3(bucket) if scheme == "s3" else _gs()
    endpoint = settings.get("base_url") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    client: ClientConfig = {
        "allow_http": bool(endpoint and endpoint.startswith("http://")),
        "read_timeout": SILENCE,
        "connect_timeout": SILENCE,
        "timeout": _REQUEST,
    }
    # obstore reads SSL_CERT_FILE by itself
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        client["root_certificate"] = _pem(bundle)
    retries: RetryConfig = {"max_retries": 0}  # of its own: they are made, and counted, in one location
    kind = S3Store if scheme == "s3" else GCSStore
    store = kind(bucket, prefix=prefix or None, client_options=client, retry_config=retries, **settings)
    return Location(uri, scheme, store, retrier, anonymous=bool(settings.get("skip_signature")))


def _pem(bundle: str) -> bytes:
    """The certificates that AWS_CA_BUNDLE names.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    try:
        ssl.create_default_context(cafile=bundle)
        return Path(bundle).read_bytes()
    except OSError as error:  # of which SSLError is one
        why = "holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"AWS_CA_BUNDLE={bundle}: {why}", "Give a file with certificates in PEM format.") from error


def _s3(bucket: str) -> dict[str, Any]:
    if bucket == PUBLIC_BUCKET:
        return {"skip_signature": True, "region": PUBLIC_REGION}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
        return {"skip_signature": True, "region": region or PUBLIC_REGION}
    if any(map(os.environ.get, _CREDENTIALS)):
        return {"region": region or PUBLIC_REGION}
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        if profile := os.environ.get("AWS_PROFILE"):
            raise IndexerError(
                f"AWS_PROFILE={profile}: profiles are read by boto3, which is not installed",
                "Install it into the environment of idc-indexer: pip install 'boto3>=1.34'.",
            ) from error
        return {"skip_signature": True, "region": region or PUBLIC_REGION}
    try:
        session = boto3.Session()
        credentials = session.get_credentials()
    except Exception as error:  # botocore's errors have no base that boto3 exports
        raise IndexerError(f"s3://{bucket}: no credentials: {error}", "Look at the AWS environment.") from error
    region = region or session.region_name or PUBLIC_REGION
    if credentials is None:
        return {"skip_signature": True, "region": region}
    return {"credential_provider": Boto3CredentialProvider(session), "region": region}


def _gs() -> dict[str, Any]:
    if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):
        return {"base_url": emulator.rstrip("/"), "skip_signature": True}
    check_credentials_file()
    configured = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")  # noqa: PTH111  # no error without a home
    present = Path(configured, "application_default_credentials.json").is_file()
    return {} if present or any(map(os.environ.get, _GOOGLE_CREDENTIALS)) else {"skip_signature": True}
