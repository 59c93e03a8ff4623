"""`wrap` and `serve` at their edges: calls nobody waits for, servers that end, starts at once."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from free_ports import free_port
from wrapping import HERE, MASKING, SCRIPT, Wrap, gone_within, text_of

from sidecar.proxy.stdio.child import Child, started
from sidecar.wrap.files import write_first_files
from sidecar.wrap.running import _ENDING, _PASSED_ON, _carry

SERVER = [sys.executable, str(HERE / "ending_server.py")]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aegis-wrap-") as name:
        yield Path(name)


def cancelled(reply_id: int, **more: str) -> dict[str, object]:
    params = {"requestId": reply_id}
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params, **more}


@pytest.mark.parametrize("how", ["the agent takes it back", "the server is silent for long"])
def test_c16_a_call_that_nobody_waits_for_still_obliges(tmp_path: Path, how: str) -> None:
    policies = tmp_path / "share/aegis-sidecar/files/policies"
    policies.mkdir(parents=True)
    (policies / "start.yaml").write_text(MASKING)
    wrap = Wrap(tmp_path, "files", SERVER, "--set=upstreams.files.timeouts.idle=1s")
    wrap.call(1, "keep")
    if how != "the agent takes it back":
        assert "(upstream_timeout)" in text_of(wrap.hear())
    wrap.say(cancelled(1))
    heard = wrap.hear()
    assert wrap.end() == 0
    assert heard["params"]["data"] == "stopped at ***", heard


@pytest.mark.parametrize("how", ["another member", "no place is free"])
def test_a_call_whose_cancellation_was_refused_is_answered(tmp_path: Path, how: str) -> None:
    """The server does not know of it, and carries the call out."""
    options = ["--set=upstreams.files.limits.calls=1"] if how == "no place is free" else []
    wrap = Wrap(tmp_path, "files", SERVER, *options)
    wrap.call(1, "later")
    wrap.say(cancelled(1) if options else cancelled(1, why="it is not one"))
    time.sleep(2.5)
    status, said = wrap.process.poll(), b""
    wrap.process.stdin.close()
    wrap.process.wait(20)
    said = wrap.rest()
    outcomes = [one["outcome"] for one in wrap.receipts() if one["kind"] == "outcome"]
    assert [one["method"] for one in wrap.seen()] == ["tools/call"], "control: it was not told"
    assert status is None and b'"id": 1' in said and outcomes == ["completed"], (said, outcomes)


def test_a_request_under_an_id_that_is_no_text_ends_nothing(tmp_path: Path) -> None:
    wrap = Wrap(tmp_path, "files", SERVER)
    wrap.call(1, "odd")
    heard = wrap.hear()
    wrap.kill()
    assert "result" in heard, heard


class _Slow:
    """A session that is busy when its server ends, as with a durable write."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.heard: list[int] = []

    async def take_in(self, *_: object) -> None:
        await asyncio.Event().wait()

    async def give_out(self, _: object) -> None:
        await self.child.exited.wait()
        await asyncio.sleep(0.1)
        async for line in self.child.lines():
            self.heard.append(len(line or b""))

    async def finish(self, **_: object) -> None:
        pass


class _Agent:
    is_gone = False

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    def start(self) -> None:
        pass

    async def flush(self, _: float) -> None:
        pass


async def test_what_a_server_said_before_it_ended_is_heard() -> None:
    said = (
        "import os, time; os.write(1, b'x' * 60000); time.sleep(0.1); os.write(1, b'x' * 60000); "
        "time.sleep(0.1); os.write(1, b'x' * 60000); time.sleep(0.1); "
        "os.write(1, b'x' * 20000 + b'\\n')"
    )
    child = Child(started([sys.executable, "-c", said], os.environ))
    await child.open()
    session = _Slow(child)
    nothing = SimpleNamespace(handle=None, refuse_head=None, said_by_server=None)
    try:
        assert await _carry(session, _Agent(), child, nothing) == 0
    finally:
        await child.end(1.0)
        for number in (*_ENDING, *_PASSED_ON):
            asyncio.get_running_loop().remove_signal_handler(number)
    assert session.heard == [200_000]


