"""Start, stop and silence of a real sidecar, as an auditor reads them who has only receipts."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

from running import Process
from test_e2e_rolled_back import calls, cli, exported, lived, sidecar

__all__ = ["sidecar"]


def told(process: Process) -> list[tuple[str, dict[str, Any]]]:
    """Actions and what is said, of the receipts that tell of the sidecar."""
    return [
        (str(one["action"]), json.loads(str(one["resource"])))
        for one in exported(process)
        if str(one["action"]).startswith("sidecar.")
    ]


def eventually(claim: Callable[[], bool]) -> bool:
    until = time.monotonic() + 15
    while time.monotonic() < until:
        if claim():
            return True
        time.sleep(0.1)
    return False


def verified(process: Process) -> str:
    exported(process)
    done = cli("receipts", "verify", process.folder / "receipts.jsonl")
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_g10_a_stop_in_order_is_told_from_a_kill(sidecar: Process) -> None:
    lived(sidecar, 2)
    ((action, stop),) = told(sidecar)
    assert (action, stop["open_calls"]) == ("sidecar.stop", 0)
    assert "at its end the sidecar had stopped, by its own record" in verified(sidecar)

    sidecar.start()
    calls(sidecar, 1)
    sidecar.kill()
    *_, (action, start) = told(sidecar)
    assert (action, start["before"]) == (
        "sidecar.start", {"boot": stop["boot"], "ended": "stopped"},
    )  # fmt: skip
    assert start["heartbeat_us"] == 3_600_000_000
    said = verified(sidecar)
    assert "at its end the sidecar ran, and a receipt was due every 1h" in said
    assert "no stop is on record" not in said, "nobody has said so yet"

    lived(sidecar, 0)
    assert "ended without a stop on record" in sidecar.log()
    assert told(sidecar)[-2][1]["before"] == {"boot": start["boot"], "ended": "no_stop"}
    said = verified(sidecar)
    assert f"no stop is on record of the boot before receipt 6 ('{start['boot']}')" in said
    assert "had stopped, by its own record" in said


def test_a_silent_chain_grows_while_the_sidecar_runs(sidecar: Process) -> None:
    text = sidecar.config.read_text()
    sidecar.config.write_text(f"{text}receipts: {{heartbeat: 1s}}\n")
    sidecar.start()
    try:
        time.sleep(1.5)
        raw = cli("receipts", "export", "--config", sidecar.config)
        assert raw.stdout == "", "nobody has called: there is no chain to keep alive"
        calls(sidecar, 1)
        assert eventually(lambda: [one for one, _ in told(sidecar)] == ["sidecar.alive"] * 3)
        times = [int(str(one["ts_us"])) for one in exported(sidecar)]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert max(gaps) < 2_000_000
        assert told(sidecar)[0][1]["heartbeat_us"] == 1_000_000
        listed = sidecar.cli("health", "--config", str(sidecar.config))
        assert listed.returncode == 0
    finally:
        assert sidecar.stop() == 0
    assert told(sidecar)[-1][0] == "sidecar.stop"
    assert "silent" not in verified(sidecar)


def test_a_start_that_comes_to_nothing_says_that_it_ended(sidecar: Process) -> None:
    """Another program has the port: what began is on record, and so is its end."""
    lived(sidecar, 1)
    other = Process(sidecar.folder, data_port=sidecar.data_port)
    import socket

    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", other.data_port))
        held.listen()
        done = sidecar.cli("serve", "--config", str(sidecar.config))
        assert done.returncode == 1
    assert [one for one, _ in told(sidecar)] == ["sidecar.stop", "sidecar.start", "sidecar.stop"]
