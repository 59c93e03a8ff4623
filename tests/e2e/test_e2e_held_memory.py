"""A thousand calls that are held, each for an action of its own, cost little memory."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from running import Process, free_port

HELD = 1_000
GROWS_MIB_MAX = 60
CATALOGUE = "catalogue: shop\ntools:\n  buy: POST /buy/{what}\n"
POLICY = "policy: shop\nrules:\n  - {id: asks, effect: require_approval, tools: shop/buy}\n"
#: Connections of one address beyond the calls: those of metrics and readiness.
CONNECTIONS = 1_024
#: Approvals of the tenant: one agent may hold half of them.
PENDING = 4 * HELD


def resident_mib(process: Process) -> float:
    for line in Path(f"/proc/{process.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def asked(process: Process, number: int) -> socket.socket:
    """A call that is held, for an action of its own."""
    call = socket.create_connection(("127.0.0.1", process.data_port), timeout=20)
    call.sendall(
        f"POST /shop/buy/thing-{number} HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Length: 0\r\n\r\n".encode()
    )
    return call


def answered(calls: Mapping[int, socket.socket]) -> list[int]:
    """Those that have heard something."""
    polled, numbers = select.poll(), {call.fileno(): number for number, call in calls.items()}
    for descriptor in numbers:
        polled.register(descriptor, select.POLLIN)
    return [numbers[descriptor] for descriptor, _ in polled.poll(0)]


def test_a_thousand_held_calls_take_at_most_60_mib(tmp_path: Path) -> None:
    process = Process(tmp_path, is_warm=False)
    process.write(
        f"  shop: {{url: 'http://127.0.0.1:{free_port()}'}}\n",
        {"shop.yaml": CATALOGUE, "policy.yaml": POLICY},
        f"approvals: {{hold: 5m, pending: {PENDING}}}\n"
        f"limits: {{per_address: {CONNECTIONS}, drain: 1s}}",
    )
    process.start()
    try:
        before = resident_mib(process)
        with contextlib.ExitStack() as stack:
            calls = {number: stack.enter_context(asked(process, number)) for number in range(HELD)}
            heard: list[bytes] = []
            until = time.monotonic() + 60
            while (held := process.metrics()["aegis_approvals_held_calls"]) < HELD:
                assert time.monotonic() < until, f"{held} are held, others heard {heard}"
                for number in answered(calls):
                    # None is answered before somebody decides; a disk that stands still for longer
                    # than callers wait is another matter, and says to try again.
                    heard.append(calls[number].recv(2000))
                    assert b"store_unavailable" in heard[-1] and len(heard) < HELD, heard[-1]
                    calls[number] = stack.enter_context(asked(process, number))
                time.sleep(0.1)
            grown = resident_mib(process) - before
        assert 0 < grown <= GROWS_MIB_MAX, f"{grown:.1f} MiB"
        print(f"{grown:.1f} MiB for {HELD} held calls")
    finally:
        process.kill()
