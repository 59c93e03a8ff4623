"""Peers of the sidecar that look into a call: Envoy with RBAC on the tool's name, and mitmproxy.

They live in an environment of their own (`requirements-peers.lock`), made when first needed. Both
refuse another tool's call, which is tried before anything is measured: a peer that lets everything
through would be no peer. Neither records anything.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from targets import HERE, ROOT, Target, free_port, wait_for

PEERS = ("envoy", "mitmproxy")
TOOL = "tool_42"
#: What mitmproxy runs for each call: the same question that Envoy is asked.
_ADDON = f"""\
import json
from mitmproxy import http

def request(flow):
    if flow.request.method == "POST":
        message = json.loads(flow.request.content)
        if message["params"]["name"] != {TOOL!r}:
            flow.response = http.Response.make(403)
"""


def environment() -> Path:
    """The folder of the peers' commands, made if it is not there."""
    chosen = os.environ.get("AEGIS_PEERS_VENV")
    venv = Path(chosen) if chosen else ROOT / ".venv-peers"
    subprocess.run(
        ["bash", str(ROOT / "deploy/environment.sh"), str(venv),
         str(HERE / "requirements-peers.lock")],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return venv / "bin"


def start_envoy(folder: Path, core: str, upstream: str) -> Target:
    """One worker; the name is read from the body (json_to_metadata) and judged by RBAC."""
    port, home = free_port(), folder / "envoy"
    home.mkdir()
    host, _, upstream_port = upstream.removeprefix("http://").partition(":")
    (home / "envoy.json").write_text(json.dumps(_envoy(port, host, int(upstream_port))))
    command = [str(environment() / "envoy"), "-c", str(home / "envoy.json"), "--concurrency", "1"]
    command += ["--disable-hot-restart", "-l", "error"]
    return _started("envoy", home, core, port, command)


def start_mitmproxy(folder: Path, core: str, upstream: str) -> Target:
    """In reverse mode, with an addon that reads the body as JSON."""
    port, home = free_port(), folder / "mitmproxy"
    home.mkdir()
    (home / "addon.py").write_text(_ADDON)
    command = [str(environment() / "mitmdump"), "--mode", f"reverse:{upstream}", "-q"]
    command += ["--listen-host", "127.0.0.1", "-p", str(port), "-s", str(home / "addon.py")]
    command += ["--set", f"confdir={home}", "--set", "flow_detail=0"]
    return _started("mitmproxy", home, core, port, command)


def _started(name: str, home: Path, core: str, port: int, command: list[str]) -> Target:
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            ["taskset", "-c", core, *command], stdout=log, stderr=subprocess.STDOUT
        )
    target = Target(name, f"http://127.0.0.1:{port}", process)
    try:
        wait_for(f"{target.url}/mcp", process)
        if (_status(target, TOOL), _status(target, "tool_43")) != (200, 403):
            raise RuntimeError(f"{name} does not judge calls")
    except BaseException:
        target.stop()
        raise
    return target


def _status(target: Target, tool: str) -> int:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}
    request = urllib.request.Request(
        f"{target.url}/mcp", json.dumps(message).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def _filter(name: str, kind: str, **more: object) -> dict[str, object]:
    type_url = f"type.googleapis.com/envoy.extensions.filters.http.{kind}"
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": type_url, **more}}


def _envoy(port: int, host: str, upstream_port: int) -> dict[str, object]:
    def address(at: str, number: int) -> dict[str, object]:
        return {"socket_address": {"address": at, "port_value": number}}

    name = {
        "selectors": [{"key": "params"}, {"key": "name"}],
        "on_present": {"metadata_namespace": "mcp", "key": "tool", "type": "STRING"},
    }
    is_tool = {
        "metadata": {
            "filter": "mcp", "path": [{"key": "tool"}],
            "value": {"string_match": {"exact": TOOL}},
        }
    }  # fmt: skip
    rules = {
        "action": "ALLOW",
        "policies": {"tool": {"permissions": [{"any": True}], "principals": [is_tool]}},
    }
    filters = [
        _filter("json_to_metadata", "json_to_metadata.v3.JsonToMetadata",
                request_rules={"rules": [name]}),
        _filter("rbac", "rbac.v3.RBAC", rules=rules),
        _filter("router", "router.v3.Router"),
    ]  # fmt: skip
    route = {"match": {"prefix": "/"}, "route": {"cluster": "tools"}}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
        "HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": filters,
    }
    chain = {
        "filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
        ]
    }
    endpoint = {"endpoint": {"address": address(host, upstream_port)}}
    cluster = {
        "name": "tools",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "tools",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": 4096, "max_pending_requests": 8192, "max_requests": 8192}
            ]
        },
    }
    listener = {"name": "all", "address": address("127.0.0.1", port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
