"""The three parsers that are programs of their own: nginx, HAProxy, Node.

Knows: how each is configured to change nothing and to tell what it read. nginx and HAProxy pass
what they read to a recorder behind them, with their own reading in headers beside it; Node tells
it in its answer.
Must not know: the sidecar, what was sent, whether a reading is right.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from pathlib import Path

from fuzz_reader import Message, Unclear, Unfinished, read_one
from running import free_port
from wire_reading import NOTHING, Reading

READY_S = 15.0
PREFIX = "x-wire-"
PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "node": "nodejs"}

NGINX = """\
daemon off; master_process off; pid nginx.pid; error_log error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; server_tokens off; keepalive_requests 100000000; keepalive_timeout 600s;
  underscores_in_headers on; ignore_invalid_headers off; merge_slashes on;
  client_max_body_size 0; client_body_buffer_size 4m; large_client_header_buffers 8 256k;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream recorder {{ server 127.0.0.1:{recorder}; keepalive 32; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://recorder; proxy_http_version 1.1; proxy_read_timeout 60s;
      proxy_set_header Host $http_host; proxy_set_header Connection "";
      proxy_set_header X-Wire-Port $remote_port;
      proxy_set_header X-Wire-Method "[$request_method]";
      proxy_set_header X-Wire-Target "[$request_uri]";
      proxy_set_header X-Wire-Path "[$uri]";
      proxy_set_header X-Wire-Query "[$args]";
    }}
  }}
}}
"""

HAPROXY = """\
global
  maxconn 4000
  tune.bufsize 1048576
  tune.maxrewrite 262144
  tune.http.maxhdr 512
defaults
  mode http
  timeout client 600s
  timeout server 60s
  timeout connect 5s
frontend wire
  bind 127.0.0.1:{port}
  http-request wait-for-body time 10s
  http-request set-header x-wire-port %[src_port]
  http-request set-header x-wire-method %[method,base64]
  http-request set-header x-wire-target %[url,base64]
  http-request set-header x-wire-path %[path,url_dec,base64]
  http-request set-header x-wire-query %[query,base64]
{probes}
  default_backend recorder
backend recorder
  http-reuse safe
  server recorder 127.0.0.1:{recorder}
"""
#: What HAProxy's own reader of JSON is asked for, by the header that carries the answer.
PROBES = {
    "x-wire-json-0": "$.mark",
    "x-wire-json-1": "$.size",
    "x-wire-json-2": "$.note",
    "x-wire-json-3": "$.danger",
    "x-wire-json-4": "$.method",
    "x-wire-json-5": "$.params.name",
    "x-wire-json-6": "$.params.arguments.mark",
    "x-wire-json-7": "$.params.arguments.a",
}


class Program(ABC):
    """A parser in a process of its own, started in a folder of its own."""

    name = ""
    command: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder / self.name
        self.port = free_port()
        self.readings: dict[int, list[Reading]] = defaultdict(list)
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        arguments = self.configure()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [found(self.name), *arguments], cwd=self.folder, stdout=log, stderr=log
            )
        until = time.monotonic() + READY_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
        raise RuntimeError(f"{self.name} does not start: {(self.folder / 'log').read_text()}")

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @abstractmethod
    def configure(self) -> list[str]:
        """Writes what the program needs; its arguments."""

    def take_answer(self, port: int, head: bytes) -> None:  # noqa: B027 - most tell nothing there
        """The head of an answer it gave."""


def found(name: str) -> str:
    """Where a program is; raises RuntimeError if it is not installed."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise RuntimeError(f"{name} is not installed (Debian package {PACKAGES[name]})")
    return path


class _Recorded(Program):
    """A proxy, and behind it a recorder that keeps the bytes it gets."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.recorder_port = 0
        self.unclear: list[str] = []
        self._recorder: asyncio.Server | None = None

    async def start(self) -> None:
        self._recorder = await asyncio.start_server(self._record, "127.0.0.1", 0)
        self.recorder_port = self._recorder.sockets[0].getsockname()[1]
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        if self._recorder is not None:
            self._recorder.close()

    async def _record(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        try:
            while piece := await reader.read(1 << 18):
                data += piece
                try:
                    message, data = read_one(data)
                except Unfinished:
                    continue
                except Unclear as error:
                    self.unclear.append(f"{self.name} passed on an unclear {error}: {data[:300]!r}")
                    return
                told = {n: v for n, v in message.headers if n.startswith(PREFIX)}
                message.headers = [p for p in message.headers if not p[0].startswith(PREFIX)]
                self.readings[int(told[f"{PREFIX}port"])].append(self.read(message, told))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except (ConnectionError, asyncio.CancelledError):
            return  # the proxy hung up, or the run is over
        finally:
            writer.close()

    @abstractmethod
    def read(self, message: Message, told: dict[str, bytes]) -> Reading:
        """The proxy's reading, from what it passed on and what it told beside it."""


