"""A web server of files on loopback that answers range requests, and counts what it sends."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass
class Served:
    """What a server has sent: bodies of answers to GET, in bytes, by file name."""

    url: str = ""
    requests: int = 0
    bytes: dict[str, int] = field(default_factory=dict)

    def clear(self) -> None:
        self.requests = 0
        self.bytes.clear()

    @property
    def total(self) -> int:
        return sum(self.bytes.values())


@contextmanager
def serve(folder: Path) -> Iterator[Served]:
    """Serve the files of a folder, and what is below it, until the end of the block."""
    served = Served()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = folder / self.path.partition("?")[0].lstrip("/")
            if ".." in path.parts or not path.is_file():
                self.send_error(404)
                return
            size = path.stat().st_size
            first, last, status = 0, size - 1, 200
            if asked := _RANGE.fullmatch(self.headers.get("Range", "")):
                status = 206
                if asked[1]:
                    first, last = int(asked[1]), min(int(asked[2] or last), last)
                else:
                    first = max(size - int(asked[2]), 0)
            self.send_response(status)
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("Accept-Ranges", "bytes")
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.end_headers()
            with lock:
                served.requests += 1
            if not body:
                return
            with path.open("rb") as file:
                file.seek(first)
                data = file.read(last - first + 1)
            with lock:
                served.bytes[path.name] = served.bytes.get(path.name, 0) + len(data)
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
