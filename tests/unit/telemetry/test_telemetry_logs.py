"""Logs: one line of JSON for an event, whatever is in it; never a secret, never a flood."""

from __future__ import annotations

import ast
import asyncio
import gc
import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.telemetry.logs import BURST, FIELDS, STOP_S, TEXT_MAX, JsonFormatter, Logs, SecretMask

ROOT = Path(__file__).parents[3]
CANARY = "s3cr3t-canary-value"


class Writing:
    """Logs into memory, with a clock that a test moves."""

    def __init__(self, **options: Any) -> None:
        self.now_ns = 0
        self.stream = io.StringIO()
        self.logs = Logs(monotonic_ns=lambda: self.now_ns, stream=self.stream, **options)

    def text(self) -> str:
        self.logs.stop()
        return self.stream.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def writing() -> Iterator[Writing]:
    writing = Writing(secrets=[CANARY])
    yield writing
    writing.logs.stop()


def test_an_event_is_one_line_with_its_fields(writing: Writing) -> None:
    logging.getLogger("aegis.policy").warning(
        "policies are in force", extra={"revision": "ab", "rules": 3, "problems": ["a", "b"]}
    )
    (line,) = writing.lines()
    assert line["level"] == "warning"
    assert line["room"] == "aegis.policy"
    assert line["event"] == "policies are in force"
    assert (line["revision"], line["rules"], line["problems"]) == ("ab", 3, ["a", "b"])
    assert line["time"].endswith("Z")


def test_fields_outside_the_list_never_appear(writing: Writing) -> None:
    logging.getLogger("aegis.policy").warning(
        "x", extra={"authorization": "Bearer abc", "arguments": {"a": 1}, "code": "queue_full"}
    )
    (line,) = writing.lines()
    assert set(line) == {"time", "level", "room", "event", "code"}


def test_g5_secrets_are_masked_wherever_they_stand(writing: Writing) -> None:
    log = logging.getLogger("aegis.door")
    log.warning(f"a {CANARY} b")
    log.warning("x", extra={"reason": f"{CANARY}!", "problems": [CANARY]})
    try:
        raise OSError(5, CANARY)
    except OSError:
        log.exception("y")
    text = writing.text()
    assert CANARY not in text
    assert text.count("***") == 4


def test_g5_a_token_is_masked_without_its_scheme_too() -> None:
    mask = SecretMask([f"Bearer {CANARY}"])
    assert mask(f"Bearer {CANARY}, {CANARY}; Bearer") == "***, ***; Bearer"
    assert SecretMask(["abc", ""])("abc and nothing") == "abc and nothing", "too short to be one"


def test_g5_a_library_and_an_exception_cannot_tell_what_a_caller_sent(writing: Writing) -> None:
    sent = "what-a-caller-sent"
    logging.getLogger("aiohttp.server").error("Error handling %s", sent)
    try:
        raise ValueError(sent)
    except ValueError:
        logging.getLogger("aegis.door").exception("failed", extra={"call_id": "c1"})
    text = writing.text()
    assert sent not in text
    library, ours = map(json.loads, text.splitlines())
    assert library["event"] == "Error handling %s"
    assert ours["exception"] == "ValueError"
    assert ours["trace"][-1].startswith("test_telemetry_logs.py:")


async def test_g5_a_task_that_failed_cannot_tell_what_a_caller_sent() -> None:
    """What asyncio says of it is made up of the task and its exception."""
    writing = Writing()
    sent = "what-a-caller-sent"

    async def fail() -> None:
        raise ValueError(sent)

    task = asyncio.get_running_loop().create_task(fail(), name=sent)
    await asyncio.wait([task])
    del task
    gc.collect()
    text = writing.text()
    assert sent not in text
    (line,) = map(json.loads, text.splitlines())
    assert line["event"] == "Task exception was never retrieved"
    assert line["exception"] == "ValueError"


HOSTILE = 'a\r\n{"event": "forged"}\x1b[31m\u2028\x7f\x85\x00\ud800"'


def test_g6_a_value_cannot_break_out_of_its_line(writing: Writing) -> None:
    logging.getLogger("aegis.door").warning("x", extra={"reason": HOSTILE})
    text = writing.text()
    assert len(text.splitlines()) == 1
    assert all(" " <= character <= "~" for character in text.rstrip("\n"))
    assert json.loads(text)["reason"] == HOSTILE


