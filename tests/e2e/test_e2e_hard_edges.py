"""What the machine around a sidecar may do to it: few files, a share that hangs, closed streams."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import ROOT, Process
from tool_server import QuietTools, serving

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "ledger"))

from ledger_checkpoint_setup import pem_of

CATALOGUE = "catalogue: up\ntools: {get: GET /get}\n"
#: What the system lets a process have for the asking.
HARD_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
if HARD_FILES == resource.RLIM_INFINITY:
    HARD_FILES = sys.maxsize
POLICY = "policy: edges\nrules: [{id: reads, effect: allow, tools: up/*}]\n"


class _Tools(QuietTools):
    def do_GET(self) -> None:
        self.say_ok()


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with serving(_Tools) as url:
        yield url


@pytest.fixture
def sidecar(tmp_path: Path, upstream: str) -> Iterator[Process]:
    """Not started."""
    process = Process(tmp_path)
    process.write(f"  up: {{url: '{upstream}'}}", {"tools.yaml": CATALOGUE, "policy.yaml": POLICY})
    yield process
    process.kill()


def begin(sidecar: Process, shell: str, folder: Path = ROOT) -> None:
    """Starts it by a shell, as whoever starts services does; `"$@"` is its command."""
    command = sidecar.command("serve", "--config", str(sidecar.config))
    with (sidecar.folder / "log").open("ab") as log:
        sidecar.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command],
            cwd=folder, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip


def until(is_so: Callable[[], bool]) -> None:
    """Waits for it."""
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end, "never"
        time.sleep(0.05)


def is_ready(sidecar: Process) -> bool:
    assert sidecar.process.poll() is None, sidecar.log()
    return sidecar.readiness() == 200


def get(sidecar: Process) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.data_port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/up/get")
        return connection.getresponse().status


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_a_sidecar_whose_standard_streams_are_closed_ends_in_order(
    sidecar: Process, closed: str
) -> None:
    """libuv ended it with a core dump when it closed what had been given one of their numbers."""
    begin(sidecar, f'exec "$@" {closed}')
    until(lambda: is_ready(sidecar))
    assert get(sidecar) == 200
    assert sidecar.stop() == 0, sidecar.log()


def test_a_full_disk_behind_standard_output_is_told_and_stops_no_start(sidecar: Process) -> None:
    begin(sidecar, 'exec "$@" >/dev/full')
    until(lambda: is_ready(sidecar))
    assert get(sidecar) == 200
    assert "standard output cannot be written" in sidecar.log()
    assert sidecar.stop() == 0, sidecar.log()


def test_a_folder_that_is_gone_is_told(sidecar: Process, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    begin(sidecar, 'rmdir "$PWD" && exec "$@"', gone)
    assert sidecar.process.wait(20) == 1
    assert "is gone" in sidecar.log() and "Traceback" not in sidecar.log()


def test_who_is_told_to_stop_while_it_reads_its_configuration_ends(sidecar: Process) -> None:
    """As the first process of a container it would not hear of it, and be killed at last."""
    sidecar.config.unlink()
    os.mkfifo(sidecar.config)
    begin(sidecar, 'exec "$@"')
    process = Path(f"/proc/{sidecar.process.pid}/status")
    until(lambda: _hears(process, signal.SIGTERM))
    sidecar.process.send_signal(signal.SIGTERM)
    assert sidecar.process.wait(20) == 0
    assert "told to stop before it had started" in sidecar.log()


def _hears(status: Path, number: signal.Signals) -> bool:
    (caught,) = (line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_idle_connections_leave_files_for_calls_the_record_and_readiness(sidecar: Process) -> None:
    """Of 128 open files they took all: no call was served, nor anybody told why."""
    begin(sidecar, 'ulimit -n 128 && exec "$@"')
    until(lambda: is_ready(sidecar))
    assert "too few files" in sidecar.log()
    with contextlib.ExitStack() as idle:
        address = ("127.0.0.1", sidecar.data_port)
        first = idle.enter_context(socket.create_connection(address, timeout=10))
        for _ in range(120):
            with contextlib.suppress(ConnectionResetError):  # too many were told why just now
                idle.enter_context(socket.create_connection(address, timeout=10))
        first.sendall(b"GET /up/get HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first.recv(100).startswith(b"HTTP/1.1 200")
        assert is_ready(sidecar)
        name = 'aegis_connections_turned_away_total{cause="connections"}'
        assert sidecar.metrics()[name] > 50
    assert "could not be accepted" not in sidecar.log()
    assert sidecar.stop() == 0


def test_more_files_than_a_shell_gives_are_asked_for(sidecar: Process) -> None:
    begin(sidecar, 'ulimit -Sn 300 && exec "$@"')
    until(lambda: is_ready(sidecar))
    assert sidecar.metrics()["process_max_fds"] == min(2624, HARD_FILES)
    assert ("too few files" in sidecar.log()) == (HARD_FILES < 2624)
    assert sidecar.stop() == 0


def test_connections_too_many_at_the_control_listener_are_no_fault(sidecar: Process) -> None:
    sidecar.start()
    address = ("127.0.0.1", sidecar.control_port)
    with contextlib.ExitStack() as idle:
        for _ in range(140):  # 128 of one address are held
            idle.enter_context(socket.create_connection(address, timeout=10))
        time.sleep(0.5)
    until(lambda: is_ready(sidecar))
    assert sidecar.stop() == 0
    assert "never retrieved" not in sidecar.log()


def test_a_share_that_hangs_keeps_nobody_from_stopping(sidecar: Process) -> None:
    """A pipe that nobody writes to stands for it: whoever opens it waits for ever."""
    key, heads = sidecar.folder / "key.pem", sidecar.folder / "heads"
    key.write_text(pem_of(1))
    key.chmod(0o600)
    with sidecar.config.open("a") as config:
        config.write(
            "receipts: {key: {file: key.pem}, checkpoint: {every: 200ms, to: 'file:heads'}}\n"
        )
    sidecar.start()
    assert get(sidecar) == 200
    until(heads.exists)
    heads.unlink()
    os.mkfifo(heads)
    assert get(sidecar) == 200
    name = f'aegis_checkpoint_export_lag_seconds{{target="file:{heads}"}}'
    until(lambda: sidecar.metrics()[name] > 1)
    sidecar.process.send_signal(signal.SIGTERM)
    assert sidecar.process.wait(25) == 0, sidecar.log()
    assert "is not waited for" in sidecar.log()
    heads.unlink()
    assert sidecar.receipts()[-1]["action"] == "sidecar.stop"
