"""The console in a real browser: an approver's whole walk, every page looked at and read aloud.

    bash tests/full.sh console [SIZE]

SIZE is small (one width, no pictures) or default (light, dark, phone; pictures are kept in
deploy/screenshots). Chromium is the system's; Playwright and axe come in an environment of their
own (`requirements-browser.lock`), made when first needed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]

from full_report import checked_out, tell
from running import Process

KEYS = {"ANA_KEY": "ana-key-Qm9Yb2N4a1Zt-0001", "EVA_KEY": "eva-key-Zt4a1Qm9Yb2N-0002"}
CATALOGUE = """catalogue: shop
tools:
  get_order: {route: "GET /orders/{id}", mutates: false, labels: [reads-private]}
  list_orders: {route: GET /orders, mutates: false}
  refund: {route: "POST /orders/{id}/refund", risk: high}
  delete_order: {route: "DELETE /orders/{id}", risk: critical}
"""
POLICY = """policy: shop
rules:
  - {id: reads, effect: allow, tools: [shop/get_order, shop/list_orders]}
  - id: refunds-ask
    effect: require_approval
    tools: shop/refund
    reason: "a refund of {args.amount} asks a person"
  - id: only-known-orders
    mode: shadow
    effect: deny
    tools: shop/get_order
    when: 'args.id > "3"'
  - {id: nothing-is-deleted, effect: deny, tools: shop/delete_order, reason: "orders are kept"}
"""
DETECTION = """detection: deny-storm
severity: high
where: {effect: deny}
at_least: 5
within: 5s
quiet: 1s
reason: "{agent.name}: {count} refusals in {within}"
"""
#: What an agent would have a browser take for a page's own.
WHY = "broken <b> <div hx-get='/console/planted' hx-trigger='load'>"
FILES = {"catalogue.yaml": CATALOGUE, "shop.yaml": POLICY, "storm.yaml": DETECTION}
REST = """approvals: {hold: 20s}
tenants:
  acme:
    agents: {coder: {team: platform, environment: production}}
    people:
      ana: {roles: [admin], key: {env: ANA_KEY}}
      eva: {roles: [viewer], key: {env: EVA_KEY}}
"""


class Shop(BaseHTTPRequestHandler):
    """A tool server that says ok."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "11")
        self.end_headers()
        self.wfile.write(b'{"ok": "y"}')

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""


def browser_environment() -> Path:
    """The folder of its commands, made if it is not there."""
    chosen = os.environ.get("AEGIS_BROWSER_VENV")
    venv = Path(chosen) if chosen else ROOT / ".venv-browser"
    lock = HERE / "requirements-browser.lock"
    subprocess.run(
        ["bash", str(ROOT / "deploy/environment.sh"), str(venv), str(lock)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return venv / "bin"


def chromium() -> str:
    """The system's browser, installed if it is not there and may be."""
    for _ in range(2):
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        if found:
            return found
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    raise SystemExit("there is no chromium: install the Debian package of that name")


class Agent:
    """Calls in the background, and what became of them."""

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self, method: str, path: str, body: Any = None) -> int:
        """The status of one call."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data=data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                error.read()
            return error.code

    def history(self) -> None:
        """Some calls to look at."""
        for number in range(240):
            self.call("GET", f"/shop/orders/{number % 12}")
        self.call("DELETE", "/shop/orders/7")
        self.call("GET", "/shop/nowhere/else")


def run(folder: Path, size: str) -> dict[str, Any]:
    """What the browser found; `violations` is empty if everything is as it should be."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    process = Process(folder, environment=KEYS)
    upstream = f"  shop: {{url: 'http://127.0.0.1:{server.server_address[1]}'}}\n"
    process.write(upstream, FILES, REST)
    process.start()
    held: list[int] = []
    try:
        agent = Agent(process.url)
        agent.history()
        walk = subprocess.Popen(
            [
                str(browser_environment() / "python"), str(HERE / "walk.py"), process.control_url,
                chromium(), size, KEYS["ANA_KEY"], KEYS["EVA_KEY"],
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert walk.stdin is not None and walk.stdout is not None
        report: dict[str, Any] = {}
        for line in walk.stdout:
            said = json.loads(line)
            if isinstance(said, int):  # the inbox is open: now an agent asks for so much
                refund = ("POST", "/shop/orders/7/refund", {"amount": said, "why": WHY})
                threading.Thread(
                    target=lambda what=refund: held.append(agent.call(*what)), daemon=True
                ).start()
            elif said == "answered":
                until = time.monotonic() + 15
                while not held and time.monotonic() < until:
                    time.sleep(0.05)
                walk.stdin.write(json.dumps(held) + "\n")
                walk.stdin.flush()
                held.clear()
            elif said == "storm":
                for number in range(6):
                    agent.call("DELETE", f"/shop/orders/{number}")
            elif said == "call":
                walk.stdin.write(json.dumps(agent.call("GET", "/shop/orders/1")) + "\n")
                walk.stdin.flush()
            else:
                report = said
        walk.wait(60)
        if walk.returncode or not report:
            report.setdefault("violations", []).append(f"the walk ended with {walk.returncode}")
        return report
    finally:
        process.stop()
        server.shutdown()
        server.server_close()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=("small", "default"), default="default")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="aegis-console-") as name:
        found = run(Path(name), options.size)
    report = {
        "commit": checked_out(),
        "size": options.size,
        "seconds": round(time.monotonic() - started, 1),
        **found,
    }
    return tell(report, options.results)


if __name__ == "__main__":
    sys.exit(main())
