"""control.sock and the commands that use it, over real sockets and in real processes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop
import warm
from control_setup import Setup, control_plane

from sidecar.cli.control_client import Unreachable, ask_at
from sidecar.control.socket import PATH_BYTES_MAX, ControlSocket, peer_uid
from sidecar.errors import StartRefused
from sidecar.problems import Position, Problem

NOBODY = 65534


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with control_plane(tmp_path) as setup:
        control = ControlSocket(tmp_path, setup.state)
        await control.start()
        try:
            yield setup
        finally:
            await control.stop()


async def command(*arguments: str, user: int | None = None) -> tuple[int, str, str]:
    line = [sys.executable, "-m", "sidecar.cli.main", *arguments]

    def run() -> subprocess.CompletedProcess[str]:
        if user is None:
            return warm.run(line)
        return subprocess.run(
            line,
            capture_output=True,
            text=True,
            user=user,
            timeout=30,
        )

    done = await asyncio.to_thread(run)
    return done.returncode, done.stdout, done.stderr


async def test_status_is_told_in_words_and_in_json(setup: Setup, tmp_path: Path) -> None:
    await setup.record()
    code, words, errors = await command("status", "--data-dir", str(tmp_path))
    assert (code, errors) == (0, "")
    assert "12 rules, revision abab" in words
    assert "github (rest)" in words
    assert "OBSERVE" not in words and "SHADOW" not in words
    code, text, _ = await command("status", "--json", "--data-dir", str(tmp_path))
    status = json.loads(text)
    assert (code, status["ready"], status["boot_id"], status["node_id"]) == (0, True, "b1", "n1")
    assert status["policies"]["rules"] == 12
    assert status["queue"]["lanes"]["committed"]["depth"] == 0
    assert status["store"]["ceiling_calls_per_s"] > 0


async def test_store_status_says_where_the_limit_is(setup: Setup, tmp_path: Path) -> None:
    code, words, _ = await command("store", "status", "--data-dir", str(tmp_path))
    assert code == 0
    assert words.startswith("Nothing was committed yet")
    await setup.record()
    code, words, _ = await command("store", "status", "--data-dir", str(tmp_path))
    assert "ceiling of" in words
    assert "A commit takes about" in words
    code, text, _ = await command("store", "status", "--json", "--data-dir", str(tmp_path))
    store = json.loads(text)
    assert (code, store["healthy"], store["engine"]) == (0, True, "sqlite")
    assert store["ceiling_calls_per_s"] > 0
    assert "ceiling of" in store["sentence"]


async def test_d8_observe_is_said_loudly(tmp_path: Path) -> None:
    async with control_plane(tmp_path, default="observe") as setup:
        control = ControlSocket(tmp_path, setup.state)
        await control.start()
        try:
            _, words, _ = await command("status", "--data-dir", str(tmp_path))
        finally:
            await control.stop()
    assert "OBSERVE: nothing is refused" in words


async def test_d8_rules_in_shadow_are_said_loudly(setup: Setup, tmp_path: Path) -> None:
    setup.policies.current.shadow_count = 3
    _, words, _ = await command("status", "--data-dir", str(tmp_path))
    assert "SHADOW: 3 of 12 rules decide nothing" in words
    _, text, _ = await command("status", "--json", "--data-dir", str(tmp_path))
    assert json.loads(text)["policies"]["rules_in_shadow"] == 3


async def test_d3_a_broken_set_is_told_by_status_and_reload(setup: Setup, tmp_path: Path) -> None:
    code, out, _ = await command("reload", "--data-dir", str(tmp_path))
    assert (code, out) == (0, "said\n")
    setup.policies.reload_succeeded = False
    setup.policies.problems = (Problem(Position("a.yaml", 3, 1), "no"),)
    code, out, errors = await command("reload", "--data-dir", str(tmp_path))
    assert (code, out, errors) == (1, "", "a.yaml:3:1: error: no\nsaid\n")
    _, words, _ = await command("status", "--data-dir", str(tmp_path))
    assert "BROKEN; the last good set stays in force" in words
    assert "a.yaml:3:1: error: no" in words
    warning = Problem(Position("a.yaml", 1, 1), "could be better", is_warning=True)
    setup.policies.problems = (warning, *setup.policies.problems)
    _, words, _ = await command("status", "--data-dir", str(tmp_path))
    assert 0 < words.index("error: no") < words.index("warning: could be better")


async def test_a_sidecar_that_is_not_ready_says_so(setup: Setup, tmp_path: Path) -> None:
    setup.state.is_draining = True
    code, words, _ = await command("status", "--data-dir", str(tmp_path))
    assert (code, words.splitlines()[1]) == (1, "NOT READY: shutting down")


async def test_nobody_there_is_said_with_what_to_do(tmp_path: Path) -> None:
    code, _, errors = await command("status", "--data-dir", str(tmp_path))
    assert code == 1
    assert "Start it with `aegis-sidecar serve`" in errors
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(tmp_path / "control.sock"))
    code, _, errors = await command("status", "--data-dir", str(tmp_path))
    assert (code, "left behind" in errors) == (1, True)


async def test_only_the_owner_may_open_it(setup: Setup, tmp_path: Path) -> None:
    mode = (tmp_path / "control.sock").stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/usr/bin/python3").exists(),
    reason="needs to become another user, with a Python that he may run",
)
async def test_another_user_is_refused_even_if_the_mode_lets_him(
    setup: Setup, tmp_path: Path
) -> None:
    path = tmp_path / "control.sock"
    path.chmod(0o666)
    ask = (
        "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(b'GET /status HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n');"
        "print(s.makefile().read())"
    )
    moved = Path("/tmp") / f"aegis-{os.getpid()}.sock"
    os.link(path, moved)
    try:
        for user, expected in ((None, "200 OK"), (NOBODY, "403 Forbidden")):
            done = await asyncio.to_thread(
                subprocess.run,
                ["/usr/bin/python3", "-I", "-c", ask, str(moved)],
                capture_output=True, text=True, user=user, cwd="/", timeout=30,
            )  # fmt: skip
            assert expected in done.stdout.splitlines()[0], done.stderr
            assert ("boot_id" in done.stdout) == (user is None)
    finally:
        moved.unlink()


async def test_there_is_nothing_else_on_it(setup: Setup, tmp_path: Path) -> None:
    for request in (b"GET /reload", b"POST /status", b"GET /nothing", b"DELETE /status"):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
        writer.write(request + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        first = await reader.readline()
        assert first.split()[1] in (b"404", b"405")
        writer.close()


def test_where_no_socket_can_be_there_is_no_sidecar(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="too long") as caught:
        ask_at(tmp_path / ("x" * 120) / "control.sock", "GET", "/status")
    assert caught.value.is_absent


async def test_a_socket_left_behind_is_replaced(setup: Setup, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(folder / "control.sock"))
    control = ControlSocket(folder, setup.state)
    await control.start()
    assert (await command("status", "--data-dir", str(folder)))[0] == 0
    await control.stop()
    await control.stop()
    assert not list(folder.iterdir())


async def test_a_living_one_is_not(setup: Setup, tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="another sidecar answers"):
        await ControlSocket(tmp_path, setup.state).start()
    assert (await command("status", "--data-dir", str(tmp_path)))[0] == 0


async def test_a_file_in_its_place_stops_the_start(setup: Setup, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "control.sock").write_text("precious")
    with pytest.raises(StartRefused, match="is no socket"):
        await ControlSocket(folder, setup.state).start()
    assert (folder / "control.sock").read_text() == "precious"


async def test_a_path_that_is_too_long_is_refused_with_the_reason(
    setup: Setup, tmp_path: Path
) -> None:
    folder = tmp_path / ("d" * PATH_BYTES_MAX)
    folder.mkdir()
    with pytest.raises(StartRefused, match="shorter path"):
        await ControlSocket(folder, setup.state).start()


async def test_a_successor_keeps_its_socket(setup: Setup, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    first = ControlSocket(folder, setup.state)
    await first.start()
    (folder / "control.sock").unlink()
    second = ControlSocket(folder, setup.state)
    await second.start()
    await first.stop()
    assert (await command("status", "--data-dir", str(folder)))[0] == 0
    await second.stop()


def test_it_serves_on_uvloop_as_well(tmp_path: Path) -> None:
    async def serve() -> tuple[int, str, str]:
        async with control_plane(tmp_path) as setup:
            control = ControlSocket(tmp_path, setup.state)
            await control.start()
            try:
                return await command("status", "--data-dir", str(tmp_path))
            finally:
                await control.stop()

    code, words, _ = uvloop.run(serve())
    assert (code, words.splitlines()[1]) == (0, "ready")
    assert not (tmp_path / "control.sock").exists()


def test_the_kernel_says_who_is_there() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()
