"""Starts and stops what the bench compares: nginx, the bare pass-through, the sidecar.

The load generator and the upstream share one core, the proxy under test has the other.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ANSWER_BYTES = 1000
RULES = 100
#: One load address may open all connections.
NO_CAPS = "limits: {connections: 4096, per_address: 4096}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cores() -> tuple[str, str]:
    """(the load's, the proxy's); the same core twice on a machine with one."""
    usable = sorted(os.sched_getaffinity(0))
    return str(usable[-1]), str(usable[0])


@contextmanager
def load_on(core: str) -> Iterator[None]:
    """This process as the load, on its core: none of it runs where the proxy does."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass
class Target:
    """A running proxy: where it listens and whose CPU time counts."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    control_url: str = ""
    folder: Path = field(default_factory=Path)

    @property
    def path(self) -> str:
        """Where the tools are, as an agent calls them."""
        return "/tools" if self.name == "sidecar" else "/mcp"

    def cpu_seconds(self) -> float:
        """User and system time of the process and its children, from /proc."""
        ticks = 0
        for pid in [self.process.pid, *_children(self.process.pid)]:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except FileNotFoundError:
                continue
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def wait_for(url: str, process: subprocess.Popen[bytes], patience_s: float = 20.0) -> None:
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode} before {url} answered")
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{url} did not answer in {patience_s} s")


def _nginx(folder: Path, name: str, core: str, server: str, port: int) -> Target:
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    home = folder / name
    home.mkdir()
    (home / "nginx.conf").write_text(
        f"""worker_processes 1; daemon off; pid {home}/pid; error_log {home}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300s;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  {server}
}}
"""
    )
    command = ["taskset", "-c", core, binary, "-p", str(home), "-c", str(home / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    wait_for(f"{url}/", process)
    return Target(name, url, process)


def start_upstream(folder: Path, core: str) -> Target:
    """nginx answering every POST with the same JSON of 1 kB."""
    port = free_port()
    head = '{"jsonrpc":"2.0","id":7,"result":{"isError":false,"content":[{"type":"text","text":"'
    tail = '"}]}}'
    answer = head + "x" * (ANSWER_BYTES - len(head) - len(tail)) + tail
    server = f"""server {{ listen 127.0.0.1:{port} backlog=1024;
      location / {{ default_type application/json; return 200 '{answer}'; }} }}"""
    return _nginx(folder, "upstream", core, server, port)


def start_nginx(folder: Path, core: str, upstream: str) -> Target:
    port = free_port()
    server = f"""upstream tools {{ server {upstream.removeprefix("http://")}; keepalive 512;
        keepalive_requests 1000000000; }}
    server {{ listen 127.0.0.1:{port} backlog=1024;
      location / {{ proxy_pass http://tools; proxy_http_version 1.1;
        proxy_set_header Connection ""; }} }}"""
    return _nginx(folder, "nginx", core, server, port)


def start_bare(folder: Path, core: str, upstream: str) -> Target:
    port = free_port()
    process = subprocess.Popen(
        ["taskset", "-c", core, sys.executable, str(HERE / "bare_proxy.py"), str(port), upstream]
    )
    url = f"http://127.0.0.1:{port}"
    wait_for(f"{url}/mcp", process)
    return Target("bare", url, process)


def write_sidecar_files(
    folder: Path, upstream: str, data_port: int, control_port: int, limits: str
) -> Path:
    """A configuration with 100 rules over as many tools; a third of them have a
    condition. The tool that is called meets three: one with a condition, one for its name, one
    deny rule that looks at the method."""
    home = folder / "sidecar"
    policies = home / "policies"
    policies.mkdir(parents=True, exist_ok=True)
    tools = "".join(f"  tool_{n}: {{mutates: {str(n % 2 == 0).lower()}}}\n" for n in range(RULES))
    (policies / "tools.yaml").write_text(f"catalogue: tools\ntools:\n{tools}")
    rules = []
    for n in range(RULES - 2):
        condition = "" if n % 3 else "\n    when: args.number > 0 && args.owner == 'acme'"
        rules.append(f"  - id: r{n}\n    effect: allow\n    tools: tools/tool_{n}{condition}\n")
    rules.append("  - id: all\n    effect: allow\n    tools: tools/tool_*\n")
    rules.append("  - id: no-critical\n    effect: deny\n    tools: tools/*\n    methods: DELETE\n")
    (policies / "rules.yaml").write_text("policy: bench\nrules:\n" + "".join(rules))
    path = home / "sidecar.yaml"
    path.write_text(
        f"""default: deny
listen: {{data: "127.0.0.1:{data_port}", control: "127.0.0.1:{control_port}"}}
store: sqlite:///aegis.db
policies: ./policies
upstreams:
  tools: {{url: "{upstream}/mcp", kind: mcp, limits: {{calls: 2048}}}}
{limits}
"""
    )
    return path


def start_sidecar(
    folder: Path, core: str, upstream: str, *, with_caps: bool = False, root: Path = ROOT
) -> Target:
    """`with_caps` keeps the default connection caps; without them one load address may open all.
    `root` is the tree whose sidecar it is."""
    data_port, control_port = free_port(), free_port()
    limits = "" if with_caps else NO_CAPS
    path = write_sidecar_files(folder, upstream, data_port, control_port, limits)
    return _serve(path, core, data_port, control_port, root)


def start_with_policies(
    folder: Path, core: str, upstreams: str, policies: Mapping[str, str]
) -> Target:
    """A sidecar with these upstreams (as in sidecar.yaml) and policy files, and no caps."""
    data_port, control_port = free_port(), free_port()
    home = folder / "sidecar"
    (home / "policies").mkdir(parents=True)
    for name, text in policies.items():
        (home / "policies" / name).write_text(text)
    path = home / "sidecar.yaml"
    path.write_text(
        f"""listen: {{data: "127.0.0.1:{data_port}", control: "127.0.0.1:{control_port}"}}
store: sqlite:///aegis.db
policies: ./policies
upstreams:
{upstreams}
{NO_CAPS}
"""
    )
    return _serve(path, core, data_port, control_port)


def _serve(path: Path, core: str, data_port: int, control_port: int, root: Path = ROOT) -> Target:
    command = [sys.executable, "-m", "sidecar.cli.main", "serve", "--config", str(path)]
    with (path.parent / "log").open("ab") as log:
        process = subprocess.Popen(
            ["taskset", "-c", core, *command], cwd=root, stdout=log, stderr=subprocess.STDOUT
        )
    wait_for(f"http://127.0.0.1:{control_port}/readyz", process)
    target = Target("sidecar", f"http://127.0.0.1:{data_port}", process)
    target.control_url = f"http://127.0.0.1:{control_port}"
    target.folder = path.parent
    return target
