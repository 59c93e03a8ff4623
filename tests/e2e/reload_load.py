"""Steady load from several connections, and the account of which sets each answer may be of.

Knows: when each request was sent and answered; when each change of the policies began and when the
sidecar said that it is in force.
Must not know: how policies are changed.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from reload_sets import PATHS, told_by


@dataclass(frozen=True)
class Call:
    """One answered request; `sets` are those that the answer is of."""

    sent_s: float
    answered_s: float
    call_id: str
    said: str
    sets: frozenset[int]


@dataclass(frozen=True)
class Change:
    """From when on the set of the folder may be one of these, and when one was said to be in force
    (`sets` is empty for a set that was refused)."""

    begun_s: float
    said_s: float
    sets: frozenset[int]


class _Upstream(BaseHTTPRequestHandler):
    """Tells which headers the sidecar was obliged to set."""

    protocol_version = "HTTP/1.1"
    wbufsize = 4096

    def do_GET(self) -> None:
        body = f"{self.headers['x-first']} of c{self.headers['x-second']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is said."""


@contextmanager
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Upstream)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Callers:
    """Connections that ask one after the other, each without a pause."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._answers: list[list[Call]] = [[] for _ in range(count)]
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(answers,), daemon=True)
            for answers in self._answers
        ]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    @property
    def count(self) -> int:
        return sum(map(len, self._answers))

    def calls(self) -> list[Call]:
        """All that was answered; raises what kept a connection from going on."""
        if self._failures:
            raise self._failures[0]
        return list(itertools.chain.from_iterable(self._answers))

    def _run(self, answers: list[Call]) -> None:
        try:
            with closing(HTTPConnection("127.0.0.1", self._port, timeout=20)) as connection:
                for path in itertools.cycle(PATHS):
                    if self._stop.is_set():
                        return
                    answers.append(_ask(connection, path))
        except BaseException as failure:
            self._failures.append(failure)


def _ask(connection: HTTPConnection, path: str) -> Call:
    sent_s = time.monotonic()
    connection.request("GET", path)
    reply = connection.getresponse()
    body = reply.read().decode()
    said = json.loads(body)["detail"] if reply.status == 403 else body
    call_id = reply.headers["Aegis-Call-Id"]
    return Call(sent_s, time.monotonic(), call_id, said, told_by(said))


def mixtures(calls: Iterable[Call]) -> list[Call]:
    """Answers that are not of exactly one set."""
    return [call for call in calls if len(call.sets) != 1]


def settled(calls: Iterable[Call], changes: Sequence[Change]) -> Iterator[tuple[Call, int]]:
    """Calls during which nothing changed, with the set that was said to be in force."""
    said_s = [change.said_s for change in changes]
    for call in calls:
        after = bisect_right(said_s, call.sent_s)
        next_s = changes[after].begun_s if after < len(changes) else float("inf")
        in_force = next((one.sets for one in reversed(changes[:after]) if one.sets), frozenset())
        if call.answered_s < next_s and len(in_force) == 1:
            yield call, next(iter(in_force))


def misjudged(calls: Iterable[Call], changes: Sequence[Change]) -> list[tuple[Call, int]]:
    """Calls that were made after a set was said to be in force, and judged by another."""
    return [(call, wanted) for call, wanted in settled(calls, changes) if call.sets != {wanted}]
