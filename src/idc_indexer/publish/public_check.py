"""Check published files as readers use them: over HTTP, from any web page, in parts.

All requests go without credentials. The bytes are compared with the manifest; whether the rows are right is for
`verify`, before a release is published. Redirects are followed, as browsers and libraries follow them. Of a version
that another tool published, the bytes are compared with its record if it was adopted, and with sidecars if it was not.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer import documents
from idc_indexer.errors import IndexerError
from idc_indexer.http import Response, folder_url, request
from idc_indexer.progress import Meter, NullListener, ProgressListener, Retries
from idc_indexer.publish.records import (
    CURRENT,
    EXPOSED,
    PROMOTION,
    WORKERS,
    MalformedError,
    Promotion,
    Publication,
    media_type,
    parse_withdrawal,
)
from idc_indexer.publish.release_source import bundled_schemas, read_release
from idc_indexer.publish.root_files import VERSIONS
from idc_indexer.release.manifest import (
    ARTIFACTS,
    MANIFEST,
    FileEntry,
    Release,
    file_entry,
    other_writer,
    parquet_name,
    schema_name,
    sidecar,
    sidecar_name,
    sql_name,
    stated_sha256,
)
from idc_indexer.release.verify import Problem

ORIGIN = "https://example.org"
"""A web page of another site."""
SMALL = 1 << 20
"""Bytes up to which a file is always downloaded: schemas, queries, sidecars and most indices."""
YEAR = 31_536_000
_MISSING = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
Parsed = TypeVar("Parsed")


def check(
    url: str,
    deep: bool = False,
    against: Path | None = None,
    sleep: Callable[[float], object] = time.sleep,
    listener: ProgressListener | None = None,
) -> list[Problem]:
    """Check a folder of published files.

    Args:
        url: of the folder, such as `https://storage.googleapis.com/<bucket>/current/release_artifacts/`. Below a
            folder `current`, files must have `no-cache`; elsewhere they must be cached for a year.
        deep: also download large files and compare their SHA-256.
        against: a release, perhaps of a few indices only, whose files must be the published ones.
        listener: hears how far the check is.

    Returns:
        Every problem, by file; empty if readers get everything that they need.

    Raises:
        UsageError: not an HTTP address.
        IndexerError: the server cannot be reached, or redirects to where it must not; the release was replaced during
            the check; or there is no release at `against`.
    """
    rebuilt = read_release(str(against)) if against else None
    listener = listener or NullListener()
    folder = _PublicFolder(url, deep, sleep, listener)
    records = folder.records()
    manifest = folder.ask(MANIFEST)
    expected = _expected(folder, records, manifest)
    about = [*records.problems, *folder.root_problems(records, manifest)]
    if isinstance(expected, Problem):
        return [*about, expected]
    if expected.note:
        listener.message(expected.note)
    meter = Meter(listener, "checking", "files", len(expected.files), expected.size if deep else 0)

    def problems(file: FileEntry) -> list[Problem]:
        found = list(folder.problems(file, expected))
        meter.add(file.name, bytes=file.bytes if deep else 0)
        return found

    with ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(problems, expected.files))
    if folder.ask(MANIFEST).body != manifest.body:
        raise IndexerError(f"{url}: the release was replaced during the check", "Check again.")
    table = next((file for file in expected.files if file.name.endswith(".parquet")), None)
    preflight = list(folder.preflight(table.name)) if table else []
    different = list(differences(rebuilt, expected.release, expected.files)) if rebuilt else []
    return [*about, *(problem for of_file in found for problem in of_file), *preflight, *different]


@dataclass(frozen=True)
class _Records:
    """What the records beside the files say; each is None if there is none that is valid.

    Attributes:
        withdrawn: why the version is withdrawn; empty if it is not.
    """

    promotion: Promotion | None = None
    publication: Publication | None = None
    withdrawn: str = ""

    @property
    def moving(self) -> bool:
        """Whether a promotion has begun and not ended, so that files of two versions are there."""
        return self.promotion is not None and not self.promotion.done

    @property
    def problems(self) -> list[Problem]:
        """What readers of these files should know."""
        found = []
        if self.promotion and self.moving:
            version = self.promotion.release_version
            found.append(
                Problem(
                    Path(PROMOTION).name,
                    f"the promotion of {version} has not ended, so contents were not compared: "
                    f"wait for it, or run `idc-indexer promote {version}` again",
                )
            )
        if self.withdrawn:
            found.append(Problem(MANIFEST, f"the version is withdrawn: {self.withdrawn}"))
        return found

    def differences(self, told: Mapping[str, Any], manifest_sha256: str) -> Iterator[str]:
        """What `versions.json` says that these records do not.

        Args:
            told: its content.
            manifest_sha256: of the manifest; empty if there is none, which is not the matter here.
        """
        version = self.publication.release_version if self.publication else ""
        entry = next((one for one in told["versions"] if one["release_version"] == version), None)
        if entry is None:
            yield f"is out of date: it lacks {version}"
        elif manifest_sha256 and entry.get("manifest_sha256") != manifest_sha256:
            yield f"has another digest of the manifest of {version}: {entry.get('manifest_sha256')}"
        elif entry.get("withdrawn", "") != self.withdrawn:
            yield f"is out of date: it does not say whether {version} is withdrawn as its record does"
        if self.promotion and told.get("current") != version:
            yield f"is out of date: current is {version}, and it says {told.get('current', 'none')}"


@dataclass(frozen=True)
class _Expected:
    """The files that must be there.

    Attributes:
        files: a SHA-256 that is not known is empty.
        release: of the manifest; None if another tool published the files.
        headers: whether content types and cache headers are known.
        contents: whether the bytes are known.
        note: how the files were found; empty if by the manifest.
    """

    files: Sequence[FileEntry]
    release: Release | None = None
    headers: bool = True
    contents: bool = True
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    @cached_property
    def sidecars(self) -> dict[str, bytes]:
        """Contents of the sidecars that the manifest implies."""
        listed = self.release.files if self.release else []
        return {sidecar_name(file.name): sidecar(file.sha256, file.name) for file in listed}


def _expected(folder: _PublicFolder, records: _Records, manifest: Response) -> _Expected | Problem:
    """The files that must be there, or why that cannot be known."""
    if not manifest.problem:
        try:
            release = Release.parse(documents.parse(manifest.body, "manifest", MANIFEST))
        except IndexerError as error:
            return Problem(MANIFEST, f"is not a manifest: {error}")
        own = file_entry(MANIFEST, manifest.body)
        return _Expected([own, *release.files], release, contents=not records.moving)
    if records.publication and records.publication.adopted:
        note = f"{records.publication.release_version} was adopted: files and digests are those of its record"
        headers = records.promotion is not None
        return _Expected(records.publication.files, None, headers, not records.moving, note)
    if not (records.promotion or records.publication) and (files := folder.without_manifest()):
        note = (
            f"no {MANIFEST} and no record: published by another tool. {len(files)} files are checked against their "
            "sidecars; content types and cache headers are not checked"
        )
        return _Expected(files, None, headers=False, note=note)
    return Problem(MANIFEST, manifest.problem)


def differences(rebuilt: Release, published: Release | None, files: Sequence[FileEntry]) -> Iterator[Problem]:
    """The files of a rebuilt release that differ from the published ones, or the reason why all may differ."""
    digests = {file.name: file.sha256 for file in files}
    others = {file.name: file.sha256 for file in rebuilt.table_files if file.sha256 != digests.get(file.name)}
    if others and published and (reason := other_writer(published, rebuilt.about["writer"])):
        yield Problem(MANIFEST, reason)
        return
    for name, sha256_of_rebuilt in others.items():
        found = f"is published with SHA-256 {digests[name]}" if name in digests else "is not published"
        yield Problem(name, f"was rebuilt with SHA-256 {sha256_of_rebuilt}, and {found}")
    if others and published:
        theirs, ours = ("{name} {version}".format(**of.about["toolkit"]) for of in (published, rebuilt))
        if theirs != ours:
            yield Problem(MANIFEST, f"names {theirs} as the toolkit; the rebuilt release has {ours}")


class _PublicFolder:
    def __init__(
        self, url: str, deep: bool, sleep: Callable[[float], object], listener: ProgressListener | None = None
    ) -> None:
        self._url = folder_url(url)
        self._deep = deep
        self._sleep = sleep
        self._retries = Retries(listener)
        self._current = CURRENT in urlsplit(url).path.split("/")

    def ask(self, name: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Response:
        """The response to a page of another site."""
        sent = {"Origin": ORIGIN, **(headers or {})}
        return request(self._url + quote(name), method, sent, follow=True, sleep=self._sleep, retries=self._retries)

    def records(self) -> _Records:
        """The records beside the folder."""
        if urlsplit(self._url).path.split("/")[-2:] != [ARTIFACTS, ""]:
            return _Records()
        promotion = self._record("../promotion.json", Promotion.parse) if self._current else None
        if self._current and not promotion:
            return _Records()
        base = f"../../{promotion.release_version}" if promotion else ".."
        return _Records(
            promotion,
            self._record(f"{base}/publication.json", Publication.parse),
            self._record(f"{base}/withdrawal.json", parse_withdrawal) or "",
        )

    def root_problems(self, records: _Records, manifest: Response) -> Iterator[Problem]:
        """What `versions.json` says wrong of a version that this toolkit published or adopted."""
        if not records.publication or records.moving:
            return
        address = urljoin(self._url, f"../../{VERSIONS}")
        response = request(address, follow=True, sleep=self._sleep, retries=self._retries)
        digest = "" if manifest.problem else sha256(manifest.body).hexdigest()
        try:
            told = {} if response.problem else documents.parse(response.body, "versions", VERSIONS)
            messages = [response.problem] if response.problem else [*records.differences(told, digest)]
        except IndexerError as error:
            messages = [f"is damaged: {error.message.removeprefix(f'{VERSIONS}: ')}"]
        yield from (Problem(VERSIONS, message) for message in messages)

    def _record(self, place: str, parse: Callable[[bytes, str], Parsed]) -> Parsed | None:
        address = urljoin(self._url, place)
        response = request(address, follow=True, sleep=self._sleep, retries=self._retries)
        try:
            return None if response.problem else parse(response.body, address)
        except MalformedError:
            return None

    def without_manifest(self) -> list[FileEntry]:
        """The files of the toolkit's tables that are there, with the digests of their sidecars."""
        kinds = (parquet_name, lambda table: sidecar_name(parquet_name(table)), schema_name, sql_name)
        names = [kind(table) for table in bundled_schemas() for kind in kinds]
        with ThreadPoolExecutor(WORKERS) as pool:
            return [entry for entry in pool.map(self._entry, names) if entry]

    def _entry(self, name: str) -> FileEntry | None:
        head = self.ask(name, "HEAD")
        size = head.headers.get("Content-Length", "")
        if head.problem or not re.fullmatch(r"\d{1,15}", size):
            return None
        beside = self.ask(sidecar_name(name)) if name.endswith(".parquet") else None
        return FileEntry(name, int(size), stated_sha256(beside.body) if beside else "")

    def problems(self, file: FileEntry, expected: _Expected) -> Iterator[Problem]:
        """The problems of a file."""
        head = self.ask(file.name, "HEAD")
        if head.problem:
            if expected.contents or head.status not in _MISSING:  # a promotion removes files at its end
                yield Problem(file.name, head.problem)
            return
        messages = [*self._sizes(file, head)] if expected.contents else []
        messages += self._headers(file, head) if expected.headers else []
        messages += _cross_origin(head, "HEAD")
        messages += self._bytes(file, expected.sidecars.get(file.name)) if expected.contents else []
        for message in messages:
            # A rule that the bucket lacks is not told for HEAD and again for GET.
            if ": GET " not in message or message.replace(": GET ", ": HEAD ") not in messages:
                yield Problem(file.name, message)

    def preflight(self, name: str) -> Iterator[Problem]:
        """The request that a browser sends before it reads a part of a file for a page of another site."""
        asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
        response = self.ask(name, "OPTIONS", asked)
        methods = _listed(response, "Access-Control-Allow-Methods")
        headers = _listed(response, "Access-Control-Allow-Headers")
        if response.status not in (200, 204) or not _allows(response) or "get" not in methods or "range" not in headers:
            yield Problem(name, "may not be read in parts by pages of other sites: the preflight (OPTIONS) is refused")

    def _sizes(self, file: FileEntry, head: Response) -> Iterator[str]:
        size = head.headers.get("Content-Length")
        if size != str(file.bytes):
            yield f"has {size} bytes, in the manifest {file.bytes}"

    def _headers(self, file: FileEntry, head: Response) -> Iterator[str]:
        if head.media_type != media_type(file.name):
            yield f"has content type {head.media_type or None}, not {media_type(file.name)}"
        cached = head.headers.get("Cache-Control", "")
        directives = {part.strip().lower() for part in cached.split(",")}
        age = re.search(r"max-age=(\d{1,12})", cached.lower())
        if self._current and not directives & {"no-cache", "no-store", "max-age=0"}:
            yield f"has Cache-Control {cached!r}, not no-cache: readers may be shown an old file beside a new one"
        if not self._current and (directives & {"no-cache", "no-store"} or not age or int(age[1]) < YEAR):
            yield f"has Cache-Control {cached!r}, although it never changes: not max-age={YEAR}"

    def _bytes(self, file: FileEntry, expected: bytes | None) -> Iterator[str]:
        """The problems of the bytes, of the complete file and of parts of it."""
        content = self.ask(file.name).body if self._deep or file.bytes <= SMALL else None
        if content is not None:
            digest = sha256(content).hexdigest()
            if (len(content), digest) != (file.bytes, file.sha256 or digest):
                yield f"is corrupted: {len(content)} bytes with SHA-256 {digest}, in the manifest {file.sha256}"
                return
            if expected not in (None, content):
                yield "has another digest than the manifest has for its file"
        if not file.bytes:  # it has no parts
            return
        first, last = file.bytes // 3, 2 * file.bytes // 3
        response, wrong = self._part(file, f"{first}-{last}", first, last)
        yield from _cross_origin(response, "GET")
        if wrong:
            yield wrong
        elif content is not None and response.body != content[first : last + 1]:
            yield f"has other bytes from {first} to {last} when only that range is requested"
        elif content is None and file.name.endswith(".parquet"):
            yield from self._footer(file)

    def _footer(self, file: FileEntry) -> Iterator[str]:
        """The problems of the last bytes and the footer, which readers of Parquet request first."""
        tail, wrong = self._part(file, "-8", file.bytes - 8, file.bytes - 1)
        if not wrong and tail.body[4:] != b"PAR1":
            wrong = "does not end like Parquet when only its last bytes are requested"
        if wrong:
            yield wrong
            return
        start = file.bytes - 8 - int.from_bytes(tail.body[:4], "little")
        if start < len(b"PAR1"):
            yield "has a footer that is larger than the file"
            return
        footer, wrong = self._part(file, f"{start}-{file.bytes - 9}", start, file.bytes - 9)
        try:
            rows = None if wrong else pq.read_metadata(io.BytesIO(b"PAR1" + footer.body + tail.body)).num_rows
        except (pa.ArrowException, OSError, ValueError) as error:  # which of them depends on the damage
            wrong = f"has a footer that cannot be read: {error}"
        if wrong or (rows != file.rows and file.rows is not None):
            yield wrong or f"has {rows} rows, in the manifest {file.rows}"

    def _part(self, file: FileEntry, asked: str, first: int, last: int) -> tuple[Response, str]:
        """The response to a range request, and its problem."""
        response = self.ask(file.name, headers={"Range": f"bytes={asked}"})
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            return response, f"is not served in parts: HTTP {response.status} to Range: bytes={asked}"
        said, right = response.headers.get("Content-Range"), f"bytes {first}-{last}/{file.bytes}"
        if said != right or len(response.body) != last - first + 1:
            return response, f"is served in wrong parts: Range: bytes={asked} gives {said}, {len(response.body)} bytes"
        return response, ""


def _cross_origin(response: Response, method: str) -> Iterator[str]:
    """What a page of another site cannot do or see."""
    if not _allows(response):
        yield f"may not be read by pages of other sites (CORS): {method} has no Access-Control-Allow-Origin for them"
        return
    exposed = _listed(response, "Access-Control-Expose-Headers")
    hidden = [header for header in EXPOSED if header.lower() not in exposed]
    if hidden and "*" not in exposed:
        yield f"hides headers from pages of other sites (CORS): {method} does not expose {', '.join(hidden)}"


def _allows(response: Response) -> bool:
    return response.headers.get("Access-Control-Allow-Origin") in ("*", ORIGIN)


def _listed(response: Response, header: str) -> set[str]:
    return {value.strip().lower() for value in response.headers.get(header, "").split(",")}
