"""B1-B20, C1-C11: what upstream parsers read is what was decided on; and the harness's own test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HARNESS = Path(__file__).with_name("full.py")
SLICE = "h11,aiohttp,nginx"


def harness(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(HARNESS), *arguments], capture_output=True, text=True
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.timeout(300)
def test_b1_b20_c1_c11_parsers_read_what_was_decided_on() -> None:
    code, report = harness("--size", "1000", "--parsers", SLICE)
    assert (code, report["violations"]) == (0, 0), json.dumps(report, indent=2)
    # positive controls: each parser read all that arrived, mutants among it, with JSON in it; or
    # refused it, which says nothing against the sidecar and is rare
    assert report["mutants_forwarded"] > 50
    assert set(report["readings"]) == set(SLICE.split(","))
    said = json.dumps(report, indent=2)
    for parser, read in report["readings"].items():
        refused = sum(
            count
            for what, count in report["refused_by_a_parser"].items()
            if what.startswith(f"{parser} ") and what != f"{parser} form"
        )
        assert read + refused == report["arrivals"] and refused <= 2, said
    assert report["json_readings"]["h11"] > 50 and report["json_readings"]["aiohttp"] > 50


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("fault", "seen_by"),
    [
        ("first-of-batch", ("h11", "aiohttp")),
        ("undecoded-path", ("h11", "aiohttp", "nginx")),
        ("trusted-name", ("h11", "aiohttp")),
    ],
)
def test_parsers_find_a_planted_fault(fault: str, seen_by: tuple[str, ...]) -> None:
    code, report = harness("--size", "216", "--planted", fault, "--seed", "7", "--parsers", SLICE)
    assert code == 1
    for parser in seen_by:
        assert report["violations_by_parser"][parser] > 0, json.dumps(report, indent=2)
