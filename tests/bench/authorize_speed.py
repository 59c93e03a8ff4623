"""An authorize call beside the same call through the proxy: what each costs, side by side.

    python tests/bench/authorize_speed.py [--calls 600] [--rounds 5]

One sidecar in a process of its own, one connection, one call after the other, every decision
durable before it is answered. The proxy's own added time is what a call through it takes beyond the
same request to the upstream itself. Slices alternate, so that whatever else the machine does falls
on all of them; CPU is the sidecar's, of all its threads, as the kernel counts it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from bench_machine import commit, machine

BODY = {"repo": "acme/shop", "number": 482, "title": "A title of some words", "labels": ["a", "b"]}
CALL = {
    "agent": {"id": "agent", "environment": "production"},
    "tool_call": {
        "tool": "work", "action": "comment", "resource": "acme/shop#482", "mutates_state": True,
        "parameters": BODY,
    },
    "context": {"source_trust": "trusted_internal_signed", "contains_sensitive_data": False},
    "trace": {"run_id": "run_default", "trace_id": "trace_default"},
}  # fmt: skip
CATALOGUES = {
    "api": "catalogue: api\ntools:\n  comment: POST /comment\n"
    '  "*": {returns: trusted_internal_signed}\n',
    "work": "catalogue: work\ntools:\n  comment: {returns: trusted_internal_signed}\n",
}
POLICY = "policy: all\nrules:\n  - {id: all, effect: allow, tools: [api/comment, work/comment]}\n"
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Line:
    """One connection; sends a request and takes its whole answer."""

    def __init__(self, port: int, path: str, body: Any) -> None:
        raw = json.dumps(body).encode()
        self._request = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        ).encode() + raw
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self) -> int:
        """How long one took, in nanoseconds; raises unless it was answered 200."""
        started_ns = time.perf_counter_ns()
        self._socket.sendall(self._request)
        held = b""
        while b"\r\n\r\n" not in held:
            held += self._more()
        head, _, rest = held.partition(b"\r\n\r\n")
        at = head.lower().index(b"content-length: ") + 16
        length = int(head[at:].partition(b"\r\n")[0])
        while len(rest) < length:
            rest += self._more()
        took_ns = time.perf_counter_ns() - started_ns
        if not head.startswith(b"HTTP/1.1 200") or b'"deny"' in rest:
            raise RuntimeError(f"not allowed: {head[:80]!r} {rest[:300]!r}")
        return took_ns

    def _more(self) -> bytes:
        piece = self._socket.recv(65536)
        if not piece:
            raise RuntimeError("the connection ended")
        return piece

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[int, int, int]]:
    """Ports of a sidecar and its upstream, and the sidecar's process id."""
    (folder / "policies").mkdir()
    for name, text in {**CATALOGUES, "policy": POLICY}.items():
        (folder / "policies" / f"{name}.yaml").write_text(text)
    upstream = subprocess.Popen(
        [sys.executable, str(HERE / "leg_upstream.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert upstream.stdout is not None and upstream.stdin is not None
    behind, data, control = int(upstream.stdout.readline()), free_port(), free_port()
    (folder / "sidecar.yaml").write_text(
        f"listen: {{data: '127.0.0.1:{data}', control: '127.0.0.1:{control}'}}\n"
        f"store: sqlite:///{folder}/aegis.db\npolicies: {folder}/policies\n"
        f"upstreams: {{api: {{url: 'http://127.0.0.1:{behind}'}}, work: {{kind: authorize}}}}\n"
    )
    command = [sys.executable, "-m", "sidecar.cli.main", "serve"]
    sidecar = subprocess.Popen(
        [*command, "--config", str(folder / "sidecar.yaml")],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _await(data, sidecar)
        yield data, behind, sidecar.pid
    finally:
        sidecar.terminate()
        sidecar.wait(30)
        upstream.stdin.close()
        upstream.wait(10)
        upstream.stdout.close()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.1)
    raise RuntimeError("the sidecar did not start")


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def measured(folder: Path, calls: int, rounds: int) -> dict[str, Any]:
    """Figures of a run."""
    with served(folder) as (data, behind, pid):
        lines = {
            "direct": Line(behind, "/comment", BODY),
            "proxy": Line(data, "/api/comment", BODY),
            "authorize": Line(data, "/v1/authorize", CALL),
        }
        took: dict[str, list[int]] = {name: [] for name in lines}
        used: dict[str, list[float]] = {name: [] for name in lines}
        for number in range(rounds + 1):
            for name, line in lines.items():
                began_s = cpu_s(pid)
                slice_ns = [line.call() for _ in range(calls)]
                if number:  # the first round warms up
                    took[name] += slice_ns
                    used[name].append((cpu_s(pid) - began_s) / calls * 1e6)
        for line in lines.values():
            line.close()
    return summed(took, used)


def summed(took: dict[str, list[int]], used: dict[str, Sequence[float]] | Any) -> dict[str, Any]:
    p50_us = {name: median(times) / 1000 for name, times in took.items()}
    added_us = p50_us["proxy"] - p50_us["direct"]
    cpu_us = {name: median(each) for name, each in used.items()}
    return {
        "commit": commit(),
        "machine": machine(),
        "p50_us": {name: round(value) for name, value in p50_us.items()},
        "proxy_added_p50_us": round(added_us),
        "cpu_us_a_call": {name: round(value) for name, value in cpu_us.items() if name != "direct"},
        "ratio_p50": round(p50_us["authorize"] / added_us, 2),
        "ratio_cpu": round(cpu_us["authorize"] / cpu_us["proxy"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("AEGIS_BENCH_DIR")) as folder:
        print(json.dumps(measured(Path(folder), options.calls, options.rounds), indent=1))


if __name__ == "__main__":
    main()
