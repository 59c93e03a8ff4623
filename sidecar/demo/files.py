"""The files the demo writes for its user to read and edit: configuration, catalogues, policy.

Knows: their texts. They are ordinary files of the product; nothing in them is special.
"""

from __future__ import annotations

from pathlib import Path

CONFIGURATION = """\
# The demo's configuration. Edit it and start it yourself: aegis-sidecar serve --config {path}
default: deny
listen:
  data: 127.0.0.1:{data_port}
  control: 127.0.0.1:{control_port}
store: sqlite:///aegis.db
policies: ./policies
upstreams:
  shop:
    url: http://127.0.0.1:{tool_port}/shop
  notes:
    url: http://127.0.0.1:{tool_port}/mcp
    kind: mcp
"""

SHOP_CATALOGUE = """\
# What the operator knows of the shop's tools. `mutates` and `risk` have cautious defaults.
catalogue: shop
tools:
  get_order: GET /orders/{number}
  events: GET /events
  refund:
    route: POST /orders/{number}/refund
    risk: high
    labels: moves-money
    args:
      number: string
      amount_cents: int
      note: string?
"""

NOTES_CATALOGUE = """\
# An MCP server's tools. Tools that stand nowhere are `notes/unknown`, which no rule allows here.
catalogue: notes
tools:
  list_notes:
    mutates: false
  read_note:
    mutates: false
  delete_note: {}
"""

POLICY = """\
# Edit me while the sidecar runs: a saved file is in force within two seconds,
# and a broken one changes nothing (`aegis-sidecar policy check` says what is wrong).
policy: demo
rules:
  - id: reads
    effect: allow
    tools: "*"
    mutates: false

  - id: small-refunds
    effect: allow
    tools: shop/refund
    when: args.amount_cents > 0 && args.amount_cents <= 5000

  - id: no-large-refunds
    effect: deny
    tools: shop/refund
    when: args.amount_cents > 5000
    reason: "a refund of {args.amount_cents} cents is above the limit of 5000"
"""


def write_files(folder: Path, *, data_port: int, control_port: int, tool_port: int) -> Path:
    """Writes the demo's files into `folder`; gives the path of the configuration."""
    policies = folder / "policies"
    policies.mkdir(parents=True, exist_ok=True)
    path = folder / "sidecar.yaml"
    path.write_text(
        CONFIGURATION.format(
            path=path, data_port=data_port, control_port=control_port, tool_port=tool_port
        )
    )
    (policies / "shop-tools.yaml").write_text(SHOP_CATALOGUE)
    (policies / "notes-tools.yaml").write_text(NOTES_CATALOGUE)
    (policies / "demo.yaml").write_text(POLICY)
    return path
