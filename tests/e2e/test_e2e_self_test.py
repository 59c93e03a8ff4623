"""Tests beside policies, over real sockets: a set whose own tests fail never judges a call."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from running import Process
from test_e2e_operations import get, lines_of, upstream

__all__ = ["upstream"]

CATALOGUE = "catalogue: up\ntools: {get: GET /get, drop: POST /drop}\n"
POLICY = "policy: ops\nrules: [{id: reads, effect: allow, tools: up/*, mutates: false}]\n"
#: Somebody wanted to keep `get` from agents, and the tests know better.
NARROWER = POLICY.replace("up/*", "up/drop").replace("mutates: false", "mutates: true")
TEST = "test: ops\ncases:\n  - {name: reading, call: up/get, expect: allow}\n"
WHERE = "policies/ops_test.yaml:3:12"
FAILED = f'{WHERE}: error: the test "reading" fails: effect: expected allow, came deny'


def sidecar_of(folder: Path, upstream: str, rest: str = "") -> Process:
    sidecar = Process(folder)
    files = {"tools.yaml": CATALOGUE, "ops.yaml": POLICY, "ops_test.yaml": TEST}
    sidecar.write(f"  up: {{url: '{upstream}'}}", files, rest)
    return sidecar


def eventually(claim: Callable[[], bool]) -> bool:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if claim():
            return True
        time.sleep(0.05)
    return False


def audited(sidecar: Process, action: str) -> list[dict[str, object]]:
    with sqlite3.connect(f"file:{sidecar.folder}/aegis.db?mode=ro", uri=True) as store:
        rows = store.execute(
            "SELECT after_state FROM audit_event WHERE action = ? ORDER BY seq", (action,)
        )
        return [json.loads(after) for (after,) in rows]


def test_a_set_whose_tests_fail_is_refused_and_the_old_one_stays(
    tmp_path: Path, upstream: str
) -> None:
    sidecar = sidecar_of(tmp_path, upstream).start()
    try:
        assert get(sidecar) == (200, "")
        revision = str(
            json.loads(sidecar.cli("status", "--json", "--data-dir", str(tmp_path)).stdout)[
                "policies"
            ]["revision"]
        )
        (tmp_path / "policies/ops.yaml").write_text(NARROWER)
        told = sidecar.cli("reload", "--data-dir", str(tmp_path))
        assert told.returncode == 1
        assert FAILED in told.stderr
        assert f"1 problem; revision {revision} stays in force" in told.stderr
        assert get(sidecar) == (200, "")

        said = sidecar.cli("status", "--data-dir", str(tmp_path)).stdout
        assert FAILED in said and revision in said
        assert sidecar.metrics()["aegis_policy_reload_success"] == 0
        assert sidecar.metrics()['aegis_policy_reloads_total{result="failed"}'] == 1
        (line,) = lines_of(sidecar, "broken and were not loaded")
        assert FAILED in str(line["problems"])
        (refused,) = audited(sidecar, "policy.refuse")
        assert (refused["revision"], refused["problems"]) == (revision, 1)

        # Mended: what is meant is what the tests say.
        (tmp_path / "policies/ops_test.yaml").write_text(TEST.replace("allow", "deny"))
        told = sidecar.cli("reload", "--data-dir", str(tmp_path))
        assert told.returncode == 0, told.stderr
        assert get(sidecar) == (403, "default_deny")
        assert sidecar.metrics()["aegis_policy_reload_success"] == 1
        (loaded,) = audited(sidecar, "policy.load")
        assert loaded["revision"] != revision
    finally:
        sidecar.kill()


@pytest.mark.parametrize("way", ["signal", "watched"])
def test_a_reload_that_nobody_waits_for_is_refused_as_well(
    tmp_path: Path, upstream: str, way: str
) -> None:
    sidecar = sidecar_of(tmp_path, upstream).start()
    try:
        (tmp_path / "policies/ops.yaml").write_text(NARROWER)
        if way == "signal":
            sidecar.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: sidecar.metrics()["aegis_policy_reload_success"] == 0)
        assert get(sidecar) == (200, "")
        assert audited(sidecar, "policy.refuse")[0]["problems"] == 1
    finally:
        sidecar.kill()


def test_a_failing_test_stops_the_start_and_is_named(tmp_path: Path, upstream: str) -> None:
    sidecar = sidecar_of(tmp_path, upstream)
    (tmp_path / "policies/ops.yaml").write_text(NARROWER)
    with pytest.raises(AssertionError, match="not ready"):
        sidecar.start()
    assert FAILED in sidecar.log()
    assert not (tmp_path / "aegis.db").exists()


def test_who_tests_elsewhere_may_turn_it_off(tmp_path: Path, upstream: str) -> None:
    sidecar = sidecar_of(tmp_path, upstream, "self_test: {run: false}")
    (tmp_path / "policies/ops.yaml").write_text(NARROWER)
    sidecar.start()
    try:
        assert get(sidecar) == (403, "default_deny")
    finally:
        sidecar.kill()


def test_tests_without_end_are_given_up_and_a_stop_does_not_wait_for_them(
    tmp_path: Path, upstream: str
) -> None:
    sidecar = sidecar_of(tmp_path, upstream, "self_test: {time: 1s}").start()
    slow = "".join(
        f"  - {{name: n{n}, call: up/get, times: 10000, expect: allow}}\n" for n in range(500)
    )
    try:
        (tmp_path / "policies/ops_test.yaml").write_text(TEST + slow)
        told = sidecar.cli("reload", "--data-dir", str(tmp_path))
        assert told.returncode == 1
        assert "longer than the 1 s of self_test.time" in told.stderr
        assert get(sidecar) == (200, "")
    finally:
        sidecar.kill()
    sidecar.config.write_text(sidecar.config.read_text().replace("time: 1s", "time: 1h"))
    (tmp_path / "policies/ops_test.yaml").write_text(TEST)
    sidecar.start()
    try:
        (tmp_path / "policies/ops_test.yaml").write_text(TEST + slow)
        sidecar.process.send_signal(signal.SIGHUP)
        time.sleep(1.0)
        assert get(sidecar) == (200, "")
        assert sidecar.stop(10.0) == 0
    finally:
        sidecar.kill()
