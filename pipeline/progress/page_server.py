"""Shows a run's page in browsers of this machine while it runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from tokenmill.pipeline.errors import ConfigError

REFRESH_SECONDS = 2
"""After which a browser asks for the page again."""
WATCHED_SECONDS = 20
"""A browser that has asked for the page within this time is waited for in the end, at most as long."""


class PageServer(ThreadingHTTPServer):
    """Serves one page at `/`, to this machine alone, and nothing else.

    A site in the same browser cannot read it: a name of its own that it lets lead here (DNS rebinding) is not among the hosts
    that are answered, and no frame may hold the page.
    """

    daemon_threads = True

    def __init__(self, page: Callable[[], str], port: int | None = None) -> None:
        """`page`: asked each time; `port`: a free one by default. Raises `ConfigError` where the port is not available."""
        try:
            super().__init__(("127.0.0.1", port or 0), _Handler)
        except OSError as error:
            raise ConfigError(f"--port {port}: is not available: {error.strerror}") from error
        self.page = page
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.is_over = False
        self.last_asked = float("-inf")
        self.is_taken = Event()
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """What a browser is to open."""
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes its connection is not an error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def finish(self, page: str) -> None:
        """Ends the serving, once a browser that watches has this last page, which asks for nothing any more."""
        self.page = lambda: page
        self.is_over = True
        if time.monotonic() - self.last_asked < WATCHED_SECONDS:
            self.is_taken.wait(WATCHED_SECONDS)
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    timeout = 30

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            self.send_error(403)
            return
        if self.path != "/":
            self.send_error(404)
            return
        self.server.last_asked = time.monotonic()
        is_last = self.server.is_over
        content = self.server.page().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        if not is_last:
            self.send_header("Refresh", str(REFRESH_SECONDS))
        self.end_headers()
        self.wfile.write(content)
        if is_last:
            self.server.is_taken.set()

    def version_string(self) -> str:
        return "tokenmill"

    def log_message(self, format: str, *args: object) -> None:
        """The terminal is the run's."""