@settings(max_examples=200)
@given(st.text(max_size=50), st.sampled_from(sorted(FIELDS)), st.text(max_size=50))
def test_g6_any_text_is_one_line_of_printable_json(event: str, field: str, value: str) -> None:
    record = logging.LogRecord("aegis.x", logging.INFO, "f", 1, event, None, None)
    record.__dict__[field] = value
    line = JsonFormatter(SecretMask()).format(record)
    assert all(" " <= character <= "~" for character in line)
    assert json.loads(line)[field] == value


def test_g6_a_flood_of_one_event_is_cut_and_said_so(writing: Writing) -> None:
    log = logging.getLogger("aegis.door")
    for number in range(50_000):
        log.warning("malformed head", extra={"count": number})
    log.warning("another event")
    writing.now_ns += 2_000_000_000
    log.warning("malformed head", extra={"count": -1})
    suppressed = writing.logs.suppressed_total
    lines = writing.lines()
    assert len(lines) == BURST + 2
    assert lines[-2]["event"] == "another event", "others are not silenced"
    assert lines[-1]["suppressed_before"] == suppressed == 50_000 - BURST


def test_long_texts_are_cut(writing: Writing) -> None:
    logging.getLogger("aegis.door").warning("x", extra={"reason": "y" * 5000})
    assert len(writing.lines()[0]["reason"]) == TEXT_MAX + 1


def test_a_broken_stream_is_counted_and_hurts_nobody() -> None:
    writing = Writing()
    writing.stream.close()
    logging.getLogger("aegis.door").warning("x")
    writing.logs.stop()
    assert writing.logs.dropped_total == 1


def test_lines_that_nobody_takes_are_counted_while_they_wait() -> None:
    """Nothing is lost before ten thousand wait: until then nothing else tells of it."""
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        logs = Logs(monotonic_ns=lambda: 0, stream=stream)
        assert logs.waiting == 0
        for number in range(200):
            logging.getLogger("aegis.test").warning(f"x {number}", extra={"detail": "x" * 900})
        until = time.monotonic() + 5
        while logs.waiting > 190 and time.monotonic() < until:
            time.sleep(0.01)
        assert 1 < logs.waiting <= 190 and logs.dropped_total == 0
        taken = b""
        while taken.count(b"\n") < 200:
            taken += os.read(reading, 65536)
        while logs.waiting and time.monotonic() < until:
            time.sleep(0.01)
        assert logs.waiting == 0
        logs.stop()
    os.close(reading)


def test_stopping_puts_the_root_logger_back() -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    writing = Writing()
    assert root.handlers != before[0]
    writing.logs.stop()
    writing.logs.stop()
    assert (root.handlers, root.level) == before


STUCK = """
import asyncio, logging, sys, time
from sidecar.telemetry.lines import Lines
from sidecar.telemetry.logs import Logs

async def tell():
    lines = Lines(sys.stdout)
    told = asyncio.ensure_future(lines.write("x" * 500_000))
    await asyncio.sleep(0.2)
    lines.close()
    told.cancel()

logs = Logs(monotonic_ns=time.monotonic_ns)
for number in range(500):
    logging.getLogger("aegis.test").warning(f"event {number}", extra={"detail": "x" * 900})
asyncio.run(tell())
logs.stop()
"""


def test_who_reads_neither_logs_nor_output_does_not_keep_the_process_from_ending() -> None:
    """Both pipes are full and stay so: an agent's or a container's reader that hangs."""
    begun = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            code = process.wait(30)
        finally:
            process.kill()
    assert code == 0
    assert time.monotonic() - begun > STOP_S / 2, "the pipes were not full"


def test_every_field_that_a_room_logs_may_leave_the_process() -> None:
    """Else it is written in vain: nobody ever reads it."""
    given: set[tuple[str, str]] = set()
    for path in sorted((ROOT / "sidecar").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.keyword) or node.arg != "extra":
                continue
            named = node.value.keys if isinstance(node.value, ast.Dict) else []
            given |= {(path.name, key.value) for key in named if isinstance(key, ast.Constant)}
    assert len(given) > 50
    assert {one for one in given if one[1] not in FIELDS} == set()
