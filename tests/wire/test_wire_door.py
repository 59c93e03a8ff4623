"""B1-B20, C1-C11: the catalogue of tests/cases/wire/door.json over raw sockets, id by id, against
one real sidecar whose upstreams keep what arrives."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "fuzz"), str(HERE.parent / "e2e")]

from wire_door import Door, is_closed, read_answer

HOST = b"Host: localhost\r\n"
READ = b"GET /up/items/7 HTTP/1.1\r\n" + HOST
LOG_FAULTS = ("Traceback", "failed inside", "background task failed", "never retrieved")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    made = Door(tmp_path_factory.mktemp("door")).start()
    try:
        yield made
        # I3, I5: whatever came, the receipts hold and nothing broke inside
        assert made.sidecar.readiness() == 200
        assert len(made.sidecar.receipts()) > 0
        assert [fault for fault in LOG_FAULTS if fault in made.sidecar.log()] == []
    finally:
        made.stop()


def hold(door: Door, case: str) -> None:
    problems = door.problems_of(case)
    assert problems == [], "\n".join(problems)


def test_b1_one_length_or_none(door: Door) -> None:
    hold(door, "B1")


def test_b2_transfer_encoding_is_exactly_chunked(door: Door) -> None:
    hold(door, "B2")


def test_b3_lines_end_in_crlf_and_hold_nothing_odd(door: Door) -> None:
    hold(door, "B3")


def test_b4_chunks_are_read_to_the_letter(door: Door) -> None:
    hold(door, "B4")


def test_b5_trailers_do_not_arrive(door: Door) -> None:
    hold(door, "B5")


def test_b6_targets_are_in_origin_form(door: Door) -> None:
    hold(door, "B6")


def test_b7_one_host_and_it_is_ours(door: Door) -> None:
    hold(door, "B7")


def test_b8_http_1_0_and_1_1_only(door: Door) -> None:
    hold(door, "B8")


def test_b9_one_canonical_path(door: Door) -> None:
    hold(door, "B9")


def test_b10_every_value_of_a_query_is_seen(door: Door) -> None:
    hold(door, "B10")


def test_b11_hop_by_hop_headers(door: Door) -> None:
    hold(door, "B11")


def test_b12_nobody_speaks_with_another_voice(door: Door) -> None:
    hold(door, "B12")


def test_b13_encoded_bodies_are_not_read(door: Door) -> None:
    hold(door, "B13")


def test_b14_a_gzip_bomb_stays_packed(door: Door) -> None:
    bomb = gzip.compress(bytes(50 << 20))
    media = b" HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    packed = b"Content-Encoding: gzip\r\n"
    before = door.resident_kib()
    for target, encoding, status in (
        (b"/up/free", packed, 415), (b"/up/free", b"", 400), (b"/open/items", packed, 413),
    ):  # fmt: skip
        with door.connect() as connection:
            length = b"Content-Length: %d\r\n\r\n" % len(bomb)
            connection.sendall(b"POST " + target + media + encoding + length + bomb)
            assert read_answer(connection).status == status
    assert door.resident_kib() - before <= 4096


def test_b15_bodies_that_are_too_long_or_too_short(door: Door) -> None:
    hold(door, "B15")


def test_b16_a_body_is_asked_for_only_when_it_is_wanted(door: Door) -> None:
    hold(door, "B16")


def test_b17_nothing_is_upgraded_or_tunnelled(door: Door) -> None:
    hold(door, "B17")


def test_b18_media_types(door: Door) -> None:
    hold(door, "B18")


def test_b19_a_trickled_head_and_a_trickled_body_are_cut_off(door: Door) -> None:
    body = b"POST /up/free HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    body += b"Content-Length: 1000\r\n\r\n"
    for begun, drip in ((READ, b"X-A: b\r\n"), (body, b" ")):
        started = time.monotonic()
        with door.connect() as connection:
            connection.sendall(begun)
            connection.settimeout(0.1)
            answer = b""
            while not answer and time.monotonic() - started < 5:
                try:
                    answer = connection.recv(4096)
                except TimeoutError:
                    connection.sendall(drip)  # each byte comes well before any deadline
            assert b" 408 " in answer.partition(b"\r\n")[0]
            assert time.monotonic() - started < 3
            assert is_closed(connection)


def test_b19_pipelined_requests_are_answered_in_order(door: Door) -> None:
    count = 300
    door.arrivals.clear()
    requests = [
        b"GET /up/items/%d HTTP/1.1\r\n" % number + HOST + b"X-Mark: m%d\r\n\r\n" % number
        for number in range(count)
    ]
    with door.connect() as connection:
        connection.sendall(b"".join(requests))
        heard = b""
        while heard.count(b'"mark": "') < count:
            piece = connection.recv(1 << 16)
            assert piece, "the connection was closed"
            heard += piece
    marks = [part.partition(b'"')[0] for part in heard.split(b'"mark": "')[1:]]
    assert marks == [b"m%d" % number for number in range(count)]
    assert len(door.arrivals) == count


@pytest.mark.serial
def test_b19_crowds_are_served_cut_off_or_told() -> None:
    command = [sys.executable, str(HERE / "door_full.py"), "--size", "200", "--brief"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (done.returncode, report["violations"]) == (0, 0), done.stdout
    assert report["half_heads"]["cut_off"] == 200
    assert report["pipelined"]["answered"] == 400
    assert report["over_the_cap"]["told"] == 20


def test_b20_heads_are_bounded(door: Door) -> None:
    hold(door, "B20")


def test_c1_no_name_twice(door: Door) -> None:
    hold(door, "C1")


def test_c2_numbers_mean_one_thing(door: Door) -> None:
    hold(door, "C2")


def test_c3_texts_are_utf_8(door: Door) -> None:
    hold(door, "C3")


def test_c4_depth_and_size_are_bounded(door: Door) -> None:
    hold(door, "C4")


def test_c5_one_document_and_nothing_else(door: Door) -> None:
    hold(door, "C5")


def test_c6_batches_are_refused(door: Door) -> None:
    hold(door, "C6")


def test_c7_a_tool_call_has_an_id(door: Door) -> None:
    hold(door, "C7")


def test_c8_methods_are_spelt_one_way(door: Door) -> None:
    hold(door, "C8")


def test_c9_headers_agree_with_the_body(door: Door) -> None:
    hold(door, "C9")


def test_c10_tool_names_match_whole(door: Door) -> None:
    hold(door, "C10")


def test_c11_nothing_is_smuggled_beside_the_arguments(door: Door) -> None:
    hold(door, "C11")


def test_what_a_case_says_can_fail(door: Door) -> None:
    """The harness's own test: each kind of expectation, turned round, is found."""
    from dataclasses import replace

    from wire_door import door_cases

    control, two = door_cases("B1")[0], door_cases("B1")[3]
    assert door.problems(replace(control, statuses=(400,))) != []
    assert door.problems(replace(control, arrives=None)) != []
    assert door.problems(replace(control, arrives={"target": "/other"})) != []
    assert door.problems(replace(control, closes=True)) != []
    assert door.problems(replace(two, statuses=(200,))) != []
    door.arrivals.clear()
    assert door.problems(two) == []
