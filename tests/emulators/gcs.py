"""Google Cloud Storage on loopback: gcp-storage-emulator, and what it lacks.

The emulator keeps objects, and computes CRC32C and MD5, but ignores every precondition and the headers of a rewrite.
In front of it, here: preconditions on generations and metagenerations (412), rewrites that take several requests,
public reading as the service does it (IAM, CORS, Cache-Control, ranges, HEAD), faults on demand, and the liberties
that other implementations take with metadata (Google's storage testbench does both: it adds keys, and a rewrite keeps
those of the source).

https://cloud.google.com/storage/docs/json_api/v1, https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.server import RequestHandler, Router
from gcp_storage_emulator.storage import Storage

from tests.emulators.loopback import LoopbackServer, QuietHandler

BUCKET = "artifacts"
# How a transient failure looks to the client. The service has done a `lost` request, and none of the others.
FAULTS = ("busy", "throttled", "reset", "truncated", "lost")
DAMAGED = ("empty", "page", "list", "flipped", "cut")
"""How the answer to a request that was done comes back damaged: without a body, as a page of a proxy, as other JSON,
with one byte changed, with half of its body."""

_OBJECT = re.compile(r"(?:/download)?(?:/storage/v1)?/b/[^/]+/o/([^/]+)")
_REWRITE = re.compile(r"/storage/v1/b/[^/]+/o/([^/]+)/rewriteTo/b/[^/]+/o/([^/]+)")
_UPLOAD = re.compile(r"/upload/storage/v1/b/[^/]+/o")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass
class Gcs:
    """The service as a test sees it.

    Attributes:
        requests: method and path of every request of the JSON API so far.
        fault: asked before a request is answered, with its number from 0; says how it ends, or "".
        answer: may change an answer to a public request: status, headers, body.
        rewrite_bytes: objects above it are rewritten in two requests.
        adds: custom metadata that every written object gets besides.
        merges: whether a rewrite keeps the custom metadata of its source beside the new one.
        permissions: what the account may do in the bucket, such as `storage.objects.get`; everything if None.
        writable: whether the account may write an object of that name, as a condition of its role says it.
        overrides: fields of every written object that have this value, no matter what the request says.
    """

    url: str = ""
    storage: Any = None
    requests: list[str] = field(default_factory=list)
    fault: Callable[[int], str] = lambda _: ""
    answer: Callable[[str, int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]] = (
        lambda _, status, headers, body: (status, headers, body)
    )
    rewrite_bytes: int = 1 << 40
    adds: dict[str, str] = field(default_factory=dict)
    merges: bool = False
    permissions: set[str] | None = None
    writable: Callable[[str], bool] = lambda _: True
    overrides: dict[str, Any] = field(default_factory=dict)
    sessions: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    finished: dict[str, bytes] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def objects(self) -> dict[str, dict[str, Any]]:
        """The resources of all objects, by name."""
        found: dict[str, dict[str, Any]] = dict(self.storage.objects.get(BUCKET, {}))
        return found

    def content(self, name: str) -> bytes:
        content: bytes = self.storage.get_file(BUCKET, name)
        return content

    def put(self, name: str, content: bytes, **resource: Any) -> None:
        """Write an object as another program does, without a precondition."""
        with self.lock:
            made = objects._make_object_resource(self.url, BUCKET, name, "text/plain", str(len(content)), resource)
            self.storage.create_file(BUCKET, name, content, objects._checksums(content, made))

    def delete(self, name: str) -> None:
        with self.lock:
            self.storage.delete_file(BUCKET, name)

    def renew(self) -> None:
        """An empty bucket, and nothing wrong."""
        with self.lock:
            self.storage.wipe()
            buckets.create_bucket(BUCKET, self.storage)
        self.requests.clear()
        self.sessions.clear()
        self.finished.clear()
        self.fault = lambda _: ""
        self.rewrite_bytes = 1 << 40
        self.adds, self.merges, self.overrides = {}, False, {}
        self.permissions, self.writable = None, lambda _: True


class _Storage(Storage):  # type: ignore[misc]  # the emulator has no types
    """The emulator's storage, with the liberties that a test asks for, and for any name that the service allows."""

    service: Gcs

    @staticmethod
    def _object_path(bucket: str, name: str) -> str:
        return f"{bucket}/{quote(name, safe='')}"

    def create_file(self, bucket: str, name: str, content: bytes, about: dict[str, Any], *rest: Any) -> None:
        if self.service.adds:
            about["metadata"] = {**(about.get("metadata") or {}), **self.service.adds}
        about.update(self.service.overrides)
        super().create_file(bucket, name, content, about, *rest)

    def _write_config_to_file(self) -> None:
        """Nothing: nobody starts it again, and to write all metadata at every change takes half of its time."""


@contextmanager
def serve() -> Iterator[Gcs]:
    """Serve a bucket until the end of the block."""
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    logging.getLogger("api").setLevel(logging.CRITICAL)
    gcs = Gcs(storage=_Storage(use_memory_fs=True))
    gcs.storage.service = gcs

    class Handler(_Handler):
        service = gcs
        storage = gcs.storage

        def __init__(self, *arguments: Any) -> None:
            super().__init__(gcs.storage, *arguments)

    with LoopbackServer(Handler) as server:
        gcs.url = server.url
        gcs.renew()
        yield gcs


