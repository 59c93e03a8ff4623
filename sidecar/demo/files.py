"""The files the demo writes for its user to read and edit: settings, catalogues, rules, detections.

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
policies: [pack:confused-deputy, ./policies]
soc: {{level: respond}}                 # what a detection asks for is done; `notify` only tells
upstreams:
  shop:
    url: http://127.0.0.1:{tool_port}/shop
  notes:
    url: http://127.0.0.1:{tool_port}/mcp
    kind: mcp
"""

SHOP_CATALOGUE = """\
# What the operator knows of the shop's tools. `mutates`, `risk` and `returns` have cautious
# defaults; the shop is ours, so what its tools give back can be trusted.
catalogue: shop
tools:
  "*": {returns: trusted_internal_unsigned}
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
    returns: trusted_internal_unsigned
  read_note:
    mutates: false
    returns: trusted_internal_unsigned
  read_web_page:
    mutates: false
    returns: untrusted_external          # anybody may have written it
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

  - id: larger-refunds-ask
    effect: require_approval
    tools: shop/refund
    when: args.amount_cents > 5000
    reason: "a refund of {args.amount_cents} cents needs a person's yes"

  - id: no-large-refunds
    effect: deny
    tools: shop/refund
    when: args.amount_cents > 20000
    reason: "a refund of {args.amount_cents} cents is above the limit of 20000"
"""


DETECTION = """\
# What is noticed in the record, beside the policies; `pack:soc` has more. The agent is stopped for
# ten minutes, or until somebody undoes it (`aegis-sidecar containments`).
detection: keeps-trying
severity: high
where:
  effect: deny
  tools: "*/unknown"                   # tools and paths that nobody has declared
by: agent
at_least: 5
within: 5s
reason: "{agent.name} asked {count} times in {within} for what nobody has declared"
quiet: 1s
respond:
  action: freeze-agent
  for: 10m
"""


def write_files(folder: Path, *, data_port: int, control_port: int, tool_port: int) -> list[Path]:
    """Writes the demo's files into `folder`, the configuration first. The story needs the rules it
    tells of; those that its user has changed meanwhile are kept beside, and given as well."""
    policies = folder / "policies"
    policies.mkdir(parents=True, exist_ok=True)
    path = folder / "sidecar.yaml"
    path.write_text(
        CONFIGURATION.format(
            path=path, data_port=data_port, control_port=control_port, tool_port=tool_port
        )
    )
    kept = []
    for name, text in (
        ("shop-tools.yaml", SHOP_CATALOGUE),
        ("notes-tools.yaml", NOTES_CATALOGUE),
        ("demo.yaml", POLICY),
        ("keeps-trying.yaml", DETECTION),
    ):
        kept += _kept_beside(policies / name, text)
        (policies / name).write_text(text)
    return [path, *kept]


def _kept_beside(path: Path, text: str) -> list[Path]:
    """A file that says something else than `text` gets the first free name of those that are not
    loaded; where it went, if anywhere."""
    if not path.exists() or path.read_text() == text:
        return []
    number = 1
    while (beside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return [path.rename(beside)]
