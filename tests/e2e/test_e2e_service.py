"""The wheel, installed and started under the restrictions of the systemd unit (see service_unit for
what that is an approximation of): it serves, records, is asked, reloads, stops; and each of the
restrictions holds."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from running import ROOT, free_port
from service_unit import Service, Unit, allowed_calls

UNIT = Unit((ROOT / "deploy" / "systemd" / "aegis-sidecar.service").read_text("utf-8"))
SOURCES = ("sidecar", "storage", "policies", "pyproject.toml", "setup.cfg", "README.md", "LICENSE")
PATIENCE_S = 60.0


def built_wheel(folder: Path) -> Path:
    """The wheel, as the image makes it, out of a copy: setuptools writes beside what it builds."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index",
         "--no-build-isolation", "--wheel-dir", str(folder), str(source)],
        check=True, timeout=110,
    )  # fmt: skip
    (wheel,) = folder.glob("aegis_sidecar-*.whl")
    return wheel


def install(wheel: Path, service: Service) -> None:
    """Into /opt/aegis as the service sees it; what it depends on is that of the tests."""
    outside = service.folder / "aegis"
    inside = [
        "bwrap", "--dev-bind", "/", "/", "--tmpfs", "/opt", "--bind", str(outside), "/opt/aegis",
    ]  # fmt: skip
    for folder in (sys.base_prefix, sys.prefix):  # wherever they are, in /opt too
        inside += ["--ro-bind", folder, folder]
    inside.append("--")
    python = os.path.realpath(sys.executable)
    venv = [*inside, python, "-m", "venv", "--without-pip", "/opt/aegis"]
    subprocess.run(venv, check=True, timeout=60)
    subprocess.run(
        [*inside, sys.executable, "-m", "pip", "-q", "--disable-pip-version-check",
         "--python", "/opt/aegis/bin/python", "install", "--no-deps", "--no-index", str(wheel)],
        check=True, timeout=110,
    )  # fmt: skip
    (packages,) = outside.glob("lib/python3.*/site-packages")
    (packages / "dependencies.pth").write_text("/opt/packages\n")


class Tool(BaseHTTPRequestHandler):
    """Answers."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *arguments: object) -> None:
        return


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    folder = tmp_path_factory.mktemp("service")
    made = Service(UNIT, folder, Path(sysconfig.get_path("purelib")))
    install(built_wheel(folder), made)
    return made


@pytest.fixture(scope="module")
def tool() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Tool)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and body; 0 while nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


@pytest.fixture(scope="module")
def running(service: Service, tool: str) -> Iterator[tuple[Service, int, int]]:
    """The service as the unit starts it: configuration, link, command line, variables."""
    etc = service.folder / "etc"
    text = (ROOT / "deploy" / "systemd" / "sidecar.yaml").read_text("utf-8")
    (etc / "sidecar.yaml").write_text(f"{text}  tools: {{url: '{tool}'}}\n")
    (etc / "policies").mkdir()
    (etc / "policies" / "tools.yaml").write_text("catalogue: tools\ntools: {get: GET /get}\n")
    (service.folder / "state" / "sidecar.yaml").symlink_to("/etc/aegis-sidecar/sidecar.yaml")
    data, control = free_port(), free_port()
    service.environment |= {
        "AEGIS_LISTEN__DATA": f"127.0.0.1:{data}", "AEGIS_LISTEN__CONTROL": f"127.0.0.1:{control}"
    }  # fmt: skip
    log = service.folder / "log"
    process = service.start(*UNIT.one("ExecStart").split(), log=log)
    until = time.monotonic() + PATIENCE_S
    while ask(control, "/readyz")[0] != 200:
        assert process.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.05)
    yield service, data, control
    # bwrap is not told of signals by the one it started; the sidecar is its child's child.
    inner = child_of(child_of(process.pid))
    os.kill(inner, signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0, log.read_text()


def child_of(pid: int) -> int:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(text) == 1, text
    return int(text[0])


def test_the_installed_wheel_serves_and_records_under_the_restrictions(
    running: tuple[Service, int, int],
) -> None:
    service, data, control = running
    assert ask(data, "/tools/get") == (200, "ok")
    status, metrics = ask(control, "/metrics")
    assert status == 200 and "aegis_intents_total 1.0" in metrics
    assert "process_open_fds" in metrics and "process_resident_memory_bytes" in metrics
    code, said = service.run("/opt/aegis/bin/aegis-sidecar", "status", "--json")
    assert code == 0 and json.loads(said)["not_ready"] == [], said
    kept = {path.name: path for path in (service.folder / "state").iterdir()}
    assert {"aegis.db", "control.sock", "sidecar.yaml"} <= set(kept)
    assert all(path.lstat().st_mode & 0o077 == 0 for path in kept.values() if not path.is_symlink())
    code, said = service.run("/opt/aegis/bin/aegis-sidecar", "policy", "packs", "list")
    assert code == 0 and "confused-deputy" in said, "the packs are in the wheel"
    status, page = ask(control, "/console/sign-in")
    assert status == 200 and "<form" in page, "the console's pages are in the wheel"
    for name in ("console.css", "htmx-2.0.11.min.js"):
        assert ask(control, f"/console/static/{name}")[0] == 200, name


#: A Python text that tries something, and what comes of it under the unit.
TRIED = {
    "writes where it stands": "open('/opt/aegis/x', 'w')",
    "writes its configuration": "open('/etc/aegis-sidecar/x', 'w')",
    "writes the system": "open('/usr/x', 'w')",
    "makes a socket that nobody granted": "import socket; socket.socket(socket.AF_NETLINK)",
    "mounts": "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); "
    "r = c.mount(b'x', b'/tmp', b'tmpfs', 0, None); "
    "assert r == 0, os.strerror(ctypes.get_errno())",
    "changes its priority": "import os; os.sched_setaffinity(0, {0})",
    "makes memory that can be written and run": "import mmap; "
    "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    "becomes somebody else": "import os; os.setuid(0)",
}


@pytest.mark.parametrize("what", TRIED)
def test_the_restrictions_hold(running: tuple[Service, int, int], what: str) -> None:
    service = running[0]
    code, said = service.run("/opt/aegis/bin/python", "-c", TRIED[what])
    assert code == 1, said
    assert any(error in said for error in ("Read-only file", "not permitted", "denied")), said
    assert service.run("/opt/aegis/bin/python", "-c", "open('/tmp/x', 'w')") == (0, "")


def test_the_filter_is_read_as_systemd_reads_it() -> None:
    allowed = allowed_calls(UNIT)
    assert {"read", "socket", "execve", "fdatasync", "futex"} <= allowed
    assert not {"mount", "ptrace", "bpf", "setuid", "sched_setaffinity", "reboot"} & allowed