def test_what_a_server_started_does_not_outlive_us_when_the_agent_leaves(tmp_path: Path) -> None:
    stubborn = shlex.join([sys.executable, str(HERE / "stdio_script.py")])
    pid_path = tmp_path / "pid"
    command = f"{stubborn} & echo $! > {shlex.quote(str(pid_path))}; wait"
    wrap = Wrap(tmp_path, "files", ["sh", "-c", command], environment={"STUBBORN": "1"})
    while not Path(wrap.seen_path).exists():
        time.sleep(0.05)
    pid = int(pid_path.read_text())
    wrap.end(20)
    try:
        assert gone_within(pid, 1.0), "what the server started goes on"
    finally:
        if not gone_within(pid, 0):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("left", [".start.yaml.4711", "start.yaml"])
def test_first_files_are_written_though_another_is_at_it(tmp_path: Path, left: str) -> None:
    """As a process that was killed, or that begins at this moment, leaves them."""
    write_first_files(tmp_path, "files")
    for one in ("sidecar.yaml", "policies/tools.yaml"):
        (tmp_path / one).unlink()
    (tmp_path / "policies/start.yaml").rename(tmp_path / "policies" / left)
    write_first_files(tmp_path, "files")
    found = sorted(path.name for path in (tmp_path / "policies").glob("*.yaml"))
    assert found == ["start.yaml", "tools.yaml"]


@pytest.mark.parametrize("name", ["true", "null", "1e3", "0x1f"])
def test_a_name_that_yaml_takes_for_something_else(tmp_path: Path, name: str) -> None:
    wrap = Wrap(tmp_path, name, SERVER)
    wrap.call(1, "echo")
    status = None
    try:
        assert wrap.hear()["result"]
    finally:
        status = wrap.process.poll()
        wrap.kill()
    assert status is None


def test_a_variable_that_the_configuration_names_as_a_secret_is_not_the_servers(
    tmp_path: Path,
) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/all.yaml").write_text(
        "policy: all\nrules:\n  - {id: all, effect: allow, tools: [files/unknown]}\n"
    )
    config = tmp_path / "sidecar.yaml"
    config.write_text(
        "policies: ./policies\n"
        "upstreams:\n  other: {url: 'http://a.example', auth: {bearer: {env: OTHER_TOKEN}}}\n"
    )
    environment = {"OTHER_TOKEN": "hush", "OWN_KEY": "for the server"}
    wrap = Wrap(tmp_path, "files", SCRIPT, "--config", str(config), environment=environment)
    names = text_of(wrap.asked(1, "environment")).split()
    assert wrap.end() == 0
    assert "OWN_KEY" in names
    assert "OTHER_TOKEN" not in names


def passes_reloads_over(process: subprocess.Popen[str]) -> bool:
    """Whether SIGHUP does not end it any more: before Python has begun with us it ends anybody."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    (mask,) = (line.split()[1] for line in text.splitlines() if line.startswith("SigIgn"))
    return bool(int(mask, 16) >> (signal.SIGHUP - 1) & 1)


@pytest.mark.parametrize("after_s", [None, 0.0, 0.2])
def test_a_reload_while_it_starts_does_not_end_it(tmp_path: Path, after_s: float | None) -> None:
    (tmp_path / "rules.yaml").write_text("policy: p\nrules: [{id: a, effect: allow, tools: a/*}]\n")
    (tmp_path / "sidecar.yaml").write_text(
        f"policies: ./rules.yaml\n"
        f"listen: {{data: '127.0.0.1:{free_port()}', control: '127.0.0.1:{free_port()}'}}\n"
        "upstreams: {a: {url: 'http://127.0.0.1:9'}}\n"
    )
    command = [sys.executable, "-m", "sidecar.cli.main", "serve"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = ""
        try:
            if after_s is not None:
                until = time.monotonic() + 20
                while not passes_reloads_over(process):
                    assert process.poll() is None and time.monotonic() < until, "it never does"
                    time.sleep(0.002)
                time.sleep(after_s)
                process.send_signal(signal.SIGHUP)
            for line in process.stdout:
                said += line
                if "listens" in line:
                    process.terminate()
            status = process.wait(20)
        finally:
            process.kill()
    assert (status, "listens" in said) == (0, True), said
