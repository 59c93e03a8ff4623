"""The threads a start needs are had before anybody is served, or the start is refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path

import pytest

from sidecar.cli import serve
from sidecar.cli.main import main
from sidecar.errors import StartRefused
from sidecar.own_threads import THREADS_MIN, require_threads

BEGUN = """
import asyncio, socket, uvloop
from sidecar.own_threads import begin_loop_threads

def threads():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("Threads"))

async def connected(begins):
    loop = asyncio.get_running_loop()
    if begins:
        await begin_loop_threads()
    before = threads()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as own:
        own.setblocking(False)
        await loop.sock_connect(own, server.getsockname())
    print(threads() - before)

uvloop.run(connected(BEGINS))
"""


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many threads the system still gives, as the test says."""
    left = [THREADS_MIN]
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    return left


def test_enough_are_enough_and_end_again(given: list[int]) -> None:
    before = threading.active_count()
    require_threads()
    assert given == [0]
    assert threading.active_count() == before


def test_too_few_refuse_the_start_and_say_what_to_raise(given: list[int]) -> None:
    given[0], before = THREADS_MIN - 1, threading.active_count()
    with pytest.raises(StartRefused, match=r"gives this process 9 threads.*pids\.max"):
        require_threads()
    assert threading.active_count() == before


def test_the_loop_begins_none_with_the_first_connection_to_an_upstream() -> None:
    """Where it cannot, it ends the process."""
    for begins, more in ((True, "0"), (False, "4")):
        code = BEGUN.replace("BEGINS", str(begins))
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert ran.stdout.strip() == more, ran.stderr


def test_serve_says_it_instead_of_a_traceback(
    given: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given[0] = 3
    assert main(["serve", "--config", str(configured(tmp_path))]) == 1
    assert "will not start: the system gives this process 3 threads" in capsys.readouterr().err


def test_nor_does_an_orderly_stop_end_in_one(
    given: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop wants a thread more to end those it has."""

    async def served(config: object) -> None:
        await asyncio.to_thread(str)
        given[0] = 0

    monkeypatch.setattr(serve, "_serve", served)
    assert main(["serve", "--config", str(configured(tmp_path))]) == 0


def test_another_fault_of_the_end_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def served(config: object) -> None:
        return None

    def run(main: Coroutine[object, object, int], **_: object) -> int:
        asyncio.run(main)
        raise RuntimeError("the loop is broken")

    monkeypatch.setattr(serve, "_serve", served)
    monkeypatch.setattr("uvloop.run", run)
    with pytest.raises(RuntimeError, match="the loop is broken"):
        main(["serve", "--config", str(configured(tmp_path))])


def configured(folder: Path) -> Path:
    path = folder / "sidecar.yaml"
    store = f"sqlite:///{folder}/aegis.db"
    path.write_text(
        f"store: {store}\npolicies: pack:read-only\n"
        "upstreams: {up: {url: 'http://127.0.0.1:9'}}\n"
    )
    return path
