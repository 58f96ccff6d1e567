"""The port for metrics and probes over HTTP: `/metrics`, `/healthz` and `/readyz`.

It has threads of its own, at most MAX_CONNECTIONS of them, so that a scraper that is slow, or sends garbage, holds up
nothing but itself. Only what is read for an answer is read on the event loop.
"""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from time import monotonic
from typing import Any, Protocol

from headrace.server.telemetry.metrics.asking import NoAnswerError

MAX_CONNECTIONS = 16
IDLE_SECONDS = 5.0
"""How long a connection may wait for its client at a time."""
MAX_SECONDS = 15.0
"""How long a connection may be open."""
CHECK_SECONDS = 0.5
"""How often it is looked for those that have been open for longer."""
TEXT = "text/plain; charset=utf-8"

logger = logging.getLogger(__name__)


class Answers(Protocol):
    """What there is to tell. Each method is called on any thread, and raises NoAnswerError if the event loop does
    nothing."""

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that a header Accept asks for, and its content type."""

    def is_alive(self) -> bool: ...
    def is_ready(self) -> bool: ...


class MetricsServer:
    """Listens on some addresses from the start, each (host, port), and answers until the process ends or `close`.

    Raises OSError if one of them cannot be bound.
    """

    def __init__(self, addresses: list[tuple[str, int]], answers: Answers) -> None:
        self._servers: list[_Server] = []
        try:
            for address in addresses:
                self._servers.append(_Server(address, answers))
        except OSError:
            for server in self._servers:
                server.server_close()
            raise
        for server in self._servers:
            threading.Thread(
                target=server.serve_forever, args=(CHECK_SECONDS,), name="metrics port", daemon=True
            ).start()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], answers: Answers) -> None:
        self.answers = answers
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._lock = threading.Lock()
        self._since: dict[socket.socket, float] = {}
        """The open connections, the oldest first, and when they were accepted."""
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)  # that of HTTPServer asks the resolver for a name, and may wait for it
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection a thread, unless there are too many: then it is closed, and so is the oldest."""
        with self._lock:
            full = len(self._since) >= MAX_CONNECTIONS
            if not full:
                self._since[request] = monotonic()
        if full:
            self._end_older(0.0, most=1)
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def service_actions(self) -> None:
        self._end_older(MAX_SECONDS, most=MAX_CONNECTIONS)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._since.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a connection to the metrics port has failed", exc_info=True)

    def _end_older(self, seconds: float, most: int) -> None:
        """End connections that have been open for as long, the oldest first: their threads then end, too."""
        until = monotonic() - seconds
        with self._lock:
            for connection in [each for each, since in self._since.items() if since <= until][:most]:
                with suppress(OSError):  # its client may have gone, and its thread be about to end
                    connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "headrace", ""
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answers = self.server.answers
        try:
            if path == "/metrics":
                self._answer(HTTPStatus.OK, *answers.metrics(self.headers.get("Accept", "")))
            elif path == "/healthz":
                self._probe(answers.is_alive(), "alive", "not alive")
            elif path == "/readyz":
                self._probe(answers.is_ready(), "ready", "not ready")
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"there are /metrics, /healthz and /readyz\n")
        except NoAnswerError as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def _probe(self, answer: bool, yes: str, no: str) -> None:
        status = HTTPStatus.OK if answer else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(status, f"{yes if answer else no}\n".encode())

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str = TEXT) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes and probes are not worth a line."""
