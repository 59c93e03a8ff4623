"""The tools behind the sidecar: one server that keeps all it is sent, and answers tactlessly.

Knows: what arrived, by the upstream it was meant for (the first segment of its path); answers that
repeat credentials, break off, lead elsewhere, or hold values that must be masked.
Must not know: canaries' names, the sidecar.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Upstream(ThreadingHTTPServer):
    """`received` are the bytes of every request, by upstream; `held` is what answers hold."""

    daemon_threads = True

    def __init__(self, held: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.held = held
        self.received: defaultdict[str, bytes] = defaultdict(bytes)

    def handle_error(self, request: object, client_address: object) -> None:
        """The sidecar may drop connections as it likes."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one piece
    server: Upstream

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        head = f"{self.requestline}\n{self.headers}".encode()
        upstream, _, rest = self.path[1:].partition("/")
        self.server.received[upstream] += head + body + b"\n"
        kind = rest.removeprefix("answer/") if rest.startswith("answer/") else ""
        answer = getattr(self, f"_{kind.replace('-', '_')}", self._plain)
        answer(body)

    do_GET = do_POST = do_HEAD = _serve

    def _plain(self, body: bytes) -> None:
        reply = {"ok": True}
        with contextlib.suppress(ValueError, TypeError, KeyError):
            reply = {"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": {"content": []}}
        self._send(200, json.dumps(reply).encode())

    def _echo(self, _: bytes) -> None:
        self._send(401, json.dumps({"error": f"wrong credentials: {self.headers}"}).encode())

    def _broken(self, body: bytes) -> None:
        """A head that no parser takes, with the request in it."""
        text = repr((str(self.headers), body.decode()))
        self.wfile.write(f"HTTP/1.1 401 No\r\nBad\x01Head {text}\r\n: \r\n\r\n".encode())
        self.close_connection = True

    def _cut_off(self, _: bytes) -> None:
        text = f"{dict(self.headers)}"
        self.wfile.write(f"HTTP/1.1 500 {text}\r\nContent-Length: 9999\r\n\r\n{text}".encode())
        self.close_connection = True

    def _elsewhere(self, _: bytes) -> None:
        said = self.headers.get("Authorization", "") + self.headers.get("X-Key", "")
        place = f"http://elsewhere.example/?was={said.replace(' ', '+')}"
        self._send(302, b"", {"Location": place})

    def _masked(self, _: bytes) -> None:
        held = dict(self.server.held)
        tax = held.pop("tax")
        document = {"customer": [{"tax": tax}], "notes": [f"see {one}" for one in held.values()]}
        self._send(200, json.dumps(document).encode())

    def _masked_text(self, _: bytes) -> None:
        held = "\n".join(value for name, value in self.server.held.items() if name != "tax")
        self._send(200, held.encode(), {"Content-Type": "text/plain"})

    def _binary(self, _: bytes) -> None:
        held = "".join(self.server.held.values())
        self._send(200, held.encode(), {"Content-Type": "application/octet-stream"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is said."""


@contextlib.contextmanager
def serving(held: Mapping[str, str]) -> Iterator[Upstream]:
    server = Upstream(held)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
