"""What the HTTP servers of all tests have in common: they listen on loopback, are quiet, and stop with their block.

class Handler(QuietHandler):
    def do_GET(self) -> None: ...

with LoopbackServer(Handler) as server:
    urlopen(server.url)
"""

from __future__ import annotations

import ssl
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class QuietHandler(BaseHTTPRequestHandler):
    """A handler that logs nothing: the tests say what happened."""

    # Headers and body are sent one after the other. With Nagle's algorithm the body waits until the client has
    # acknowledged the headers, which it does after 40 ms.
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass


class LoopbackServer(ThreadingHTTPServer):
    """A server with a thread per connection. It stops when the `with` block ends, and with the process.

    Attributes:
        url: without a slash at its end.
    """

    # With fewer than there are clients at once, a connection waits for a second.
    request_queue_size = 64

    def __init__(self, handler: Callable[..., BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> None:
        """Args:
        context: with a certificate, for a server of HTTPS.
        """
        super().__init__(("127.0.0.1", 0), handler)
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, *about: Any) -> None:
        """Show what went wrong, unless the client has gone: many tests kill it."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*about)
