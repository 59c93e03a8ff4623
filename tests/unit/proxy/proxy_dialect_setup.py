"""One way for the dialect tests to build what the pipeline hands to a dialect: all real parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sidecar.config.load import load_config
from sidecar.policy.load import Source, load_policies
from sidecar.proxy.head import HeadRules, RequestHead, read_head

CALL_ID = "0190c0ffee00700080000000000000aa"
HOST = "127.0.0.1:8080"

CONFIG = """
default: deny
policies: []
upstreams:
  files: {url: "http://127.0.0.1:3001/mcp", kind: mcp}
  deep: {url: "http://127.0.0.1:3002/api/v1/tools", kind: mcp}
  shop: {url: "http://127.0.0.1:3003/base"}
"""

FILES = b"""
catalogue: files
tools:
  read_file: {args: {path: string, limit: int?}}
  write.file-2: {}
  notes/add: {}
  list: {args: {}}
  multiply: {args: {a: int, A: int}}
  "mcp:resources/read": {mutates: false}
  "mcp:prompts/get": {args: {name: string, arguments: object?}}
"""

SHOP = b"""
catalogue: shop
tools:
  get_order: {route: "GET /orders/{number}", args: {number: int, fields: [string], deep: bool?}}
  list_orders: GET /orders
  head_file: {route: "HEAD /files/{path...}"}
  get_file: {route: "GET /files/{path...}"}
  create_order: POST /orders
  change_order:
    route: PUT /orders/{number}
    args: {number: int, note: string?, tags: [string], amount: number?, paid: bool?}
  send_form:
    route: POST /forms
    args: {n: int, files: [object], tags: "[string]?"}
  upload:
    route: PUT /uploads/{name}
    args: {name: string, body_sha256: string, body_size: int}
  point: {route: "POST /points", args: {x: int, X: int}}
"""


class Setup:
    """Configuration and policies as the sidecar has them after start."""

    def __init__(self, folder: Path, *, limits: str = "{}") -> None:
        file = folder / "sidecar.yaml"
        (folder / "policies").mkdir(exist_ok=True)
        file.write_text(CONFIG.replace("[]", "[./policies]") + f"limits: {limits}\n")
        loaded = load_config(file, {}, ())
        assert loaded.config is not None, loaded.problems
        self.config = loaded.config
        policies = load_policies(
            [Source("files.yaml", FILES), Source("shop.yaml", SHOP)],
            upstreams={"files": "mcp", "deep": "mcp", "shop": "rest"},
            default="deny",
            read_file=no_file,
        )
        assert policies.policy_set is not None, policies.problems
        self.policy_set = policies.policy_set

    def call(self, dialect: Any, request: RequestHead, body: bytes = b"") -> Any:
        """`dialect.read_call` for this head and body."""
        upstream = self.config.upstreams[request.upstream]
        limits = self.config.limits
        return dialect.read_call(request, body, upstream, self.policy_set, limits, CALL_ID)


def no_file(source: str, path: str) -> bytes:
    raise FileNotFoundError(path)


def head(method: str, target: str, headers: dict[str, str] | None = None) -> RequestHead:
    """A head as the front door reads it from the wire."""
    fields = [("Host", HOST), *(headers or {}).items()]
    raw = [(name.encode(), value.encode()) for name, value in fields]
    return read_head(method, target, (1, 1), raw, "127.0.0.9", HeadRules(frozenset({"127.0.0.1"})))
