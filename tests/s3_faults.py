"""A proxy before an S3 server that loses requests, answers and patience, as the network does.

What befalls a request depends on the seed, the request and how often it has been made, and not on
what else is under way: the same run meets the same faults.
"""

import hashlib
import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["busy", "reset", "lost_answer", "cut_body", "slow", "stalled"]

_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please wait</Message></Error>"
_DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>No</Message></Error>"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}
_SCALE = 2**64


@dataclass(slots=True)
class Faults:
    """How often what happens. May be changed while the proxy runs."""

    rates: dict[Fault, float]
    """busy: 503 at once. reset: the connection breaks before the request arrives. lost_answer: it
    breaks after the server has acted. cut_body: in the middle of the answer. slow: ``slow_s`` pass
    first. stalled: ``stalled_s``, longer than the client waits."""
    seed: int = 0
    drop_every: int = 0
    """Every so many-th answer is lost, whatever the request; 0 loses none."""
    hides_missing: bool = False
    """Answer 403 where an object is missing, as S3 does to who may not list the bucket."""
    intervene: Callable[[str], None] = lambda request: None
    """Called with method, path and range before a request is passed on: may wait, or change what is
    stored."""
    slow_s: float = 0.05
    stalled_s: float = 3.0
    made: Counter[str] = field(default_factory=Counter)
    """Faults so far."""
    requests: Counter[str] = field(default_factory=Counter)
    """How often each request was made."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def draw(self, request: str) -> Fault | None:
        """Fault of a request now."""
        with self.lock:
            self.requests[request] += 1
            if self.drop_every and self.requests.total() % self.drop_every == 0:
                self.made["lost_answer"] += 1
                return "lost_answer"
            number = self.requests[request]
            digest = hashlib.sha256(f"{self.seed} {number} {request}".encode()).digest()
            left = int.from_bytes(digest[:8], "big") / _SCALE
            for fault, rate in self.rates.items():
                if left < rate:
                    self.made[fault] += 1
                    return fault
                left -= rate
        return None


@contextmanager
def run_faulty_proxy(endpoint_url: str, faults: Faults) -> Iterator[str]:
    """An endpoint that passes requests on to another; the block's end closes it."""
    backend = urlsplit(endpoint_url).netloc

    handler = type("Handler", (_Handler,), {"backend": backend, "faults": faults})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    backend: str
    faults: Faults

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = f"{self.command} {self.path} {self.headers.get('Range', '')}"
        fault = self.faults.draw(request)
        if fault == "busy":
            self._answer(503, [("Content-Type", "application/xml")], _BUSY)
            return
        if fault == "reset":
            self._reset()
            return
        if fault in ("slow", "stalled"):
            time.sleep(self.faults.slow_s if fault == "slow" else self.faults.stalled_s)
        self.faults.intervene(request)
        status, headers, content = self._forward(body)
        if status == 404 and self.faults.hides_missing:
            self.faults.made["hidden"] += 1
            status, content = 403, b"" if self.command == "HEAD" else _DENIED
            headers = [("Content-Type", "application/xml")]
        if fault == "lost_answer" or (fault == "cut_body" and len(content) < 2):
            self._reset()
        else:
            self._answer(status, headers, content, is_cut=fault == "cut_body")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """The server's answer; the Host header stays as the client has signed it."""
        connection = http.client.HTTPConnection(self.backend, timeout=60)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            headers = [h for h in response.getheaders() if h[0].lower() not in _HOP_BY_HOP]
            return response.status, headers, response.read()
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, is_cut: bool = False
    ) -> None:
        self.send_response_only(status)
        has_length = False
        for name, value in headers:
            has_length |= name.lower() == "content-length"
            self.send_header(name, value)
        if not has_length:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if is_cut:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self._reset()
        elif self.command != "HEAD":
            self.wfile.write(content)

    def _reset(self) -> None:
        """Close with RST, as a crashed peer does."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ValueError, OSError):  # the client is gone, or we closed
            self.close_connection = True

    def finish(self) -> None:
        with suppress(ValueError, OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        pass