class NginxParser(_Recorded):
    """nginx: `$uri` is its own decoded and normalised path."""

    name = "nginx"

    def configure(self) -> list[str]:
        path = self.folder / "nginx.conf"
        path.write_text(NGINX.format(port=self.port, recorder=self.recorder_port))
        return ["-p", str(self.folder), "-c", str(path)]

    def read(self, message: Message, told: dict[str, bytes]) -> Reading:
        bare = {name: value[1:-1].decode("utf-8", "replace") for name, value in told.items()}
        target = bare[f"{PREFIX}target"]
        if message.target != target or target.partition("?")[2] != bare[f"{PREFIX}query"]:
            self.unclear.append(f"nginx passed on {message.target!r}, told {bare!r}")
        return Reading(
            self.name, bare[f"{PREFIX}method"], target, message.headers, message.body,
            path=bare[f"{PREFIX}path"], keeps_order=False,
        )  # fmt: skip


class HaproxyParser(_Recorded):
    """HAProxy: path by `url_dec`, single JSON values by its own JSON reader."""

    name = "haproxy"

    def configure(self) -> list[str]:
        probes = "\n".join(
            f"  http-request set-header {header} %[req.body,json_query('{path}'),base64]"
            for header, path in PROBES.items()
        )
        config = HAPROXY.format(port=self.port, recorder=self.recorder_port, probes=probes)
        path = self.folder / "haproxy.cfg"
        path.write_text(config)
        return ["-db", "-f", str(path)]

    def read(self, message: Message, told: dict[str, bytes]) -> Reading:
        plain = {name: base64.b64decode(told[name]) for name in told if name != f"{PREFIX}port"}
        texts = {name: _haproxy_text(value) for name, value in plain.items()}
        target = texts[f"{PREFIX}target"]
        if message.target != target or target.partition("?")[2] != texts[f"{PREFIX}query"]:
            self.unclear.append(f"haproxy passed on {message.target!r}, told {texts!r}")
        # Its JSON reader keeps escapes as they stand, and gives no text of what it has no name for.
        is_plain = b"\\" not in message.body and message.body.isascii()
        probes = {p: texts[h] for h, p in PROBES.items() if is_plain and texts.get(h)}
        return Reading(
            self.name, texts[f"{PREFIX}method"], target, message.headers, message.body,
            path=texts[f"{PREFIX}path"], probes=probes, keeps_order=False,
        )  # fmt: skip


def _haproxy_text(value: bytes) -> str:
    """A value it told in base64; truth comes as an integer of eight bytes."""
    if len(value) == 8 and value[:7] == bytes(7):
        return "true" if value[7] else "false"
    return value.decode("utf-8", "replace")


class NodeParser(Program):
    """Node's http, WHATWG URLs and JSON.parse."""

    name = "node"

    def configure(self) -> list[str]:
        return [str(Path(__file__).with_name("wire_node.js")), str(self.port)]

    def take_answer(self, port: int, head: bytes) -> None:
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"x-wire-reading":
                self.readings[port].append(_read_by_node(json.loads(base64.b64decode(value))))


def _read_by_node(told: dict[str, object]) -> Reading:
    def pairs(name: str) -> list[tuple[str, str]] | None:
        found = told[name]
        return [(n, v) for n, v in found] if isinstance(found, list) else None

    document, path = told["json"], told["path"]
    return Reading(
        "node",
        str(told["method"]),
        str(told["target"]),
        [(name.lower(), value.encode("latin-1")) for name, value in pairs("headers") or []],
        base64.b64decode(str(told["body"])),
        path=path if isinstance(path, str) else "not to be read",
        query=pairs("query"),
        form=pairs("form"),
        json=json.loads(document) if isinstance(document, str) else NOTHING,
    )
