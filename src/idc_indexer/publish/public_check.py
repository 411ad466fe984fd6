"""Check published files as readers use them: over HTTP, from any web page, in parts.

All requests go without credentials. The bytes are compared with the manifest; whether the rows are right is for
`verify`, before a release is published. Redirects are followed, as browsers and libraries follow them.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer import documents
from idc_indexer.errors import IndexerError
from idc_indexer.http import Response, folder_url, request
from idc_indexer.publish.records import CURRENT, EXPOSED, WORKERS, media_type
from idc_indexer.publish.release_source import read_release
from idc_indexer.release.manifest import MANIFEST, FileEntry, Release, sidecar, sidecar_name
from idc_indexer.release.verify import Problem

ORIGIN = "https://example.org"
"""A web page of another site."""
SMALL = 1 << 20
"""Bytes up to which a file is always downloaded: schemas, queries, sidecars and most indices."""
YEAR = 31_536_000


def check(
    url: str, deep: bool = False, against: Path | None = None, sleep: Callable[[float], object] = time.sleep
) -> list[Problem]:
    """Check a folder of published files.

    Args:
        url: of the folder, such as `https://storage.googleapis.com/<bucket>/current/release_artifacts/`. Below a
            folder `current`, files must have `no-cache`; elsewhere they must be cached for a year.
        deep: also download large files and compare their SHA-256.
        against: a release, perhaps of a few indices only, whose files must be the published ones.

    Returns:
        Every problem, by file; empty if readers get everything that they need.

    Raises:
        UsageError: not an HTTP address.
        IndexerError: the server cannot be reached, or redirects to where it must not; the release was replaced during
            the check; or there is no release at `against`.
    """
    rebuilt = read_release(str(against)) if against else None
    folder = _PublicFolder(url, deep, sleep)
    manifest = folder.ask(MANIFEST)
    release = _parse(manifest)
    if isinstance(release, str):
        return [Problem(MANIFEST, release)]
    listed = release.files
    files = [FileEntry(MANIFEST, len(manifest.body), sha256(manifest.body).hexdigest()), *listed]
    digests = {sidecar_name(file.name): sidecar(file.sha256, file.name) for file in listed}
    with ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(lambda file: list(folder.problems(file, digests.get(file.name))), files))
    if folder.ask(MANIFEST).body != manifest.body:
        raise IndexerError(f"{url}: the release was replaced during the check", "Check again.")
    table = next((file for file in listed if file.name.endswith(".parquet")), None)
    preflight = list(folder.preflight(table.name)) if table else []
    different = list(differences(rebuilt, release)) if rebuilt else []
    return [problem for problems in found for problem in problems] + preflight + different


def _parse(manifest: Response) -> Release | str:
    """The release of a manifest, or the problem of the response."""
    if manifest.problem:
        return manifest.problem
    try:
        return Release.parse(documents.parse(manifest.body, "manifest", MANIFEST))
    except IndexerError as error:
        return f"is not a manifest: {error}"


def differences(rebuilt: Release, release: Release) -> Iterator[Problem]:
    """The files of a rebuilt release that differ from the published ones, and a possible reason."""
    digests = {file.name: file.sha256 for file in release.files}
    others = {file.name: file.sha256 for file in rebuilt.table_files if file.sha256 != digests.get(file.name)}
    for name, sha256_of_rebuilt in others.items():
        found = f"is published with SHA-256 {digests[name]}" if name in digests else "is not published"
        yield Problem(name, f"was rebuilt with SHA-256 {sha256_of_rebuilt}, and {found}")
    if others:
        for by in ("toolkit", "writer"):
            theirs, ours = ("{name} {version}".format(**of.about[by]) for of in (release, rebuilt))
            if theirs != ours:
                yield Problem(MANIFEST, f"names {theirs} as the {by}; the rebuilt release has {ours}")


class _PublicFolder:
    def __init__(self, url: str, deep: bool, sleep: Callable[[float], object]) -> None:
        self._url = folder_url(url)
        self._deep = deep
        self._sleep = sleep
        self._current = CURRENT in urlsplit(url).path.split("/")

    def ask(self, name: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Response:
        """The response to a page of another site."""
        sent = {"Origin": ORIGIN, **(headers or {})}
        return request(self._url + quote(name), method, sent, follow=True, sleep=self._sleep)

    def problems(self, file: FileEntry, expected: bytes | None) -> Iterator[Problem]:
        """The problems of a file; `expected` is the content if it is a sidecar."""
        head = self.ask(file.name, "HEAD")
        if head.problem:
            yield Problem(file.name, head.problem)
            return
        for message in [*self._headers(file, head), *self._bytes(file, expected)]:
            yield Problem(file.name, message)

    def preflight(self, name: str) -> Iterator[Problem]:
        """The request that a browser sends before it reads a part of a file for a page of another site."""
        asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
        response = self.ask(name, "OPTIONS", asked)
        methods = _listed(response, "Access-Control-Allow-Methods")
        headers = _listed(response, "Access-Control-Allow-Headers")
        if response.status not in (200, 204) or not _allows(response) or "get" not in methods or "range" not in headers:
            yield Problem(name, "may not be read in parts by pages of other sites: the preflight (OPTIONS) is refused")

    def _headers(self, file: FileEntry, head: Response) -> Iterator[str]:
        size = head.headers.get("Content-Length")
        if size != str(file.bytes):
            yield f"has {size} bytes, in the manifest {file.bytes}"
        if head.media_type != media_type(file.name):
            yield f"has content type {head.media_type or None}, not {media_type(file.name)}"
        cached = head.headers.get("Cache-Control", "")
        directives = {part.strip().lower() for part in cached.split(",")}
        age = re.search(r"max-age=(\d{1,12})", cached.lower())
        if self._current and not directives & {"no-cache", "no-store", "max-age=0"}:
            yield f"has Cache-Control {cached!r}, not no-cache: readers may be shown an old file beside a new one"
        if not self._current and (directives & {"no-cache", "no-store"} or not age or int(age[1]) < YEAR):
            yield f"has Cache-Control {cached!r}, although it never changes: not max-age={YEAR}"
        yield from _cross_origin(head, "HEAD")

    def _bytes(self, file: FileEntry, expected: bytes | None) -> Iterator[str]:
        """The problems of the bytes, of the complete file and of parts of it."""
        content = self.ask(file.name).body if self._deep or file.bytes <= SMALL else None
        if content is not None:
            digest = sha256(content).hexdigest()
            if (len(content), digest) != (file.bytes, file.sha256):
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
        if wrong or rows != file.rows:
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