class _Handler(QuietHandler, RequestHandler):  # type: ignore[misc]  # the emulator has no types
    protocol_version = "HTTP/1.1"
    service: Gcs
    rfile: Any
    wfile: Any

    def _any(self) -> None:
        self._serve(self.command)

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = _any

    def _serve(self, method: str) -> None:
        path = urlsplit(self.path).path
        if path.startswith(f"/{BUCKET}/"):
            self._public(method, unquote(path.removeprefix(f"/{BUCKET}/")))
            return
        with self.service.lock:
            number = len(self.service.requests)
            self.service.requests.append(f"{method} {path}")
        fault = self.service.fault(number)
        length = int(self.headers.get("Content-Length", 0))
        if fault == "truncated":
            self.rfile.read(length // 2)
            self._reset()
            return
        body = self.rfile.read(length)
        if fault == "reset":
            self._reset()
        elif fault in _REFUSALS:
            self._json(_REFUSALS[fault], {"error": {"message": f"made to be {fault}"}})
        else:
            with self.service.lock:
                answer = self._answer(method, body)
            if fault == "lost":
                self._reset()
            elif fault in DAMAGED:
                self.wfile.write(_damage(answer, fault))
            else:
                self.wfile.write(answer)

    def _reset(self) -> None:
        """Close the connection as a machine that went down does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        self.wfile = io.BytesIO()

    def _json(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, method: str, body: bytes) -> bytes:
        """What the service answers."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        path = urlsplit(self.path).path
        wires = self.rfile, self.wfile
        if "upload_id" in query and query["upload_id"] in self.service.finished:
            return self.service.finished[query["upload_id"]]
        self.rfile, self.wfile = io.BytesIO(self._unsent(query, body)), io.BytesIO()
        try:
            begun = _UPLOAD.fullmatch(path) and "upload_id" not in query
            if begun and not self.service.writable(_upload_name(query, body)):
                self._json(403, {"error": {"message": "The account lacks storage.objects.create for this object"}})
            elif not self._met(method, path, query, body):
                self._json(
                    412, {"error": {"message": "At least one of the pre-conditions you specified did not hold."}}
                )
            elif rewrite := _REWRITE.fullmatch(path):
                self._rewrite(unquote(rewrite[1]), unquote(rewrite[2]), query, json.loads(body))
            elif path == f"/storage/v1/b/{BUCKET}/iam/testPermissions":
                asked, held = parse_qs(urlsplit(self.path).query)["permissions"], self.service.permissions
                # the service leaves an empty list out
                granted = [permission for permission in asked if held is None or permission in held]
                self._json(200, {"permissions": granted} if granted else {})
            else:
                Router(self).handle(method)
                self._remember_session(query, body)
            answer: bytes = self.wfile.getvalue()
            return answer
        finally:
            self.rfile, self.wfile = wires

    def _met(self, method: str, path: str, query: dict[str, str], body: bytes) -> bool:
        """Whether the preconditions hold; of an upload session, those that it was begun with."""
        source, target = "", ""
        if rewrite := _REWRITE.fullmatch(path):
            source, target = unquote(rewrite[1]), unquote(rewrite[2])
        elif _UPLOAD.fullmatch(path):
            if "upload_id" in query:
                target, query = self.service.sessions[query["upload_id"]]
            else:
                target = _upload_name(query, body)
        elif (named := _OBJECT.fullmatch(path)) is not None:
            target = unquote(named[1])
        elif method == "PATCH" and "ifMetagenerationMatch" in query:
            return bool(self.storage.buckets[BUCKET]["metageneration"] == query["ifMetagenerationMatch"])
        checks = [
            ("ifGenerationMatch", target, "generation"),
            ("ifMetagenerationMatch", target, "metageneration"),
            ("ifSourceGenerationMatch", source, "generation"),
            ("ifSourceMetagenerationMatch", source, "metageneration"),
        ]
        present = self.service.objects()
        for parameter, name, which in checks:
            if parameter in query and (name in present or query[parameter] == "0"):
                there = str(present[name][which]) if name in present else "0"
                if there != query[parameter]:
                    return False
            elif parameter in query and method not in ("GET", "DELETE") and not parameter.startswith("ifSource"):
                return False
        return True

    def _remember_session(self, query: dict[str, str], body: bytes) -> None:
        location = re.search(r"\r\nLocation: (\S+)", self.wfile.getvalue().decode(errors="replace"))
        if query.get("uploadType") == "resumable" and location:
            (session,) = parse_qs(urlsplit(location[1]).query)["upload_id"]
            self.service.sessions[session] = (_upload_name(query, body), query)
        if "upload_id" in query and b" 200 " in self.wfile.getvalue().split(b"\r\n")[0]:
            self.service.finished[query["upload_id"]] = self.wfile.getvalue()

    def _unsent(self, query: dict[str, str], body: bytes) -> bytes:
        """What of a part of an upload is new: the service ignores what it has already."""
        part = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", self.headers.get("Content-Range", ""))
        if "upload_id" not in query or not part:
            return body
        kept = self.storage.get_resumable_byte_count(query["upload_id"])
        skipped = kept - int(part[1])
        if skipped <= 0:
            return body
        del self.headers["Content-Range"], self.headers["Content-Length"]
        rest = body[skipped:]
        # Without a rest, the client asks how many bytes have arrived.
        self.headers["Content-Range"] = f"bytes {kept}-{part[2]}/{part[3]}" if rest else f"bytes */{part[3]}"
        self.headers["Content-Length"] = str(len(rest))
        return rest

    def _rewrite(self, source: str, target: str, query: dict[str, str], resource: dict[str, Any]) -> None:
        try:
            original, content = self.storage.get_file_obj(BUCKET, source), self.storage.get_file(BUCKET, source)
        except NotFound:
            self._json(404, {"error": {"message": f"No such object: {BUCKET}/{source}"}})
            return
        size = str(len(content))
        if len(content) > self.service.rewrite_bytes and "rewriteToken" not in query:
            unfinished = {"totalBytesRewritten": "1", "objectSize": size, "done": False, "rewriteToken": "half"}
            self._json(200, unfinished)
            return
        about = {key: value for key, value in resource.items() if key != "name"} or original
        if self.service.merges:
            about["metadata"] = {**(original.get("metadata") or {}), **(about.get("metadata") or {})}
        made = objects._make_object_resource(self.service.url, BUCKET, target, original["contentType"], size, about)
        made = objects._checksums(content, made)
        if original["md5Hash"] is None:
            made["md5Hash"] = None
        self.storage.create_file(BUCKET, target, content, made)
        self._json(200, {"totalBytesRewritten": size, "objectSize": size, "done": True, "resource": made})

    # --- Public reading: https://cloud.google.com/storage/docs/xml-api ---------------------------------------

    def _public(self, method: str, name: str) -> None:
        with self.service.lock:
            status, headers, body = self._read(method, name)
        status, headers, body = self.service.answer(name, status, headers, body)
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", headers.get("X-Length") or str(len(body)))
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(body)

    def _read(self, method: str, name: str) -> tuple[int, dict[str, str], bytes]:
        bindings = (self.storage.get_bucket_iam_policy(BUCKET) or {}).get("bindings", [])
        if method == "OPTIONS":
            return 200, self._cors(preflight=True), b""
        viewers = [b["members"] for b in bindings if b["role"] == "roles/storage.objectViewer"]
        if not any("allUsers" in members for members in viewers):
            return 403, {}, b"Anonymous caller does not have storage.objects.get access."
        found = self.service.objects().get(name)
        if found is None:
            return 404, {}, b"NoSuchKey"
        content = self.service.content(name)
        headers = {
            "Content-Type": found["contentType"],
            "Cache-Control": found.get("cacheControl") or "public, max-age=3600",
            "Accept-Ranges": "bytes",
            "ETag": f'"{base64.b64decode(found["md5Hash"]).hex()}"' if found["md5Hash"] else '"composite"',
            **self._cors(preflight=False),
        }
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if not asked:
            return 200, headers | ({"X-Length": str(len(content))} if method == "HEAD" else {}), content
        if asked[1]:
            first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        else:
            first, last = max(0, len(content) - int(asked[2])), len(content) - 1
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return 206, headers, content[first : last + 1]

    def _cors(self, preflight: bool) -> dict[str, str]:
        """The headers of the first rule that fits."""
        method = self.headers.get("Access-Control-Request-Method") if preflight else self.command
        for rule in self.storage.buckets[BUCKET].get("cors") or []:
            if {"*", self.headers.get("Origin")} & set(rule["origin"]) and method in rule["method"]:
                exposed = ", ".join(rule.get("responseHeader", []))
                headers = {"Access-Control-Allow-Origin": "*"}
                if preflight:
                    return headers | {
                        "Access-Control-Allow-Methods": ", ".join(rule["method"]),
                        "Access-Control-Allow-Headers": exposed,
                    }
                return headers | {"Access-Control-Expose-Headers": exposed}
        return {}


def _damage(answer: bytes, how: str) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    changed = bytearray(body)
    if how == "flipped" and body:
        changed[len(body) // 2] ^= 1
    else:
        changed = bytearray(
            {"page": b"<html>Sign in</html>", "list": b"[]", "cut": body[: len(body) // 2]}.get(how, b"")
        )
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(changed), b"", changed])


_REFUSALS = {"gone": 404, "conflict": 412, "forbidden": 403, "busy": 503, "throttled": 429, "dead": 418}


def _upload_name(query: dict[str, str], body: bytes) -> str:
    """The name of an object to be uploaded: in the address, or in the description that comes with it."""
    if "name" in query:
        return query["name"]
    description = body if query["uploadType"] == "resumable" else body.split(b"\r\n\r\n", 1)[1].split(b"\r\n--")[0]
    name: str = json.loads(description)["name"]
    return name
