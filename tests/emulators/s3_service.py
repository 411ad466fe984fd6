"""What the process of `tests.emulators.s3` does: it listens on loopback for requests, and on its input for commands.

A command is a line of JSON: settings to change, "seen" or "clear"; the answer is another line. The first one has all
settings, and the answer to it is the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

from tests.emulators.s3 import ACCESS_KEY, REGION, Seen, Settings

CHUNK = 1 << 18

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/s3/aws4_request")
_MESSAGES = {
    "SlowDown": (503, "Please reduce your request rate."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "AccessDenied": (403, "Access Denied"),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id you provided does not exist in our records."),
    "AuthorizationHeaderMalformed": (400, f"The authorization header is malformed; the region is wrong: {REGION}"),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "InvalidArgument": (400, "The continuation token provided is incorrect"),
}


class RefusalError(Exception):
    """An answer other than 200, 206 and 304."""


@dataclass(frozen=True)
class Request:
    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def kind(self) -> str:
        if self.method == "GET":
            return "get" if self.key else "list"
        return "head" if self.method == "HEAD" else "other"

    @property
    def object(self) -> str:
        return f"{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Answer:
    """Status, headers, and a body: bytes, or a part of a file (first byte and the one after the last)."""

    status: int
    headers: Mapping[str, str]
    body: bytes | tuple[int, int] = b""
    file: str = ""

    @property
    def length(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else self.body[1] - self.body[0]

    def chunks(self, flip: int = -1) -> Iterator[bytes]:
        """The body; the bits of byte number `flip` are turned round."""
        if isinstance(self.body, bytes):
            if self.body:
                yield self.body
            return
        descriptor = os.open(self.file, os.O_RDONLY)
        try:
            for start in range(*self.body, CHUNK):
                data = os.pread(descriptor, min(CHUNK, self.body[1] - start), start)
                place = self.body[0] + flip - start
                if flip >= 0 and 0 <= place < len(data):
                    data = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
                yield data
        finally:
            os.close(descriptor)


class Service:
    """What the process does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.seen = Seen()
        self._tries: Counter[str] = Counter()
        self._running = 0
        self._free = 0.0  # when the line can carry the next byte

    async def command(self, command: Any) -> object:
        if command == "seen":
            return vars(self.seen)
        if command == "clear":
            self.seen = Seen()
            self._tries.clear()
        else:
            self.settings = replace(self.settings, **command)
        return None

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.connections += 1
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self._serve(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection can take another."""
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        await reader.readexactly(int(headers.get("content-length", 0)))
        method, target, _ = start.split(" ")
        path, _, query = target.partition("?")
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        named = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        request = Request(method, bucket, key, named, headers)
        seen = self.seen
        seen.requests[request.kind] += 1
        seen.signed += "authorization" in headers
        self._running += 1
        seen.most_at_once = max(seen.most_at_once, self._running)
        try:
            if self.settings.latency:
                await asyncio.sleep(self.settings.latency)
                if reader.at_eof():
                    return False  # a client that has died meanwhile is sent nothing
            return await self._send(request, self._fault(request), reader, writer)
        finally:
            self._running -= 1

    def _fault(self, request: Request) -> str:
        if not self.settings.faults:
            return ""
        what = f"{request.method} {request.object} {request.headers.get('range')} {sorted(request.query.items())}"
        self._tries[what] += 1
        digest = hashlib.sha256(f"{self.settings.seed} {self._tries[what]} {what}".encode()).digest()
        drawn = int.from_bytes(digest[:8], "big") / 2**64
        for fault, share in self.settings.faults.items():
            drawn -= share
            if drawn < 0:
                return fault
        return ""

    async def _send(
        self, request: Request, fault: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        seen = self.seen
        try:
            if fault in ("slow down", "error"):
                raise RefusalError("SlowDown" if fault == "slow down" else "InternalError")
            answer = self._answer(request)
        except RefusalError as error:
            answer = _refusal(str(error), request)
        if fault == "flipped" and (request.kind != "get" or answer.status >= 300 or not answer.length):
            fault = ""
        seen.faults.update([fault] if fault else [])
        seen.statuses[str(answer.status)] += 1
        if request.kind == "get":
            part = answer.body if isinstance(answer.body, tuple) else (0, 0)
            seen.ranges.setdefault(request.object, []).append((part[0], part[1] - 1))
        standard = {
            "Date": formatdate(usegmt=True),
            "Server": "AmazonS3",
            "x-amz-request-id": f"{sum(seen.requests.values()):016X}",
            "x-amz-bucket-region": REGION,
        }
        if answer.status != 304:
            standard["Content-Length"] = str(answer.length)
        lines = [f"{name}: {value}\r\n" for name, value in {**standard, **answer.headers}.items()]
        writer.write(f"HTTP/1.1 {answer.status} \r\n{''.join(lines)}\r\n".encode("latin-1"))
        whole = 0 if request.method == "HEAD" else answer.length
        cut = whole // 2 if fault in ("reset", "truncated", "stall") else whole
        flip = int(hashlib.sha256(request.object.encode()).hexdigest(), 16) % whole if fault == "flipped" else -1
        sent = 0
        for data in answer.chunks(flip) if cut else ():
            part_of = data[: cut - sent]
            await self._carry(len(part_of))
            writer.write(part_of)
            await writer.drain()
            sent += len(part_of)
            if request.kind == "get" and answer.status < 300:
                seen.bytes[request.object] += len(part_of)
            elif request.kind == "list":
                seen.listed += len(part_of)
            if sent == cut:
                break
        if fault == "stall":
            with contextlib.suppress(asyncio.TimeoutError):  # or until the client has enough
                await asyncio.wait_for(reader.read(1), self.settings.stall)
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        return fault not in ("reset", "truncated", "stall") and request.headers.get("connection", "").lower() != "close"

    async def _carry(self, length: int) -> None:
        """Wait as long as the line takes for some bytes; all connections share it."""
        if self.settings.bandwidth:
            now = asyncio.get_running_loop().time()
            self._free = max(self._free, now) + length / self.settings.bandwidth
            await asyncio.sleep(self._free - now)

    def _answer(self, request: Request) -> Answer:
        folder = self.settings.buckets.get(request.bucket)
        if folder is None:
            raise RefusalError("NoSuchBucket")
        signature = request.headers.get("authorization")
        if signature is None and request.bucket in self.settings.private:
            raise RefusalError("AccessDenied")
        if signature is not None:
            credential = _CREDENTIAL.search(signature)
            if credential is None or credential[1] != ACCESS_KEY:
                raise RefusalError("InvalidAccessKeyId")
            if credential[2] != REGION:
                raise RefusalError("AuthorizationHeaderMalformed")
        if request.kind == "other":
            raise RefusalError("MethodNotAllowed")
        if not request.key:
            if request.kind == "head":
                return Answer(200, {})
            return Answer(200, {"Content-Type": "application/xml"}, self._listing(Path(folder), request))
        return self._object(folder, request)

    def _object(self, folder: str, request: Request) -> Answer:
        path = f"{folder}/{request.key}"
        if request.kind == "get" and request.object in self.settings.replaced:
            new, still = self.settings.replaced[request.object]
            self.settings.replaced[request.object] = new, still - 1
            if still == 0:
                Path(new).replace(path)
        if ".." in request.key.split("/") or request.key.endswith("/") or not Path(path).is_file():
            raise RefusalError("NoSuchKey")
        status = Path(path).stat()
        etag = _etag(status)
        headers = {
            "ETag": etag,
            "Last-Modified": formatdate(status.st_mtime, usegmt=True),
            "Accept-Ranges": "bytes",
            "Content-Type": "binary/octet-stream",
        }
        if request.headers.get("if-match", etag) not in (etag, etag.strip('"'), "*"):
            raise RefusalError("PreconditionFailed")
        if request.headers.get("if-none-match") in (etag, etag.strip('"'), "*"):
            return Answer(304, headers)
        size = status.st_size
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        if asked is None or not (asked[1] or asked[2]):
            return Answer(200, headers, (0, size), path)
        first = int(asked[1]) if asked[1] else max(size - int(asked[2]), 0)
        after = min(int(asked[2]) + 1, size) if asked[1] and asked[2] else size
        if first >= after:
            raise RefusalError("InvalidRange")
        return Answer(206, {**headers, "Content-Range": f"bytes {first}-{after - 1}/{size}"}, (first, after), path)

    def _listing(self, folder: Path, request: Request) -> bytes:
        query = request.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("start-after", "")
        if "continuation-token" in query:
            try:
                after = bytes.fromhex(query["continuation-token"]).decode()
            except ValueError:
                raise RefusalError("InvalidArgument") from None
        page = min(int(query.get("max-keys", self.settings.page)), self.settings.page)
        entries: dict[str, os.stat_result | None] = {}
        truncated = False
        for key, path in _keys(folder, prefix):
            rest, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            name = f"{prefix}{rest}{delimiter}" if found else key
            if name <= after or name in entries or (found and after.startswith(name)):
                continue
            if len(entries) == page:
                truncated = True
                break
            entries[name] = None if found else path.stat()
        url = query.get("encoding-type") == "url"

        def text(value: str) -> str:
            return escape(quote(value, safe="/") if url else value)

        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">',
            f"<Name>{request.bucket}</Name><Prefix>{text(prefix)}</Prefix><KeyCount>{len(entries)}</KeyCount>",
            f"<MaxKeys>{page}</MaxKeys><IsTruncated>{str(truncated).lower()}</IsTruncated>",
            f"<Delimiter>{text(delimiter)}</Delimiter>" if delimiter else "",
            "<EncodingType>url</EncodingType>" if url else "",
        ]
        if truncated:
            lines.append(f"<NextContinuationToken>{list(entries)[-1].encode().hex()}</NextContinuationToken>")
        for name, status in entries.items():
            if status is None:
                lines.append(f"<CommonPrefixes><Prefix>{text(name)}</Prefix></CommonPrefixes>")
                continue
            lines.append(
                f"<Contents><Key>{text(name)}</Key><LastModified>{_utc(status.st_mtime_ns)}</LastModified>"
                f"<ETag>{escape(_etag(status), {chr(34): '&quot;'})}</ETag><Size>{status.st_size}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        return "".join([*lines, "</ListBucketResult>"]).encode()


def _refusal(code: str, request: Request) -> Answer:
    status, message = _MESSAGES[code]
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{escape(message)}</Message>'
        f"<Resource>/{escape(request.object)}</Resource><RequestId>0</RequestId></Error>"
    )
    return Answer(status, {"Content-Type": "application/xml"}, body.encode())


def _etag(status: os.stat_result) -> str:
    identity = f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
    return f'"{hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest()}-2"'


def _utc(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1_000_000:03}Z"


def _keys(folder: Path, prefix: str) -> list[tuple[str, Path]]:
    """Keys with a prefix and their files, in the order of their bytes."""
    found = []
    for place, _, names in os.walk(folder / prefix.rpartition("/")[0]):
        for path in (Path(place, name) for name in names):
            key = path.relative_to(folder).as_posix()
            if key.startswith(prefix):
                found.append((key, path))
    return sorted(found, key=lambda pair: pair[0].encode())


async def _main() -> None:
    service = Service(Settings(**json.loads(sys.stdin.readline())))
    server = await asyncio.start_server(service.connection, "127.0.0.1", 0, backlog=1024)
    loop = asyncio.get_running_loop()

    def listen() -> None:
        print(server.sockets[0].getsockname()[1], flush=True)
        for line in sys.stdin:
            answered = asyncio.run_coroutine_threadsafe(service.command(json.loads(line)), loop)
            print(json.dumps(answered.result()), flush=True)
        os._exit(0)  # whoever started this is no more

    threading.Thread(target=listen, daemon=True).start()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
